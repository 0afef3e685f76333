from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detector_features import (
    AMPLE,
    CPU,
    N_CHANNELS,
    N_FREQ,
    N_TIME,
    TIGHT,
    make_features,
    random_taps,
)

from vision_to_sound.detectors.patches import (
    PatchReader,
    blur_kernel_size,
    gaussian_blur,
    nearest_index,
    patch_grid,
    patch_vectors,
    upsample_map,
)


def slow_patch_vectors(taps: list[np.ndarray], *, pool: bool) -> np.ndarray:
    """Cell by cell, as the paper says it."""
    n_clips, n_time, n_freq = taps[0].shape[:3]
    result = []
    for tap in taps:
        part = np.zeros((n_clips, n_time, n_freq, tap.shape[3]))
        for t in range(n_time):
            for f in range(n_freq):
                ts, fs = t * tap.shape[1] // n_time, f * tap.shape[2] // n_freq
                if pool:
                    rows = slice(max(ts - 1, 0), ts + 2)
                    columns = slice(max(fs - 1, 0), fs + 2)
                    part[:, t, f] = tap[:, rows, columns].sum(axis=(1, 2)) / 9.0
                else:
                    part[:, t, f] = tap[:, ts, fs]
        result.append(part)
    return np.concatenate(result, axis=3)


@pytest.mark.parametrize("pool", [True, False])
def test_patch_vectors_equal_the_slow_way(pool):
    taps = list(random_taps(3, seed=0).values())
    fast = patch_vectors([torch.from_numpy(tap) for tap in taps], pool=pool, channels=None)
    assert fast.shape == (3, N_TIME, N_FREQ, N_CHANNELS)
    np.testing.assert_allclose(fast.numpy(), slow_patch_vectors(taps, pool=pool), atol=1e-5)


def test_the_largest_grid_need_not_come_first():
    taps = [torch.rand(2, 3, 2, 4), torch.rand(2, 6, 4, 5)]
    vectors = patch_vectors(taps, pool=False, channels=None)
    assert vectors.shape == (2, 6, 4, 9)
    assert torch.equal(vectors[..., 4:], taps[1])
    assert torch.equal(vectors[:, 5, 3, :4], taps[0][:, 2, 1])


def test_channels_are_those_of_all_taps_side_by_side():
    taps = [torch.from_numpy(tap) for tap in random_taps(2, seed=1).values()]
    channels = torch.tensor([0, 5, 6, 14, 23])  # of all three taps, both ends of each
    every = patch_vectors(taps, pool=True, channels=None)
    assert torch.equal(patch_vectors(taps, pool=True, channels=channels), every[..., channels])
    only_last = torch.tensor([20, 21])
    expected = patch_vectors(taps, pool=False, channels=None)[..., only_last]
    assert torch.equal(patch_vectors(taps, pool=False, channels=only_last), expected)


@pytest.mark.parametrize(
    ("n_in", "n_out"), [(34, 138), (4, 16), (86, 344), (12, 24), (21, 43), (1, 5)]
)
def test_nearest_index_is_that_of_torch(n_in, n_out):
    values = torch.rand(1, 1, n_in)
    expected = F.interpolate(values, size=n_out, mode="nearest")
    assert torch.equal(values[..., nearest_index(n_in, n_out)], expected)


def test_reader_gives_the_same_in_any_blocks():
    features = make_features(5, seed=2)
    reader = PatchReader(features, layers=[], pool=True, channels=None)
    assert (reader.n_patches, reader.n_channels) == (5 * N_TIME * N_FREQ, N_CHANNELS)
    assert patch_grid(features.taps) == (N_TIME, N_FREQ)
    tight = list(reader.blocks(device=CPU, memory_bytes=TIGHT))
    (first, ample), *others = reader.blocks(device=CPU, memory_bytes=AMPLE)
    assert first == 0 and not others
    assert [start for start, _ in tight] == [i * N_TIME * N_FREQ for i in range(5)]
    assert torch.equal(torch.cat([block for _, block in tight]), ample)


