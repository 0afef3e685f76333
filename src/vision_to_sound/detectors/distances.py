"""Euclidean distances between many vectors: fast by matrix products, exact where it counts.

|a - b|^2 = |a|^2 + |b|^2 - 2 a.b costs one matrix product but cancels: in float32 a vector's distance to
itself comes out as a few thousandths of its length. Here that product only sorts out *which* pairs can be
nearest; those pairs, usually one per row, are computed again from their differences in float64. So results
do not depend on block sizes, and a distance of zero is zero. `near_neighbour` alone is not exact: it looks
where the nearest vector mostly is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vision_to_sound.torch_setup import exact_float32

if TYPE_CHECKING:
    from vision_to_sound.detectors.patches import SharedChannels

# Blocks of about this size stay in a processor's cache; larger ones were no faster.
BLOCK_ROWS = 2048
BLOCK_COLUMNS = 2048
_PROBED_ROWS = 32768  # each cell's share of them makes a product
_UNIT_ROUNDOFF = 2.0**-24


def rounding_margin(n_channels: int) -> float:
    """Error of an expanded squared distance in float32, as a share of |a|^2 + |b|^2.

    Errors of a sum of n products grow like sqrt(n) in practice; four times that is safe by far.
    """
    return (4.0 * math.sqrt(n_channels) + 8.0) * _UNIT_ROUNDOFF


def paired_squared_distances(
    a: torch.Tensor, a_rows: torch.Tensor, b: torch.Tensor, b_rows: torch.Tensor
) -> torch.Tensor:
    """|a[a_rows[i]] - b[b_rows[i]]|^2 for each i, float64 (n_pairs,), from differences in float64.

    Works through the pairs in blocks; no block needs more than BLOCK_ROWS rows at a time.
    """
    result = torch.empty(len(a_rows), dtype=torch.float64, device=a.device)
    for first in range(0, len(a_rows), BLOCK_ROWS):
        rows = slice(first, first + BLOCK_ROWS)
        difference = a[a_rows[rows]].double() - b[b_rows[rows]].double()  # (rows, n_channels)
        result[rows] = difference.square_().sum(1)
    return result


def block_sizes(n_channels: int, *, memory_bytes: int) -> tuple[int, int]:
    """(rows, columns) of a block of distances whose temporary arrays fit into memory_bytes.

    Counted per block: rows and columns as vectors (float32), three arrays of their distances, and the
    pairs computed again in float64.
    """
    rows, columns = BLOCK_ROWS, BLOCK_COLUMNS
    while rows * columns > 256 and (
        4 * n_channels * (rows + columns) + 12 * rows * columns > memory_bytes
    ):
        rows, columns = max(16, rows // 2), max(16, columns // 2)
    return rows, columns


def nearest_neighbour(
    queries: torch.Tensor,
    bank: torch.Tensor,
    *,
    memory_bytes: int,
    shared: Sequence[SharedChannels] = (),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance of each query to its nearest vector in the bank, and which one that is.

    Args:
        queries: float32 (n_queries, n_channels).
        bank: float32 (n_bank, n_channels), n_bank >= 1, on the same device.
        memory_bytes: bound on temporary arrays (beyond queries and bank).
        shared: channels, all of them and each once, that are computed once per source. Changes the speed only.

    Returns:
        Euclidean distances float64 (n_queries,) and indices into the bank int64 (n_queries,); of equally near
        vectors the first.
    """
    n_queries, n_channels = queries.shape
    margin_share = rounding_margin(n_channels)
    block_rows, block_columns = block_sizes(n_channels, memory_bytes=memory_bytes)
    # Distances do not change when both sides move by the same vector; lengths, and so errors, shrink.
    centre = _mean_in_blocks(bank)
    blocks = [slice(row, row + block_rows) for row in range(0, n_queries, block_rows)]
    steps = [_product_steps(shared, rows, queries) for rows in blocks]
    a_sq = torch.cat([(queries[rows] - centre).square_().sum(1) for rows in blocks])
    # By the quick formula and without |a|^2: the least, which that is, and the next one.
    least = torch.full((n_queries,), torch.inf, device=queries.device)
    rival = torch.full_like(least, torch.inf)
    index = torch.zeros(n_queries, dtype=torch.int64, device=queries.device)
    largest_sq = torch.zeros((), device=queries.device)
    with exact_float32():
        for column in range(0, len(bank), block_columns):
            b = bank[column : column + block_columns] - centre  # (columns, n_channels)
            b_sq = b.square().sum(1)
            largest_sq = torch.maximum(largest_sq, b_sq.max())
            for rows, products in zip(blocks, steps, strict=True):
                approximate = b_sq.expand(1, -1)
                for channels, before, first in products:
                    a = queries[rows, channels][first] - centre[channels]
                    approximate = approximate.index_select(0, before)
                    approximate.addmm_(a, b[:, channels].T, alpha=-2.0)  # (rows, columns)
                nearest = approximate.amin(1)
                is_nearer = nearest < least[rows]
                nearer = torch.nonzero(is_nearer)[:, 0]
                rival[rows] = torch.where(
                    is_nearer, least[rows], torch.minimum(rival[rows], nearest)
                )
                if len(nearer) < len(approximate):
                    approximate = approximate[nearer]
                values, places = approximate.min(1)
                approximate.scatter_(1, places[:, None], torch.inf)
                nearer += rows.start
                rival[nearer] = torch.minimum(rival[nearer], approximate.amin(1))
                least[nearer], index[nearer] = values, places + column
    every = torch.arange(n_queries, device=queries.device)
    distance_sq = paired_squared_distances(queries, every, bank, index)
    margin = margin_share * (a_sq + largest_sq)
    unsure = torch.nonzero(rival <= least + 2.0 * margin)[:, 0]
    for first in range(0, len(unsure), block_rows):
        rows = unsure[first : first + block_rows]
        distance_sq[rows], index[rows] = _nearest_of_close_ones(
            queries[rows], bank, centre, distance_sq[rows], block_columns=block_columns
        )
    return distance_sq.sqrt(), index


