"""A few patches that stand for all: greedy k-centre selection after a sparse random projection.

Source: PatchCore (Roth 2022, section 3.2, algorithm 1), after Sener and Savarese 2018. The selection is exactly
the greedy one: a start at random, then again and again the patch farthest from all chosen so far, of equally
far ones the first. Differs from common code in how it gets there: distances to chosen patches only
ever shrink, so a stored distance is an upper bound, and a patch whose bound lies below the current farthest
distance need not be looked at. Outdated bounds are brought up to date late, many patches against many
chosen ones at once, as one matrix product; only the few patches that may be next are measured exactly.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator

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
# Of the rows, and how many rows at least and at most, are kept as a pool; smallest, first and largest number of
# those among which centres are chosen one by one, and the centres per time below which it grows and above which
# it shrinks. They decide about speed only.
_POOL_SHARE, _POOL_ROWS = 8, (4096, 65536)
_SHORTLIST_ROWS = (128, 1024, 8192)
_SHORTLIST_YIELD = (8, 64)
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
        memory_bytes: bound on temporary arrays beyond features and 24 bytes per row. Changes the
            speed, not the result.

    Returns:
        int64 (n_select,), on the CPU, no index twice; of equally far rows the first.
    """
    return _Selection(features, n_select, start=start, memory_bytes=memory_bytes).run()


