"""What a detector says of one clip, to read, to look at and to listen to."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vision_to_sound.audio import BadClipError
from vision_to_sound.listening import separate
from vision_to_sound.monitoring.regions import Region
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.monitoring.windows import repeated_to
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vision_to_sound.front_ends import FrontEnd

SOURCES = ("original", "anomaly", "background")


@dataclass(frozen=True, repr=False, eq=False)  # arrays are neither to be dumped nor compared
class ClipResult:
    """A scored clip. In a notebook it shows itself as a picture.

    Attributes:
        start_s, duration_s: where it lies in its recording.
        score: of its most anomalous window; the higher the more anomalous.
        p_value: share of normal clips that score as high, see `conformal`.
        anomaly_map: float32 (n_frames, n_mels): 0 is the band's usual value in normal clips, 1 what one normal cell
            in a thousand exceeds.
        regions: spans and bands of an anomalous clip, in seconds from the clip's start; none of a normal one.
    """

    file: SoundFile
    start_s: float
    duration_s: float
    score: float
    p_value: float
    is_anomalous: bool
    anomaly_map: np.ndarray
    regions: tuple[Region, ...]
    channel: int | None
    front_end: FrontEnd

    def __post_init__(self) -> None:
        """Raises BadClipError for a score that is NaN or infinite: it would pass for the most anomalous of all."""
        if not math.isfinite(self.score) or not np.isfinite(self.anomaly_map).all():
            where = f"at {self.start_s:.1f} s its score ({self.score}) or map is NaN or infinite"
            raise BadClipError(
                str(self.file.path), where, remedy="Look at its samples; are they far beyond +-1?"
            )

    def __repr__(self) -> str:
        n = len(self.regions)
        return (
            f"<ClipResult {self.file.path.name!r}, {self.start_s:.2f} to {self.start_s + self.duration_s:.2f} s: "
            f"{self.verdict}, score {self.score:.4g}, p = {self.p_value:.3g}, {n} region{'s' * (n != 1)}>"
        )

    def _repr_png_(self) -> bytes | None:
        """Picture for notebooks; None, which leaves the text, where the recording is not there any more."""
        if not self.file.path.is_file():
            return None
        return importlib.import_module("vision_to_sound.monitoring.plot").result_png(self)

    @property
    def verdict(self) -> str:
        """ "anomalous" or "normal"."""
        return "anomalous" if self.is_anomalous else "normal"

    @property
    def times_s(self) -> np.ndarray:
        """Centres of the map's frames in seconds from the clip's start, float64 (n_frames,)."""
        return self.front_end.frame_times_s(len(self.anomaly_map))

    @property
    def frequencies_hz(self) -> np.ndarray:
        """Centres of the map's bands, float64 (n_mels,)."""
        return self.front_end.mel_band_centres_hz()

    def samples(self) -> np.ndarray:
        """The clip as it was recorded, float32 (n_samples,) at `file.sample_rate_hz`."""
        rate_hz = self.file.sample_rate_hz
        start = round(self.start_s * rate_hz)
        return self.file.read(start, start + round(self.duration_s * rate_hz), channel=self.channel)

    def audio(self, source: str = "original") -> tuple[np.ndarray, int]:
        """(float32 (n_samples,), rate in hertz) of the original, the isolated anomaly, or the background without it.

        The last two add up to the first.
        """
        check_known(source, SOURCES, what="source")
        return self.sources()[source], self.file.sample_rate_hz

    def sources(self) -> dict[str, np.ndarray]:
        """All three, float32 (n_samples,)."""
        samples = self.samples()
        front_end, rate_hz = self.front_end, self.file.sample_rate_hz
        if len(samples) <= front_end.n_fft * rate_hz / front_end.sample_rate_hz:
            # Shorter than a window it cannot be taken apart: it is the one or the other.
            nothing = np.zeros_like(samples)
            anomaly, background = (samples, nothing) if self.is_anomalous else (nothing, samples)
            return {"original": samples, "anomaly": anomaly, "background": background}
        anomaly, background = separate(
            samples,
            np.maximum(self.anomaly_map, 0.0),
            front_end=front_end,
            sample_rate_hz=rate_hz,
        )
        return {"original": samples, "anomaly": anomaly, "background": background}

    def spectrogram_db(self) -> np.ndarray:
        """Log-mel spectrogram of the clip, float32 (n_frames, n_mels), dB: the cells of the map."""
        from vision_to_sound.spectrogram import log_mel_db, resample

        rates = {"from_hz": self.file.sample_rate_hz, "to_hz": self.front_end.sample_rate_hz}
        resampled = resample(self.samples()[None], **rates)[0]
        # A clip of a few milliseconds is repeated, as the detector heard it.
        filled = repeated_to(resampled, self.front_end.n_fft)
        spectrogram_db = log_mel_db(filled[None], self.front_end, device="cpu")
        return spectrogram_db[0][: len(self.anomaly_map)]

    def plot(self, ax: Axes | None = None) -> Axes:
        """The spectrogram in grey, the map over it in orange, regions framed; time in s, frequency in Hz."""
        # by name: no stage plots, so a change in the code of pictures is none of its business
        return importlib.import_module("vision_to_sound.monitoring.plot").plot_result(self, ax)