def _nearest_of_close_ones(
    queries: torch.Tensor,
    bank: torch.Tensor,
    centre: torch.Tensor,
    at_most_sq: torch.Tensor,
    *,
    block_columns: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(squared distance, index of the first at it) where rounding hides it: all that may be it are measured.

    at_most_sq: float64 (n_queries,), a squared distance that some vector of the bank has.
    """
    best_sq = at_most_sq.clone()
    best_index = torch.full_like(best_sq, len(bank), dtype=torch.int64)
    a = queries - centre  # (n_queries, n_channels)
    a_sq = a.square().sum(1)
    with exact_float32():
        for column in range(0, len(bank), block_columns):
            b = bank[column : column + block_columns] - centre  # (columns, n_channels)
            b_sq = b.square().sum(1)
            approximate = torch.addmm(b_sq, a, b.T, alpha=-2.0)
            limit = best_sq.float() - a_sq + 2.0 * rounding_margin(a.shape[1]) * (a_sq + b_sq.max())
            i, j = torch.nonzero(approximate <= limit[:, None], as_tuple=True)
            exact = paired_squared_distances(queries, i, bank, j + column)
            _keep_first_minimum(best_sq, best_index, i, j + column, exact)
    return best_sq, best_index


def _product_steps(
    shared: Sequence[SharedChannels], rows: slice, queries: torch.Tensor
) -> list[tuple[slice, torch.Tensor, torch.Tensor | slice]]:
    """How the products of a block of rows are made, those that most rows share first.

    Each step adds some channels, once for all rows that are alike in what was added so far: (channels; for each
    product its product of the step before, zeros at the first; a row that it stands for). The last is row by row.
    """
    every = torch.arange(len(queries[rows]), device=queries.device)
    joint = torch.zeros_like(every)  # for each row its product so far
    sources = [(part.channels, part.source[rows].unique(return_inverse=True)) for part in shared]
    steps: list[tuple[slice, torch.Tensor, torch.Tensor | slice]] = []
    for channels, (values, source) in sorted(sources, key=lambda item: len(item[1][0])):
        distinct, following = (joint * len(values) + source).unique(return_inverse=True)
        if len(distinct) == len(every):
            steps.append((channels, joint, slice(None)))
            joint = every
        else:
            first = torch.full_like(distinct, len(every))
            first.scatter_reduce_(0, following, every, "amin")
            steps.append((channels, joint[first], first))
            joint = following
    if not steps:
        return [(slice(None), joint, slice(None))]
    if joint is not every:
        steps.append((slice(0, 0), joint, slice(None)))
    return steps


def _keep_first_minimum(
    best_sq: torch.Tensor,
    best_index: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
) -> None:
    """Update best_sq and best_index by candidates; of equal ones the first column."""
    before = best_sq.clone()
    best_sq.scatter_reduce_(0, rows, values, "amin")
    best_index[best_sq < before] = torch.iinfo(torch.int64).max
    winners = values == best_sq[rows]
    best_index.scatter_reduce_(0, rows[winners], columns[winners], "amin")


def near_neighbour(
    queries: torch.Tensor, bank: torch.Tensor, *, share: float, memory_bytes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance of each query to a near vector of the bank: of those it is compared with, the nearest.

    Which are a share of the bank: about sqrt(n_bank) of its vectors, evenly spaced, are centres of cells, every
    vector lies in the cell of its nearest centre, and a query is compared with what lies in the cells whose centres
    are nearest to it. Known as an inverted file (Jegou et al. 2011, there with compressed vectors, here without).

    Args:
        queries, bank, memory_bytes: as of `nearest_neighbour`; a second copy of the bank comes on top.
        share: of the cells that a query is compared with, above 0; 1 finds the nearest vector.

    Returns:
        As `nearest_neighbour`: the distance is the found vector's own, so it is never too small.
    """
    centre = _mean_in_blocks(bank)
    b = bank - centre
    b_sq = b.square().sum(1)
    n_centres = round(math.sqrt(len(bank)))
    centres = torch.linspace(0, len(bank) - 1, n_centres, device=bank.device).long()
    _, cell = nearest_neighbour(b, b[centres], memory_bytes=memory_bytes)
    used, cell = cell.unique(return_inverse=True)  # a centre's twin has an empty cell
    centres = centres[used]
    n_probes = min(math.ceil(share * len(centres)), len(centres))
    members = list(cell.argsort(stable=True).split(cell.bincount().tolist()))
    index = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
    # Of a row: itself moved and gathered, distances to the centres and their order, and to one cell.
    row_bytes = 8 * queries.shape[1] + 24 * len(centres) + 4 * max(map(len, members))
    block_rows = max(1, min(_PROBED_ROWS, memory_bytes // row_bytes))
    with exact_float32():
        for first in range(0, len(queries), block_rows):
            a = queries[first : first + block_rows] - centre
            to_centres = torch.addmm(b_sq[centres], a, b[centres].T, alpha=-2.0)
            probed = to_centres.topk(n_probes, largest=False, sorted=False).indices.flatten()
            rows = probed.argsort(stable=True).div(n_probes, rounding_mode="floor")
            counts = probed.bincount(minlength=len(centres)).tolist()
            least = torch.full((len(a),), torch.inf, device=a.device)
            found = index[first : first + block_rows]
            for own, columns in zip(rows.split(counts), members, strict=True):
                products = torch.addmm(b_sq[columns], a[own], b[columns].T, alpha=-2.0)
                values, places = products.min(1)
                nearer = values < least[own]
                own = own[nearer]
                least[own], found[own] = values[nearer], columns[places[nearer]]
    every = torch.arange(len(queries), device=queries.device)
    return paired_squared_distances(queries, every, bank, index).sqrt(), index


def nearest_in_bank(bank: torch.Tensor, rows: torch.Tensor, n_neighbours: int) -> torch.Tensor:
    """Indices of the n_neighbours vectors of the bank nearest to each bank[rows], itself first.

    Args:
        bank: float32 (n_bank, n_channels).
        rows: int64 (n,), indices into the bank.
        n_neighbours: at least 1; the whole bank if it holds fewer.

    Returns:
        int64 (n, min(n_neighbours, n_bank)), nearest first.
    """
    n_neighbours = min(n_neighbours, len(bank))
    # Twice as many by the quick formula, then put in order exactly.
    n_candidates = min(2 * n_neighbours + 8, len(bank))
    centre = _mean_in_blocks(bank)
    bank_sq = torch.empty(len(bank), device=bank.device)
    for first in range(0, len(bank), BLOCK_ROWS):
        part = bank[first : first + BLOCK_ROWS] - centre
        bank_sq[first : first + BLOCK_ROWS] = part.square().sum(1)
    result = torch.empty((len(rows), n_neighbours), dtype=torch.int64, device=bank.device)
    with exact_float32():
        # |b - centre|^2 - 2 (b - centre).(v - centre), without the constants of each row
        every = bank_sq - 2.0 * ((bank[rows] - centre) @ bank.T)  # (n, n_bank)
        for i, (row, approximate) in enumerate(zip(rows.tolist(), every, strict=True)):
            approximate[row] = -torch.inf
            candidates = approximate.topk(n_candidates, largest=False).indices.sort().values
            exact = paired_squared_distances(
                bank, candidates, bank, torch.full_like(candidates, row)
            )
            exact[candidates == row] = -1.0
            result[i] = candidates[exact.sort(stable=True).indices[:n_neighbours]]
    return result


def _mean_in_blocks(vectors: torch.Tensor) -> torch.Tensor:
    """Mean over rows in float32 (n_channels,), summed in float64 without a float64 copy of everything."""
    total = torch.zeros(vectors.shape[1], dtype=torch.float64, device=vectors.device)
    for first in range(0, len(vectors), BLOCK_ROWS):
        total += vectors[first : first + BLOCK_ROWS].sum(0, dtype=torch.float64)
    return (total / max(len(vectors), 1)).float()
