from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from detector_features import (
    AMPLE,
    CPU,
    N_CHANNELS,
    N_FRAMES,
    N_FREQ,
    N_MELS,
    N_TIME,
    TIGHT,
    fit_and_score,
    make_features,
    random_taps,
)

from vision_to_sound.detectors.padim import PaDiM
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps


def make_detector(**changes) -> PaDiM:
    settings = {"n_channels": 7, "regularisation": 0.01, "blur_sigma": 2.0, "layers": []}
    return PaDiM(**{**settings, **changes})


def cells_of(features, channels: np.ndarray) -> np.ndarray:
    """(n_clips, n_cells, n_channels)"""
    reader = PatchReader(features, layers=[], pool=False, channels=None)
    vectors = reader.read(np.arange(features.n_clips), device=CPU).numpy().astype(np.float64)
    return vectors.reshape(features.n_clips, -1, N_CHANNELS)[:, :, channels]


def slow_distances(train: np.ndarray, test: np.ndarray, regularisation: float) -> np.ndarray:
    """Cell by cell with an explicit inverse."""
    n_clips, n_cells, n_channels = test.shape
    distance = np.empty((n_clips, n_cells))
    for cell in range(n_cells):
        mean = train[:, cell].mean(axis=0)
        covariance = np.cov(train[:, cell], rowvar=False).reshape(n_channels, n_channels)
        inverse = np.linalg.inv(covariance + regularisation * np.eye(n_channels))
        for clip in range(n_clips):
            difference = test[clip, cell] - mean
            distance[clip, cell] = np.sqrt(difference @ inverse @ difference)
    return distance


@pytest.mark.parametrize("n_train", [30, 4])  # more and fewer clips than channels
@pytest.mark.parametrize("n_channels", [1, 7, N_CHANNELS])
def test_scores_equal_the_slow_way(n_train, n_channels):
    train, test = make_features(n_train, seed=0), make_features(3, seed=1)
    detector = make_detector(n_channels=n_channels)
    scores = fit_and_score(detector, train, test)
    channels = detector.channels_
    assert len(channels) == n_channels and (np.diff(channels) > 0).all()
    distance = slow_distances(cells_of(train, channels), cells_of(test, channels), 0.01)
    maps = anomaly_maps(
        torch.from_numpy(distance.reshape(3, N_TIME, N_FREQ)),
        n_frames=N_FRAMES,
        n_mels=N_MELS,
        blur_sigma=2.0,
    ).numpy()
    np.testing.assert_allclose(scores.maps, maps, rtol=2e-5)
    np.testing.assert_array_equal(scores.clips, scores.maps.max(axis=(1, 2)).astype(np.float64))
    assert scores.frames is None


def test_embeddings_far_from_zero_lose_no_digits():
    """Mean 1000, spread 0.1: squares summed without the mean taken off would leave nothing in float32."""
    rng = np.random.default_rng(0)
    taps = {"only": (1000.0 + 0.1 * rng.normal(size=(40, 4, 3, 5))).astype(np.float32)}
    features = make_features(40, seed=0, taps=taps)
    detector = make_detector(n_channels=5, blur_sigma=0.0, regularisation=1e-4)
    scores = fit_and_score(detector, features, features)
    values = taps["only"].astype(np.float64).reshape(40, -1, 5)
    expected = slow_distances(values, values, 1e-4).reshape(40, 4, 3)
    maps = anomaly_maps(
        torch.from_numpy(expected), n_frames=N_FRAMES, n_mels=N_MELS, blur_sigma=0.0
    ).numpy()
    np.testing.assert_allclose(scores.maps, maps, rtol=1e-5)


def test_a_planted_anomaly_is_found_where_it_is():
    train = make_features(40, seed=2)
    taps = random_taps(4, seed=3)
    taps["block2"][1, 0:3, 0:2] -= 8.0  # the first three of 9 time cells, the lowest two of 5
    detector = make_detector(n_channels=12, blur_sigma=1.0)
    scores = fit_and_score(detector, train, make_features(4, seed=3, taps=taps))
    assert scores.clips.argmax() == 1
    frame, mel = np.unravel_index(scores.maps[1].argmax(), scores.maps[1].shape)
    assert frame / N_FRAMES < 3 / 9 and mel / N_MELS < 2 / 5


def test_a_place_has_its_own_normal():
    """The same vector is normal in one cell and anomalous in the other: one Gaussian per cell."""
    rng = np.random.default_rng(5)
    tap = 0.1 * rng.normal(size=(50, 2, 1, 3))
    tap[:, 1] += 4.0
    test = np.zeros((1, 2, 1, 3))
    detector = make_detector(n_channels=3, blur_sigma=0.0)
    scores = fit_and_score(
        detector,
        make_features(50, seed=0, taps={"only": tap.astype(np.float32)}),
        make_features(1, seed=0, taps={"only": test.astype(np.float32)}),
    )
    assert scores.maps[0, 0].max() < 1.0
    assert scores.maps[0, -1].min() > 30.0


