"""Pictures and sounds of a page, in forms that every browser shows and plays.

Pictures have one pixel per cell, time to the right, the highest band on top. The spectrogram is a grey WebP; the
anomaly map is a PNG whose one colour becomes more opaque with the map, to lie over it. Sound is MP3 or FLAC: Safari
before 18.4 plays neither Vorbis nor Opus in Ogg, and Ogg is the only container in which libsndfile writes them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

AUDIO_FORMATS = ("mp3", "flac")
MAP_COLOUR = (234, 88, 12)  # orange: it stands out of grey, on a light page and on a dark one

_MAX_COLUMNS = 4096  # more than a screen has; WebP ends at 16383
_WEBP_QUALITY = 85  # about 1 dB RMS on a range of 80 dB, half the size of a PNG
_MAP_STEPS = 48  # of opacity: fewer are seen as contours, more cost bytes
_MAX_OPACITY = 235
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_FLAC_MAX_RATE_HZ = 48000  # what browsers play without resampling of their own
# Of 0 (best) to 1 (smallest): 94 kbit/s for a hum in noise at 44.1 kHz, error 15 dB down at 1 to 4 kHz.
_MP3_COMPRESSION = 0.2


@dataclass(frozen=True)
class MapScale:
    """What the values of an anomaly map mean and how they are drawn, the same for every clip of a page.

    Attributes:
        label: what a value is, for the legend: "p-value of a cell".
        faint: the value from which on the map can be seen; anything less anomalous is transparent.
        strong: the value drawn at full strength. Below `faint` where small values are the anomalous ones.
        log: opacity follows the logarithm of the value; both ends must be positive.
    """

    label: str
    faint: float
    strong: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.faint) and math.isfinite(self.strong)):
            raise ValueError(f"map scale: ends must be finite, got {self.faint}, {self.strong}")
        if self.faint == self.strong:
            raise ValueError(f"map scale: faint and strong are both {self.faint}")
        if self.log and min(self.faint, self.strong) <= 0:
            raise ValueError(
                f"map scale: log needs positive ends, got {self.faint} and {self.strong}"
            )

    def strength(self, values: np.ndarray) -> np.ndarray:
        """Share of full strength, float64 of the same shape, 0 at `faint` or less anomalous, 1 at `strong`."""
        values = np.asarray(values, dtype=np.float64)
        faint, strong = self.faint, self.strong
        if self.log:
            values = np.log(np.maximum(values, min(faint, strong) * 1e-3))
            faint, strong = math.log(faint), math.log(strong)
        return np.clip((values - faint) / (strong - faint), 0.0, 1.0)


def spectrogram_image(
    spectrogram_db: np.ndarray, range_db: tuple[float, float] | None
) -> tuple[bytes, tuple[float, float]]:
    """(WebP, range drawn in dB): black at the low end of the range, white at the high end.

    Args:
        spectrogram_db: (n_frames, n_mels) in dB, finite.
        range_db: (low, high); None: from the clip's 5th percentile to its maximum.
    """
    from PIL import Image

    cells = _at_most(spectrogram_db, _MAX_COLUMNS)
    low, high = range_db or (float(np.percentile(cells, 5)), float(cells.max()))
    grey = np.clip((cells - low) / max(high - low, 1e-6), 0.0, 1.0)
    out = io.BytesIO()
    pixels = np.round(255 * grey.T[::-1]).astype(np.uint8)
    Image.fromarray(pixels).save(out, format="WEBP", quality=_WEBP_QUALITY)
    return out.getvalue(), (low, high)


def map_image(strength: np.ndarray) -> bytes:
    """PNG of `MAP_COLOUR`, as opaque as the map is strong: strength (n_frames, n_mels) from 0 to 1."""
    from PIL import Image

    steps = np.round(_at_most(strength, _MAX_COLUMNS).T[::-1] * (_MAP_STEPS - 1)).astype(np.uint8)
    image = Image.fromarray(steps, mode="P")
    image.putpalette(bytes(MAP_COLOUR) * _MAP_STEPS)
    opacity = np.round(np.linspace(0, _MAX_OPACITY, _MAP_STEPS)).astype(np.uint8)
    out = io.BytesIO()
    image.save(out, format="PNG", transparency=opacity.tobytes(), optimize=True)
    return out.getvalue()


def _at_most(cells: np.ndarray, n_columns: int) -> np.ndarray:
    """Cells (n_frames, n_mels), of a long clip the maximum of each few frames: nothing short is lost."""
    per_column = -(-len(cells) // n_columns)
    return np.maximum.reduceat(cells, np.arange(0, len(cells), per_column), axis=0)


def encode_audio(
    sources: Mapping[str, tuple[np.ndarray, int] | bytes], audio_format: str
) -> dict[str, bytes]:
    """Each source as a file that browsers play; bytes pass as they are.

    Where samples exceed full scale, all sources are turned down alike: they still add up to each other. Rates that
    the format lacks become the next higher one that it has, rates above 48 kHz become 48 kHz.

    Args:
        sources: name -> (float32 (n_samples,) with full scale +-1, rate in hertz) or an encoded file.
        audio_format: one of `AUDIO_FORMATS`.
    """
    import soundfile
    import soxr

    peaks = [float(np.abs(s[0]).max(initial=0)) for s in sources.values() if isinstance(s, tuple)]
    gain = 1.0 / max(1.0, *peaks, 1.0)
    encoded = {}
    for name, source in sources.items():
        if not isinstance(source, tuple):
            encoded[name] = bytes(source)
            continue
        samples, rate_hz = np.asarray(source[0], dtype=np.float32) * np.float32(gain), source[1]
        to_hz = _rate_hz(rate_hz, audio_format)
        if to_hz != rate_hz:
            samples = soxr.resample(samples, rate_hz, to_hz)
        out = io.BytesIO()
        if audio_format == "mp3":
            soundfile.write(out, samples, to_hz, format="MP3", compression_level=_MP3_COMPRESSION)
        else:
            soundfile.write(out, samples, to_hz, format="FLAC", subtype="PCM_16")
        encoded[name] = out.getvalue()
    return encoded


def _rate_hz(rate_hz: int, audio_format: str) -> int:
    if audio_format == "flac":
        return min(rate_hz, _FLAC_MAX_RATE_HZ)
    return min((rate for rate in _MP3_RATES_HZ if rate >= rate_hz), default=_MP3_RATES_HZ[-1])
