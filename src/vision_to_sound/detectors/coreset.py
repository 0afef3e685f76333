"""A few patches that stand for all: greedy k-centre selection after a sparse random projection.

Source: PatchCore (Roth 2022, section 3.2, algorithm 1), after Sener and Savarese 2018. The selection is exactly
the greedy one: a start at random, then again and again the patch farthest from all chosen so far, of equally
far ones the first. Differs from common code in how it gets there: distances to chosen patches only
ever shrink, so a stored distance is an upper bound, and a patch whose bound lies below the current farthest
distance need not be looked at. Outdated bounds are brought up to date late, many patches against many
chosen ones at once, as one matrix product.
"""

from __future__ import annotations

import logging
import math
import time

import numpy as np
import torch

from vision_to_sound.detectors.distances import (
    BLOCK_ROWS,
    block_sizes,
    paired_squared_distances,
    rounding_margin,
)
from vision_to_sound.detectors.patches import PatchBlocks, TensorBlocks, readable_bytes
from vision_to_sound.torch_setup import exact_float32

logger = logging.getLogger(__name__)

_LOG_INTERVAL_S = 10.0
# Size of the group in which the next patches are looked for, and the number of selections per group below
# which it grows and above which it shrinks. They decide about speed only.
_POOL_SIZES = (256, 1024, 16384)  # smallest, first, largest
_POOL_YIELD = (8, 64)
_SMALLEST_WORKING_BYTES = 4 * 2**20


def projection_dimensions(n_samples: int, *, eps: float) -> int:
    """Dimensions that keep all distances among n_samples vectors within a factor 1 +- eps.

    Johnson-Lindenstrauss bound as Dasgupta and Gupta 2003 give it (and scikit-learn computes it), rounded down; at
    least one.
    """
    if not 0.0 < eps < 1.0:
        raise ValueError(f"projection_eps must lie between 0 and 1, got {eps}")
    return max(1, int(4.0 * math.log(n_samples) / (eps**2 / 2.0 - eps**3 / 3.0)))


def sparse_random_projection(
    n_channels: int, n_dimensions: int, *, rng: np.random.Generator
) -> np.ndarray:
    """Sparse random matrix, float32 (n_channels, n_dimensions): vectors @ matrix keeps distances on average.

    Li, Hastie and Church 2006: each entry is zero but with probability 1 / sqrt(n_channels), then plus or minus
    sqrt(sqrt(n_channels) / n_dimensions) with equal chances.
    """
    density = 1.0 / math.sqrt(n_channels)
    nonzero = rng.random((n_channels, n_dimensions)) < density
    sign = np.where(rng.random((n_channels, n_dimensions)) < 0.5, -1.0, 1.0)
    return (nonzero * sign * math.sqrt(1.0 / (density * n_dimensions))).astype(np.float32)


def k_centre_greedy(
    patches: torch.Tensor | PatchBlocks,
    n_select: int,
    *,
    rng: np.random.Generator,
    projection_eps: float,
    device: torch.device,
    memory_bytes: int,
) -> torch.Tensor:
    """Indices of patches that stand for all, in the order of selection.

    Args:
        patches: float32 (n_patches, n_channels), or a source that is read block by block.
        n_select: between 1 and n_patches.
        rng: draws the projection, then the start.
        projection_eps: allowed distortion of the random projection; 0.9 in PatchCore. Where the bound asks
            for as many dimensions as there are channels, nothing is projected.
        device: where distances are computed.
        memory_bytes: bound on what is held at a time. The projected patches must fit into it.

    Returns:
        int64 (n_select,), on the CPU.

    Raises:
        ValueError: n_select out of range, or memory_bytes too small for the projected patches.
    """
    source = TensorBlocks(patches) if isinstance(patches, torch.Tensor) else patches
    n_patches = source.n_patches
    if not 1 <= n_select <= n_patches:
        raise ValueError(f"n_select must lie between 1 and {n_patches} (patches), got {n_select}")
    features = project_patches(
        source, rng=rng, projection_eps=projection_eps, device=device, memory_bytes=memory_bytes
    )
    start = int(rng.integers(n_patches))
    return greedy_selection(
        features,
        n_select,
        start=start,
        memory_bytes=max(memory_bytes - features.nbytes, _SMALLEST_WORKING_BYTES),
    )