def test_same_seed_same_bytes_other_seed_other_channels(tmp_path):
    train = make_features(10, seed=0)

    def saved(seed: int, name: str) -> bytes:
        detector = make_detector()
        detector.fit(train, rng=np.random.default_rng(seed), device=CPU, memory_bytes=AMPLE)
        detector.save(tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert saved(0, "a.npz") == saved(0, "b.npz")
    assert saved(0, "a.npz") != saved(1, "c.npz")


def test_results_do_not_depend_on_the_memory_allowed():
    train, test = make_features(12, seed=0), make_features(5, seed=1)
    ample = fit_and_score(make_detector(), train, test)
    for memory_bytes in (TIGHT, 100_000):
        tight = fit_and_score(make_detector(), train, test, memory_bytes=memory_bytes)
        np.testing.assert_allclose(tight.clips, ample.clips, rtol=1e-5)
        np.testing.assert_allclose(tight.maps, ample.maps, rtol=1e-5)


def test_save_and_load_give_the_same_scores(tmp_path):
    train, test = make_features(12, seed=0), make_features(3, seed=1)
    detector = make_detector()
    scores = fit_and_score(detector, train, test)
    detector.save(tmp_path / "gaussians.npz")
    with np.load(tmp_path / "gaussians.npz", allow_pickle=False) as arrays:
        shapes = {name: arrays[name].shape for name in arrays.files}
    assert shapes == {
        "channels_": (7,),
        "grid_": (2,),
        "mean_": (N_TIME * N_FREQ, 7),
        "whitening_": (N_TIME * N_FREQ, 28),
    }
    again = make_detector().load(tmp_path / "gaussians.npz")
    np.testing.assert_array_equal(
        again.score(test, device=CPU, memory_bytes=AMPLE).maps, scores.maps
    )


def test_a_single_clip_leaves_only_the_regularisation(caplog):
    train, test = make_features(1, seed=0), make_features(1, seed=1)
    detector = make_detector(regularisation=0.04, blur_sigma=0.0)
    with caplog.at_level(logging.WARNING):
        detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
    assert "1 clips for covariances of 7 channels" in caplog.text
    difference = cells_of(test, detector.channels_)[0] - cells_of(train, detector.channels_)[0]
    distance = np.linalg.norm(difference, axis=1) / 0.2
    maps = anomaly_maps(
        torch.from_numpy(distance.reshape(1, N_TIME, N_FREQ)),
        n_frames=N_FRAMES,
        n_mels=N_MELS,
        blur_sigma=0.0,
    ).numpy()
    scores = detector.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(scores.maps, maps, rtol=1e-5)


def test_misuse_is_told():
    features = make_features(3, seed=0)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector().score(features, device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="n_channels is 25.*24 channels"):
        fit_and_score(make_detector(n_channels=25), features, features)
    detector = make_detector()
    fit_and_score(detector, features, features)
    longer = {name: np.repeat(tap, 2, axis=1) for name, tap in random_taps(1, seed=0).items()}
    with pytest.raises(ValueError, match=r"\(9, 5\).*\(18, 5\)"):
        detector.score(make_features(1, seed=0, taps=longer), device=CPU, memory_bytes=AMPLE)
    taps = random_taps(3, seed=0)
    taps["block3"][2] = np.nan
    taps["block2"][2] = taps["block4"][2] = np.nan  # whichever channels were drawn
    broken = make_features(3, seed=0, taps=taps)
    with pytest.raises(ValueError, match="clip row 2"):
        fit_and_score(make_detector(), broken, broken)
    with pytest.raises(ValueError, match="clip row 2"):
        detector.score(broken, device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="at least one normal clip"):
        fit_and_score(make_detector(), make_features(0, seed=0), features)
    for changes in ({"n_channels": 0}, {"regularisation": 0.0}, {"blur_sigma": -1.0}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            make_detector(**changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    train, test = make_features(12, seed=0), make_features(5, seed=1)
    on_cpu = fit_and_score(make_detector(), train, test)
    on_cuda = fit_and_score(make_detector(), train, test, device=torch.device("cuda"))
    np.testing.assert_allclose(on_cuda.clips, on_cpu.clips, rtol=1e-5)
    np.testing.assert_allclose(on_cuda.maps, on_cpu.maps, rtol=1e-5)