def test_gather_reads_single_patches_in_the_order_asked_for():
    reader = PatchReader(make_features(6, seed=3), layers=[], pool=True, channels=None)
    _, every = next(reader.blocks(device=CPU, memory_bytes=AMPLE))
    wanted = np.array([200, 3, 269, 3, 201, 46])  # of clips 4, 0, 5, 0, 4, 1; not of 2 and 3
    for memory_bytes in (TIGHT, AMPLE):
        found = reader.gather(wanted, device=CPU, memory_bytes=memory_bytes)
        assert torch.equal(found, every[torch.from_numpy(wanted)])


def test_layers_choose_taps_whatever_their_order():
    features = make_features(2, seed=4)
    reader = PatchReader(features, layers=["block4", "block2"], pool=False, channels=None)
    assert [tap.name for tap in reader.taps] == ["block2", "block4"]
    deep = PatchReader(features, layers=["block3"], pool=False, channels=None)
    assert (deep.n_time, deep.n_freq, deep.n_channels) == (4, 2, 8)
    expected = features.read_taps(np.arange(2))[1]
    np.testing.assert_array_equal(deep.read(np.arange(2), device=CPU).numpy(), expected)


def test_the_shallowest_tap_has_a_name_in_every_encoder():
    reader = PatchReader(make_features(2, seed=3), layers=["shallowest"], pool=False, channels=None)
    assert [tap.name for tap in reader.taps] == ["block2"]
    with pytest.raises(ValueError, match="none twice"):
        PatchReader(
            make_features(2, seed=3), layers=["shallowest", "block2"], pool=False, channels=None
        )


def test_wrong_layers_are_named():
    features = make_features(1, seed=4)
    with pytest.raises(ValueError, match="blok3.*did you mean 'block3'"):
        PatchReader(features, layers=["blok3"], pool=True, channels=None)
    with pytest.raises(ValueError, match="twice"):
        PatchReader(features, layers=["block3", "block3"], pool=True, channels=None)
    with pytest.raises(ValueError, match="between 0 and 23, got 3 to 24"):
        PatchReader(features, layers=[], pool=False, channels=np.array([3, 24]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_named_by_its_row(bad):
    taps = random_taps(5, seed=5)
    taps["block4"][3, 1, 1, 2] = bad
    reader = PatchReader(make_features(5, seed=5, taps=taps), layers=[], pool=True, channels=None)
    for memory_bytes in (TIGHT, AMPLE):
        with pytest.raises(ValueError, match=r"clip row 3 \(tap block4\)"):
            list(reader.blocks(device=CPU, memory_bytes=memory_bytes))


def test_upsampling_is_bilinear_between_cell_centres():
    ramp = torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 3)
    maps = upsample_map(ramp, 8, 3)
    assert maps.shape == (1, 8, 3)
    # centre of frame i lies at (i + 0.5) / 2 - 0.5 of the cells, clamped at both ends
    expected = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    np.testing.assert_allclose(maps[0, :, 1].numpy(), expected, atol=1e-6)


def slow_blur(one_map: np.ndarray, sigma: float, kernel_size: int) -> np.ndarray:
    half = kernel_size // 2
    weights = np.array([np.exp(-0.5 * (i / sigma) ** 2) for i in range(-half, half + 1)])
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(one_map, half, mode="reflect")
    result = np.empty(one_map.shape)
    for t, f in np.ndindex(*one_map.shape):
        result[t, f] = (padded[t : t + kernel_size, f : f + kernel_size] * kernel).sum()
    return result


@pytest.mark.parametrize("shape", [(40, 24), (5, 30), (3, 2), (1, 7)])
def test_blur_equals_the_slow_way_on_maps_of_any_size(shape):
    maps = np.random.default_rng(0).normal(size=(2, *shape))
    assert blur_kernel_size(4.0) == 33
    blurred = gaussian_blur(torch.from_numpy(maps), 4.0, 33).numpy()
    for one_map, result in zip(maps, blurred, strict=True):
        np.testing.assert_allclose(result, slow_blur(one_map, 4.0, 33), atol=1e-9)


def test_blur_keeps_a_constant_and_sigma_zero_changes_nothing():
    maps = torch.full((1, 20, 10), 3.5)
    torch.testing.assert_close(gaussian_blur(maps, 2.0, blur_kernel_size(2.0)), maps)
    noise = torch.rand(1, 20, 10)
    assert torch.equal(gaussian_blur(noise, 0.0, blur_kernel_size(0.0)), noise)
    with pytest.raises(ValueError, match="odd kernel"):
        gaussian_blur(noise, 1.0, 4)
