"""Patches: the embedding of a clip on one grid, with the channels of all taps side by side.

Source: PatchCore (Roth 2022, section 3.1): per tap the mean over 3x3 neighbours, nearest-neighbour upsampling
to the largest grid, concatenation. PaDiM (Defard 2020) the same without the mean, on some of the channels.
Time comes first and frequency second in every array.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from vision_to_sound.settings import check_known, tap_names_of
from vision_to_sound.stage import progress
from vision_to_sound.torch_setup import exact_float32

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures, TapShape

logger = logging.getLogger(__name__)

# Arrays alive at a time while taps become patches, in sizes of the result.
_ARRAYS_PER_BLOCK = 4
# Larger blocks were no faster, however much memory there is.
_LARGEST_BLOCK_BYTES = 2**28


class SharedChannels(NamedTuple):
    """Channels that many rows have in common, as cells share the values of a coarser tap.

    channels: which. source: int64 (n_rows,); rows of equal source are equal in these channels.
    """

    channels: slice
    source: torch.Tensor


class PatchBlocks(Protocol):
    """Patches of many clips, read block by block.

    Attributes:
        n_patches, n_channels: size of the whole, as one matrix.
        group_size: number of rows that belong together (the patches of one clip); every block holds whole groups.
    """

    n_patches: int
    n_channels: int
    group_size: int

    def blocks(
        self, *, device: torch.device, memory_bytes: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(index of the first row, float32 (n_rows, n_channels) on the device), in order."""


