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
from scipy.spatial.distance import cdist

from vision_to_sound.detectors.patchcore import PatchCore
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps


def make_detector(**changes) -> PatchCore:
    settings = {
        "bank_size": 60,
        "projection_eps": 0.9,
        "search_share": 1.0,
        "n_neighbours": 9,
        "blur_sigma": 2.0,
        "layers": [],
    }
    return PatchCore(**{**settings, **changes})


def patches_of(features) -> np.ndarray:
    """(n_clips, n_patches, n_channels)"""
    reader = PatchReader(features, layers=[], pool=True, channels=None)
    vectors = reader.read(np.arange(features.n_clips), device=CPU)
    return vectors.reshape(features.n_clips, -1, N_CHANNELS).numpy().astype(np.float64)


def slow_clip_score(patches: np.ndarray, bank: np.ndarray, n_neighbours: int) -> float:
    """PatchCore, section 3.3, Eq. 6 and 7."""
    distance = cdist(patches, bank)
    star = int(distance.min(1).argmax())
    score = distance[star].min()
    m_star = bank[distance[star].argmin()]
    support = np.argsort(cdist(m_star[None], bank)[0], kind="stable")[:n_neighbours]
    share = np.exp(score) / np.exp(distance[star][support]).sum()
    return (1.0 - share) * score


def test_scores_equal_the_slow_way():
    train, test = make_features(5, seed=0), make_features(4, seed=1)
    detector = make_detector()
    scores = fit_and_score(detector, train, test)
    bank = detector.bank_.astype(np.float64)
    assert detector.bank_.shape == (60, N_CHANNELS) and detector.bank_.dtype == np.float32
    assert scores.clips.dtype == np.float64 and scores.maps.dtype == np.float32
    assert scores.maps.shape == (4, N_FRAMES, N_MELS) and scores.frames is None
    patches = patches_of(test)
    expected = [slow_clip_score(clip, bank, 9) for clip in patches]
    np.testing.assert_allclose(scores.clips, expected, rtol=1e-9)
    grid = np.stack([cdist(clip, bank).min(1) for clip in patches]).reshape(4, N_TIME, N_FREQ)
    maps = anomaly_maps(
        torch.from_numpy(grid), n_frames=N_FRAMES, n_mels=N_MELS, blur_sigma=2.0
    ).numpy()
    np.testing.assert_allclose(scores.maps, maps, atol=1e-5)


def test_the_bank_is_made_of_training_patches():
    train = make_features(5, seed=0)
    detector = make_detector().fit(
        train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE
    )
    every = patches_of(train).reshape(-1, N_CHANNELS)
    nearest = cdist(detector.bank_.astype(np.float64), every)
    assert (nearest.min(1) == 0).all()
    assert len(np.unique(nearest.argmin(1))) == 60


def test_training_clips_score_zero_when_the_bank_holds_everything(caplog):
    taps = random_taps(3, seed=2)
    # far from the origin: a distance from lengths and products alone would be off by much more
    train = make_features(3, seed=2, taps={name: tap + 300.0 for name, tap in taps.items()})
    with caplog.at_level(logging.INFO):
        scores = fit_and_score(make_detector(bank_size=10_000), train, train)
    assert np.abs(scores.clips).max() < 1e-3
    assert np.abs(scores.maps).max() < 1e-3
    assert "the bank holds all of them" in caplog.text


def test_a_planted_anomaly_is_found_where_it_is():
    train = make_features(6, seed=3)
    taps = random_taps(4, seed=4)
    taps["block2"][2, 6:9, 3:5] += 8.0  # time cells 6 to 8 of 9, frequency cells 3 and 4 of 5
    detector = make_detector(bank_size=150, blur_sigma=1.0)
    scores = fit_and_score(detector, train, make_features(4, seed=4, taps=taps))
    assert scores.clips.argmax() == 2
    frame, mel = np.unravel_index(scores.maps[2].argmax(), scores.maps[2].shape)
    assert 6 / 9 <= frame / N_FRAMES <= 1 and 3 / 5 <= mel / N_MELS <= 1


def test_same_seed_same_bytes_other_seed_other_bank(tmp_path):
    train = make_features(5, seed=0)

    def saved(seed: int, name: str) -> bytes:
        detector = make_detector()
        detector.fit(train, rng=np.random.default_rng(seed), device=CPU, memory_bytes=AMPLE)
        detector.save(tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert saved(0, "a.npz") == saved(0, "b.npz")
    assert saved(0, "a.npz") != saved(1, "c.npz")


def test_results_do_not_depend_on_the_memory_allowed():
    train, test = make_features(5, seed=0), make_features(4, seed=1)
    ample, tight = make_detector(), make_detector()
    ample_scores = fit_and_score(ample, train, test)
    tight.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=5 * 45 * 24 * 4)
    np.testing.assert_array_equal(ample.bank_, tight.bank_)
    tight_scores = tight.score(test, device=CPU, memory_bytes=TIGHT)
    np.testing.assert_allclose(tight_scores.clips, ample_scores.clips, rtol=1e-6)
    np.testing.assert_allclose(tight_scores.maps, ample_scores.maps, rtol=1e-5)


