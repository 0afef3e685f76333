from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detector_features import AMPLE, CPU, TIGHT, make_features
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim

from vision_to_sound.detectors import coreset
from vision_to_sound.detectors.coreset import (
    greedy_selection,
    k_centre_greedy,
    projection_dimensions,
    sparse_random_projection,
)
from vision_to_sound.detectors.distances import (
    near_neighbour,
    nearest_in_bank,
    nearest_neighbour,
    paired_squared_distances,
)
from vision_to_sound.detectors.patches import PatchReader
from vision_to_sound.embeddings import ClipFeatures


def brute_force_selection(features: np.ndarray, n_select: int, start: int) -> list[int]:
    features = features.astype(np.float64)
    selected = [start]
    while len(selected) < n_select:
        distance = ((features[:, None] - features[selected][None]) ** 2).sum(2).min(1)
        distance[selected] = -1.0
        selected.append(int(distance.argmax()))
    return selected


def clustered(n: int, n_channels: int, seed: int) -> np.ndarray:
    """Far from the origin, unequal clusters: what the quick formula for distances likes least."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0.0, 5.0, size=(6, n_channels))
    spread = rng.choice([0.05, 0.5, 2.0], size=(n, 1))
    noise = rng.normal(size=(n, n_channels)) * spread
    return (100.0 + centres[rng.integers(6, size=n)] + noise).astype(np.float32)


def two_far_heaps(n: int, n_channels: int, seed: int) -> np.ndarray:
    """Spread 0.05 around two points 2000 apart: lengths and products in float32 cannot order distances."""
    rng = np.random.default_rng(seed)
    heap = rng.choice([-1000.0, 1000.0], size=(n, 1)) * np.eye(n_channels)[0]
    return (heap + 0.05 * rng.normal(size=(n, n_channels))).astype(np.float32)


@pytest.mark.parametrize("memory_bytes", [TIGHT, 20_000, AMPLE])
@pytest.mark.parametrize("n_select", [1, 2, 60, 300])
def test_selection_is_the_greedy_one(n_select, memory_bytes):
    features = clustered(300, 12, seed=0)
    found = greedy_selection(
        torch.from_numpy(features), n_select, start=17, memory_bytes=memory_bytes
    )
    assert found.tolist() == brute_force_selection(features, n_select, 17)


def few_at_a_time(monkeypatch, shortlist_rows: tuple[int, int, int], pool_rows: int) -> None:
    """Small pools: bounds stay outdated over many rounds before they are needed."""
    monkeypatch.setattr(coreset, "_SHORTLIST_ROWS", shortlist_rows)
    monkeypatch.setattr(coreset, "_POOL_ROWS", (pool_rows, pool_rows))


FEW = (((1, 1, 2), 2), ((1, 1, 1), 1), ((1, 4, 16), 40), ((16, 16, 16), 16), ((128, 1024, 8192), 9))


@pytest.mark.parametrize("sizes", [*FEW, ((128, 1024, 8192), 4096)])
def test_selection_survives_rounding(sizes, monkeypatch):
    few_at_a_time(monkeypatch, *sizes)
    features = two_far_heaps(200, 8, seed=2)
    found = greedy_selection(torch.from_numpy(features), 80, start=4, memory_bytes=AMPLE)
    assert found.tolist() == brute_force_selection(features, 80, 4)


def test_small_pools_and_late_updates_change_nothing(monkeypatch):
    features = clustered(300, 8, seed=1)
    expected = brute_force_selection(features, 100, 3)
    for sizes in FEW:
        few_at_a_time(monkeypatch, *sizes)
        found = greedy_selection(torch.from_numpy(features), 100, start=3, memory_bytes=AMPLE)
        assert found.tolist() == expected


def test_of_equally_far_patches_the_first_is_taken(monkeypatch):
    """Points of a grid with repetitions: ties everywhere, and distances that are exact in float32."""
    rng = np.random.default_rng(2)
    features = rng.integers(0, 4, size=(200, 3)).astype(np.float32)
    expected = brute_force_selection(features, 120, 50)
    for sizes in (*FEW, (coreset._SHORTLIST_ROWS, 4096)):
        few_at_a_time(monkeypatch, *sizes)
        found = greedy_selection(torch.from_numpy(features), 120, start=50, memory_bytes=AMPLE)
        assert found.tolist() == expected
    assert len(set(expected)) == 120


def test_equal_patches_are_all_taken_once():
    found = greedy_selection(torch.ones(30, 4), 30, start=9, memory_bytes=AMPLE)
    assert found.tolist() == [9, *(i for i in range(30) if i != 9)]


def test_copies_come_after_all_that_differ(monkeypatch):
    few_at_a_time(monkeypatch, (1, 4, 16), 20)
    features = clustered(60, 8, seed=3).repeat(5, axis=0)  # each row five times
    found = greedy_selection(torch.from_numpy(features), 200, start=11, memory_bytes=AMPLE)
    assert found.tolist() == brute_force_selection(features, 200, 11)


def test_projection_has_the_dimensions_and_moments_of_scikit_learn():
    for n in (2, 1000, 1_633_920):
        assert projection_dimensions(n, eps=0.9) == johnson_lindenstrauss_min_dim(n, eps=0.9)
    n_channels, n_dimensions = 896, 300
    ours = sparse_random_projection(n_channels, n_dimensions, rng=np.random.default_rng(0))
    model = SparseRandomProjection(n_dimensions, random_state=0).fit(np.zeros((1, n_channels)))
    theirs = model.components_.toarray().T
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-6)
    share = (ours != 0).mean()
    assert share == pytest.approx((theirs != 0).mean(), rel=0.05)
    assert (ours > 0).sum() == pytest.approx((ours < 0).sum(), rel=0.05)


def test_projection_keeps_distances_on_average():
    vectors = np.random.default_rng(1).normal(size=(60, 896)).astype(np.float32)
    projected = vectors @ sparse_random_projection(896, 300, rng=np.random.default_rng(2))
    ratio = ((projected[1:] - projected[0]) ** 2).sum(1) / ((vectors[1:] - vectors[0]) ** 2).sum(1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.1)
    assert ratio.min() > 0.5 and ratio.max() < 1.9


def test_k_centre_greedy_projects_and_honours_the_seed():
    patches = torch.from_numpy(clustered(400, 400, seed=3))  # 147 dimensions after projection

    def select(seed: int, memory_bytes: int = AMPLE) -> list[int]:
        rng = np.random.default_rng(seed)
        return k_centre_greedy(
            patches, 30, rng=rng, projection_eps=0.9, device=CPU, memory_bytes=memory_bytes
        ).tolist()

    first = select(0)
    assert first == select(0)
    assert first == select(0, memory_bytes=300_000)
    assert first != select(1)
    assert len(set(first)) == 30
    rng = np.random.default_rng(0)
    matrix = sparse_random_projection(400, projection_dimensions(400, eps=0.9), rng=rng)
    features = (patches @ torch.from_numpy(matrix)).numpy()
    assert first == brute_force_selection(features, 30, int(rng.integers(400)))


def test_k_centre_greedy_reads_clips_block_by_block():
    reader = PatchReader(make_features(6, seed=6), layers=[], pool=True, channels=None)
    _, every = next(reader.blocks(device=CPU, memory_bytes=AMPLE))
    settings = {"projection_eps": 0.9, "device": CPU}

    def select(patches, memory_bytes):
        rng = np.random.default_rng(5)
        return k_centre_greedy(patches, 40, rng=rng, memory_bytes=memory_bytes, **settings).tolist()

    assert select(reader, AMPLE) == select(every, AMPLE) == select(reader, every.nbytes)


def test_too_little_memory_says_how_much_is_needed():
    patches = torch.zeros(10_000, 896)
    with pytest.raises(ValueError, match="10000 patches in 227 dimensions need 9 MiB"):
        k_centre_greedy(
            patches,
            5,
            rng=np.random.default_rng(0),
            projection_eps=0.9,
            device=CPU,
            memory_bytes=2**20,
        )


@pytest.mark.parametrize("n_select", [0, 11])
def test_selecting_none_or_more_than_there_are_is_an_error(n_select):
    with pytest.raises(ValueError, match="between 1 and 10"):
        k_centre_greedy(
            torch.zeros(10, 3),
            n_select,
            rng=np.random.default_rng(0),
            projection_eps=0.9,
            device=CPU,
            memory_bytes=AMPLE,
        )


@pytest.mark.parametrize("memory_bytes", [TIGHT, 30_000, AMPLE])
def test_nearest_neighbour_is_exact(memory_bytes):
    bank = clustered(250, 16, seed=4)
    queries = np.concatenate([clustered(90, 16, seed=5), bank[40:60]])
    distance, index = nearest_neighbour(
        torch.from_numpy(queries), torch.from_numpy(bank), memory_bytes=memory_bytes
    )
    difference = queries[:, None].astype(np.float64) - bank[None].astype(np.float64)
    expected = np.sqrt((difference**2).sum(2))
    np.testing.assert_allclose(distance.numpy(), expected.min(1), rtol=1e-12)
    np.testing.assert_array_equal(index.numpy(), expected.argmin(1))
    assert (distance[90:] == 0).all()


@pytest.mark.parametrize("memory_bytes", [TIGHT, 30_000, AMPLE])
def test_channels_in_common_change_nothing(memory_bytes):
    """Grids that do not lie within each other (9 x 6, 5 x 4, 4 x 2), two taps on one grid, several clips."""
    n_clips = 3
    grids = {"a": (9, 6, 5), "b": (5, 4, 3), "c": (5, 4, 2), "d": (4, 2, 6)}
    rng = np.random.default_rng(9)
    taps = {name: rng.random((n_clips, *shape)).astype(np.float32) for name, shape in grids.items()}
    features = ClipFeatures.from_arrays(taps=taps, spectrograms_db=np.zeros((n_clips, 36, 20)))
    bank = torch.from_numpy(rng.random((70, 16)).astype(np.float32))
    for channels in (None, np.array([0, 3, 6, 9, 15]), np.array([10, 11])):
        reader = PatchReader(features, layers=[], pool=True, channels=channels)
        patches = reader.read(np.arange(n_clips), device=CPU).reshape(-1, reader.n_channels)
        shared = reader.shared_channels(n_clips, device=CPU)
        for part in shared:
            for source in part.source.unique():
                alike = patches[part.source == source][:, part.channels]
                assert torch.equal(alike, alike[:1].expand_as(alike))
        some = bank[:, : reader.n_channels].contiguous()
        expected = nearest_neighbour(patches, some, memory_bytes=AMPLE)
        found = nearest_neighbour(patches, some, memory_bytes=memory_bytes, shared=shared)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@pytest.mark.parametrize("memory_bytes", [TIGHT, AMPLE])
def test_nearest_neighbour_survives_rounding(memory_bytes):
    bank, queries = two_far_heaps(200, 8, seed=3), two_far_heaps(50, 8, seed=4)
    distance, index = nearest_neighbour(
        torch.from_numpy(queries), torch.from_numpy(bank), memory_bytes=memory_bytes
    )
    difference = queries[:, None].astype(np.float64) - bank[None].astype(np.float64)
    expected = np.sqrt((difference**2).sum(2))
    np.testing.assert_array_equal(index.numpy(), expected.argmin(1))
    np.testing.assert_allclose(distance.numpy(), expected.min(1), rtol=1e-9)


def test_of_equally_near_patches_the_first_is_found():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    distance, index = nearest_neighbour(
        torch.tensor([[0.0, 0.0], [0.0, 2.0]]), bank, memory_bytes=AMPLE
    )
    assert distance.tolist() == [1.0, 1.0]
    assert index.tolist() == [0, 1]


def slow_near_neighbour(queries: np.ndarray, bank: np.ndarray, share: float) -> list[int]:
    """Cells of about sqrt(n_bank) evenly spaced vectors; the nearest of what lies in the nearest cells."""
    queries, bank = queries.astype(np.float64), bank.astype(np.float64)
    centres = [int(x) for x in np.linspace(0, len(bank) - 1, round(len(bank) ** 0.5))]
    cell = np.array([int(((bank[centres] - v) ** 2).sum(1).argmin()) for v in bank])
    used = sorted(set(cell.tolist()))
    found = []
    for query in queries:
        by_distance = sorted(used, key=lambda k: ((bank[centres[k]] - query) ** 2).sum())
        rows = np.flatnonzero(np.isin(cell, by_distance[: math.ceil(share * len(used))]))
        found.append(int(rows[((bank[rows] - query) ** 2).sum(1).argmin()]))
    return found


@pytest.mark.parametrize("memory_bytes", [TIGHT, 30_000, AMPLE])
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_near_neighbour_is_the_nearest_of_the_nearest_cells(share, memory_bytes):
    bank, queries = clustered(300, 16, seed=4), clustered(110, 16, seed=5)
    bank[282] = bank[0]  # twins that are both centres: the cell of the second is empty
    a, b = torch.from_numpy(queries), torch.from_numpy(bank)
    distance, index = near_neighbour(a, b, share=share, memory_bytes=memory_bytes)
    np.testing.assert_array_equal(index.numpy(), slow_near_neighbour(queries, bank, share))
    exact, nearest = nearest_neighbour(a, b, memory_bytes=AMPLE)
    assert torch.equal(distance[index == nearest], exact[index == nearest])
    assert (distance >= exact).all()
    if share == 1.0:
        assert torch.equal(index, nearest)
    else:
        assert (index != nearest).any(), "a share that loses nothing tests nothing"


def test_neighbours_within_the_bank_begin_with_the_patch_itself():
    bank = clustered(120, 10, seed=6)
    bank[7] = bank[3]  # a twin that comes first in the bank
    found = nearest_in_bank(torch.from_numpy(bank), torch.tensor([7, 50]), 9).numpy()
    for row, neighbours in zip((7, 50), found, strict=True):
        distance = ((bank.astype(np.float64) - bank[row].astype(np.float64)) ** 2).sum(1)
        assert neighbours[0] == row
        np.testing.assert_allclose(distance[neighbours], np.sort(distance)[:9], rtol=1e-12)
    assert nearest_in_bank(torch.from_numpy(bank[:4]), torch.tensor([1]), 9).shape == (1, 4)


def test_distances_of_pairs_do_not_depend_on_how_many_there_are():
    a, b = torch.from_numpy(clustered(50, 353, 7)), torch.from_numpy(clustered(60, 353, 8))
    i, j = torch.arange(50), torch.arange(50) + 5
    together = paired_squared_distances(a, i, b, j)
    alone = torch.cat(
        [paired_squared_distances(a, i[k : k + 1], b, j[k : k + 1]) for k in range(50)]
    )
    assert torch.equal(together, alone)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_selection_is_the_same_on_cuda():
    features = torch.from_numpy(clustered(3000, 64, seed=9))
    on_cpu = greedy_selection(features, 500, start=1, memory_bytes=AMPLE)
    on_cuda = greedy_selection(features.cuda(), 500, start=1, memory_bytes=AMPLE)
    assert on_cuda.device == CPU
    assert torch.equal(on_cpu, on_cuda)
