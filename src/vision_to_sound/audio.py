"""Decode recordings as they come: any rate, width and channel count, to float32 mono at one rate."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

import numpy as np

from vision_to_sound.wav_headers import read_header

log = logging.getLogger(__name__)

SKIP_OR_REPLACE = (
    "Replace or remove the file, or set on_bad_clip: skip to go on without such clips (they are listed in the "
    "report)."
)
# What recorders and microphones make; a header that says otherwise is wrong, and resampling would go by it.
RATES_HZ = (1_000, 768_000)
_MAX_SAMPLES = 1 << 26  # of all channels: 256 MiB in memory, 25 minutes at 44.1 kHz
_N_NAMED = 10  # bad clips that a message spells out


class BadClipError(ValueError):
    """A recording that cannot be used; the message names archive and clip and says what to do."""

    def __init__(
        self,
        clip: str,
        problem: str,
        others: Sequence[str] = (),
        *,
        archive: object = "",
        remedy: str = SKIP_OR_REPLACE,
    ) -> None:
        where = f"{archive}: " if archive else ""
        named = "; ".join(others[: _N_NAMED - 1])
        rest = "; the log names them all" if len(others) >= _N_NAMED else ""
        more = f" {len(others)} more bad clips: {named}{rest}." if others else ""
        super().__init__(f"{where}{clip}: {problem}.{more} {remedy}")
        self.clip = clip
        self.problem = problem


def decode(
    data: bytes, *, clip: str, channel: int | None = None, max_missing_s: float = 0.0
) -> tuple[np.ndarray, int]:
    """Samples of one recording and its sample rate.

    data: the bytes of a WAV or any other file that libsndfile reads. clip: its name, for messages.
    channel: index of the channel to take; None: the mean of all. max_missing_s: by so many seconds a WAV may be
    longer or shorter than its header says, with a warning in the log; a length that a program left open (it wrote
    into a pipe) is no lie. Returns (float32 (n_samples,), Hz), full scale +-1. Raises BadClipError for an empty,
    truncated, unreadable or non-finite recording, and for a header that cannot be true.
    """
    import soundfile

    if not data:
        raise BadClipError(clip, "the file is empty (0 bytes)")
    header = read_header(data)
    if header is not None:
        _check_rate(header.sample_rate_hz, clip)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            declared, sample_rate_hz = file.frames, file.samplerate
            _check_rate(sample_rate_hz, clip)
            if declared * file.channels > _MAX_SAMPLES:
                raise BadClipError(
                    clip,
                    f"claims {declared} samples in {file.channels} channels, more than {_MAX_SAMPLES} in all",
                )
            samples = file.read(dtype="float32", always_2d=True)  # (n_samples, n_channels)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = getattr(error, "error_string", error)
        raise BadClipError(clip, f"not readable as audio ({reason})") from error
    if header is not None and (lie := header.lie()):
        if abs(header.missing_s) > max_missing_s:
            raise BadClipError(clip, lie)
        log.warning("%s: %s", clip, lie)
    if len(samples) == 0:
        raise BadClipError(clip, "holds no samples")
    if len(samples) < declared:
        raise BadClipError(clip, f"is cut off: {len(samples)} of {declared} samples")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).sum())
        raise BadClipError(clip, f"{bad} of {len(samples)} samples are NaN or infinite")
    if channel is None:
        mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    elif channel < samples.shape[1]:
        mono = samples[:, channel]
    else:
        raise BadClipError(
            clip,
            f"has {samples.shape[1]} channels, channel {channel} was asked for (counting from 0)",
        )
    return np.ascontiguousarray(mono), sample_rate_hz


def _check_rate(rate_hz: int, clip: str) -> None:
    low, high = RATES_HZ
    if not low <= rate_hz <= high:
        raise BadClipError(
            clip, f"has a sample rate of {rate_hz} Hz, which is outside {low} to {high} Hz"
        )


def fit_length(samples: np.ndarray, n_samples: int, *, clip: str, max_missing: int) -> np.ndarray:
    """Cut to the first `n_samples`, or pad at the end with zeros if at most `max_missing` are missing."""
    missing = n_samples - len(samples)
    if missing > max_missing:
        raise BadClipError(
            clip,
            f"has {len(samples)} samples where {n_samples} are needed; its metadata says longer",
        )
    if missing > 0:
        log.warning("%s: %d samples short, padded with silence", clip, missing)
        return np.pad(samples, (0, missing))
    return samples[:n_samples]


def trim_zeros(samples: np.ndarray) -> np.ndarray:
    """Without leading and trailing samples that are exactly zero; empty if there is nothing else."""
    nonzero = np.flatnonzero(samples)
    return samples[nonzero[0] : nonzero[-1] + 1] if len(nonzero) else samples[:0]


def rms(samples: np.ndarray) -> float:
    """Root mean square over the last axis, in float64."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
