"""Band-wise nearest neighbour against distances written out one by one, and what it does with odd input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detector_features import (
    AMPLE,
    CPU,
    N_CHANNELS,
    N_FREQ,
    N_TIME,
    TIGHT,
    fit_and_score,
    make_features,
    random_taps,
)

from vision_to_sound.detectors.band_nn import (
    BandNearestNeighbour,
    choose_frames,
    mean_of_finite,
    nearest_few,
)
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps


def make_detector(**changes) -> BandNearestNeighbour:
    settings = {
        "bank_size": 30,
        "n_neighbours": 3,
        "usual_quantile": 0.9,
        "usual_share": 0.1,
        "top_share": 0.1,
        "blur_sigma": 2.0,
        "layers": [],
    }
    return BandNearestNeighbour(**{**settings, **changes})


def patches(features) -> np.ndarray:
    """float64 (n_clips, n_time, n_freq, n_channels)"""
    reader = PatchReader(features, layers=[], pool=False, channels=None)
    return reader.read(np.arange(features.n_clips), device=CPU).numpy().astype(np.float64)


def slow_grid(
    normal: np.ndarray, tested: np.ndarray, frames: np.ndarray, *, k: int, quantile: float
):
    """Ratios (n_clips, n_time, n_freq), patch by patch, band by band; a tenth of the usual distance is added."""
    grid, own = np.empty(tested.shape[:3]), np.empty((N_FREQ, len(frames)))
    bank = [
        (clip, normal[clip, time]) for clip, time in zip(*np.divmod(frames, N_TIME), strict=True)
    ]
    for band in range(N_FREQ):
        for i, (clip, vectors) in enumerate(bank):
            others = [np.linalg.norm(vectors[band] - v[band]) for c, v in bank if c != clip]
            own[band, i] = np.mean(sorted(others)[:k])
        scale = own[band] + 0.1 * np.quantile(own[band], quantile)
        for clip in range(len(tested)):
            for time in range(N_TIME):
                distance = np.array(
                    [np.linalg.norm(tested[clip, time, band] - v[band]) for _, v in bank]
                )
                nearest = np.argsort(distance)[:k]
                grid[clip, time, band] = distance[nearest].mean() / scale[nearest].mean()
    return grid


@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT])
@pytest.mark.parametrize("bank_size", [14, 1000])
def test_scores_are_those_of_distances_one_by_one(bank_size, memory_bytes):
    train, test = make_features(6, seed=0), make_features(3, seed=1)
    detector = make_detector(blur_sigma=0.0, bank_size=bank_size)
    scores = fit_and_score(detector, train, test, memory_bytes=memory_bytes)
    frames = choose_frames(6, N_TIME, bank_size, rng=np.random.default_rng(0))
    assert detector.bank_.shape == (N_FREQ, min(bank_size, 6 * N_TIME), N_CHANNELS)
    grid = slow_grid(patches(train), patches(test), frames, k=3, quantile=0.9)
    maps = anomaly_maps(
        torch.from_numpy(grid), n_frames=test.n_frames, n_mels=test.n_mels, blur_sigma=0.0
    ).numpy()
    np.testing.assert_allclose(scores.maps, maps, rtol=1e-5)
    n_top = round(0.1 * maps[0].size)
    top = np.sort(maps.reshape(3, -1), axis=1)[:, -n_top:].mean(axis=1)
    np.testing.assert_allclose(scores.clips, top, rtol=1e-5)
    assert scores.clips.dtype == np.float64 and scores.maps.dtype == np.float32


def test_patches_of_the_own_clip_do_not_count():
    """Each clip holds one frame again and again: with its own clip, all own distances would be zero."""
    taps = {
        name: np.repeat(tap[:, :1], tap.shape[1], axis=1) for name, tap in random_taps(5, 0).items()
    }
    train = make_features(5, seed=0, taps=taps)
    detector = make_detector(n_neighbours=1)
    detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
    assert (detector.scale_ > 1.0).all()
    again = detector.score(train, device=CPU, memory_bytes=AMPLE)
    assert (again.maps < 1e-6).all(), "a clip of the bank is at no distance from it"


def test_fewer_patches_of_other_clips_than_neighbours():
    train = make_features(2, seed=0)
    detector = make_detector(bank_size=4, n_neighbours=3)
    scores = fit_and_score(detector, train, make_features(2, seed=1))
    assert np.isfinite(detector.scale_).all() and np.isfinite(scores.clips).all()
    found = mean_of_finite(torch.tensor([[1.0, 3.0, torch.inf], [2.0, torch.inf, torch.inf]]))
    assert found.tolist() == [2.0, 2.0]


def test_each_clip_gives_as_many_frames():
    frames = choose_frames(7, 9, 24, rng=np.random.default_rng(0))
    assert len(set(frames)) == 24 and (np.diff(frames) > 0).all()
    assert set(np.bincount(frames // 9, minlength=7)) == {3, 4}
    assert len(set(frames % 9)) > 5, "any time"
    assert choose_frames(7, 9, 64, rng=np.random.default_rng(0)).tolist() == list(range(63))


@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT])
def test_nearest_few_far_from_the_origin(memory_bytes):
    """Differences of a thousandth of the vectors' length, which a float32 product alone does not see."""
    rng = np.random.default_rng(0)
    bank, queries = (torch.from_numpy(1000.0 + rng.normal(size=(n, 8))).float() for n in (50, 20))
    queries[0] = bank[7]
    expected = np.linalg.norm(
        queries[:, None].double().numpy() - bank[None].double().numpy(), axis=2
    )
    distances, indices = nearest_few(queries, bank, 4, memory_bytes=memory_bytes)
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :4], rtol=1e-12)
    np.testing.assert_array_equal(indices, np.argsort(expected, axis=1)[:, :4])
    assert distances[0, 0] == 0.0 and indices[0, 0] == 7


