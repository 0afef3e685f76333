"""The cache gives back what went in, and notices damage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.embeddings import (
    ClipFeatures,
    ClipSet,
    TapShape,
    train_features,
    write_cache,
)
from vision_to_sound.embeddings import (
    test_features as features_of_test,
)
from vision_to_sound.files import save_array

TAPS = [TapShape("block2", 4, 3, 2), TapShape("block3", 2, 1, 5)]


def taps_of(n_clips: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(n_clips, t.n_time, t.n_freq, t.n_channels) for t in TAPS]
    return [rng.standard_normal(shape).astype(np.float16).astype(np.float32) for shape in shapes]


def cache_of(directory, taps, name="c", batch=4):
    n_clips = len(taps[0])
    files = directory / f"{name}.npy", directory / f"{name}.json"
    batches = [[tap[i : i + batch] for tap in taps] for i in range(0, n_clips, batch)]
    write_cache(*files, batches, taps=TAPS, n_clips=n_clips, encoder="e")
    return files


def test_round_trip_and_order_of_rows(tmp_path):
    taps = taps_of(7)
    spectrograms = np.random.default_rng(1).standard_normal((7, 8, 6)).astype(np.float32)
    save_array(tmp_path / "s.npy", spectrograms)
    clip_set = ClipSet.open(embeddings=cache_of(tmp_path, taps), spectrograms=tmp_path / "s.npy")
    features = ClipFeatures([clip_set], np.zeros(3, int), np.array([5, 0, 2]))
    assert (features.n_clips, features.n_frames, features.n_mels) == (3, 8, 6)
    assert features.taps == tuple(TAPS)
    for tap, read in zip(taps, features.read_taps(slice(None)), strict=True):
        assert read.dtype == np.float32 and np.array_equal(read, tap[[5, 0, 2]])
    assert np.array_equal(features.read_spectrograms(np.array([2, 1])), spectrograms[[2, 0]])
    with pytest.raises(IndexError):
        features.read_taps(np.array([3]))


def test_features_of_an_experiment_come_from_two_sets(tmp_path):
    normal, mixture = taps_of(5, seed=1), taps_of(2, seed=2)
    sets = [
        ClipSet.open(embeddings=cache_of(tmp_path, taps, name))
        for taps, name in ((normal, "normal"), (mixture, "mixture"))
    ]
    table = pd.DataFrame(
        {
            "role": ["train", "test", "test", "train", "test"],
            "label": [0, 1, 0, 0, 1],
            "set_row": [0, 0, 4, 3, 1],
        }
    )
    train = train_features(table, sets[0])
    assert np.array_equal(train.read_taps(slice(None))[0], normal[0][[0, 3]])
    test = features_of_test(table, *sets)
    expected = np.stack([mixture[0][0], normal[0][4], mixture[0][1]])
    assert np.array_equal(test.read_taps(slice(None))[0], expected)
    with pytest.raises(ValueError, match="hold no spectrograms"):
        test.read_spectrograms(slice(None))


def test_abnormal_clips_of_a_contaminated_split_train_from_their_own_set(tmp_path):
    normal, abnormal = taps_of(5, seed=1), taps_of(3, seed=2)
    sets = [
        ClipSet.open(embeddings=cache_of(tmp_path, taps, name))
        for taps, name in ((normal, "normal"), (abnormal, "abnormal"))
    ]
    table = pd.DataFrame(
        {
            "role": ["train", "test", "train", "train", "test"],
            "label": [0, 1, 1, 0, 0],
            "set_row": [4, 0, 2, 1, 3],
        }
    )
    train = train_features(table, *sets)
    expected = np.stack([normal[0][4], abnormal[0][2], normal[0][1]])
    assert np.array_equal(train.read_taps(slice(None))[0], expected)
    with pytest.raises(ValueError, match="1 of 3 training clips are abnormal"):
        train_features(table, sets[0])
    clean = table[table["label"] == 0]  # a set that nobody trains on changes nothing
    with_set, without = (train_features(clean, *which) for which in (sets, sets[:1]))
    assert np.array_equal(with_set.read_taps(slice(None))[1], without.read_taps(slice(None))[1])


def test_batch_size_does_not_matter(tmp_path):
    taps = taps_of(7)
    files = [cache_of(tmp_path, taps, f"c{batch}", batch) for batch in (1, 3, 7)]
    assert len({path.read_bytes() for path, _ in files}) == 1
    assert len({path.read_bytes() for _, path in files}) == 1


def test_damage_is_found_at_the_first_read(tmp_path):
    path, description = cache_of(tmp_path, taps_of(6))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # one bit of the last clip
    path.write_bytes(data)
    clip_set = ClipSet.open(embeddings=(path, description))
    ClipFeatures([clip_set], np.zeros(5, int), np.arange(5)).read_taps(slice(None))
    with pytest.raises(ValueError, match="damaged.*clip row 5"):
        ClipFeatures([clip_set], np.zeros(6, int), np.arange(6)).read_taps(slice(None))


def test_a_cut_off_or_exchanged_cache_is_refused(tmp_path):
    path, description = cache_of(tmp_path, taps_of(6))
    other, _ = cache_of(tmp_path, taps_of(5), "other")
    with pytest.raises(ValueError, match="damaged.*expected float16"):
        ClipSet.open(embeddings=(other, description))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="damaged"):
        ClipSet.open(embeddings=(path, description))


def test_bad_embeddings_are_refused_with_their_row(tmp_path):
    taps = taps_of(6)
    taps[1][4] = np.nan
    with pytest.raises(ValueError, match="clip row 4"):
        cache_of(tmp_path, taps)
    taps[1][4] = 1e6  # beyond float16
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="clip row 4"):
        cache_of(tmp_path, taps)


def test_too_few_clips_are_refused(tmp_path):
    taps = taps_of(3)
    with pytest.raises(ValueError, match="3 clips were embedded, 4 were expected"):
        write_cache(
            tmp_path / "c.npy", tmp_path / "c.json", [taps], taps=TAPS, n_clips=4, encoder="e"
        )


def test_features_from_arrays():
    taps = taps_of(3)
    names = {tap.name: values for tap, values in zip(TAPS, taps, strict=True)}
    features = ClipFeatures.from_arrays(taps=names, spectrograms_db=np.zeros((3, 8, 6)))
    assert np.array_equal(features.read_taps(np.array([1]))[1], taps[1][1:2])
    assert features.taps == tuple(TAPS)