def project_patches(
    source: PatchBlocks,
    *,
    rng: np.random.Generator,
    projection_eps: float,
    device: torch.device,
    memory_bytes: int,
) -> torch.Tensor:
    """All patches after the random projection, float32 (n_patches, n_dimensions) on the device.

    Raises:
        ValueError: memory_bytes is too small to hold them.
    """
    n_patches, n_channels = source.n_patches, source.n_channels
    n_dimensions = projection_dimensions(n_patches, eps=projection_eps)
    projects = n_dimensions < n_channels
    n_dimensions = n_dimensions if projects else n_channels
    needed = 4 * n_patches * n_dimensions
    logger.info(
        "coreset: %d patches of %d channels, %s %d dimensions: allocating %s of %s "
        "(config key memory_mb changes that bound)",
        n_patches,
        n_channels,
        "projected to" if projects else "no projection,",
        n_dimensions,
        readable_bytes(needed),
        readable_bytes(memory_bytes),
    )
    if needed > memory_bytes:
        raise ValueError(
            f"{n_patches} patches in {n_dimensions} dimensions need {readable_bytes(needed)} at once, "
            f"{readable_bytes(memory_bytes)} are allowed: raise the config key memory_mb by "
            f"{math.ceil((needed - memory_bytes) / 2**20)} or more, or train on fewer clips"
        )
    matrix = None
    if projects:
        matrix = torch.from_numpy(sparse_random_projection(n_channels, n_dimensions, rng=rng))
        matrix = matrix.to(device)
    features = torch.empty((n_patches, n_dimensions), dtype=torch.float32, device=device)
    working = max(memory_bytes - needed, _SMALLEST_WORKING_BYTES)
    with exact_float32():
        for first, block in source.blocks(device=device, memory_bytes=working):
            # Groups of the same shape whatever the block: a product's last digit depends on its shape.
            for offset in range(0, len(block), source.group_size):
                group = block[offset : offset + source.group_size]
                rows = slice(first + offset, first + offset + len(group))
                features[rows] = group if matrix is None else group @ matrix
    return features


def greedy_selection(
    features: torch.Tensor, n_select: int, *, start: int, memory_bytes: int
) -> torch.Tensor:
    """Greedy k-centre selection: start, then always the row farthest from all rows selected so far.

    Args:
        features: float32 (n, n_dimensions).
        n_select: between 1 and n.
        start: index of the first row.
        memory_bytes: bound on temporary arrays beyond features and three numbers per row. Changes the
            speed, not the result.

    Returns:
        int64 (n_select,), on the CPU, no index twice; of equally far rows the first.
    """
    return _Selection(features, n_select, start=start, memory_bytes=memory_bytes).run()


