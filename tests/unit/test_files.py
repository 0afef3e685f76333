"""Tables and arrays come back as they were, and the same content gives the same bytes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_to_sound.file_names import to_text
from vision_to_sound.files import (
    create_array,
    load_arrays,
    open_array,
    read_table,
    replacing,
    save_array,
    save_arrays,
    seal,
    write_table,
)
from vision_to_sound.scores import AnomalyScores, Truth


def test_table_round_trip_keeps_text_and_digits(tmp_path):
    table = pd.DataFrame(
        {
            "clip": ["007", "1e5"],
            "recording": ["12", "013"],
            "event_category": ["", "dog"],
            "value": [0.1 + 0.2, np.nan],
            "headline": [True, False],
            "row": [1, 2],
        }
    )
    write_table(table, tmp_path / "t.tsv")
    read = read_table(tmp_path / "t.tsv")
    pd.testing.assert_frame_equal(read, table)
    assert read["headline"].dtype == bool
    write_table(read, tmp_path / "again.tsv")
    assert (tmp_path / "t.tsv").read_bytes() == (tmp_path / "again.tsv").read_bytes()


# Any text: line ends, quotes, formulas, escapes, bytes that are no UTF-8 (lone surrogates), numbers, nothing.
TEXT = st.text(
    st.sampled_from("a1.-=+@'\"\\u0\r\n\t,# \x00\u2028\ud83d\udce9\u00e9\U0001f600"), max_size=6
)
TEXT |= st.text(st.characters(), max_size=6) | st.sampled_from(
    ["nan", "NA", "1e5", "True", "\\u000a"]
)
FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, FLOATS, st.booleans()), min_size=1, max_size=4))
def test_any_text_and_number_comes_back_as_it_was(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    table = pd.DataFrame(rows, columns=["clip", "problem", "value", "headline"])
    write_table(table, path)
    pd.testing.assert_frame_equal(read_table(path), table, check_exact=True)
    lines = path.read_bytes().decode("utf-8").split("\n")
    assert len(lines) == len(table) + 2  # header, and nothing after the last line end


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4))
def test_a_table_of_text_alone_comes_back(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "names.tsv"
    write_table(pd.DataFrame({"clip": names}), path)
    assert list(read_table(path)["clip"]) == names


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4))
def test_recordings_are_named_in_memory_as_on_disk(tmp_path_factory, names):
    """And two names stay two in pandas, which takes all that are no UTF-8 for the same one."""
    path = tmp_path_factory.getbasetemp() / "recordings.tsv"
    texts = [to_text(name) for name in names]
    write_table(pd.DataFrame({"recording": texts}), path)
    assert list(read_table(path)["recording"]) == texts
    assert read_table(path)["recording"].nunique() == len(set(names))


def test_other_programs_read_the_table_as_it_is(tmp_path):
    table = pd.DataFrame(
        {"recording": ["a b.wav", "=cmd|'/C calc'!A0", "c\rd"], "score": [1.5, 2, 3]}
    )
    write_table(table, tmp_path / "t.tsv")
    with open(tmp_path / "t.tsv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert rows == [
        ["recording", "score"],
        ["a b.wav", "1.5"],
        ["'=cmd|'/C calc'!A0", "2.0"],
        [r"c\u000dd", "3.0"],
    ]
    assert list(pd.read_csv(tmp_path / "t.tsv", sep="\t")["score"]) == [1.5, 2, 3]


def test_text_that_would_be_read_as_numbers_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"t\.tsv: column 'value' holds text"):
        write_table(pd.DataFrame({"value": ["12"]}), tmp_path / "t.tsv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_no_text_at_all_is_read_as_empty_text(missing, tmp_path):
    write_table(pd.DataFrame({"recording": ["a", missing]}), tmp_path / "t.tsv")
    assert list(read_table(tmp_path / "t.tsv")["recording"]) == ["a", ""]


def test_a_table_without_rows_has_its_columns(tmp_path):
    write_table(pd.DataFrame(columns=["recording", "value"]), tmp_path / "t.tsv")
    read = read_table(tmp_path / "t.tsv")
    assert list(read.columns) == ["recording", "value"] and len(read) == 0


def test_arrays_round_trip_with_the_same_bytes_at_another_time(tmp_path, monkeypatch):
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.array([True, False])}
    save_arrays(tmp_path / "1.npz", arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    save_arrays(tmp_path / "2.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    read = load_arrays(tmp_path / "1.npz")
    assert set(read) == {"a", "b"} and np.array_equal(read["b"], arrays["b"])
    with np.load(tmp_path / "1.npz") as plain:
        assert np.array_equal(plain["a"], arrays["a"])


def test_damaged_or_pickled_arrays_are_refused(tmp_path):
    save_arrays(tmp_path / "a.npz", {"a": np.zeros(1000)})
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="a.npz is damaged"):
        load_arrays(tmp_path / "a.npz")
    np.savez(tmp_path / "p.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="p.npz: expected .*, got Python objects in a.npy"):
        load_arrays(tmp_path / "p.npz")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],  # one bit of the values
        lambda data: data[:30] + b" " + data[31:],  # of the header
        lambda data: data + b"more",
        lambda data: data[:-16],  # never sealed
    ],
)
def test_one_wrong_byte_of_an_array_is_found(tmp_path, damage):
    array = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    path = tmp_path / "a.npy"
    save_array(path, array)
    assert np.array_equal(open_array(path), array) and not open_array(path).flags.writeable
    assert np.array_equal(np.load(path), array), "others can read it"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"a.npy is damaged \(checksum\); delete it"):
        open_array(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.zeros((0,), "<U1"),
        np.array("text \u00e9"),
        np.array(3),
        np.array(["a", ""]),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12).reshape(2, 1, 6)[:, :, ::2],
        np.arange(3, dtype=">f4"),
        np.array([True, False]),
        np.arange(6 << 20, dtype=np.uint8)[: (5 << 20) + 3],
    ],
)
def test_every_array_comes_back_as_it_was(tmp_path, array):
    save_arrays(tmp_path / "a.npz", {"a": array, "b": np.ones(2)})
    for read in (load_arrays(tmp_path / "a.npz"), load_arrays(tmp_path / "a.npz", only=("a",))):
        assert read["a"].dtype == array.dtype and np.array_equal(read["a"], array)
        assert read["a"].flags.writeable
    assert set(read) == {"a"}


def test_an_array_that_was_written_row_by_row_is_sealed_in_the_end(tmp_path):
    array = create_array(tmp_path / "a.npy", np.float32, (3, 4))
    array[:] = np.arange(12.0).reshape(3, 4)
    array.flush()
    seal(tmp_path / "a.npy")
    save_array(tmp_path / "b.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    save_array(tmp_path / "empty.npy", np.zeros((0, 4), np.float32))
    assert open_array(tmp_path / "empty.npy").shape == (0, 4)


def test_scores_and_truth_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, 5, 7)).astype(np.float32)
    scores = AnomalyScores(clips=rng.standard_normal(3), maps=maps)
    scores.save(tmp_path / "s.npz")
    read = AnomalyScores.load(tmp_path / "s.npz")
    assert np.array_equal(read.maps, maps) and read.frames is None
    expected = np.sort(maps, axis=2)[:, :, -5:].astype(np.float64).mean(axis=2)
    assert np.allclose(read.frame_scores(), expected, rtol=1e-12)

    masks = {"published": maps > 0, "leakfree": maps > 1}
    truth = Truth(labels=np.array([True, False, True]), masks=masks, frames=maps.any(axis=2))
    truth.save(tmp_path / "t.npz")
    again = Truth.load(tmp_path / "t.npz")
    assert np.array_equal(again.labels, truth.labels) and again.frames.dtype == bool
    for name, mask in masks.items():
        assert np.array_equal(again.masks[name], mask)
    Truth.of_clips(truth.labels).save(tmp_path / "l.npz")
    assert Truth.load(tmp_path / "l.npz").masks == {}


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    import errno
    import os

    array = create_array(tmp_path / "a.npy", np.float16, (3, 4))
    array[:] = 1
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.ones((3, 4)))

    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="b.npy needs 2 MiB: No space left on device"):
        create_array(tmp_path / "b.npy", np.float32, (512, 1024))


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "deep" / "table.tsv"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert not path.exists() and temporary.suffix == ".tsv"
    with pytest.raises(OSError, match="disk full"):
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise OSError("disk full")
    with pytest.raises(OSError, match="table.tsv: 10 requested and 3 written"):  # as NumPy says it
        with replacing(path) as temporary:
            raise OSError("10 requested and 3 written")
    with pytest.raises(OSError, match="elsewhere'$"):
        with replacing(path) as temporary:
            raise FileNotFoundError(2, "No such file", "elsewhere")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["table.tsv"]


# --- After a kill ---------------------------------------------------------------------------------

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
KILLED = """
import os, signal, sys
from vision_to_sound.files import replacing
with replacing(sys.argv[1]) as path:
    path.write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
