"""Band-wise PaDiM against one Gaussian per band written out, and what it does with blocks and odd input."""

from __future__ import annotations

import numpy as np
import pytest
from detector_features import AMPLE, CPU, N_FREQ, TIGHT, fit_and_score, make_features, random_taps
from scipy.spatial.distance import mahalanobis

from vision_to_sound.detectors.band_padim import BandPaDiM
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps


def make_detector(**changes) -> BandPaDiM:
    settings = {"shrinkage": 0.05, "top_share": 0.1, "blur_sigma": 2.0, "layers": []}
    return BandPaDiM(**{**settings, **changes})


def patches(features) -> np.ndarray:
    reader = PatchReader(features, layers=[], pool=False, channels=None)
    return reader.read(np.arange(features.n_clips), device=CPU).numpy().astype(np.float64)


@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT])
def test_distances_are_those_of_one_gaussian_per_band(memory_bytes):
    train, test = make_features(12, seed=0), make_features(3, seed=1)
    scores = fit_and_score(make_detector(blur_sigma=0.0), train, test, memory_bytes=memory_bytes)
    normal, tested = patches(train), patches(test)
    expected = np.empty(tested.shape[:3])
    n = tested.shape[3]
    for band in range(N_FREQ):
        samples = normal[:, :, band].reshape(-1, n)
        covariance = np.cov(samples, rowvar=False)
        covariance += 0.05 * np.trace(covariance) / n * np.eye(n)
        precision = np.linalg.inv(covariance)
        for clip in range(tested.shape[0]):
            for time in range(tested.shape[1]):
                distance = mahalanobis(tested[clip, time, band], samples.mean(0), precision)
                expected[clip, time, band] = distance / np.sqrt(n)
    import torch

    maps = anomaly_maps(
        torch.from_numpy(expected), n_frames=test.n_frames, n_mels=test.n_mels, blur_sigma=0.0
    ).numpy()
    np.testing.assert_allclose(scores.maps, maps, rtol=1e-4)
    n_top = round(0.1 * maps[0].size)
    top = np.sort(maps.reshape(3, -1), axis=1)[:, -n_top:].mean(axis=1)
    np.testing.assert_allclose(scores.clips, top, rtol=1e-4)


def test_the_time_of_a_patch_does_not_matter():
    """Taps rolled in time: the map rolls along, the score stays. PaDiM's would not."""
    train = make_features(12, seed=0)
    taps = random_taps(2, seed=1)
    one_grid = {"block2": taps["block2"]}
    rolled = {"block2": np.roll(taps["block2"], 4, axis=1)}
    detector = make_detector(layers=["block2"], blur_sigma=0.0, top_share=1.0)
    whole = {"block2": random_taps(12, seed=0)["block2"]}
    train = make_features(12, seed=0, taps=whole)
    straight = fit_and_score(detector, train, make_features(2, seed=1, taps=one_grid))
    turned = fit_and_score(detector, train, make_features(2, seed=1, taps=rolled))
    np.testing.assert_allclose(straight.clips, turned.clips, rtol=0.02)  # edges of the upsampling


def test_clips_may_be_longer_than_those_it_was_fitted_on():
    taps = random_taps(4, seed=3)
    longer = {name: np.concatenate([values, values], axis=1) for name, values in taps.items()}
    detector = make_detector()
    scores = fit_and_score(
        detector, make_features(8, seed=0), make_features(4, seed=3, taps=longer)
    )
    assert np.isfinite(scores.clips).all()


def test_a_band_in_which_nothing_changes_gives_finite_scores():
    taps = random_taps(6, seed=0)
    for values in taps.values():
        values[:, :, -1] = 1.0
    train = make_features(6, seed=0, taps=taps)
    scores = fit_and_score(make_detector(), train, make_features(2, seed=1))
    assert np.isfinite(scores.maps).all()


def test_an_odd_clip_scores_higher():
    taps = random_taps(3, seed=1)
    taps["block2"][2, 3:6, 2] += 5.0
    scores = fit_and_score(
        make_detector(), make_features(20, seed=0), make_features(3, seed=1, taps=taps)
    )
    assert scores.clips[2] > 1.2 * scores.clips[:2].max()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("shrinkage", 0.0), ("top_share", 0.0), ("top_share", 1.1), ("blur_sigma", -1.0)],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        make_detector(**{setting: value})