class _Selection:
    """State of a greedy selection.

    Attributes:
        distance_sq: float64 (n,), squared distance to the nearest of the first `applied` centres: an upper bound of
            the distance to all. Minus infinity for selected rows.
        applied: int64 (n,), number of centres that distance_sq knows of.
    """

    def __init__(
        self, features: torch.Tensor, n_select: int, *, start: int, memory_bytes: int
    ) -> None:
        n, n_dimensions = features.shape
        device = features.device
        self.features = features
        self.n_select = n_select
        self.block_rows, self.block_columns = block_sizes(n_dimensions, memory_bytes=memory_bytes)
        # Pool: its vectors, shifted and as they are, and a few numbers per row.
        self.largest_pool = int(
            np.clip(memory_bytes // (2 * (8 * n_dimensions + 64)), 16, _POOL_SIZES[2])
        )
        self.margin_share = rounding_margin(n_dimensions)
        self.offset = torch.zeros(n_dimensions, device=device)
        for first in range(0, n, BLOCK_ROWS):
            self.offset += features[first : first + BLOCK_ROWS].sum(0) / n
        self.centres = torch.zeros(n_select, dtype=torch.int64, device=device)
        self.centres[0] = start
        self.n_centres = 1
        self.distance_sq = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.distance_sq[start] = -torch.inf
        self.applied = torch.zeros(n, dtype=torch.int64, device=device)

    def run(self) -> torch.Tensor:
        pool_size = _POOL_SIZES[1]
        # The farthest distance cannot be below this: some up-to-date row is that far.
        at_least = -torch.inf
        began = logged = time.monotonic()
        with exact_float32():
            while self.n_centres < self.n_select:
                may_be_farthest = (self.distance_sq >= at_least) & (self.applied < self.n_centres)
                self.refresh(torch.nonzero(may_be_farthest)[:, 0])
                before = self.n_centres
                at_least = self.select_in_pool(min(pool_size, self.largest_pool))
                gained = self.n_centres - before
                if gained < _POOL_YIELD[0]:
                    pool_size = min(2 * pool_size, self.largest_pool)
                elif gained > _POOL_YIELD[1]:
                    pool_size = max(pool_size // 2, _POOL_SIZES[0])
                if time.monotonic() - logged > _LOG_INTERVAL_S:
                    logged = time.monotonic()
                    logger.info(
                        "coreset: %d of %d selected (%.0f/s), farthest distance %.4g",
                        self.n_centres,
                        self.n_select,
                        self.n_centres / (logged - began),
                        math.sqrt(max(at_least, 0.0)),
                    )
        return self.centres.cpu()

    def refresh(self, rows: torch.Tensor) -> None:
        """Bring distance_sq of these rows up to date with all centres."""
        rows = rows[self.applied[rows].sort(stable=True).indices]  # alike histories together
        for first in range(0, len(rows), self.block_rows):
            block = rows[first : first + self.block_rows]
            known = int(self.applied[block[0]])
            for column in range(known, self.n_centres, self.block_columns):
                columns = self.centres[column : min(column + self.block_columns, self.n_centres)]
                self.apply_centres(block, columns)
        self.applied[rows] = self.n_centres

    def apply_centres(self, rows: torch.Tensor, centres: torch.Tensor) -> None:
        a = self.features[rows] - self.offset  # (rows, n_dimensions)
        b = self.features[centres] - self.offset  # (centres, n_dimensions)
        a_sq, b_sq = a.square().sum(1), b.square().sum(1)
        bound = self.distance_sq[rows].float()  # (rows,)
        # (rows, centres): squared distance without the row's own |a|^2
        approximate = torch.addmm(b_sq, a, b.T, alpha=-2.0)
        margin = self.margin_share * (a_sq + b_sq.max())
        nearest = approximate.amin(1)
        limit = torch.minimum(nearest + 2.0 * margin, bound - a_sq + margin)
        hopeful = torch.nonzero((nearest <= limit) & (bound > 0.0))[:, 0]
        i, j = torch.nonzero(approximate[hopeful] <= limit[hopeful, None], as_tuple=True)
        i = rows[hopeful[i]]
        exact = paired_squared_distances(self.features, i, self.features, centres[j])
        self.distance_sq.scatter_reduce_(0, i, exact, "amin")

    def select_in_pool(self, pool_size: int) -> float:
        """Select the farthest row, then go on among the rows with the largest distances while that is exact.

        Every row that may be farthest must be up to date. Returns the farthest up-to-date distance, squared.
        """
        # One more than the pool: nothing outside can be farther than that one.
        largest = self.distance_sq.topk(min(pool_size + 1, len(self.distance_sq)))
        pool = largest.indices[:pool_size].sort().values  # first of equally far ones: in order
        outside = float(largest.values[pool_size]) if len(largest.values) > pool_size else -math.inf
        farthest = self.distance_sq.argmax()
        self.refresh(pool[self.applied[pool] < self.n_centres])
        shifted = self.features[pool] - self.offset  # (pool, n_dimensions)
        shifted_sq = shifted.square().sum(1)
        distance_sq = self.distance_sq[pool]
        self.distance_sq[farthest] = -torch.inf
        distance_sq[pool == farthest] = -torch.inf
        centre = farthest
        while True:
            self.centres[self.n_centres] = centre
            self.n_centres += 1
            centre_shifted = self.features[centre] - self.offset
            sum_sq = shifted_sq + centre_shifted.square().sum()  # (pool,)
            approximate = sum_sq - 2.0 * (shifted @ centre_shifted)
            bound = distance_sq.float()
            hopeful = (approximate - self.margin_share * sum_sq <= bound) & (bound > 0.0)
            closer = torch.nonzero(hopeful)[:, 0]
            exact = paired_squared_distances(
                self.features, pool[closer], self.features, centre.expand(len(closer))
            )
            distance_sq[closer] = torch.minimum(distance_sq[closer], exact)
            position = distance_sq.argmax()
            value = float(distance_sq[position])
            if self.n_centres == self.n_select or not value > outside:
                break
            distance_sq[position] = -torch.inf
            centre = pool[position]
        self.distance_sq[pool] = distance_sq
        self.applied[pool] = self.n_centres
        return value