WAITING = """
import sys
from vision_to_sound.files import replacing
with replacing(sys.argv[1]) as path:
    path.write_text("whole")
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    "name", ["cache.npy", "no_suffix", "two.dots.npy", "[a]*.tsv", "m\u00fc.npz"]
)
def test_what_a_killed_process_left_is_gone_after_the_next_run(tmp_path, name):
    final = tmp_path / name
    killed = subprocess.run([sys.executable, "-c", KILLED, str(final)], env=ENVIRONMENT)
    assert killed.returncode == -signal.SIGKILL and not final.exists()
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".")
    with replacing(final) as path:
        path.write_text("whole")
    assert os.listdir(tmp_path) == [name] and final.read_text() == "whole"


def test_the_temporary_file_of_a_living_process_stays(tmp_path):
    final = tmp_path / "cache.npy"
    command = [sys.executable, "-c", WAITING, str(final)]
    settings = {
        "env": ENVIRONMENT,
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
    }
    with subprocess.Popen(command, **settings) as alive:
        assert alive.stdout.readline() == "written\n"
        with replacing(tmp_path / "other.npy") as path:
            assert len(os.listdir(tmp_path)) == 1
            path.write_text("other")
        with replacing(final) as path:
            path.write_text("shorter")
        alive.stdin.close()
    assert alive.returncode == 0 and final.read_text() == "whole"


def test_files_of_other_machines_and_other_programs_stay(tmp_path):
    names = [".cache.00000000-1.npy", ".cache.12.npy", ".hidden", "cache.part", ".x.-1.npy"]
    for name in names:
        (tmp_path / name).write_text("")
    with replacing(tmp_path / "cache.npy") as path:
        path.write_text("x")
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "cache.npy"])
