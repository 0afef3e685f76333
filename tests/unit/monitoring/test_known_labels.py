"""Labels from names and tables: right, or unknown, or an error; never the contrary."""

from __future__ import annotations

import pytest

from vision_to_sound.monitoring.known_labels import (
    known_labels,
    labels_from_names,
    labels_from_table,
)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("normal_1.wav", 0),
        ("Normal2.wav", 0),
        ("healthy/3.wav", 0),
        ("abnormal/1.wav", 1),
        ("anomaly_id_00.wav", 1),
        ("Faulty pump.wav", 1),
        ("defects/7.wav", 1),
        # the part nearest to the file decides
        ("anomaly_detection/normal_001.wav", 0),
        ("Broken_mic/normal_004.wav", 0),
        ("normal/anomaly_1.wav", 1),
        ("good/2024/broken/7.wav", 1),
        ("no_anomaly/normal_3.wav", 0),
        # a topic, a negation, a contradiction: nothing is known
        ("anomaly_detection/001.wav", None),
        ("fault detector/001.wav", None),
        ("not_normal_3.wav", None),
        ("not normal/normal_or_broken.wav", None),
        ("no-fault.wav", None),
        ("non-faulty.wav", None),
        ("fault-free/1.wav", None),
        ("without fault/1.wav", None),
        ("normal_then_broken.wav", None),
        ("broken/normal_abnormal.wav", None),
        # no such word
        ("x.wav", None),
        ("paranormal.wav", None),
        ("unbroken.wav", None),
        ("default.wav", None),
        ("goodyear.wav", None),
    ],
)
def test_words_in_names(name, label):
    assert labels_from_names([name]) == ({} if label is None else {name: label})


def test_one_name_without_a_label_takes_none_from_the_others():
    names = [f"normal_{i}.wav" for i in range(99)] + ["x.wav"]
    assert len(labels_from_names(names)) == 99
    assert known_labels(names, "none") == {}
    assert known_labels(["normal.wav", "anomaly.wav"], "names") == {
        "normal.wav": 0,
        "anomaly.wav": 1,
    }


NAMES = ["a/1.wav", "a/2.wav", "b/3.wav", "pump1.wav", "pump[1].wav", "b/ü.wav"]


def table(tmp_path, *rows: str) -> str:
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["recording,label", *rows]) + "\n", encoding="utf-8")
    return str(path)


def test_a_path_goes_before_a_file_name_and_that_before_a_pattern(tmp_path):
    rows = ["*,normal", "3.wav,Anomalous", "a/2.wav,anomalous", "pump[1].wav,anomalous"]
    for order in (rows, rows[::-1]):
        found = known_labels(NAMES, table(tmp_path, *order))
        assert [name for name, label in found.items() if label] == [
            "a/2.wav",
            "b/3.wav",
            "pump[1].wav",
        ]
        assert len(found) == len(NAMES)


def test_a_pattern_stays_one_where_no_file_is_called_so(tmp_path):
    assert labels_from_table(["pump1.wav"], table(tmp_path, "pump[1].wav,normal")) == {
        "pump1.wav": 0
    }


@pytest.mark.parametrize("written", ["b/u\u0308.wav", "./b/ü.wav", "b\\ü.wav"])
def test_other_ways_to_write_the_same_path(tmp_path, written):
    assert labels_from_table(NAMES, table(tmp_path, f"{written},normal")) == {"b/ü.wav": 0}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["c.wav,normal"], r"line 2: no recording is called 'c\.wav'"),
        (["a/1.wav,bad"], "line 2: label 'bad', expected normal or anomalous"),
        (["a/1.wav,"], "line 2: label '', expected"),
        (["a/1.wav,normal", "a/1.wav,anomalous"], "line 3: a/1.wav is labelled anomalous here and"),
        (["a/*,normal", "*,anomalous"], "line 3: a/1.wav is labelled anomalous here and"),
        (["a/1.wav,normal", "a/1.wav,normal", ",normal"], "line 4: no recording is called ''"),
        ([], "columns recording and label"),
    ],
)
def test_rows_that_cannot_be_meant(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        labels_from_table(NAMES, table(tmp_path, *rows))


def test_a_file_name_that_two_recordings_have(tmp_path):
    with pytest.raises(
        ValueError, match=r"line 2: '1\.wav' may be a/1\.wav or b/1\.wav; write the"
    ):
        labels_from_table(["a/1.wav", "b/1.wav"], table(tmp_path, "1.wav,normal"))


@pytest.mark.parametrize(
    "content", [b"file;label\n1;2\n", b"\xff\xfe1", b"recording,label\n\xe4,normal\n"]
)
def test_other_kinds_of_tables(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"labels\.csv: expected a csv file"):
        labels_from_table(NAMES, str(path))
