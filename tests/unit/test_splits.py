"""Sizes of the paper, no recording on both sides, and draws that depend on nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.splits import split_clips, split_recordings

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


# --- MIMII ----------------------------------------------------------------------------------------

# Normal and abnormal recordings of ids 00, 02, 04, 06 in the full data set.
MIMII_SIZES = {
    "fan": [(1011, 407), (1016, 359), (1033, 348), (1015, 361)],
    "pump": [(1006, 143), (1005, 111), (702, 100), (1036, 102)],
    "slider": [(1068, 356), (1068, 267), (534, 178), (534, 89)],
    "valve": [(991, 119), (708, 120), (1000, 120), (992, 120)],
}
# int(0.3 n) of the abnormal ones
PUBLISHED_TESTED = {
    "fan": [122, 107, 104, 108],
    "pump": [42, 33, 30, 30],
    "slider": [106, 80, 53, 26],
    "valve": [35, 36, 36, 36],
}
MACHINES = [(t, i) for t in MIMII_SIZES for i in range(4)]


def machine_index(n_normal: int, n_abnormal: int, category: str = "fan_id_00") -> pd.DataFrame:
    """As index_mimii sorts it, after a machine that is not asked for."""
    rows = [
        (f"{kind}_{i:08d}.wav", name, label)
        for name, counts in (("fan_id_99", (3, 2)), (category, (n_normal, n_abnormal)))
        for label, kind in enumerate(("normal", "abnormal"))
        for i in range(counts[label])
    ]
    index = pd.DataFrame(rows, columns=["clip", "category", "label"])
    return index.assign(recording=index["clip"])


def split_machine(index=None, **changes) -> pd.DataFrame:
    arguments = dict(protocol="published", category="fan_id_00", seed=42)
    index = machine_index(60, 20) if index is None else index
    return split_recordings(index, **(arguments | changes))


def sizes(split: pd.DataFrame) -> dict[tuple[str, int], int]:
    return split.value_counts(["role", "label"]).to_dict()


def test_the_recordings_of_each_type_add_up_to_those_of_its_archive():
    totals = {t: sum(map(sum, counts)) for t, counts in MIMII_SIZES.items()}
    assert totals == {"fan": 5550, "pump": 4205, "slider": 4094, "valve": 4170}


@pytest.mark.parametrize(("machine_type", "i"), MACHINES)
def test_sizes_of_the_full_mimii(machine_type, i):
    n_normal, n_abnormal = MIMII_SIZES[machine_type][i]
    tested = PUBLISHED_TESTED[machine_type][i]
    index = machine_index(n_normal, n_abnormal)
    assert sizes(split_machine(index)) == {
        ("train", 0): n_normal - tested,
        ("test", 0): tested,
        ("test", 1): tested,
    }
    assert sizes(split_machine(index, contaminated=True)) == {
        ("train", 0): n_normal - tested,
        ("train", 1): n_abnormal - tested,
        ("test", 0): tested,
        ("test", 1): tested,
    }
    assert sizes(split_machine(index, protocol="leakfree")) == {
        ("train", 0): n_normal - n_abnormal,
        ("test", 0): n_abnormal,
        ("test", 1): n_abnormal,
    }


@pytest.mark.parametrize("protocol", ["published", "leakfree"])
def test_a_set_row_is_the_place_among_clips_of_the_same_label(protocol):
    split = split_machine(protocol=protocol)
    assert not split["clip"].duplicated().any()
    for clip, label, row in zip(split["clip"], split["label"], split["set_row"], strict=True):
        assert clip == f"{('normal', 'abnormal')[label]}_{row:08d}.wav"


def test_contamination_leaves_the_test_set_as_it_is():
    clean, contaminated = split_machine(), split_machine(contaminated=True)
    kept = contaminated[(contaminated["role"] == "test") | (contaminated["label"] == 0)]
    assert clean.equals(kept.reset_index(drop=True))
    assert len(contaminated) == 80


def test_which_recordings_are_tested_depends_on_protocol_machine_and_seed():
    def tested(category="fan_id_00", **changes):
        split = split_machine(machine_index(60, 20, category), category=category, **changes)
        return frozenset(split.loc[(split["role"] == "test") & (split["label"] == 0), "clip"])

    assert tested() == tested()
    draws = [tested(), tested(seed=43), tested(category="fan_id_02"), tested(protocol="leakfree")]
    assert len(set(draws)) == len(draws)


def test_a_recording_left_out_moves_few_others():
    index = machine_index(400, 100)
    before = split_machine(index, protocol="leakfree").set_index("clip")["role"]
    left_out = index[~((index["category"] == "fan_id_00") & (index["clip"] == before.index[7]))]
    after = split_machine(left_out, protocol="leakfree").set_index("clip")["role"]
    assert len(after) == len(before) - 1
    assert (before[after.index] != after).sum() <= 1


@pytest.mark.parametrize(
    ("n_normal", "n_abnormal", "protocol", "message"),
    [
        (20, 21, "leakfree", "fan_id_00.*leakfree: 21 abnormal .* 21 to test .* of 20;.*Take the"),
        (20, 20, "leakfree", "a normal one left to train on"),
        (20, 3, "published", "3 abnormal recordings give 0 to test"),
        (20, 0, "leakfree", "0 abnormal"),
        (3, 12, "published", "12 abnormal recordings give 3 to test"),
    ],
)
def test_an_empty_side_is_an_error(n_normal, n_abnormal, protocol, message):
    with pytest.raises(ValueError, match=message):
        split_machine(machine_index(n_normal, n_abnormal), protocol=protocol)


def test_wrong_questions_about_machines():
    with pytest.raises(ValueError, match="tests on all abnormal recordings, none is left"):
        split_machine(protocol="leakfree", contaminated=True)
    with pytest.raises(ValueError, match="unknown machine 'fan_id_01'.*did you mean"):
        split_machine(category="fan_id_01")
    with pytest.raises(ValueError, match="expected one of"):
        split_machine(protocol="leaky")
