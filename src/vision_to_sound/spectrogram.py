"""Waveforms in, log-mel spectrograms in dB out, at the rate of the front end.

Every spectrogram here is 10 log10(max(mel power, 1e-10)) dB re full scale, with no clipping to a dynamic
range. numpy and torch are imported by the functions that compute.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import torch

    from vision_to_sound.front_ends import FrontEnd

MIN_POWER = 1e-10  # -100 dB, the floor of every log-mel spectrogram here
_CLIPS_PER_BLOCK = 64
_LARGEST_KERNEL = 1 << 20  # phases x phases of a resampling kernel
_BLOCK_BYTES = 256 * 2**20  # short-time spectra in memory at once


class LogMel:
    """A front end on one device; window and mel weights are made once.

    Differs from torchlibrosa (the front end of CLAP and PANNs) in using the fast Fourier transform
    instead of a convolution with sines: the same numbers to within float32 rounding. From EfficientAT in
    keeping the waveform's length under pre-emphasis, with a zero at the end: only frames that reach it differ.
    """

    def __init__(self, front_end: FrontEnd, *, device: torch.device | str) -> None:
        import torch

        self.front_end = front_end
        self.device = torch.device(device)
        n_window = front_end.window_samples or front_end.n_fft
        self._window = torch.hann_window(n_window, periodic=True, device=self.device)
        self._mel_weights = torch.from_numpy(front_end.mel_weights()).to(self.device, torch.float32)

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """float32 (n_clips, n_samples) on the device -> float32 (n_clips, n_frames, n_mels), dB."""
        import torch

        front_end = self.front_end
        if front_end.pre_emphasis:
            emphasised = waveforms[:, 1:] - front_end.pre_emphasis * waveforms[:, :-1]
            waveforms = torch.nn.functional.pad(emphasised, (0, 1))
        spectra = torch.stft(
            waveforms,
            n_fft=front_end.n_fft,
            win_length=len(self._window),
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
    """Spectrograms of a clip set to a sealed .npy, float32 (n_clips, n_frames, n_mels), block by block.

    On the CPU: the GPU is for networks, and this keeps it fed.

    Args:
        read_clips: gives the clips of a slice, float32 (n, n_samples) at from_hz.
    """
    import numpy as np

    from vision_to_sound.files import create_array, seal

    out = None
    for start in range(0, max(n_clips, 1), _CLIPS_PER_BLOCK):
        clips = read_clips(slice(start, min(start + _CLIPS_PER_BLOCK, n_clips)))
        clips = resample(clips, from_hz=from_hz, to_hz=front_end.sample_rate_hz)
        if out is None:
            shape = (n_clips, front_end.n_frames(clips.shape[1]), front_end.n_mels)
            out = create_array(path, np.float32, shape)
        out[start : start + len(clips)] = log_mel_db(clips, front_end, device="cpu")
        advance(len(clips))
    out.flush()
    seal(path)


def resample(waveforms: np.ndarray, *, from_hz: int, to_hz: int) -> np.ndarray:
    """Waveforms at another rate: windowed-sinc interpolation by torchaudio, on the CPU.

    Rates with a small common divisor (44101 to 44100 Hz) would need a kernel of gigabytes there; they go
    through scipy's polyphase filter.

    Args:
        waveforms: float32 (n_clips, n_samples) at from_hz.

    Returns:
        float32 (n_clips, ceil(n_samples * to_hz / from_hz)); the input itself at equal rates.

    Raises:
        ValueError: wrong shape or dtype, rates that are not positive whole numbers.
    """
    import numpy as np

    _check_waveforms(waveforms)
    for name, rate in (("from_hz", from_hz), ("to_hz", to_hz)):
        if rate != int(rate) or rate <= 0:
            raise ValueError(f"{name}: expected a positive whole number of hertz, got {rate!r}")
    if from_hz == to_hz:
        return waveforms
    ratio = math.gcd(int(from_hz), int(to_hz))
    up, down = int(to_hz) // ratio, int(from_hz) // ratio
    if up * down > _LARGEST_KERNEL:
        from scipy.signal import resample_poly

        return resample_poly(waveforms, up, down, axis=1).astype(np.float32)
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
