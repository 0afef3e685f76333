"""Front ends as data: how each encoder's log-mel spectrogram is cut in time and frequency.

Standard library only at import, so that the Snakefile can read the table; axes for figures need numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# O'Shaughnessy's formula, as in HTK: 2595 log10(1 + f / 700)
_HTK_MELS_PER_DECADE, _HTK_KNEE_HZ = 2595.0, 700.0
# Slaney's Auditory Toolbox: 3 mel per 200 Hz up to 1000 Hz, from there 27 mel per factor of 6.4
_SLANEY_HZ_PER_MEL, _SLANEY_KNEE_HZ = 200.0 / 3.0, 1000.0
_SLANEY_KNEE_MEL, _SLANEY_LOG_STEP = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL, math.log(6.4) / 27.0

MEL_SCALES = ("slaney", "htk")
BAND_NORMS = ("slaney", "unit_sum", "none")
TRIANGLE_AXES = ("hz", "mel")
PAD_MODES = ("reflect", "constant")


@dataclass(frozen=True)
class FrontEnd:
    """How a log-mel spectrogram is computed.

    Frames are centred on multiples of `hop_samples` (the ends padded by half of n_fft, `pad_mode`),
    under a periodic Hann window of `window_samples` in their middle (None: n_fft). Mel bands are
    triangles over frequency, in hertz or (`triangle_axis`) mel, with corners evenly spaced on
    `mel_scale`. `band_norm` "slaney" divides a band by half its width in hertz, "unit_sum" by the
    sum of its weights. `pre_emphasis` is the a of x[t + 1] - a x[t], which is taken of the waveform
    first and lifts high frequencies; 0: none.
    """

    name: str
    sample_rate_hz: int
    n_fft: int
    hop_samples: int
    n_mels: int
    f_min_hz: float
    f_max_hz: float
    mel_scale: str
    band_norm: str
    pad_mode: str
    window_samples: int | None = None
    triangle_axis: str = "hz"
    pre_emphasis: float = 0.0

    def __post_init__(self) -> None:
        for field, allowed in (
            ("mel_scale", MEL_SCALES),
            ("band_norm", BAND_NORMS),
            ("pad_mode", PAD_MODES),
            ("triangle_axis", TRIANGLE_AXES),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"front end {self.name!r}: {field} is {getattr(self, field)!r}, "
                    f"allowed: {', '.join(allowed)}"
                )
        if not 0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"front end {self.name!r}: needs 0 <= f_min_hz < f_max_hz <= "
                f"{self.sample_rate_hz / 2:g} Hz, got {self.f_min_hz:g} and {self.f_max_hz:g}"
            )
        if not (1 < (self.window_samples or self.n_fft) <= self.n_fft):
            raise ValueError(
                f"front end {self.name!r}: window_samples has to be in 2 to n_fft = {self.n_fft}, "
                f"got {self.window_samples}"
            )
        if not 0 <= self.pre_emphasis < 1:
            raise ValueError(
                f"front end {self.name!r}: pre_emphasis has to be in [0, 1), got {self.pre_emphasis}"
            )

    @property
    def hop_s(self) -> float:
        """Time between two frames in seconds."""
        return self.hop_samples / self.sample_rate_hz

    def n_frames(self, n_samples: int) -> int:
        """Frames of a waveform of n_samples at `sample_rate_hz`."""
        return n_samples // self.hop_samples + 1

    def frame_times_s(self, n_frames: int) -> np.ndarray:
        """Centres of the frames in seconds, float64 (n_frames,)."""
        import numpy as np

        return np.arange(n_frames) * self.hop_s

    def mel_band_centres_hz(self) -> np.ndarray:
        """Peak of each mel band's triangle in hertz, float64 (n_mels,), ascending."""
        return self._mel_corners_hz()[1:-1]

    def mel_band_edges_hz(self) -> np.ndarray:
        """Borders of the bands for an axis, float64 (n_mels + 1,), ascending.

        Neighbouring triangles overlap; a border lies midway between two peaks on the mel scale.
        """
        import numpy as np

        low_mel, high_mel = self._mel_range()
        half_step_mel = (high_mel - low_mel) / (self.n_mels + 1) / 2
        edges_mel = np.linspace(low_mel + half_step_mel, high_mel - half_step_mel, self.n_mels + 1)
        return mel_to_hz(edges_mel, self.mel_scale)

    def n_bands_below(self, highest_hz: float) -> int:
        """How many bands, from the lowest, begin below a frequency: where a recording of twice that rate has sound."""
        return max(1, int((self.mel_band_edges_hz()[:-1] < highest_hz).sum()))

    def mel_weights(self) -> np.ndarray:
        """Weight of each spectrum bin in each mel band, float64 (n_bins, n_mels)."""
        import numpy as np

        bins_hz = np.arange(self.n_fft // 2 + 1) * (self.sample_rate_hz / self.n_fft)
        corners_hz = self._mel_corners_hz()
        bins, corners = bins_hz, corners_hz
        if self.triangle_axis == "mel":
            bins = np.array([hz_to_mel(hz, self.mel_scale) for hz in bins_hz])
            corners = np.linspace(*self._mel_range(), self.n_mels + 2)
        lower, peak, upper = corners[:-2], corners[1:-1], corners[2:]
        rising = (bins[:, None] - lower) / (peak - lower)  # (n_bins, n_mels)
        falling = (upper - bins[:, None]) / (upper - peak)
        weights = np.maximum(np.minimum(rising, falling), 0.0)
        if not weights.any(axis=0).all():
            empty = np.flatnonzero(~weights.any(axis=0)).tolist()
            raise ValueError(
                f"front end {self.name!r}: mel bands {empty} fall between the bins of the "
                f"spectrum; use fewer bands than {self.n_mels} or a larger n_fft than {self.n_fft}"
            )
        if self.band_norm == "slaney":
            return weights * (2.0 / (corners_hz[2:] - corners_hz[:-2]))
        return weights / weights.sum(axis=0) if self.band_norm == "unit_sum" else weights

    def _mel_range(self) -> tuple[float, float]:
        return hz_to_mel(self.f_min_hz, self.mel_scale), hz_to_mel(self.f_max_hz, self.mel_scale)

    def _mel_corners_hz(self) -> np.ndarray:
        import numpy as np

        return mel_to_hz(np.linspace(*self._mel_range(), self.n_mels + 2), self.mel_scale)


# Rows enter rules as settings of the encoders: a new one reruns nothing else (see provenance.py).
__tables__ = ("FRONT_ENDS",)

FRONT_ENDS: dict[str, FrontEnd] = {
    front_end.name: front_end
    for front_end in (
        FrontEnd(
            name="clap_44k1",
            sample_rate_hz=44_100,
            n_fft=1024,
            hop_samples=320,
            n_mels=64,
            f_min_hz=50.0,
            f_max_hz=14_000.0,
            mel_scale="slaney",
            band_norm="slaney",
            pad_mode="reflect",
        ),
        FrontEnd(
            name="panns_32k",
            sample_rate_hz=32_000,
            n_fft=1024,
            hop_samples=320,
            n_mels=64,
            f_min_hz=50.0,
            f_max_hz=14_000.0,
            mel_scale="slaney",
            band_norm="slaney",
            pad_mode="reflect",
        ),
        FrontEnd(
            name="aisfx_44k1",
            sample_rate_hz=44_100,
            n_fft=2048,
            hop_samples=1024,
            n_mels=96,
            f_min_hz=0.0,
            f_max_hz=22_050.0,
            mel_scale="htk",
            band_norm="unit_sum",
            pad_mode="constant",
        ),
        # EfficientAT, with Kaldi's mel bands: their scale is HTK's but for the unit of mel. Its Hann window
        # of 800 samples is symmetric: periodic over 799, and then a zero.
        FrontEnd(
            name="efficientat_32k",
            sample_rate_hz=32_000,
            n_fft=1024,
            hop_samples=320,
            n_mels=128,
            f_min_hz=0.0,
            f_max_hz=15_000.0,
            mel_scale="htk",
            band_norm="none",
            pad_mode="reflect",
            window_samples=799,
            triangle_axis="mel",
            pre_emphasis=0.97,
        ),
        # For networks that see images. The band limits are CLAP's, so that truth and maps of both
        # speak of the same sound; 4 s are 276 frames, 17 patches of 16 frames and 4 more.
        FrontEnd(
            name="image_44k1",
            sample_rate_hz=44_100,
            n_fft=2048,
            hop_samples=640,
            n_mels=128,
            f_min_hz=50.0,
            f_max_hz=14_000.0,
            mel_scale="slaney",
            band_norm="slaney",
            pad_mode="reflect",
        ),
        # DCASE 2020 task 2, the baseline with librosa 0.6. Differs: power below 1e-10 becomes -100 dB,
        # where the baseline adds 2.2e-16. Rounding to 16 bits alone gives some -87 dB, so that only
        # exact silence differs.
        FrontEnd(
            name="dcase2020_16k",
            sample_rate_hz=16_000,
            n_fft=1024,
            hop_samples=512,
            n_mels=128,
            f_min_hz=0.0,
            f_max_hz=8_000.0,
            mel_scale="slaney",
            band_norm="slaney",
            pad_mode="reflect",
        ),
    )
}


def hz_to_mel(frequency_hz: float, mel_scale: str) -> float:
    """Frequency in hertz on a mel scale, "slaney" or "htk"."""
    if mel_scale == "htk":
        return _HTK_MELS_PER_DECADE * math.log10(1.0 + frequency_hz / _HTK_KNEE_HZ)
    if frequency_hz < _SLANEY_KNEE_HZ:
        return frequency_hz / _SLANEY_HZ_PER_MEL
    return _SLANEY_KNEE_MEL + math.log(frequency_hz / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP


def mel_to_hz(mels: np.ndarray, mel_scale: str) -> np.ndarray:
    """Inverse of `hz_to_mel` for an array of any shape, float64."""
    import numpy as np

    if mel_scale == "htk":
        return _HTK_KNEE_HZ * (10.0 ** (mels / _HTK_MELS_PER_DECADE) - 1.0)
    above_hz = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * (mels - _SLANEY_KNEE_MEL))
    return np.where(mels < _SLANEY_KNEE_MEL, mels * _SLANEY_HZ_PER_MEL, above_hz)
