"""What a detector says of one clip, to read, to look at and to listen to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vision_to_sound.listening import separate
from vision_to_sound.monitoring.regions import Region
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vision_to_sound.front_ends import FrontEnd

SOURCES = ("original", "anomaly", "background")


@dataclass(frozen=True)
class ClipResult:
    """A scored clip.

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
        anomaly, background = separate(
            samples,
            np.maximum(self.anomaly_map, 0.0),
            front_end=self.front_end,
            sample_rate_hz=self.file.sample_rate_hz,
        )
        return {"original": samples, "anomaly": anomaly, "background": background}

    def spectrogram_db(self) -> np.ndarray:
        """Log-mel spectrogram of the clip, float32 (n_frames, n_mels), dB: the cells of the map."""
        from vision_to_sound.spectrogram import log_mel_db, resample

        rates = {"from_hz": self.file.sample_rate_hz, "to_hz": self.front_end.sample_rate_hz}
        spectrogram_db = log_mel_db(
            resample(self.samples()[None], **rates), self.front_end, device="cpu"
        )
        return spectrogram_db[0]

    def plot(self, ax: Axes | None = None) -> Axes:
        """The spectrogram in grey, the map over it in orange, regions framed; time in s, frequency in Hz."""
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle

        from vision_to_sound.figures.cells import frequency_ticks
        from vision_to_sound.monitoring.page_media import MAP_COLOUR

        if ax is None:
            _, ax = plt.subplots(figsize=(9, 3), layout="constrained")
        n_mels = self.anomaly_map.shape[1]
        half_hop = self.front_end.hop_s / 2
        place = {
            "extent": (-half_hop, self.times_s[-1] + half_hop, -0.5, n_mels - 0.5),
            "origin": "lower",
            "aspect": "auto",
        }
        ax.imshow(self.spectrogram_db().T, cmap="gray", **place)
        strength = np.clip((self.anomaly_map.T - 0.5) / 1.5, 0.0, 1.0)
        colour = np.broadcast_to(np.array(MAP_COLOUR) / 255, (*strength.shape, 3))
        ax.imshow(np.dstack([colour, 0.85 * strength]), **place)
        centres_hz = self.frequencies_hz
        for region in self.regions:
            low, high = np.interp([region.low_hz, region.high_hz], centres_hz, np.arange(n_mels))
            span_s = region.end_s - region.start_s
            ax.add_patch(
                Rectangle((region.start_s, low), span_s, high - low, fill=False, color="white")
            )
        positions, labels = frequency_ticks(centres_hz, spacing=0.06)
        ax.set_yticks(positions, labels)
        ax.set(xlabel="time (s)", ylabel="frequency (Hz)")
        verdict = "anomalous" if self.is_anomalous else "normal"
        ax.set_title(
            f"{self.file.path.name}: {verdict}, score {self.score:.3g}, p = {self.p_value:.2g}",
            fontsize=10,
        )
        return ax