class _Selection:
    """State of a greedy selection.

    Three circles of rows, each the most promising ones of the next larger: all rows; a pool of some ten thousand,
    kept as a copy; and in it the rows among which centres are chosen one by one. Chosen centres reach the wider
    circle many at a time, as a matrix product.

    Attributes:
        bound: float64 (n,), upper bound of a row's squared distance to its nearest centre: the distance to the first
            `bound_knows` centres and, where that was only computed by the quick formula, its largest error.
            Minus infinity for selected rows.
        exact: float64 (n,), squared distance to the nearest of the first `exact_knows` centres.
        bound_knows, exact_knows: int32 (n,).
    """

    def __init__(
        self, features: torch.Tensor, n_select: int, *, start: int, memory_bytes: int
    ) -> None:
        n, n_dimensions = features.shape
        device = features.device
        self.features = features
        self.n_select = n_select
        self.block_rows, self.block_columns = block_sizes(n_dimensions, memory_bytes=memory_bytes)
        # A row of a pool: its vector, its neighbour's in a block, and a few numbers.
        most = max(memory_bytes // (2 * (8 * n_dimensions + 64)), 16)
        self.pool_size = min(max(n // _POOL_SHARE, _POOL_ROWS[0]), _POOL_ROWS[1], most)
        self.largest_shortlist = min(_SHORTLIST_ROWS[2], most)
        self.shortlist_size = min(_SHORTLIST_ROWS[1], most)
        self.margin_share = rounding_margin(n_dimensions)
        self.offset = torch.zeros(n_dimensions, device=device)
        for first in range(0, n, BLOCK_ROWS):
            self.offset += features[first : first + BLOCK_ROWS].sum(0) / n
        self.centres = torch.zeros(n_select, dtype=torch.int64, device=device)
        self.n_centres = 0
        self.bound = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.exact = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.bound_knows = torch.zeros(n, dtype=torch.int32, device=device)
        self.exact_knows = torch.zeros(n, dtype=torch.int32, device=device)
        self.select(start)

    def select(self, row: int | torch.Tensor) -> None:
        self.centres[self.n_centres] = row
        self.n_centres += 1
        self.bound[row] = self.exact[row] = -torch.inf

    def run(self) -> torch.Tensor:
        # The farthest distance cannot be below this: some up-to-date row is that far.
        at_least = -math.inf
        began = logged = time.monotonic()
        with exact_float32():
            while self.n_centres < self.n_select:
                may_be_farthest = (self.bound >= at_least) & (self.bound_knows < self.n_centres)
                self.tighten(torch.nonzero(may_be_farthest)[:, 0])
                if self.bound.max() == 0.0:
                    self.select_copies()
                    break
                at_least = self.select_in_pool()
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

    def select_copies(self) -> None:
        """Every row left equals a centre: the first of them."""
        left = torch.nonzero(self.bound == 0.0)[: self.n_select - self.n_centres, 0]
        self.centres[self.n_centres :] = left
        self.n_centres = self.n_select

    def blocks_of(
        self, rows: torch.Tensor, known: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Rows against the centres that they do not know of, block by block.

        Yields (rows, centres, approximate (rows, centres): squared distance without the row's own length, that
        length squared (rows,), largest error (rows,)).
        """
        order = known[rows].sort(stable=True)  # alike histories together
        rows = rows[order.indices]
        for first in range(0, len(rows), self.block_rows):
            block = rows[first : first + self.block_rows]
            a = self.features[block].sub_(self.offset)  # (rows, n_dimensions)
            a_sq = a.square().sum(1)
            for column in range(int(order.values[first]), self.n_centres, self.block_columns):
                centres = self.centres[column : min(column + self.block_columns, self.n_centres)]
                b = self.features[centres].sub_(self.offset)  # (centres, n_dimensions)
                b_sq = b.square().sum(1)
                approximate = torch.addmm(b_sq, a, b.T, alpha=-2.0)
                yield block, centres, approximate, a_sq, self.margin_share * (a_sq + b_sq.max())

    def tighten(self, rows: torch.Tensor) -> None:
        """Let the bounds of these rows know of all centres."""
        for block, _, approximate, a_sq, margin in self.blocks_of(rows, self.bound_knows):
            found = (approximate.amin(1) + a_sq + margin).double()
            self.bound[block] = torch.minimum(self.bound[block], found.clamp_(min=0.0))
        self.bound_knows[rows] = self.n_centres

    def measure(self, rows: torch.Tensor) -> None:
        """Compute the distances of these rows to all centres exactly; their bounds are equal to them then."""
        for block, centres, approximate, a_sq, margin in self.blocks_of(rows, self.exact_knows):
            known = self.exact[block].float()
            nearest = approximate.amin(1)
            limit = torch.minimum(nearest + 2.0 * margin, known - a_sq + margin)
            hopeful = torch.nonzero((nearest <= limit) & (known > 0.0))[:, 0]
            i, j = torch.nonzero(approximate[hopeful] <= limit[hopeful, None], as_tuple=True)
            i = block[hopeful[i]]
            found = paired_squared_distances(self.features, i, self.features, centres[j])
            self.exact.scatter_reduce_(0, i, found, "amin")
        self.bound[rows] = self.exact[rows]
        self.bound_knows[rows] = self.exact_knows[rows] = self.n_centres

    def select_in_pool(self) -> float:
        """Select centres among the rows with the largest bounds, while no other row can be farther.

        Every row that may be farthest must know of all centres. Returns a squared distance that some row has.
        """
        pool, outside = largest(self.bound, self.pool_size)
        self.tighten(pool[self.bound_knows[pool] < self.n_centres])
        a = self.features[pool].sub_(self.offset)  # (pool, n_dimensions)
        a_sq = a.square().sum(1)
        while True:
            bound = self.bound[pool]
            chosen, next_bound = largest(bound, self.shortlist_size)
            before = self.n_centres
            farthest = self.select_in_shortlist(
                pool[chosen], a[chosen], a_sq[chosen], max(outside, next_bound)
            )
            gained = self.n_centres - before
            if gained < _SHORTLIST_YIELD[0]:
                self.shortlist_size = min(2 * self.shortlist_size, self.largest_shortlist)
            elif gained > _SHORTLIST_YIELD[1]:
                self.shortlist_size = max(self.shortlist_size // 2, _SHORTLIST_ROWS[0])
            if self.n_centres == self.n_select:
                return farthest
            if gained:
                b = self.features[self.centres[before : self.n_centres]].sub_(self.offset)
                b_sq = b.square().sum(1)
                for first in range(0, len(pool), self.block_rows):
                    rows = slice(first, first + self.block_rows)
                    nearest = torch.addmm(b_sq, a[rows], b.T, alpha=-2.0).amin(1)
                    margin = self.margin_share * (a_sq[rows] + b_sq.max())
                    found = (nearest + a_sq[rows] + margin).double().clamp_(min=0.0)
                    self.bound[pool[rows]] = torch.minimum(self.bound[pool[rows]], found)
                self.bound_knows[pool] = self.n_centres
            if not self.bound[pool].max() > max(outside, 0.0):
                return farthest

    def select_in_shortlist(
        self, rows: torch.Tensor, a: torch.Tensor, a_sq: torch.Tensor, outside: float
    ) -> float:
        """Select one by one among these rows, as long as the farthest is farther than `outside`.

        Args:
            rows: ascending. a: (rows, n_dimensions), shifted by the offset. a_sq: (rows,).

        Returns:
            The largest squared distance of these rows that is left.
        """
        self.measure(rows)
        exact = self.exact[rows]
        # The one that leads all rows may be selected even if others are as far.
        leader = torch.nonzero(rows == self.bound.argmax())[:, 0]
        position = leader[0] if len(leader) else exact.argmax()
        value = float(exact[position])
        may_select = len(leader) > 0 or value > outside
        while may_select and self.n_centres < self.n_select:
            self.select(rows[position])
            exact[position] = -torch.inf
            sum_sq = a_sq + a_sq[position]
            approximate = sum_sq - 2.0 * (a @ a[position])  # (rows,)
            known = exact.float()
            hopeful = (approximate - self.margin_share * sum_sq <= known) & (known > 0.0)
            closer = torch.nonzero(hopeful)[:, 0]
            found = paired_squared_distances(
                self.features, rows[closer], self.features, rows[position].expand(len(closer))
            )
            exact[closer] = torch.minimum(exact[closer], found)
            position = exact.argmax()
            value = float(exact[position])
            may_select = value > outside
        self.exact[rows] = self.bound[rows] = exact
        self.exact_knows[rows] = self.bound_knows[rows] = self.n_centres
        return value


def largest(values: torch.Tensor, n_largest: int) -> tuple[torch.Tensor, float]:
    """Indices of the largest values, ascending, with the first of the very largest; and the largest of the rest."""
    if n_largest >= len(values):
        return torch.arange(len(values), device=values.device), -math.inf
    top = values.topk(n_largest + 1)
    indices = top.indices[:n_largest]
    first = values.argmax()
    if not (indices == first).any():  # then all of them are equally large
        indices[-1] = first
    return indices.sort().values, float(top.values[-1])
