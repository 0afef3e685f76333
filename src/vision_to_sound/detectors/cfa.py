"""CFA: a descriptor learned so that normal patches gather around the memory of their places.

Source: Lee et al. 2022, "CFA: Coupled-hypersphere-based feature adaptation for target-oriented anomaly
localization"; settings and order of work as in the authors' code and anomalib 2.7. One affine map takes each
patch, with its place in time and frequency beside it, to a descriptor of as many channels. The memory holds one
centroid per grid cell: the mean descriptor there before training; it stays as it is. Training pulls each
descriptor into spheres around its K nearest centroids, of whatever cells, and pushes it out of those around the
J next ones. Distances are squared in the loss and plain in the score.

Differs from both: deeper taps come to the largest grid by their nearest cell, not bilinear, and it need not be
square. The memory takes clips in order and counts a last, smaller batch as one (the authors shuffle and drop
it). The repelled centroids come after the K attracted ones (theirs: after the first J; the same for K = J). A
clip's score is its largest patch score, before the map is enlarged and blurred; maps are not scaled by other
clips. Centroids are not clustered, the descriptor keeps all channels (gamma_c = gamma_d = 1).
Differs from anomalib: the radius is learned, with weight decay, as in the authors' code; anomalib's stays at its
start, 1e-5, where nothing is ever repelled. The loss is the same, without all distances in memory at a time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps, readable_bytes
from vision_to_sound.torch_setup import exact_float32
from vision_to_sound.training import train_epochs

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

# Larger blocks of patches were no faster.
_LARGEST_BLOCK = 512


class CFA(Detector):
    """Learned descriptors and a memory of one centroid per cell.

    Args:
        n_neighbours: nearest centroids that attract a patch, and that its score looks at (K).
        n_hard_negatives: next nearest centroids that repel it (J).
        radius: of the spheres, at the start; learned.
        margin: how far inside its sphere (squared distance below squared radius) a hard negative may be before
            it repels (alpha).
        nu: the loss is divided by it.
        learning_rate, weight_decay: of AdamW, with AMSGrad.
        epochs: passes over the training clips.
        batch_size: clips per step.
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to use; none for all.

    Attributes:
        weight_: float32 (n_channels, n_channels + 2), columns of the patch, then of its time and frequency.
        bias_: float32 (n_channels,).
        centroids_: float32 (n_cells, n_channels).
        radius_: float32 (), as learned; the score does not use it.
        grid_: int64 (2,), n_time and n_freq.
        losses_: float64 (n_epochs,).
    """

    LEARNED = ("weight_", "bias_", "centroids_", "radius_", "grid_", "losses_")

    def __init__(
        self,
        *,
        n_neighbours: int,
        n_hard_negatives: int,
        radius: float,
        margin: float,
        nu: float,
        learning_rate: float,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        blur_sigma: float,
        layers: Sequence[str],
    ) -> None:
        if min(n_neighbours, n_hard_negatives, epochs, batch_size) < 1:
            raise ValueError(
                "n_neighbours, n_hard_negatives, epochs and batch_size must be at least 1, got "
                f"{n_neighbours}, {n_hard_negatives}, {epochs} and {batch_size}"
            )
        if not (nu > 0 and learning_rate > 0):
            raise ValueError(f"nu and learning_rate must be above 0, got {nu} and {learning_rate}")
        if min(radius, margin, weight_decay, blur_sigma) < 0:
            raise ValueError(
                "radius, margin, weight_decay and blur_sigma must not be negative, got "
                f"{radius}, {margin}, {weight_decay} and {blur_sigma}"
            )
        self.n_neighbours = n_neighbours
        self.n_hard_negatives = n_hard_negatives
        self.radius = radius
        self.margin = margin
        self.nu = nu
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.blur_sigma = blur_sigma
        self.layers = layers

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Take the memory from the descriptor as drawn, then train it; goes on from `checkpoint` if that is ours.

        Raises:
            ValueError: no clips, fewer cells than n_neighbours + n_hard_negatives, an embedding that is not
                finite (names the row), or a loss that is not (names the epoch).
        """
        reader = self._reader(train)
        n_cells, n_channels = reader.group_size, reader.n_channels
        n_nearest = self.n_neighbours + self.n_hard_negatives
        if reader.n_clips == 0:
            raise ValueError("CFA needs at least one normal clip to learn from, got none")
        if n_nearest > n_cells:
            raise ValueError(
                f"n_neighbours + n_hard_negatives is {n_nearest}, but the grid of "
                f"{reader.n_time} x {reader.n_freq} has only {n_cells} cells, one centroid each: lower them"
            )
        self.grid_ = np.array([reader.n_time, reader.n_freq], dtype=np.int64)
        descriptor = Descriptor.drawn(n_channels, radius=self.radius, rng=rng).to(device)
        seed = int(rng.integers(2**63))
        logger.info(
            "CFA: %d clips of %d x %d cells, %d channels: %s of centroids",
            reader.n_clips,
            *self.grid_,
            n_channels,
            readable_bytes(4 * n_cells * n_channels),
        )
        with exact_float32():
            centroids = initial_centroids(
                reader, descriptor, batch_size=self.batch_size, memory_bytes=memory_bytes
            )
            self.losses_ = self._train(descriptor, centroids, reader, seed, memory_bytes)
        self.weight_ = descriptor.weight.detach().cpu().numpy()
        self.bias_ = descriptor.bias.detach().cpu().numpy()
        self.radius_ = descriptor.radius.detach().cpu().numpy()
        self.centroids_ = centroids.cpu().numpy()
        return self

    def _train(
        self,
        descriptor: Descriptor,
        centroids: torch.Tensor,
        reader: PatchReader,
        seed: int,
        memory_bytes: int,
    ) -> np.ndarray:
        """Train the descriptor in place; losses of the epochs."""
        optimizer = torch.optim.AdamW(
            descriptor.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            amsgrad=True,
        )
        memory, device = Memory(centroids), centroids.device
        n_nearest = self.n_neighbours + self.n_hard_negatives
        clips_per_read = reader.clips_per_block(memory_bytes // 2)
        block = _patches_per_block(*centroids.shape, memory_bytes=memory_bytes // 2)

        def step(rows: np.ndarray) -> float:
            """One step of the optimizer; loss and gradient are summed over blocks of patches."""
            optimizer.zero_grad()
            loss = torch.zeros((), dtype=torch.float64, device=device)
            for first in range(0, len(rows), clips_per_read):
                patches = reader.read(rows[first : first + clips_per_read], device=device)
                for inputs in with_place(patches).split(block):
                    block_loss = coupled_hypersphere_loss(
                        memory.squared_distances(descriptor(inputs), n_nearest),
                        descriptor.radius,
                        n_neighbours=self.n_neighbours,
                        margin=self.margin,
                        nu=self.nu,
                    )
                    block_loss = block_loss * (len(inputs) / (len(rows) * reader.group_size))
                    block_loss.backward()
                    loss += block_loss.detach()
            optimizer.step()
            return loss.item()

        return train_epochs(
            step,
            {"descriptor": descriptor, "optimizer": optimizer},
            what="CFA",
            n_clips=reader.n_clips,
            n_epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
            checkpoint=self.checkpoint,
        )

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Patch score: distance to the nearest centroid times its share in a softmin over the n_neighbours nearest.

        Clip score: the largest patch score.

        Raises:
            ValueError: features of other channels or of another grid than the fitted ones, or not finite (names
                the row).
        """
        self.state()
        reader = self._reader(test)
        grid = (reader.n_time, reader.n_freq)
        if reader.n_channels != len(self.bias_):
            raise ValueError(
                f"fitted on patches of {len(self.bias_)} channels, these clips' have {reader.n_channels}: "
                "fit and score with the same encoder and layers"
            )
        if grid != tuple(self.grid_):
            raise ValueError(
                f"fitted on a grid of {tuple(int(n) for n in self.grid_)} (time, frequency), these clips have "
                f"{grid}: clips must have the length, and the encoder, of the training clips"
            )
        weight, bias, centroids = (
            torch.from_numpy(array).to(device)
            for array in (self.weight_, self.bias_, self.centroids_)
        )
        memory = Memory(centroids)
        block = _patches_per_block(*centroids.shape, memory_bytes=memory_bytes // 2)
        clips = np.empty(reader.n_clips, dtype=np.float64)
        maps = np.empty((reader.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        for rows, patches in reader.clip_blocks(device=device, memory_bytes=memory_bytes // 2):
            with exact_float32(), torch.no_grad():
                squared = [
                    memory.squared_distances(F.linear(inputs, weight, bias), self.n_neighbours)
                    for inputs in with_place(patches).split(block)
                ]
            patch_scores = softmin_score(torch.cat(squared)).reshape(len(rows), *grid)
            clips[rows] = patch_scores.flatten(1).amax(1).cpu().numpy()
            block_maps = anomaly_maps(
                patch_scores,
                n_frames=test.n_frames,
                n_mels=test.n_mels,
                blur_sigma=self.blur_sigma,
            )
            maps[rows] = block_maps.cpu().numpy()
        return AnomalyScores(clips=clips, maps=maps)

    def _reader(self, features: ClipFeatures) -> PatchReader:
        return PatchReader(features, layers=self.layers, pool=True, channels=None)


class Descriptor(torch.nn.Module):
    """What training changes: the affine map from a patch and its place to a descriptor, and the spheres' radius."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, radius: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(bias)
        self.radius = torch.nn.Parameter(torch.tensor(float(radius)))

    @classmethod
    def drawn(cls, n_channels: int, *, radius: float, rng: np.random.Generator) -> Self:
        """Uniform within 1 / sqrt(number of inputs), as PyTorch starts a convolution."""
        bound = 1.0 / math.sqrt(n_channels + 2)
        weight = rng.uniform(-bound, bound, size=(n_channels, n_channels + 2))
        bias = rng.uniform(-bound, bound, size=n_channels)
        return cls(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), radius)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n_patches, n_channels + 2) -> (n_patches, n_channels)"""
        return F.linear(inputs, self.weight, self.bias)


def with_place(patches: torch.Tensor) -> torch.Tensor:
    """Patches with two channels more (CoordConv): their time, then their frequency, each from -1 to 1.

    Args:
        patches: (n_clips, n_time, n_freq, n_channels). An axis of one cell lies at -1.

    Returns:
        (n_clips * n_time * n_freq, n_channels + 2).
    """
    n_clips, n_time, n_freq, n_channels = patches.shape
    time = torch.linspace(-1.0, 1.0, n_time, device=patches.device)
    freq = torch.linspace(-1.0, 1.0, n_freq, device=patches.device)
    place = torch.stack(torch.meshgrid(time, freq, indexing="ij"), dim=2)  # (n_time, n_freq, 2)
    place = place.expand(n_clips, -1, -1, -1)
    return torch.cat([patches, place], dim=3).reshape(-1, n_channels + 2)


def initial_centroids(
    reader: PatchReader, descriptor: Descriptor, *, batch_size: int, memory_bytes: int
) -> torch.Tensor:
    """Per cell the mean over batches of the mean descriptor of a batch's clips, float32 (n_cells, n_channels).

    The descriptor is affine: that of the mean patch is the mean of the patches' descriptors.
    """
    batch = np.arange(reader.n_clips) // batch_size
    weights = 1.0 / ((batch[-1] + 1) * np.bincount(batch)[batch])  # sum to one
    grid = (reader.n_time, reader.n_freq, reader.n_channels)
    device = descriptor.weight.device
    mean = torch.zeros(grid, dtype=torch.float64, device=device)
    for rows, patches in reader.clip_blocks(device=device, memory_bytes=memory_bytes):
        for weight, clip in zip(weights[rows].tolist(), patches, strict=True):
            mean += weight * clip
    with torch.no_grad():
        return descriptor(with_place(mean.float()[None]))


class Memory:
    """The centroids, float32 (n_cells, n_channels), and which of them are near."""

    def __init__(self, centroids: torch.Tensor) -> None:
        # Distances do not change when both sides move by the same vector; lengths, and so errors, shrink.
        self._centre = centroids.mean(0)
        self._centred = centroids - self._centre
        self._lengths_sq = self._centred.square().sum(1)

    def squared_distances(self, descriptors: torch.Tensor, n_nearest: int) -> torch.Tensor:
        """Squared distances to the nearest centroids, ascending, (n_patches, n_nearest), from their differences.

        Which centroids are nearest comes from one matrix product, without gradient: among distances that
        float32 hardly tells apart it may take the wrong one. The gradient is that of the distances.
        """
        shifted = descriptors - self._centre
        with torch.no_grad():
            # (n_patches, n_cells): without the patch's own squared length
            products = torch.addmm(self._lengths_sq, shifted, self._centred.T, alpha=-2.0)
            nearest = products.topk(n_nearest, largest=False).indices
        return _SquaredDistances.apply(shifted, self._centred, nearest).sort(dim=1).values


class _SquaredDistances(torch.autograd.Function):
    """|x[i] - c[nearest[i, k]]|^2 as (n, n_nearest), differentiable in x; autograd would keep all differences."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, c: torch.Tensor, nearest: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, c, nearest)
        return torch.stack([(x - c[column]).square_().sum(1) for column in nearest.T], dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, c, nearest = ctx.saved_tensors
        # sum over k of 2 g[i, k] (x[i] - c[nearest[i, k]])
        pull = F.embedding_bag(nearest, c, mode="sum", per_sample_weights=gradient)
        return 2.0 * (x * gradient.sum(1, keepdim=True) - pull), None, None


def coupled_hypersphere_loss(
    squared_distances: torch.Tensor,
    radius: torch.Tensor,
    *,
    n_neighbours: int,
    margin: float,
    nu: float,
) -> torch.Tensor:
    """Mean attraction plus mean repulsion, divided by nu: ().

    Args:
        squared_distances: (n_patches, n_nearest) to each patch's nearest centroids, ascending. The first
            n_neighbours attract as far as they are beyond radius^2, the others repel as far as they are
            within radius^2 - margin.
        radius: ().
    """
    attraction = F.relu(squared_distances[:, :n_neighbours] - radius**2).mean()
    repulsion = F.relu(radius**2 - squared_distances[:, n_neighbours:] - margin).mean()
    return (attraction + repulsion) / nu


def softmin_score(squared_distances: torch.Tensor) -> torch.Tensor:
    """Distance to the nearest centroid times its share in the softmin of all given, float64 (n_patches,).

    squared_distances: (n_patches, n_neighbours), ascending. Centroids equally near share: 1 / n_neighbours of
    the distance; a nearest one far ahead of the others gives it all.
    """
    distances = squared_distances.double().sqrt()
    return F.softmin(distances, dim=1)[:, 0] * distances[:, 0]


def _patches_per_block(n_cells: int, n_channels: int, *, memory_bytes: int) -> int:
    """How many patches to work on at a time; at least one.

    Counted per patch: twice its distances to all centroids, and its descriptor, gradient and a few copies.
    """
    patch_bytes = 4 * (2 * n_cells + 8 * n_channels)
    return int(max(1, min(_LARGEST_BLOCK, memory_bytes // patch_bytes)))