class TensorBlocks:
    """Patches that are in memory already: float32 (n_patches, n_channels)."""

    group_size = 4096

    def __init__(self, patches: torch.Tensor) -> None:
        self.patches = patches
        self.n_patches, self.n_channels = patches.shape

    def blocks(
        self, *, device: torch.device, memory_bytes: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        for first in range(0, self.n_patches, self.group_size):
            block = self.patches[first : first + self.group_size]
            yield first, block.to(device=device, dtype=torch.float32)


class PatchReader:
    """Reads the patches of clips from their taps, a few clips at a time.

    Args:
        features: the clips.
        layers: names of the taps to use, or SHALLOWEST for the first, whatever its name; none for all.
        pool: mean over 3x3 neighbours first (PatchCore) or not (PaDiM).
        channels: sorted indices into the channels of all used taps side by side, or None for all of them.

    Raises:
        ValueError: no taps, an unknown or repeated tap name, a channel out of range.

    Attributes:
        taps: the taps used, shallow to deep.
        n_time, n_freq: grid of the patches.
    """

    def __init__(
        self,
        features: ClipFeatures,
        *,
        layers: Sequence[str],
        pool: bool,
        channels: np.ndarray | None,
    ) -> None:
        self.features = features
        self.pool = pool
        self.tap_indices = choose_taps(features.taps, layers)
        self.taps = tuple(features.taps[i] for i in self.tap_indices)
        self.n_time, self.n_freq = patch_grid(self.taps)
        n_available = sum(tap.n_channels for tap in self.taps)
        self.channels = None
        if channels is not None:
            if len(channels) and not 0 <= channels.min() <= channels.max() < n_available:
                raise ValueError(
                    f"channels must lie between 0 and {n_available - 1}, got {channels.min()} to {channels.max()}: "
                    "were these features made by the encoder that the detector was fitted on?"
                )
            self.channels = torch.as_tensor(channels, dtype=torch.int64)
        self.n_channels = n_available if self.channels is None else len(self.channels)

    @property
    def n_clips(self) -> int:
        return self.features.n_clips

    @property
    def group_size(self) -> int:
        return self.n_time * self.n_freq

    @property
    def n_patches(self) -> int:
        return self.n_clips * self.group_size

    def clips_per_block(self, memory_bytes: int) -> int:
        """How many clips' patches may be in memory at a time; at least one."""
        clip_bytes = 4 * _ARRAYS_PER_BLOCK * self.group_size * self.n_channels
        budget = min(memory_bytes, _LARGEST_BLOCK_BYTES)
        return int(max(1, min(self.n_clips, budget // clip_bytes)))

    def read(self, rows: np.ndarray, *, device: torch.device) -> torch.Tensor:
        """Patches of these clips, float32 (n_rows, n_time, n_freq, n_channels) on the device.

        Raises:
            ValueError: an embedding is not finite; names the clip's row.
        """
        arrays = self.features.read_taps(rows)
        taps = []
        for index, shape in zip(self.tap_indices, self.taps, strict=True):
            tap = torch.from_numpy(arrays[index]).to(device)
            bad = ~torch.isfinite(tap).flatten(1).all(1)
            if bad.any():
                row = int(rows[int(torch.nonzero(bad)[0])])
                raise ValueError(
                    f"the embedding of clip row {row} (tap {shape.name}) is not finite. Look at that clip's audio, "
                    "then delete and recompute the embeddings"
                )
            taps.append(tap)
        channels = None if self.channels is None else self.channels.to(device)
        return patch_vectors(taps, pool=self.pool, channels=channels)

    def shared_channels(self, n_clips: int, *, device: torch.device) -> list[SharedChannels]:
        """Which patches of n_clips clips have channels in common: those that lie in one cell of their tap."""
        counts = [tap.n_channels for tap in self.taps]
        bounds = torch.tensor([0, *counts]).cumsum(0)
        chosen = torch.arange(bounds[-1]) if self.channels is None else self.channels
        edges = torch.searchsorted(chosen, bounds).tolist()
        clip = torch.arange(n_clips, device=device)[:, None, None]
        shared: list[SharedChannels] = []
        for i, tap in enumerate(self.taps):
            time = nearest_index(tap.n_time, self.n_time).to(device)[:, None]
            freq = nearest_index(tap.n_freq, self.n_freq).to(device)
            source = ((clip * tap.n_time + time) * tap.n_freq + freq).flatten()
            first = edges[i]
            if shared and torch.equal(source, shared[-1].source):
                first = shared.pop().channels.start
            shared.append(SharedChannels(slice(first, edges[i + 1]), source))
        return shared

    def clip_blocks(
        self, *, device: torch.device, memory_bytes: int
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """(rows of the clips, their patches (n_rows, n_time, n_freq, n_channels)), in order."""
        step = self.clips_per_block(memory_bytes)
        advance = progress(self.n_clips, "patches")
        for first in range(0, self.n_clips, step):
            rows = np.arange(first, min(first + step, self.n_clips))
            yield rows, self.read(rows, device=device)
            advance(len(rows))  # when the caller has done its work on them

    def blocks(
        self, *, device: torch.device, memory_bytes: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        for rows, vectors in self.clip_blocks(device=device, memory_bytes=memory_bytes):
            yield int(rows[0]) * self.group_size, vectors.reshape(-1, self.n_channels)

    def gather(
        self, indices: np.ndarray, *, device: torch.device, memory_bytes: int
    ) -> torch.Tensor:
        """Some patches by their index (clip, then time, then frequency), reading only their clips.

        Returns:
            float32 (n_indices, n_channels) on the device, in the order of indices.
        """
        result = torch.empty((len(indices), self.n_channels), dtype=torch.float32, device=device)
        clip, cell = np.divmod(indices, self.group_size)
        clips = np.unique(clip)
        step = self.clips_per_block(memory_bytes)
        for first in range(0, len(clips), step):
            rows = clips[first : first + step]
            vectors = self.read(rows, device=device).reshape(len(rows), self.group_size, -1)
            wanted = np.flatnonzero((clip >= rows[0]) & (clip <= rows[-1]))
            local = torch.from_numpy(np.searchsorted(rows, clip[wanted])).to(device)
            cells = torch.from_numpy(cell[wanted]).to(device)
            result[torch.from_numpy(wanted).to(device)] = vectors[local, cells]
        return result


def choose_taps(taps: Sequence[TapShape], layers: Sequence[str]) -> list[int]:
    """Indices of the named taps (or SHALLOWEST), shallow to deep; of all of them where none is named."""
    if not taps:
        raise ValueError("this detector works on embeddings, and these features hold no tap")
    if not layers:
        return list(range(len(taps)))
    names = [tap.name for tap in taps]
    layers = tap_names_of(layers, names)
    for layer in layers:
        check_known(layer, names, what="tap in the setting 'layers':")
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(
            f"setting 'layers' must name at least one tap and none twice, got {layers}"
        )
    return sorted(names.index(layer) for layer in layers)


def patch_grid(taps: Sequence[TapShape]) -> tuple[int, int]:
    """(n_time, n_freq) of the tap with the most cells."""
    largest = max(taps, key=lambda tap: tap.n_time * tap.n_freq)
    return largest.n_time, largest.n_freq


def patch_vectors(
    taps: Sequence[torch.Tensor], *, pool: bool, channels: torch.Tensor | None
) -> torch.Tensor:
    """Taps of some clips on the largest of their grids, channels side by side.

    Args:
        taps: float32 (n_clips, n_time, n_freq, n_channels) each, all on one device.
        pool: mean over 3x3 cells per tap first, zeros beyond the edge counted in (as PatchCore).
        channels: int64, sorted indices into the channels of all taps side by side; None for all.

    Returns:
        float32 (n_clips, n_time, n_freq, n_channels).
    """
    n_clips = taps[0].shape[0]
    n_time, n_freq = max((tap.shape[1:3] for tap in taps), key=lambda grid: grid[0] * grid[1])
    n_channels = sum(tap.shape[3] for tap in taps) if channels is None else len(channels)
    result = torch.empty((n_clips, n_time, n_freq, n_channels), device=taps[0].device)
    tap_start = filled = 0
    for tap in taps:
        tap_stop = tap_start + tap.shape[3]
        if channels is not None:
            inside = (channels >= tap_start) & (channels < tap_stop)
            tap = tap[..., channels[inside] - tap_start]
        tap_start = tap_stop
        if tap.shape[3] == 0:
            continue
        if pool:
            # (n_clips, n_channels, n_time, n_freq) and back
            tap = F.avg_pool2d(tap.permute(0, 3, 1, 2), kernel_size=3, stride=1, padding=1)
            tap = tap.permute(0, 2, 3, 1)
        time_index = nearest_index(tap.shape[1], n_time).to(tap.device)
        freq_index = nearest_index(tap.shape[2], n_freq).to(tap.device)
        result[..., filled : filled + tap.shape[3]] = tap[:, time_index][:, :, freq_index]
        filled += tap.shape[3]
    return result


def nearest_index(n_in: int, n_out: int) -> torch.Tensor:
    """Cell of n_in that each of n_out cells takes, int64 (n_out,): as interpolation to the nearest does it."""
    cells = torch.arange(n_in, dtype=torch.float32)
    return F.interpolate(cells[None, None], size=n_out, mode="nearest")[0, 0].long()


def upsample_map(grid_scores: torch.Tensor, n_frames: int, n_mels: int) -> torch.Tensor:
    """Bilinear, corners not aligned: (n_clips, n_time, n_freq) -> (n_clips, n_frames, n_mels)."""
    size = (n_frames, n_mels)
    return F.interpolate(grid_scores[:, None], size=size, mode="bilinear", align_corners=False)[
        :, 0
    ]


def blur_kernel_size(sigma: float) -> int:
    """Number of cells of a Gaussian cut at four sigma; 33 for sigma 4."""
    return 2 * int(4.0 * sigma + 0.5) + 1


def gaussian_blur(maps: torch.Tensor, sigma: float, kernel_size: int) -> torch.Tensor:
    """Gaussian blur over time and frequency, edges reflected; sigma 0 changes nothing.

    Args:
        maps: (n_clips, n_frames, n_mels), any size: where the kernel reaches beyond a whole reflection, the
            reflection is reflected again.
        sigma: standard deviation in cells.
        kernel_size: odd number of cells; the weights within it sum to one.
    """
    if sigma == 0:
        return maps
    if sigma < 0 or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"blur needs sigma >= 0 and an odd kernel, got {sigma} and {kernel_size}")
    half = kernel_size // 2
    steps = torch.arange(-half, half + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = (weights / weights.sum()).to(device=maps.device, dtype=maps.dtype)
    n_frames, n_mels = maps.shape[1:]
    padded = maps[:, _reflected(n_frames, half, maps.device)]
    blurred = F.conv2d(padded[:, None], weights[None, None, :, None])[:, 0]
    padded = blurred[:, :, _reflected(n_mels, half, maps.device)]
    return F.conv2d(padded[:, None], weights[None, None, None, :])[:, 0]


def _reflected(n: int, margin: int, device: torch.device) -> torch.Tensor:
    """Indices into n cells with `margin` more at both ends, mirrored about the first and the last cell."""
    period = max(2 * (n - 1), 1)
    steps = torch.arange(-margin, n + margin, device=device) % period
    return torch.minimum(steps, period - steps) if n > 1 else torch.zeros_like(steps)


def anomaly_maps(
    grid_scores: torch.Tensor, *, n_frames: int, n_mels: int, blur_sigma: float
) -> torch.Tensor:
    """Maps float32 (n_clips, n_frames, n_mels) from scores per patch (n_clips, n_time, n_freq)."""
    with exact_float32():
        maps = upsample_map(grid_scores.float(), n_frames, n_mels)
        return gaussian_blur(maps, blur_sigma, blur_kernel_size(blur_sigma))


def readable_bytes(n_bytes: float) -> str:
    """For messages: 2306867200 -> '2.1 GiB'."""
    for unit in ("bytes", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"
