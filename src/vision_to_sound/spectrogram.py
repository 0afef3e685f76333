"""Front ends: waveforms in, log-mel spectrograms in dB out.

A front end is data (`FRONT_ENDS`), and reading it needs the standard library only; numpy and torch
are imported by the functions that compute. Every front end ends in the same unit,
10 log10(max(mel power, 1e-10)) dB re full scale, with no clipping to a dynamic range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import torch

_CLIPS_PER_BLOCK = 64
MIN_POWER = 1e-10  # -100 dB, the floor of every log-mel spectrogram here
_BLOCK_BYTES = 256 * 2**20  # short-time spectra in memory at once

# O'Shaughnessy's formula, as in HTK: 2595 log10(1 + f / 700)
_HTK_MELS_PER_DECADE, _HTK_KNEE_HZ = 2595.0, 700.0
# Slaney's Auditory Toolbox: 3 mel per 200 Hz up to 1000 Hz, from there 27 mel per factor of 6.4
_SLANEY_HZ_PER_MEL, _SLANEY_KNEE_HZ = 200.0 / 3.0, 1000.0
_SLANEY_KNEE_MEL, _SLANEY_LOG_STEP = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL, math.log(6.4) / 27.0

MEL_SCALES = ("slaney", "htk")
BAND_NORMS = ("slaney", "unit_sum")
PAD_MODES = ("reflect", "constant")


@dataclass(frozen=True)
class FrontEnd:
    """How a log-mel spectrogram is computed.

    Frames are centred on multiples of `hop_samples` (the ends padded by half a window, `pad_mode`),
    under a periodic Hann window of n_fft samples. Mel bands are triangles over frequency in hertz
    with corners evenly spaced on `mel_scale`. `band_norm` "slaney" divides a band by half its width
    in hertz, "unit_sum" by the sum of its weights.
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

    def __post_init__(self) -> None:
        for field, allowed in (
            ("mel_scale", MEL_SCALES),
            ("band_norm", BAND_NORMS),
            ("pad_mode", PAD_MODES),
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

    def mel_weights(self) -> np.ndarray:
        """Weight of each spectrum bin in each mel band, float64 (n_bins, n_mels)."""
        import numpy as np

        bins_hz = np.arange(self.n_fft // 2 + 1) * (self.sample_rate_hz / self.n_fft)
        corners_hz = self._mel_corners_hz()
        lower, peak, upper = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
        rising = (bins_hz[:, None] - lower) / (peak - lower)  # (n_bins, n_mels)
        falling = (upper - bins_hz[:, None]) / (upper - peak)
        weights = np.maximum(np.minimum(rising, falling), 0.0)
        if not weights.any(axis=0).all():
            empty = np.flatnonzero(~weights.any(axis=0)).tolist()
            raise ValueError(
                f"front end {self.name!r}: mel bands {empty} fall between the bins of the "
                f"spectrum; use fewer bands than {self.n_mels} or a larger n_fft than {self.n_fft}"
            )
        if self.band_norm == "slaney":
            return weights * (2.0 / (upper - lower))
        return weights / weights.sum(axis=0)

    def _mel_range(self) -> tuple[float, float]:
        return hz_to_mel(self.f_min_hz, self.mel_scale), hz_to_mel(self.f_max_hz, self.mel_scale)

    def _mel_corners_hz(self) -> np.ndarray:
        import numpy as np

        return mel_to_hz(np.linspace(*self._mel_range(), self.n_mels + 2), self.mel_scale)


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


class LogMel:
    """A front end on one device; window and mel weights are made once.

    Differs from torchlibrosa (the front end of CLAP and PANNs) in using the fast Fourier transform
    instead of a convolution with sines: the same numbers to within float32 rounding.
    """

    def __init__(self, front_end: FrontEnd, *, device: torch.device | str) -> None:
        import torch

        self.front_end = front_end
        self.device = torch.device(device)
        self._window = torch.hann_window(front_end.n_fft, periodic=True, device=self.device)
        self._mel_weights = torch.from_numpy(front_end.mel_weights()).to(self.device, torch.float32)

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """float32 (n_clips, n_samples) on the device -> float32 (n_clips, n_frames, n_mels), dB."""
        import torch

        front_end = self.front_end
        spectra = torch.stft(
            waveforms,
            n_fft=front_end.n_fft,
            hop_length=front_end.hop_samples,
            window=self._window,
            center=True,
            pad_mode=front_end.pad_mode,
            return_complex=True,
        )  # (n_clips, n_bins, n_frames)
        power = spectra.real.square() + spectra.imag.square()
        mel_power = power.transpose(1, 2) @ self._mel_weights  # (n_clips, n_frames, n_mels)
        return mel_power.clamp_(min=MIN_POWER).log10_().mul_(10.0)


def log_mel_db(
    waveforms: np.ndarray, front_end: FrontEnd, *, device: torch.device | str
) -> np.ndarray:
    """Log-mel spectrograms of clips of one length.

    Args:
        waveforms: float32 (n_clips, n_samples) at `front_end.sample_rate_hz`, full scale +-1.
        front_end: one of `FRONT_ENDS`.
        device: where to compute; blocks of clips travel there one after another.

    Returns:
        float32 (n_clips, n_frames, n_mels), dB, at least -100.

    Raises:
        ValueError: wrong shape or dtype, clips too short to pad, samples that are not finite.
    """
    import numpy as np
    import torch

    from vision_to_sound.torch_setup import exact_float32

    _check_waveforms(waveforms)
    n_clips, n_samples = waveforms.shape
    if front_end.pad_mode == "reflect" and n_samples <= front_end.n_fft // 2:
        raise ValueError(
            f"front end {front_end.name!r} mirrors {front_end.n_fft // 2} samples at the ends, so "
            f"clips need more than that, got {n_samples}; lengthen the clips"
        )
    log_mel = _cached_log_mel(front_end, str(torch.device(device)))
    n_frames = front_end.n_frames(n_samples)
    # complex spectrum, power, and a product's copy: 16 bytes per bin
    clips_per_block = max(1, _BLOCK_BYTES // (n_frames * (front_end.n_fft // 2 + 1) * 16))
    spectrograms_db = np.empty((n_clips, n_frames, front_end.n_mels), np.float32)
    with torch.inference_mode(), exact_float32():
        for start in range(0, n_clips, clips_per_block):
            rows = slice(start, start + clips_per_block)
            block = np.ascontiguousarray(waveforms[rows])
            if not np.isfinite(block).all():
                bad = start + np.flatnonzero(~np.isfinite(block).all(axis=1))
                raise ValueError(
                    f"waveforms hold NaN or infinite samples in rows {bad[:10].tolist()}; mend or "
                    "leave out those clips before computing spectrograms"
                )
            on_device = torch.tensor(block, device=log_mel.device)
            spectrograms_db[rows] = log_mel(on_device).cpu().numpy()
    return spectrograms_db


def write_spectrograms(
    path: str | Path,
    read_clips: Callable[[slice], np.ndarray],
    *,
    n_clips: int,
    from_hz: int,
    front_end: FrontEnd,
    advance: Callable[[int], None],
) -> None:
    """Spectrograms of a clip set to a .npy, float32 (n_clips, n_frames, n_mels), block by block.

    On the CPU: the GPU is for networks, and this keeps it fed.

    Args:
        read_clips: gives the clips of a slice, float32 (n, n_samples) at from_hz.
    """
    import numpy as np

    out = None
    for start in range(0, max(n_clips, 1), _CLIPS_PER_BLOCK):
        clips = read_clips(slice(start, min(start + _CLIPS_PER_BLOCK, n_clips)))
        clips = resample(clips, from_hz=from_hz, to_hz=front_end.sample_rate_hz)
        if out is None:
            shape = (n_clips, front_end.n_frames(clips.shape[1]), front_end.n_mels)
            out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        out[start : start + len(clips)] = log_mel_db(clips, front_end, device="cpu")
        advance(len(clips))
    out.flush()


def resample(waveforms: np.ndarray, *, from_hz: int, to_hz: int) -> np.ndarray:
    """Waveforms at another rate: windowed-sinc interpolation by torchaudio, on the CPU.

    Args:
        waveforms: float32 (n_clips, n_samples) at from_hz.

    Returns:
        float32 (n_clips, ceil(n_samples * to_hz / from_hz)); the input itself at equal rates.

    Raises:
        ValueError: wrong shape or dtype, rates that are not positive whole numbers.
    """
    _check_waveforms(waveforms)
    for name, rate in (("from_hz", from_hz), ("to_hz", to_hz)):
        if rate != int(rate) or rate <= 0:
            raise ValueError(f"{name}: expected a positive whole number of hertz, got {rate!r}")
    if from_hz == to_hz:
        return waveforms
    import torch

    with torch.inference_mode():
        resampled = _cached_resampler(int(from_hz), int(to_hz))(torch.tensor(waveforms))
    return resampled.numpy()


@lru_cache(maxsize=8)
def _cached_log_mel(front_end: FrontEnd, device: str) -> LogMel:
    return LogMel(front_end, device=device)


@lru_cache(maxsize=32)
def _cached_resampler(from_hz: int, to_hz: int) -> torch.nn.Module:
    from vision_to_sound import torch_setup  # noqa: F401  (before torchaudio)

    # isort: split
    import torchaudio

    return torchaudio.transforms.Resample(orig_freq=from_hz, new_freq=to_hz)


def _check_waveforms(waveforms: np.ndarray) -> None:
    import numpy as np

    if not isinstance(waveforms, np.ndarray) or waveforms.ndim != 2:
        got = getattr(waveforms, "shape", type(waveforms).__name__)
        raise ValueError(f"waveforms: expected an array (n_clips, n_samples), got {got}")
    if waveforms.dtype != np.float32:
        raise ValueError(f"waveforms: expected float32 with full scale +-1, got {waveforms.dtype}")
