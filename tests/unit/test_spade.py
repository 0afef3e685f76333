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
    TAPS,
    TIGHT,
    make_features,
    random_taps,
)
from scipy.spatial.distance import cdist

from vision_to_sound.detectors.patches import PatchReader, anomaly_maps
from vision_to_sound.detectors.spade import SPADE, keep_smallest


def make_detector(**changes) -> SPADE:
    settings = {"n_clips": 3, "n_patches": 1, "blur_sigma": 2.0, "layers": []}
    return SPADE(**{**settings, **changes})


def fitted(detector: SPADE, train, *, memory_bytes: int = AMPLE) -> SPADE:
    detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=memory_bytes)
    detector.train_clips = train
    return detector


def fit_and_score(detector: SPADE, train, test, *, memory_bytes: int = AMPLE):
    return fitted(detector, train, memory_bytes=memory_bytes).score(
        test, device=CPU, memory_bytes=memory_bytes
    )


def patches_of(features) -> np.ndarray:
    """(n_clips, n_patches, n_channels)"""
    reader = PatchReader(features, layers=[], pool=False, channels=None)
    vectors = reader.read(np.arange(features.n_clips), device=CPU)
    return vectors.reshape(features.n_clips, -1, N_CHANNELS).numpy().astype(np.float64)


def pooled(features) -> np.ndarray:
    return features.read_taps(slice(None))[-1].astype(np.float64).mean((1, 2))


def slow_scores(train, test, *, n_clips: int, n_patches: int) -> tuple[np.ndarray, np.ndarray]:
    """Clip scores (n_test,) and patch scores (n_test, n_time, n_freq), every pair at once."""
    to_clips = cdist(pooled(test), pooled(train), "sqeuclidean")
    normal, own = patches_of(train), patches_of(test)
    clips, grids = [], []
    for i, row in enumerate(to_clips):
        nearest = np.argsort(row)[:n_clips]
        clips.append(row[nearest].mean())
        gallery = normal[nearest].reshape(-1, N_CHANNELS)
        squared = np.sort(cdist(own[i], gallery, "sqeuclidean"), axis=1)
        grids.append(squared[:, :n_patches].mean(1).reshape(N_TIME, N_FREQ))
    return np.array(clips), np.stack(grids)


@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT])
@pytest.mark.parametrize(("n_clips", "n_patches"), [(3, 1), (3, 5), (1, 45), (50, 1)])
def test_scores_equal_the_slow_way(n_clips, n_patches, memory_bytes):
    train, test = make_features(7, seed=0), make_features(4, seed=1)
    detector = make_detector(n_clips=n_clips, n_patches=n_patches)
    scores = fit_and_score(detector, train, test, memory_bytes=memory_bytes)
    assert scores.clips.dtype == np.float64 and scores.maps.dtype == np.float32
    assert scores.maps.shape == (4, N_FRAMES, N_MELS) and scores.frames is None
    clips, grids = slow_scores(train, test, n_clips=n_clips, n_patches=n_patches)
    np.testing.assert_allclose(scores.clips, clips, rtol=1e-9)
    maps = anomaly_maps(
        torch.from_numpy(grids), n_frames=N_FRAMES, n_mels=N_MELS, blur_sigma=2.0
    ).numpy()
    np.testing.assert_allclose(scores.maps, maps, rtol=1e-5)


def test_only_pooled_vectors_are_learned(tmp_path):
    train = make_features(5, seed=0)
    detector = fitted(make_detector(), train)
    np.testing.assert_allclose(detector.pooled_, pooled(train), rtol=1e-12)
    assert detector.pooled_.dtype == np.float64
    detector.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["pooled_"]
    fitted(make_detector(), train, memory_bytes=TIGHT).save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_deepest_of_the_named_taps_finds_the_clips():
    train, test = make_features(5, seed=0), make_features(2, seed=1)
    detector = fitted(make_detector(layers=["block3", "block2"], n_clips=1), train)
    assert detector.pooled_.shape == (5, TAPS["block3"][2])
    means = [features.read_taps(slice(None))[1].mean((1, 2)) for features in (test, train)]
    expected = cdist(*means, "sqeuclidean").min(1)
    scores = detector.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(scores.clips, expected, rtol=1e-5)


def test_patches_of_clips_that_are_not_near_do_not_count():
    taps, test = random_taps(4, seed=0), random_taps(1, seed=1)
    for name in taps:
        taps[name][3] = test[name][0]
    taps["block4"][3, 2:] += 50.0  # far off as a clip, and yet its first cell is the test clip's
    train, test = make_features(4, seed=0, taps=taps), make_features(1, seed=1, taps=test)
    with_it = fit_and_score(make_detector(n_clips=4, blur_sigma=0.0), train, test)
    without = fit_and_score(make_detector(n_clips=3, blur_sigma=0.0), train, test)
    assert with_it.maps[0, 0, 0] == 0
    assert without.maps.min() > 0


def test_training_clips_score_zero_against_themselves():
    taps = random_taps(3, seed=2)
    # far from the origin: a distance from lengths and products alone would be off by much more
    train = make_features(3, seed=2, taps={name: tap + 300.0 for name, tap in taps.items()})
    scores = fit_and_score(make_detector(n_clips=1), train, train)
    assert scores.clips.max() == 0 and scores.maps.max() == 0


