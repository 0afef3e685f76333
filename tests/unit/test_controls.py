from __future__ import annotations

import numpy as np
import pytest
from detector_features import AMPLE, CPU, N_FRAMES, N_MELS, TIGHT, fit_and_score, make_features
from sklearn.metrics import roc_auc_score

from vision_to_sound.detectors.controls import MIN_STD_DB, BandZScore, Energy, Oracle, Random
from vision_to_sound.embeddings import ClipFeatures
from vision_to_sound.scores import Truth


def from_spectrograms(spectrograms_db: np.ndarray) -> ClipFeatures:
    return ClipFeatures.from_arrays(taps=None, spectrograms_db=spectrograms_db.astype(np.float32))


def make_truth() -> Truth:
    labels = np.array([False, True, True, False])
    masks = {
        name: np.zeros((4, N_FRAMES, N_MELS), dtype=bool) for name in ("published", "leakfree")
    }
    masks["published"][1, 3:6, 2:5] = True
    masks["published"][2, 10:20, 7:9] = True
    masks["leakfree"][1, 3:5] = True
    frames = np.zeros((4, N_FRAMES), dtype=bool)
    frames[1, 2:7] = True
    return Truth(labels=labels, masks=masks, frames=frames)


@pytest.mark.parametrize("mask", ["published", "leakfree"])
def test_the_oracle_answers_with_the_truth(mask):
    test, truth = make_features(4, seed=0), make_truth()
    scores = fit_and_score(Oracle(mask=mask), test, test, truth=truth)
    assert scores.clips.dtype == np.float64 and scores.maps.dtype == np.float32
    np.testing.assert_array_equal(scores.clips, [0.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(scores.maps, truth.masks[mask])
    np.testing.assert_array_equal(scores.frame_scores(), truth.frames)


def test_the_oracle_knows_labels_where_there_is_nothing_else():
    truth = Truth.of_clips(np.array([True, False]))
    scores = fit_and_score(
        Oracle(mask="leakfree"), make_features(2, seed=0), make_features(2, seed=0), truth=truth
    )
    assert scores.maps.shape == (2, N_FRAMES, N_MELS)
    assert (scores.maps[0] == 1).all() and (scores.maps[1] == 0).all()


def test_the_oracle_without_its_truth():
    test, truth = make_features(4, seed=0), make_truth()
    with pytest.raises(ValueError, match="needs the truth"):
        fit_and_score(Oracle(mask="published"), test, test)
    with pytest.raises(ValueError, match="publishd.*did you mean 'published'"):
        Oracle(mask="publishd")
    with pytest.raises(ValueError, match="4 labels for 3 clips"):
        fit_and_score(Oracle(mask="published"), test, make_features(3, seed=0), truth=truth)
    del truth.masks["leakfree"]
    with pytest.raises(ValueError, match=r"\['published'\].*'leakfree'"):
        fit_and_score(Oracle(mask="leakfree"), test, test, truth=truth)


def test_random_scores_are_chance_and_know_no_data(tmp_path):
    quiet, loud = make_features(200, seed=0), make_features(200, seed=1)
    detector = Random()
    scores = fit_and_score(detector, quiet, quiet, seed=3)
    labels = np.arange(200) % 2
    assert 0.35 < roc_auc_score(labels, scores.clips) < 0.65
    assert scores.maps.min() >= 0 and scores.maps.max() < 1
    assert scores.maps.mean() == pytest.approx(0.5, abs=0.01)
    assert len(np.unique(scores.clips)) == 200
    detector.save(tmp_path / "seed.npz")
    again = Random().load(tmp_path / "seed.npz").score(loud, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_array_equal(again.clips, scores.clips)
    np.testing.assert_array_equal(again.maps, scores.maps)
    other = fit_and_score(Random(), quiet, quiet, seed=4)
    assert (other.clips != scores.clips).any()


def test_energy_is_the_mean_power_in_db():
    spectrograms_db = np.full((3, 4, 5), -40.0)
    spectrograms_db[1] += 6.0
    spectrograms_db[2, 0, 0] = 0.0  # one cell of 20 at power 1, the others at 1e-4
    test = from_spectrograms(spectrograms_db)
    scores = fit_and_score(Energy(), test, test)
    np.testing.assert_array_equal(scores.maps, spectrograms_db)
    expected = [-40.0, -34.0, 10 * np.log10((1 + 19e-4) / 20)]
    np.testing.assert_allclose(scores.clips, expected, rtol=1e-6)


def test_band_zscore_equals_the_slow_way_in_any_blocks():
    train, test = make_features(7, seed=0), make_features(5, seed=1)
    cells = train.read_spectrograms(slice(None)).reshape(-1, N_MELS).astype(np.float64)
    mean, std = cells.mean(axis=0), cells.std(axis=0, ddof=1)
    z_scores = (test.read_spectrograms(slice(None)) - mean) / std
    n_top = round(0.02 * N_FRAMES * N_MELS)
    expected = [np.sort(z.ravel())[-n_top:].mean() for z in z_scores]
    for memory_bytes in (AMPLE, TIGHT):
        detector = BandZScore(top_share=0.02)
        scores = fit_and_score(detector, train, test, memory_bytes=memory_bytes)
        np.testing.assert_allclose(detector.mean_db_, mean, rtol=1e-9)
        np.testing.assert_allclose(detector.std_db_, std, rtol=1e-9)
        np.testing.assert_allclose(scores.maps, z_scores, atol=1e-5)
        np.testing.assert_allclose(scores.clips, expected, rtol=1e-9)


def test_band_zscore_in_silent_bands_and_with_the_smallest_share():
    train = np.full((2, 6, 4), -100.0)
    test = train.copy()
    test[1, 2, 3] = -99.0
    detector = BandZScore(top_share=1e-6)  # rounds to no cell: one is taken
    scores = fit_and_score(detector, from_spectrograms(train), from_spectrograms(test))
    np.testing.assert_allclose(scores.clips, [0.0, 1.0 / MIN_STD_DB])
    assert np.unravel_index(scores.maps[1].argmax(), (6, 4)) == (2, 3)


def test_band_zscore_round_trip_and_misuse(tmp_path):
    train = make_features(3, seed=0)
    detector = BandZScore(top_share=0.01)
    scores = fit_and_score(detector, train, train)
    detector.save(tmp_path / "bands.npz")
    again = BandZScore(top_share=0.01).load(tmp_path / "bands.npz")
    np.testing.assert_array_equal(
        again.score(train, device=CPU, memory_bytes=AMPLE).clips, scores.clips
    )
    with pytest.raises(ValueError, match="BandZScore learns.*seed_"):
        BandZScore(top_share=0.01).load_state({"seed_": np.zeros(1)})
    with pytest.raises(ValueError, match="20 mel bands, these clips have 8"):
        again.score(from_spectrograms(np.zeros((1, 4, 8))), device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="top_share"):
        BandZScore(top_share=0.0)
    with pytest.raises(ValueError, match="at least one normal clip"):
        fit_and_score(BandZScore(top_share=0.01), make_features(0, seed=0), train)


@pytest.mark.parametrize("detector", [Energy(), BandZScore(top_share=0.01)])
def test_a_broken_spectrogram_is_named(detector):
    spectrograms_db = np.zeros((4, 6, 5))
    spectrograms_db[2, 1, 1] = np.nan
    broken = from_spectrograms(spectrograms_db)
    with pytest.raises(ValueError, match="clip row 2"):
        fit_and_score(detector, broken, broken)