def test_a_clip_scores_the_same_alone_as_among_others():
    train, test = make_features(5, seed=0), random_taps(4, seed=1)
    detector = make_detector()
    together = fit_and_score(detector, train, make_features(4, seed=1, taps=test))
    alone = {name: tap[2:3] for name, tap in test.items()}
    single = detector.score(make_features(1, seed=1, taps=alone), device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(single.clips, together.clips[2:3], rtol=1e-9)
    np.testing.assert_allclose(single.maps, together.maps[2:3], rtol=1e-6)


def test_a_share_of_the_bank_is_never_nearer_and_all_of_it_is_exact():
    train, test = make_features(5, seed=0), make_features(4, seed=1)
    exact = fit_and_score(make_detector(n_neighbours=1), train, test)
    some = fit_and_score(make_detector(n_neighbours=1, search_share=0.2), train, test)
    nearly = fit_and_score(make_detector(n_neighbours=1, search_share=0.9999), train, test)
    assert (some.maps >= exact.maps).all() and (some.maps > exact.maps).any()
    np.testing.assert_allclose(nearly.clips, exact.clips, rtol=1e-12)


def test_save_and_load_give_the_same_scores(tmp_path):
    train, test = make_features(5, seed=0), make_features(2, seed=1)
    detector = make_detector()
    scores = fit_and_score(detector, train, test)
    detector.save(tmp_path / "bank.npz")
    with np.load(tmp_path / "bank.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["bank_"]
    loaded = make_detector().load(tmp_path / "bank.npz")
    again = loaded.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_array_equal(again.clips, scores.clips)
    np.testing.assert_array_equal(again.maps, scores.maps)


def test_one_training_clip_one_test_clip_one_layer():
    train, test = make_features(1, seed=0), make_features(1, seed=1)
    detector = make_detector(bank_size=3, layers=["block3"])
    scores = fit_and_score(detector, train, test)
    assert detector.bank_.shape == (3, 8)
    assert scores.clips.shape == (1,) and 0 < scores.clips[0] < np.inf


@pytest.mark.parametrize("changes", [{"bank_size": 1}, {"n_neighbours": 1}])
def test_without_neighbours_the_clip_score_is_the_largest_patch_score(changes):
    train, test = make_features(2, seed=0), make_features(3, seed=1)
    detector = make_detector(**changes)
    scores = fit_and_score(detector, train, test)
    bank = detector.bank_.astype(np.float64)
    expected = [cdist(clip, bank).min(1).max() for clip in patches_of(test)]
    np.testing.assert_allclose(scores.clips, expected, rtol=1e-9)


def test_a_broken_embedding_is_named():
    taps = random_taps(4, seed=1)
    taps["block2"][1, 0, 0, 0] = np.nan
    broken = make_features(4, seed=1, taps=taps)
    with pytest.raises(ValueError, match="clip row 1"):
        fit_and_score(make_detector(), broken, broken)
    fitted = make_detector().fit(
        make_features(4, seed=0), rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE
    )
    with pytest.raises(ValueError, match="clip row 1"):
        fitted.score(broken, device=CPU, memory_bytes=AMPLE)


def test_misuse_is_told():
    features = make_features(2, seed=0)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector().score(features, device=CPU, memory_bytes=AMPLE)
    fitted = make_detector().fit(
        features, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE
    )
    fitted.layers = ["block2"]
    with pytest.raises(ValueError, match="24 channels, these clips' have 6"):
        fitted.score(features, device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="at least one normal clip"):
        make_detector().fit(
            make_features(0, seed=0), rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE
        )
    for changes in (
        {"bank_size": 0},
        {"n_neighbours": 0},
        {"projection_eps": 1.0},
        {"search_share": 0.0},
        {"blur_sigma": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(changes))):
            make_detector(**changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    train, test = make_features(5, seed=0), make_features(4, seed=1)
    on_cpu = fit_and_score(make_detector(), train, test)
    on_cuda = fit_and_score(make_detector(), train, test, device=torch.device("cuda"))
    np.testing.assert_allclose(on_cuda.clips, on_cpu.clips, rtol=1e-4)
    np.testing.assert_allclose(on_cuda.maps, on_cpu.maps, rtol=1e-4)
