"""The network that all encoders share, read at several depths.

Blocks as in PANNs (Kong 2020): two 3x3 convolutions without bias, each with batch norm and ReLU,
then pooling. Differs from the original networks in ending at the deepest tap, where nothing past it
exists, and in having no dropout, which does nothing when a network is only read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vision_to_sound.encoders import Block, EncoderSpec, tap_shapes
from vision_to_sound.torch_setup import exact_float32

log = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")

# aiSFX (Ma 2022): log10(10000 power + 1), divided by the largest value met in training.
_AISFX_POWER_GAIN = 10_000.0
_AISFX_SCALE = 9.457798957824707


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, then average or max pooling.

    keep_float32: run the first convolution in float32 even under autocast. For the block that sees
    the spectrogram: there rounding to bfloat16 costs most (aiSFX on recordings: 1.6 instead of 0.6 %
    at the deepest tap) and saves least, with a single input channel.
    """

    def __init__(self, in_channels: int, block: Block, *, keep_float32: bool) -> None:
        super().__init__()
        self.block = block
        self.keep_float32 = keep_float32
        self.conv1 = nn.Conv2d(in_channels, block.channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(block.channels)
        self.conv2 = nn.Conv2d(block.channels, block.channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(block.channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False) if self.keep_float32 else nullcontext():
            x = F.relu_(self.bn1(self.conv1(x)))  # (n, channels, n_time, n_freq)
        x = F.relu_(self.bn2(self.conv2(x)))  # (n, channels, n_time, n_freq)
        if self.block.pool_size == (1, 1):
            return x
        pool = F.avg_pool2d if self.block.pool == "avg" else F.max_pool2d
        return pool(x, self.block.pool_size)  # (n, channels, n_time // 2, n_freq // 2)


class ConvBlockEncoder(nn.Module):
    """An encoder built from its description, without weights of its own.

    Module names equal those of the checkpoints (bn0, conv_block1, ...) less the key prefix. Can be
    trained: nothing in `forward` stops gradients.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.n_mels = spec.front_end.n_mels
        self.bn0 = nn.BatchNorm2d(self.n_mels) if spec.has_bn0 else None
        in_channels = 1
        for block in spec.blocks:
            first = block is spec.blocks[0]
            self.add_module(f"conv_{block.name}", ConvBlock(in_channels, block, keep_float32=first))
            in_channels = block.channels

    def forward(self, log_mel_db: torch.Tensor) -> list[torch.Tensor]:
        """Taps of log-mel spectrograms.

        Args:
            log_mel_db: float32 (n, n_frames, n_mels), dB, from the encoder's own front end.

        Returns:
            float32 (n, n_time, n_freq, n_channels) for each of `spec.taps`, shallow to deep; a
            rectified linear unit ends each block, so no value is negative.

        Raises:
            ValueError: another number of mel bands, or too few frames for the deepest tap.
        """
        if log_mel_db.ndim != 3 or log_mel_db.shape[2] != self.n_mels:
            raise ValueError(
                f"encoder {self.spec.name!r}: expected (n, n_frames, {self.n_mels}) from front end "
                f"{self.spec.front_end.name!r}, got {tuple(log_mel_db.shape)}"
            )
        tap_shapes(self.spec, log_mel_db.shape[1], self.n_mels)  # raises for too short clips
        x = log_mel_db.unsqueeze(1)  # (n, 1, n_frames, n_mels)
        if self.spec.input_transform == "aisfx":
            x = (_AISFX_POWER_GAIN * 10.0 ** (x / 10.0) + 1.0).log10() / _AISFX_SCALE
        if self.bn0 is not None:
            x = self.bn0(x.transpose(1, 3)).transpose(1, 3)  # statistics per mel band
        taps = []
        for block in self.spec.blocks:
            x = self.get_submodule(f"conv_{block.name}")(x)  # (n, channels, n_time, n_freq)
            if block.name in self.spec.tap_names:
                taps.append(x.permute(0, 2, 3, 1).float())  # (n, n_time, n_freq, channels)
        return taps


def embed(
    encoder: ConvBlockEncoder,
    spectrograms_db: np.ndarray,
    *,
    device: torch.device | str,
    batch_size: int,
    precision: str,
) -> Iterator[list[np.ndarray]]:
    """Taps of many clips, batch by batch and in order.

    The next batch is read while the current one is computed; `spectrograms_db` may be a memory map
    larger than memory. The encoder is moved to the device and put in evaluation mode.

    Args:
        spectrograms_db: float32 (n_clips, n_frames, n_mels), dB.
        batch_size: clips at once; `batch_size_for` finds one that fits a budget.
        precision: "float32" (exact: no TF32 on graphics cards) or "bfloat16" (from the
            second convolution on; within 1 % of float32 by the norm of a tap).

    Yields:
        For each batch float16 (n, n_time, n_freq, n_channels) per tap, shallow to deep.

    Raises:
        ValueError: unknown precision, a batch size below 1, spectrograms of a wrong shape; while
            iterating, taps that float16 cannot hold (NaN, or beyond 65504).
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, allowed: {', '.join(PRECISIONS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    n_mels = encoder.n_mels
    if spectrograms_db.ndim != 3 or spectrograms_db.shape[2] != n_mels:
        raise ValueError(
            f"encoder {encoder.spec.name!r}: expected spectrograms (n_clips, n_frames, {n_mels}), "
            f"got {spectrograms_db.shape}"
        )
    device = torch.device(device)
    encoder = encoder.to(device, memory_format=torch.channels_last).eval()
    return _embed_batches(encoder, spectrograms_db, device, batch_size, precision)


def _embed_batches(
    encoder: ConvBlockEncoder,
    spectrograms_db: np.ndarray,
    device: torch.device,
    batch_size: int,
    precision: str,
) -> Iterator[list[np.ndarray]]:
    starts = range(0, len(spectrograms_db), batch_size)
    on_cuda = device.type == "cuda"

    def read(start: int) -> torch.Tensor:
        rows = np.array(spectrograms_db[start : start + batch_size], np.float32)  # a copy
        batch = torch.from_numpy(rows)
        return batch.pin_memory() if on_cuda else batch

    # On CUDA a batch is collected only after the next one is under way, so that the card never
    # waits for the host; elsewhere that would only hold memory for longer.
    waiting: Callable[[], list[np.ndarray]] | None = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read_ahead") as reader:
        ahead = reader.submit(read, 0) if starts else None
        for start in starts:
            batch = ahead.result()
            following = start + batch_size
            ahead = reader.submit(read, following) if following < len(spectrograms_db) else None
            collect = _start_batch(encoder, batch, device, precision, first_clip=start)
            if not on_cuda:
                yield collect()
                continue
            if waiting is not None:
                yield waiting()
            waiting = collect
    if waiting is not None:
        yield waiting()


def _start_batch(
    encoder: ConvBlockEncoder,
    batch: torch.Tensor,
    device: torch.device,
    precision: str,
    *,
    first_clip: int,
) -> Callable[[], list[np.ndarray]]:
    """Start one batch and return what waits for its taps."""
    bfloat16 = precision == "bfloat16"
    with torch.inference_mode(), exact_float32():
        on_device = batch.to(device, non_blocking=True)  # (n, n_frames, n_mels)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            taps = encoder(on_device)
        taps = [tap.half() for tap in taps]  # each (n, n_time, n_freq, n_channels)
        # no activation is negative, so NaN or infinity anywhere shows in the maximum
        peaks = torch.stack([tap.amax() for tap in taps]).float()
        if device.type == "cuda":
            taps = [_to_pinned(tap) for tap in taps]
            peaks = _to_pinned(peaks)
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
        else:
            done = None

    def collect() -> list[np.ndarray]:
        if done is not None:
            done.synchronize()
        if not bool(torch.isfinite(peaks).all()):
            broken = [
                name
                for name, peak in zip(encoder.spec.tap_names, peaks.tolist(), strict=True)
                if not np.isfinite(peak)
            ]
            raise ValueError(
                f"encoder {encoder.spec.name!r}: {', '.join(broken)} of clips {first_clip} to "
                f"{first_clip + len(batch) - 1} hold NaN or values beyond float16 (65504); check "
                "that the weights are the right ones and the spectrograms finite dB values"
            )
        return [tap.contiguous().numpy() for tap in taps]

    return collect


def _to_pinned(tensor: torch.Tensor) -> torch.Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def bytes_per_clip(spec: EncoderSpec, n_frames: int) -> int:
    """Memory that one clip of a batch takes at the fullest moment of `embed`, in bytes.

    Counts float32 activations: of the fullest block its input and three maps of its own size (what
    the second batch norm reads and writes, and the first half's output, which is still referenced),
    and once more that size for the convolution's scratch memory; all taps in float32 and twice in
    float16; the spectrogram twice (the batch at work and the one read ahead).
    """
    n_mels = spec.front_end.n_mels
    shapes = tap_shapes(spec, n_frames, n_mels)
    n_time, n_freq, in_channels = n_frames, n_mels, 1
    fullest_block = 0
    for block in spec.blocks:
        cells = n_time * n_freq
        fullest_block = max(fullest_block, cells * (in_channels + 4 * block.channels))
        n_time, n_freq = n_time // block.pool_size[0], n_freq // block.pool_size[1]
        in_channels = block.channels
    tap_values = sum(t * f * c for t, f, c in shapes)
    return 4 * fullest_block + (4 + 2 * 2) * tap_values + 2 * 4 * n_frames * n_mels


def batch_size_for(memory_bytes: int, spec: EncoderSpec, n_frames: int) -> int:
    """Clips that can be embedded at once within a memory budget, at least 1.

    The budget is for activations (`bytes_per_clip`); weights, some 20 MB, come on top.

    Raises:
        ValueError: not even one clip fits.
    """
    per_clip = bytes_per_clip(spec, n_frames)
    batch_size = memory_bytes // per_clip
    if batch_size < 1:
        raise ValueError(
            f"encoder {spec.name!r} needs {per_clip / 1e6:.0f} MB for one clip of {n_frames} "
            f"frames, the memory budget is {memory_bytes / 1e6:.0f} MB; raise the budget"
        )
    log.info(
        "encoder %s: %d clips at once, %.0f MB of a budget of %.0f MB",
        spec.name,
        batch_size,
        batch_size * per_clip / 1e6,
        memory_bytes / 1e6,
    )
    return batch_size