def test_restless_and_calm_bands_share_one_scale():
    """Ten times the spread in one band, in training and test alike: its scores stay where the others are."""
    taps = [{"block2": random_taps(n, seed)["block2"]} for n, seed in ((20, 0), (6, 1))]
    for part in taps:
        part["block2"][:, :, 3] *= 10.0
    detector = make_detector(layers=["block2"], bank_size=1000, blur_sigma=0.0)
    train, test = (make_features(len(t["block2"]), seed=0, taps=t) for t in taps)
    maps = fit_and_score(detector, train, test).maps
    levels = maps.mean((0, 1)).reshape(N_FREQ, -1)[:, 1:3].mean(1)  # centres of the bands
    assert levels.max() < 1.1 * levels.min()


def test_clips_may_be_longer_than_those_it_was_fitted_on():
    taps = random_taps(4, seed=3)
    longer = {name: np.concatenate([values, values], axis=1) for name, values in taps.items()}
    scores = fit_and_score(
        make_detector(), make_features(8, seed=0), make_features(4, seed=3, taps=longer)
    )
    assert np.isfinite(scores.clips).all()


def test_bands_in_which_nothing_changes_give_finite_scores():
    taps = random_taps(6, seed=0)
    for values in taps.values():
        values[:, :, -1] = 1.0
    train = make_features(6, seed=0, taps=taps)
    scores = fit_and_score(make_detector(), train, make_features(2, seed=1))
    assert np.isfinite(scores.maps).all()
    still = {name: np.ones_like(values) for name, values in taps.items()}
    dead = make_features(6, seed=0, taps=still)
    assert (fit_and_score(make_detector(), dead, dead).maps == 0).all()


def test_an_odd_clip_scores_higher_where_it_is_odd():
    taps = random_taps(3, seed=1)
    taps["block2"][2, 6, 3] += 6.0
    scores = fit_and_score(
        make_detector(blur_sigma=0.0, top_share=0.02),
        make_features(20, seed=0),
        make_features(3, seed=1, taps=taps),
    )
    assert scores.clips[2] > 1.2 * scores.clips[:2].max()
    frame, mel = np.unravel_index(scores.maps[2].argmax(), scores.maps[2].shape)
    assert (frame // 4, mel // 4) == (6, 3)


def test_same_seed_same_bytes_saved_and_loaded_the_same_scores(tmp_path):
    train, test = make_features(5, seed=0), make_features(2, seed=1)

    def saved(seed: int, name: str) -> bytes:
        detector = make_detector(bank_size=10)
        rng = np.random.default_rng(seed)
        detector.fit(train, rng=rng, device=CPU, memory_bytes=AMPLE).save(tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert saved(0, "a.npz") == saved(0, "b.npz") != saved(1, "c.npz")
    scores = fit_and_score(make_detector(bank_size=10), train, test)
    loaded = make_detector(bank_size=10).load(tmp_path / "a.npz")
    again = loaded.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_array_equal(again.clips, scores.clips)
    np.testing.assert_array_equal(again.maps, scores.maps)


def test_a_clip_scores_the_same_alone_as_among_others():
    train, test = make_features(5, seed=0), random_taps(4, seed=1)
    detector = make_detector()
    together = fit_and_score(detector, train, make_features(4, seed=1, taps=test))
    alone = {name: tap[2:3] for name, tap in test.items()}
    single = detector.score(make_features(1, seed=1, taps=alone), device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(single.maps, together.maps[2:3], rtol=1e-5)


def test_misuse_is_told():
    features = make_features(3, seed=0)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector().score(features, device=CPU, memory_bytes=AMPLE)
    for n_clips, told in ((0, "got none"), (1, "got 1")):
        with pytest.raises(ValueError, match=f"at least two, {told}"):
            fit_and_score(make_detector(), make_features(n_clips, seed=0), features)
    detector = make_detector()
    fit_and_score(detector, features, features)
    detector.layers = ["block2"]
    with pytest.raises(ValueError, match=r"fitted on \(5, 24\).*have \(5, 6\)"):
        detector.score(features, device=CPU, memory_bytes=AMPLE)
    taps = random_taps(4, seed=1)
    taps["block2"][1, 0, 0, 0] = np.nan
    broken = make_features(4, seed=1, taps=taps)
    detector.layers = []
    for call in (
        lambda: detector.score(broken, device=CPU, memory_bytes=AMPLE),
        lambda: fit_and_score(make_detector(), broken, features),
    ):
        with pytest.raises(ValueError, match="clip row 1"):
            call()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("bank_size", 1),
        ("n_neighbours", 0),
        ("usual_quantile", 1.1),
        ("usual_share", 0.0),
        ("top_share", 0.0),
        ("top_share", 1.1),
        ("blur_sigma", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        make_detector(**{setting: value})
