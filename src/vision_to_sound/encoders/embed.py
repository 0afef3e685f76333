"""An encoder over many clips: batches, precision, and how many clips fit in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from vision_to_sound.encoders import EncoderSpec, tap_shapes
from vision_to_sound.encoders.conv_blocks import ConvBlockEncoder
from vision_to_sound.torch_setup import exact_float32

log = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")


def embed(
    encoder: nn.Module,
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
            second convolution on in blocks of convolutions; within 1 % of float32 by the norm of a
            tap, 1.5 % in networks of timm; MobileNets stay in float32).

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
    encoder.spec.check_spectrograms(spectrograms_db.shape)
    device = torch.device(device)
    encoder = encoder.to(device, memory_format=torch.channels_last).eval()
    if isinstance(encoder, ConvBlockEncoder):
        encoder = encoder.folded()
    return _embed_batches(encoder, spectrograms_db, device, batch_size, precision)


def _embed_batches(
    encoder: nn.Module,
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
    encoder: nn.Module,
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
        # NaN or infinity anywhere shows in the smallest and the largest value
        extremes = torch.stack([torch.stack(tap.aminmax()) for tap in taps]).float()  # (n_taps, 2)
        if device.type == "cuda":
            taps = [_to_pinned(tap) for tap in taps]
            extremes = _to_pinned(extremes)
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
        else:
            done = None

    def collect() -> list[np.ndarray]:
        if done is not None:
            done.synchronize()
        finite = torch.isfinite(extremes).all(dim=1).tolist()
        if not all(finite):
            broken = [
                tap.name for tap, good in zip(encoder.spec.taps, finite, strict=True) if not good
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

    Counts float32 activations at the network's fullest moment; all taps in float32 and twice in
    float16; the spectrogram twice (the batch at work and the one read ahead).
    """
    n_mels = spec.front_end.n_mels
    shapes = tap_shapes(spec, n_frames, n_mels)
    tap_values = [n_time * n_freq * n_channels for n_time, n_freq, n_channels in shapes]
    if listed := spec.mobilenet or spec.timm:
        # the image once in grey and twice in three colours, and maps as large as the largest tap
        at_work = 7 * n_frames * n_mels + listed.maps_in_memory * max(tap_values)
    else:
        at_work = _fullest_block(spec, n_frames)
    return 4 * at_work + (4 + 2 * 2) * sum(tap_values) + 2 * 4 * n_frames * n_mels


def _fullest_block(spec: EncoderSpec, n_frames: int) -> int:
    """Values in memory while the fullest block is computed.

    Its input and three maps of its own size (what the second batch norm reads and writes, and the
    first half's output, which is still referenced), and once more that size for the convolution's
    scratch memory.
    """
    n_time, n_freq, in_channels = n_frames, spec.front_end.n_mels, 1
    fullest = 0
    for block in spec.blocks:
        fullest = max(fullest, n_time * n_freq * (in_channels + 4 * block.channels))
        n_time, n_freq = n_time // block.pool_size[0], n_freq // block.pool_size[1]
        in_channels = block.channels
    return fullest


def batch_size_for(memory_bytes: int, spec: EncoderSpec, n_frames: int) -> int:
    """Clips that can be embedded at once within a memory budget, at least 1.

    The budget is for activations (`bytes_per_clip`); weights, 20 to 100 MB, come on top.

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