def test_a_planted_anomaly_is_found_where_it_is():
    train = make_features(8, seed=3)
    taps = random_taps(4, seed=4)
    taps["block2"][2, 6, 3] += 8.0  # time cell 6 of 9, frequency cell 3 of 5
    taps["block4"][2] += 1.0
    detector = make_detector(n_clips=5, blur_sigma=0.0)
    scores = fit_and_score(detector, train, make_features(4, seed=4, taps=taps))
    assert scores.clips.argmax() == 2
    frame, mel = np.unravel_index(scores.maps[2].argmax(), scores.maps[2].shape)
    assert (frame * N_TIME // N_FRAMES, mel * N_FREQ // N_MELS) == (6, 3)


@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT])
def test_keep_smallest_goes_on_over_banks(memory_bytes):
    rng = np.random.default_rng(0)
    queries, bank = (torch.from_numpy(rng.normal(size=(n, 9))).float() for n in (70, 150))
    bank[40] = queries[3]
    squared = torch.full((70, 4), torch.inf, dtype=torch.float64)
    for first in (0, 3, 100):  # one of them smaller than the number asked for
        part = bank[first : {0: 3, 3: 100, 100: 150}[first]]
        keep_smallest(squared, queries, part, memory_bytes=memory_bytes)
    expected = np.sort(cdist(queries.numpy(), bank.numpy(), "sqeuclidean"), axis=1)[:, :4]
    np.testing.assert_allclose(squared, expected, rtol=1e-10)
    assert squared[3, 0] == 0


def test_a_clip_scores_the_same_alone_as_among_others():
    train, test = make_features(5, seed=0), random_taps(4, seed=1)
    detector = make_detector()
    together = fit_and_score(detector, train, make_features(4, seed=1, taps=test))
    alone = {name: tap[2:3] for name, tap in test.items()}
    single = detector.score(make_features(1, seed=1, taps=alone), device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(single.clips, together.clips[2:3], rtol=1e-12)
    np.testing.assert_allclose(single.maps, together.maps[2:3], rtol=1e-6)


def test_near_clips_alone_are_read_and_once_for_a_block_of_test_clips(monkeypatch):
    train, test = make_features(9, seed=0), make_features(4, seed=1)
    detector = fitted(make_detector(n_clips=2), train)
    nearest = np.argsort(cdist(pooled(test), pooled(train)), axis=1)[:, :2]
    read = []
    original = PatchReader.read

    def noted(self, rows, *, device):
        if self.features is train:
            read.extend(rows)
        return original(self, rows, device=device)

    monkeypatch.setattr(PatchReader, "read", noted)
    detector.score(test, device=CPU, memory_bytes=AMPLE)
    assert read == sorted(set(nearest.flat)) and len(read) < 8
    read.clear()
    detector.score(test, device=CPU, memory_bytes=TIGHT)
    assert read == np.sort(nearest, axis=1).flatten().tolist()


def test_save_and_load_give_the_same_scores(tmp_path):
    train, test = make_features(5, seed=0), make_features(2, seed=1)
    detector = make_detector()
    scores = fit_and_score(detector, train, test)
    detector.save(tmp_path / "spade.npz")
    loaded = make_detector().load(tmp_path / "spade.npz")
    loaded.train_clips = train
    again = loaded.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_array_equal(again.clips, scores.clips)
    np.testing.assert_array_equal(again.maps, scores.maps)


def test_a_broken_embedding_is_named():
    taps = random_taps(4, seed=1)
    taps["block4"][1, 0, 0, 0] = np.nan
    broken = make_features(4, seed=1, taps=taps)
    with pytest.raises(ValueError, match="clip row 1"):
        fitted(make_detector(), broken)
    taps = random_taps(4, seed=1)
    taps["block2"][2, 0, 0, 0] = np.inf
    detector = fitted(make_detector(), make_features(4, seed=0))
    with pytest.raises(ValueError, match="clip row 2"):
        detector.score(make_features(4, seed=1, taps=taps), device=CPU, memory_bytes=AMPLE)


def test_misuse_is_told(caplog):
    features = make_features(2, seed=0)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector().score(features, device=CPU, memory_bytes=AMPLE)
    with caplog.at_level(logging.INFO):
        detector = fitted(make_detector(), features)
    assert "n_clips is 3 and there are 2 normal clips" in caplog.text
    detector.train_clips = None
    with pytest.raises(ValueError, match="of the 2 clips it was fitted on, got none"):
        detector.score(features, device=CPU, memory_bytes=AMPLE)
    detector.train_clips = make_features(3, seed=0)
    with pytest.raises(ValueError, match="of the 2 clips it was fitted on, got 3"):
        detector.score(features, device=CPU, memory_bytes=AMPLE)
    detector.train_clips = features
    detector.layers = ["block2", "block3"]
    with pytest.raises(ValueError, match="fitted on 10 channels"):
        detector.score(features, device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="n_patches is 91, but 2 clips have only 90"):
        fit_and_score(make_detector(n_patches=91), features, features)
    with pytest.raises(ValueError, match="at least one normal clip"):
        fitted(make_detector(), make_features(0, seed=0))
    for changes in ({"n_clips": 0}, {"n_patches": 0}, {"blur_sigma": -1}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            make_detector(**changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    train, test = make_features(5, seed=0), make_features(4, seed=1)
    detector = fitted(make_detector(n_patches=3), train)
    on_cpu = detector.score(test, device=CPU, memory_bytes=AMPLE)
    on_cuda = detector.score(test, device=torch.device("cuda"), memory_bytes=AMPLE)
    np.testing.assert_allclose(on_cuda.clips, on_cpu.clips, rtol=1e-4)
    np.testing.assert_allclose(on_cuda.maps, on_cpu.maps, rtol=1e-4)
