"""Sizes of the paper, no recording on both sides, and draws that depend on nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.splits import split_clips

SHARES = {"test_share": 0.25, "anomalous_share": 0.5}


def clips_of(n_clips: int, per_recording: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "clip": [f"{i:04d}.wav" for i in range(n_clips)],
            "recording": [str(i // per_recording) for i in range(n_clips)],
        }
    )


@pytest.mark.parametrize(
    ("n_clips", "train", "test", "anomalous"),
    [
        (987, 740, 247, 123),
        (923, 692, 231, 115),
        (977, 732, 245, 122),
        (764, 573, 191, 95),
        (187, 140, 47, 23),
        (787, 590, 197, 98),
        (970, 727, 243, 121),
        (834, 625, 209, 104),
    ],
)
def test_published_sizes_of_the_full_data_set(n_clips, train, test, anomalous):
    split = split_clips(clips_of(n_clips), protocol="published", category="c", seed=0, **SHARES)
    assert (split["role"] == "train").sum() == train
    assert (split["role"] == "test").sum() == test
    assert split["label"].sum() == anomalous
    assert set(split.loc[split["label"] == 1, "role"]) == {"test"}


def test_published_lets_recordings_leak_and_leakfree_does_not():
    for protocol, shared in (("published", True), ("leakfree", False)):
        split = split_clips(clips_of(90), protocol=protocol, category="c", seed=1, **SHARES)
        sides = [set(split.loc[split["role"] == role, "recording"]) for role in ("train", "test")]
        assert bool(sides[0] & sides[1]) == shared


def test_leakfree_takes_a_quarter_of_the_recordings():
    split = split_clips(clips_of(90), protocol="leakfree", category="c", seed=1, **SHARES)
    assert split.loc[split["role"] == "test", "recording"].nunique() == 8  # of 30, rounded up


@pytest.mark.parametrize("protocol", ["published", "leakfree"])
def test_deterministic_and_seeds_differ(protocol):
    arguments = {"protocol": protocol, "category": "c", **SHARES}
    first = split_clips(clips_of(60), seed=0, **arguments)
    assert first.equals(split_clips(clips_of(60), seed=0, **arguments))
    assert not np.array_equal(first["role"], split_clips(clips_of(60), seed=1, **arguments)["role"])


@pytest.mark.parametrize("protocol", ["published", "leakfree"])
def test_one_clip_more_moves_few_others(protocol):
    arguments = {"protocol": protocol, "category": "c", "seed": 0, **SHARES}
    before = split_clips(clips_of(400), **arguments)
    after = split_clips(clips_of(401), **arguments).iloc[:400]
    assert (before["role"].to_numpy() != after["role"].to_numpy()).sum() <= 3  # one recording
    assert (before["label"].to_numpy() != after["label"].to_numpy()).sum() <= 6


def test_too_few_recordings_is_an_error_that_names_the_class():
    with pytest.raises(ValueError, match="class 'car_horn'.*1 recordings"):
        split_clips(clips_of(8, 8), protocol="leakfree", category="car_horn", seed=0, **SHARES)


def test_unknown_protocol():
    with pytest.raises(ValueError, match="expected one of"):
        split_clips(clips_of(8), protocol="leaky", category="c", seed=0, **SHARES)
