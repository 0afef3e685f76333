"""A folder that is watched: what real files, folders and disks do, and that the watch goes on."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from vision_to_sound.front_ends import FRONT_ENDS
from vision_to_sound.monitoring import new_files
from vision_to_sound.monitoring import watch as watch_module
from vision_to_sound.monitoring.growing_table import GrowingTable
from vision_to_sound.monitoring.levels import LEVELS
from vision_to_sound.monitoring.result import ClipResult
from vision_to_sound.monitoring.watch import COLUMNS, NewFiles, watch

HEADER = "\t".join(COLUMNS) + "\n"
FRONT_END = FRONT_ENDS["aisfx_44k1"]


WELL_RECORDED = SimpleNamespace(
    **dict.fromkeys(LEVELS, 0) | {"level_db": -30.0, "channel_level_db": -30.0}
)


class StubDetector:
    """Every recording is one clip of score 1; what a file's name begins with says what it raises or does."""

    spec = SimpleNamespace(front_end=FRONT_END)

    def __init__(self, **reactions):
        self.reactions = reactions
        self.scored: list[str] = []

    def embed(self, file):
        return [WELL_RECORDED]

    def score_clip(self, file, clip):
        name = file.path.name
        score = 1.0
        for start, reaction in self.reactions.items():
            if name.startswith(start):
                if isinstance(reaction, BaseException):
                    raise reaction
                score = reaction(file.path) or score
        self.scored.append(name)
        return ClipResult(
            file=file,
            start_s=0.0,
            duration_s=file.duration_s,
            score=score,
            p_value=0.05,
            is_anomalous=name.startswith("odd"),
            anomaly_map=np.zeros((1, FRONT_END.n_mels), np.float32),
            regions=(),
            channel=None,
            front_end=FRONT_END,
        )


def write_sound(path: Path, n_samples: int = 800) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(n_samples, 0.1, np.float32), 8000, format="WAV")


def run(folder: Path, table: Path, detector=None, *actions, n_looks: int = 3, **settings):
    """Watch for some looks; before each the next action happens. The detector, for what it was given."""
    detector = detector or StubDetector()
    actions, left = list(actions), [n_looks + len(actions)]

    def goes_on() -> bool:
        if actions:
            actions.pop(0)()
        left[0] -= 1
        return left[0] >= 0

    watch(folder, detector, table, every_s=0.0, goes_on=goes_on, **settings)
    return detector


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture
def table(tmp_path):
    return tmp_path / "out" / "watched.tsv"


def names_in(table: Path) -> list[str]:
    return [line.split("\t")[0] for line in table.read_text().splitlines()[1:]]


# --- files


def test_each_finished_file_is_given_once(folder):
    files = NewFiles(folder)
    path = folder / "a.wav"
    path.write_bytes(b"some")
    assert files.look() == []
    path.write_bytes(b"some more")  # it is still being written
    assert files.look() == []
    assert files.look() == ["a.wav"]
    files.done("a.wav")
    assert files.look() == []
    path.write_bytes(b"written again, and longer")
    assert files.look() == [] and files.look() == ["a.wav"]
    assert NewFiles(folder, skip_present=True).look() == []


@pytest.mark.parametrize("made_at", [0, 2**31, 2**33])
def test_times_of_files_need_not_be_those_of_this_clock(made_at, folder):
    files = NewFiles(folder)
    write_sound(folder / "a.wav")
    os.utime(folder / "a.wav", (made_at, made_at))
    assert files.look() == [] and files.look() == ["a.wav"]
    files.done("a.wav")
    os.utime(folder / "a.wav", (made_at - 1, made_at - 1))  # older, and another file all the same
    assert files.look() == [] and files.look() == ["a.wav"]


@pytest.mark.parametrize(
    "name",
    [
        "tab\there.wav",
        "two\nlines.wav",
        "return\r.wav",
        "=cmd|' /C calc'!A0.wav",
        'quote".wav',
        "\u70b9.wav",
        "{pump} #3 $(x) `y`.wav",
        "-rf.wav",
        "a" * 251 + ".wav",
    ],
)
def test_any_name_is_one_row_and_one_line(name, folder, table, capsys):
    write_sound(folder / name)
    write_sound(folder / "zz.wav")
    run(folder, table)
    rows = pd.read_csv(table, sep="\t", keep_default_na=False)
    assert list(rows.columns) == COLUMNS and len(rows) == 2
    assert not rows["recording"].str.startswith(("=", "-")).any()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2].startswith("stopped: 2 recordings")
    assert all(
        "zz.wav" not in recording or recording == "zz.wav" for recording in rows["recording"]
    )
    table.read_bytes().decode("utf-8"), "\n".join(lines).encode("utf-8")


def test_a_name_that_is_no_utf_8_ends_no_watch(folder, table, capsys):
    (folder / "caf\udce9.wav").write_bytes(b"x" * 99)
    write_sound(folder / "zz.wav")
    run(folder, table)
    assert names_in(table) == ["zz.wav"]
    assert capsys.readouterr().out.encode().startswith(b"NOT READ   caf\\udce9.wav: ")


def unreadable(path):
    raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))


@pytest.mark.parametrize(
    ("reaction", "said"),
    [
        (ValueError("taps beyond 65504"), "ValueError: taps beyond 65504"),
        (RuntimeError("two\nlines"), "RuntimeError: two"),
        (MemoryError(), "MemoryError"),
        (IndexError("0"), "IndexError"),
        (unreadable, "Permission denied"),
        (lambda path: float("nan"), "nan"),
        (lambda path: float("inf"), "inf"),
    ],
)
def test_what_one_file_raises_is_one_line_and_the_others_are_scored(
    reaction, said, folder, table, capsys
):
    for name in ("a.wav", "bad.wav", "c.wav"):
        write_sound(folder / name)
    run(folder, table, StubDetector(bad=reaction), n_looks=6)
    assert names_in(table) == ["a.wav", "c.wav"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "bad.wav" in line]
    assert line.startswith("NOT READ   bad.wav: ") and said in line


@pytest.mark.parametrize(
    "content", [b"", b"x" * 99, b"RIFF", b"RIFF\x24\x00\x00\x00WAVE", bytes(100)]
)
def test_files_that_are_no_sound_are_said_once(content, folder, table, capsys):
    (folder / "bad.wav").write_bytes(content)
    run(folder, table, n_looks=6)
    assert capsys.readouterr().out.count("NOT READ   bad.wav: ") == 1
    assert table.read_text() == HEADER


def test_a_file_that_could_not_be_read_is_tried_again_when_it_changes(folder, table, capsys):
    write_sound(folder / "bad.wav")
    reactions = {"bad": unreadable}
    run(
        folder,
        table,
        StubDetector(**reactions),
        *[lambda: None] * 3,
        lambda: write_sound(folder / "bad.wav", 900),
        n_looks=4,
    )
    assert capsys.readouterr().out.count("NOT READ   bad.wav: ") == 2


def test_new_permissions_are_a_change_for_a_file_that_could_not_be_read(folder, table, capsys):
    write_sound(folder / "bad.wav")
    detector = StubDetector(bad=unreadable)

    def allow():
        detector.reactions.clear()
        (folder / "bad.wav").chmod(0o600)

    run(folder, table, detector, *[lambda: None] * 3, allow, n_looks=5)
    assert capsys.readouterr().out.count("NOT READ   bad.wav: ") == 1
    assert names_in(table) == ["bad.wav"]


def test_a_file_that_goes_away_before_it_is_read(folder, table, capsys):
    write_sound(folder / "a.wav")
    write_sound(folder / "gone.wav")
    detector = StubDetector(a=lambda path: (folder / "gone.wav").unlink())
    run(folder, table, detector, lambda: None, lambda: None, lambda: None)
    out = capsys.readouterr().out
    assert out.count("gone.wav") == 1 and "NOT READ   gone.wav: it is gone" in out
    assert names_in(table) == ["a.wav"]


def test_a_file_that_goes_away_while_it_is_waited_for(folder, table, capsys):
    write_sound(folder / "a.wav")
    write_sound(folder / "b.wav")
    run(folder, table, None, lambda: None, lambda: (folder / "b.wav").unlink())
    assert "NOT READ   b.wav: it went away before it was finished" in capsys.readouterr().out


def test_a_file_that_changes_while_it_is_read_is_read_again(folder, table, capsys):
    write_sound(folder / "a.wav")
    times = iter([lambda: write_sound(folder / "a.wav", 1600), lambda: None])
    run(folder, table, StubDetector(a=lambda path: next(times)()), n_looks=5)
    assert "CHANGED    a.wav" in capsys.readouterr().out
    (row,) = pd.read_csv(table, sep="\t").itertuples()
    assert row.duration_s == pytest.approx(0.2)


def test_a_file_that_is_taken_away_once_it_was_read_is_scored(folder, table):
    write_sound(folder / "a.wav")
    run(folder, table, StubDetector(a=lambda path: path.unlink()))
    assert names_in(table) == ["a.wav"]


def test_a_file_that_grows_for_ever_is_mentioned_once(folder, table, capsys, monkeypatch):
    monkeypatch.setattr(new_files, "GROWS_LONG_S", -1.0)
    sizes = iter(range(1, 99))
    grow = [lambda: (folder / "a.wav").write_bytes(bytes(next(sizes)))] * 6
    run(folder, table, None, *grow, n_looks=0)
    assert capsys.readouterr().out.count("GROWS      a.wav") == 1


def test_what_cannot_be_used_is_said_once_with_what_to_do(folder, table, capsys):
    (folder / "phone.m4a").write_bytes(b"x")
    (folder / "dangling.wav").symlink_to(folder / "nothing.wav")
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(folder)
    os.mkfifo(folder / "pipe.wav")
    (folder / "folder.wav").mkdir()
    write_sound(folder / "folder.wav" / "inside.wav")
    (folder / "again.wav").symlink_to(folder / "folder.wav" / "inside.wav")
    (folder / ".hidden.wav").write_bytes(b"x")
    run(folder, table, n_looks=5)
    out = capsys.readouterr().out
    assert "NOT USED   phone.m4a: .m4a is not read; convert it, e.g. ffmpeg" in out
    for name in ("phone.m4a", "dangling.wav", "pipe.wav", "again.wav", "sub/up"):
        assert out.count(f"NOT USED   {name}: ") == 1
    assert ".hidden" not in out
    assert names_in(table) == ["folder.wav/inside.wav"]


def test_many_that_cannot_be_used_are_counted(folder, table, capsys):
    for i in range(30):
        (folder / f"{i:02}.m4a").write_bytes(b"x")
    run(folder, table)
    out = capsys.readouterr().out
    assert out.count("NOT USED") == 11 and "and 20 more like these" in out


def test_many_at_once_come_with_progress(folder, table, capsys):
    for i in range(120):
        write_sound(folder / f"{i:03}.wav", 8)
    run(folder, table)
    out = capsys.readouterr().out
    assert "120 recordings to score" in out and "100 of 120 recordings are done" in out
    assert len(names_in(table)) == 120


# --- the folder


def test_a_folder_that_is_deleted_and_comes_back(folder, table, capsys):
    write_sound(folder / "a.wav")
    elsewhere = folder.with_name("elsewhere")
    nothing = [lambda: None] * 3
    run(
        folder,
        table,
        None,
        *nothing,
        lambda: folder.rename(elsewhere),
        *nothing,
        lambda: elsewhere.rename(folder),
        lambda: write_sound(folder / "b.wav"),
    )
    out = capsys.readouterr().out
    assert (
        out.count(f"{folder} cannot be read (No such file or directory") == 1
        and "Watching on" in out
    )
    assert out.count("is back, with 1 recordings") == 1
    assert names_in(table) == ["a.wav", "b.wav"]


def test_a_folder_that_is_emptied_as_an_unmounted_one_is(folder, table, capsys):
    for name in ("a.wav", "b.wav"):
        write_sound(folder / name)
    elsewhere = folder.with_name("elsewhere")

    def unmount():
        folder.rename(elsewhere)
        folder.mkdir()

    def mount():
        folder.rmdir()
        elsewhere.rename(folder)

    nothing = [lambda: None] * 3
    run(folder, table, None, *nothing, unmount, *nothing, mount)
    out = capsys.readouterr().out
    assert out.count("held 2 recordings and holds none now (unmounted") == 1
    assert out.count("is back, with 2 recordings") == 1
    assert names_in(table) == ["a.wav", "b.wav"]  # not again


def test_a_folder_that_goes_away_while_many_wait(folder, table, capsys):
    for i in range(50):
        write_sound(folder / f"{i:02}.wav", 8)
    elsewhere = folder.with_name("elsewhere")
    detector = StubDetector(**{"03": lambda path: folder.rename(elsewhere) and None})
    run(folder, table, detector, *[lambda: None] * 4, lambda: elsewhere.rename(folder), n_looks=4)
    out = capsys.readouterr().out
    assert (
        out.count("NOT READ") == 1 and out.count("cannot be read (No such file or directory") == 1
    )
    assert sorted(names_in(table)) == [f"{i:02}.wav" for i in range(50)]


def test_another_device_under_the_folder_is_said(folder, table, capsys, monkeypatch):
    write_sound(folder / "a.wav")
    real, other = os.stat, [False]

    def stat(path, *args, **kwargs):
        found = real(path, *args, **kwargs)
        if other[0] and Path(path) == folder:
            return os.stat_result([*found[:2], found.st_dev + 1, *found[3:]])
        return found

    monkeypatch.setattr(new_files.os, "stat", stat)
    run(folder, table, None, lambda: None, lambda: other.__setitem__(0, True))
    assert capsys.readouterr().out.count("is on another device now") == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTCONN, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_listed(number, folder, table, capsys, monkeypatch):
    write_sound(folder / "a.wav")
    real, is_failing = new_files.list_recordings, [False]

    def list_recordings(path):
        if is_failing[0]:
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr(new_files, "list_recordings", list_recordings)
    run(
        folder,
        table,
        None,
        lambda: is_failing.__setitem__(0, True),
        *[lambda: None] * 3,
        lambda: is_failing.__setitem__(0, False),
    )
    out = capsys.readouterr().out
    assert out.count(f"cannot be read ({os.strerror(number)})") == 1 and "is back" in out
    assert names_in(table) == ["a.wav"]


def test_what_could_not_be_read_is_tried_again_when_the_folder_is_back(folder, table, capsys):
    write_sound(folder / "bad.wav")
    (folder / "text.wav").write_bytes(b"no sound" * 20)
    (folder / "phone.m4a").write_bytes(b"x")
    detector = StubDetector(bad=OSError(errno.EIO, os.strerror(errno.EIO)))
    elsewhere = folder.with_name("elsewhere")

    def mount():
        detector.reactions.clear()
        elsewhere.rename(folder)

    nothing = [lambda: None] * 2
    run(folder, table, detector, *nothing, lambda: folder.rename(elsewhere), *nothing, mount)
    assert names_in(table) == ["bad.wav"]
    out = capsys.readouterr().out
    assert out.count("NOT READ   text.wav") == out.count("NOT USED   phone.m4a") == 1


# --- the table

GOOD_ROW = "a.wav\t0.0\t0.1\t1.0\t0.05\tnormal\t\t\t2024-01-01T00:00:00+00:00\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, HEADER),
        ("", HEADER),
        ("recording\tsta", HEADER),
        (HEADER[:-1], HEADER),
        (HEADER, HEADER),
        (HEADER + GOOD_ROW, HEADER + GOOD_ROW),
        (HEADER + GOOD_ROW + "b.wav\t0.0\t1", HEADER + GOOD_ROW),
        (HEADER + GOOD_ROW + GOOD_ROW[:-1], HEADER + GOOD_ROW),
        (HEADER + "b.w", HEADER),
    ],
)
def test_a_table_that_was_left_as_it_was(before, after, folder, table):
    if before is not None:
        table.parent.mkdir()
        table.write_text(before)
    run(folder, table, n_looks=0)
    assert table.read_text() == after
    write_sound(folder / "new.wav")
    run(folder, table)
    assert table.read_text().startswith(after) and names_in(table)[-1] == "new.wav"
    assert table.read_text().count("\n") == after.count("\n") + 1


@pytest.mark.parametrize("before", ["a\tb\n1\t2\n", "\ufeff" + HEADER, "something else", "\n"])
def test_a_table_of_other_columns_is_set_aside(before, folder, table, capsys):
    table.parent.mkdir()
    (table.parent / "watched-1.tsv").write_text("there already")
    table.write_text(before)
    run(folder, table)
    assert table.read_text() == HEADER
    assert (table.parent / "watched-1.tsv").read_text() == "there already"
    assert (table.parent / "watched-2.tsv").read_text() == before
    assert "had other columns; it is now watched-2.tsv" in capsys.readouterr().out


def test_a_table_that_is_deleted_comes_back_with_its_header(folder, table):
    write_sound(folder / "a.wav")
    nothing = [lambda: None] * 3
    run(folder, table, None, *nothing, table.unlink, lambda: write_sound(folder / "b.wav"))
    assert table.read_text().startswith(HEADER) and names_in(table) == ["b.wav"]


@pytest.mark.parametrize("at_start", [True, False])
def test_rows_wait_while_the_table_cannot_be_written(at_start, folder, table, capsys):
    aside = table.with_name("aside")

    def block():
        if table.exists():
            table.rename(aside)
        table.mkdir(parents=True)

    def free():
        table.rmdir()
        if aside.exists():
            aside.rename(table)

    if at_start:
        block()
    nothing = [lambda: None] * 3
    run(
        folder,
        table,
        None,
        (lambda: None) if at_start else block,
        lambda: write_sound(folder / "a.wav"),
        *nothing,
        lambda: write_sound(folder / "b.wav"),
        *nothing,
        free,
    )
    out = capsys.readouterr().out
    assert out.count("cannot be written (Is a directory)") == 1
    assert out.count("is written again, with the 2 rows that waited") == 1
    assert table.read_text().startswith(HEADER) and names_in(table) == ["a.wav", "b.wav"]


def test_rows_that_could_not_be_written_are_counted_at_the_end(folder, table, capsys):
    table.mkdir(parents=True)
    write_sound(folder / "a.wav")
    run(folder, table)
    assert "1 rows could not be written" in capsys.readouterr().out


def test_a_full_disk_leaves_no_torn_row(tmp_path):
    """The size that a file may have stands for the disk: the system writes what fits, then refuses."""
    said: list[str] = []
    table = GrowingTable(tmp_path / "t.tsv", ["name", "score"], say=said.append)
    table.add([("a.wav", 1.0)])
    whole = table.path.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 3, limits[1]))
        table.add([("b.wav", 2.0)])
        table.add([("c.wav", 3.0)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert table.path.read_text() == whole and table.n_waiting == 2 and len(said) == 1
    table.write_waiting()
    assert table.path.read_text() == whole + "b.wav\t2.0\nc.wav\t3.0\n"
    assert table.n_waiting == 0 and "written again, with the 2 rows" in said[1]


def test_ctrl_c_in_the_middle_of_writing_leaves_no_torn_row(tmp_path, monkeypatch):
    table = GrowingTable(tmp_path / "t.tsv", ["name"], say=print)

    def interrupt(number):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        table.add([("a.wav",)])
    monkeypatch.undo()
    assert table.path.read_text() == "name\n"
    table.write_waiting()
    assert table.path.read_text() == "name\na.wav\n"


# --- the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_done(number, folder, tmp_path, table, capsys, monkeypatch):
    for name in ("a.wav", "odd.wav", "stop.wav"):
        write_sound(folder / name)
    (folder / "bad.wav").write_bytes(b"x")
    detector = StubDetector(stop=lambda path: signal.raise_signal(number))
    detector.threshold, detector.ready = 1.0, lambda: None
    detector.spec = SimpleNamespace(name="none", front_end=FRONT_END)
    recordings = tmp_path / "out" / "recordings"
    recordings.mkdir(parents=True)
    (recordings / "detector.npz").write_bytes(b"x")
    monkeypatch.setattr(watch_module.AnomalyDetector, "load", lambda path, **where: detector)
    arguments = ["watch", str(folder), "--results", str(tmp_path / "out"), "--every", "0.01"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **kwargs: None, raising=False)
    before = signal.getsignal(signal.SIGTERM)
    try:
        watch_module.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("stopped: 2 recordings scored, 1 of them anomalous, 1 not read; table ")
    assert names_in(recordings / "watched.tsv") == ["a.wav", "odd.wav"]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_seconds_between_looks_are_checked(value, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["watch", str(folder), "--every", value])
    with pytest.raises(SystemExit):
        watch_module.main()
    assert "--every" in capsys.readouterr().err


def test_a_screen_that_is_gone_ends_no_watch(folder, table, monkeypatch):
    write_sound(folder / "a.wav")

    def write(text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", type("Screen", (), {"write": staticmethod(write)})())
        run(folder, table)
    assert names_in(table) == ["a.wav"]


def test_a_folder_that_was_never_there_is_an_error(tmp_path, table):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(tmp_path / "nowhere", table)


def test_how_a_clip_was_recorded_is_said_beside_its_verdict(folder, table, capsys):
    class OfInvertedChannels(StubDetector):
        def embed(self, file):
            faults = {"channels_cancel": True, "level_db": -88.0, "channel_level_db": -22.0}
            return [SimpleNamespace(**{**vars(WELL_RECORDED), **faults})]

    write_sound(folder / "a.wav")
    run(folder, table, OfInvertedChannels())
    words = "its channels cancel each other: level -88 dB, channels -22 dB; set channel"
    assert f"({words})" in capsys.readouterr().out
    assert pd.read_csv(table, sep="\t")["recording_faults"][0] == words


def test_a_detector_that_is_fitted_again_takes_over(folder, table, tmp_path, monkeypatch, capsys):
    """What it scores with is never older than what lies on disk."""
    file = watch_module.DetectorFile(tmp_path, threads=1)
    assert file.newer() is None  # none is there
    file.path.parent.mkdir()
    monkeypatch.setattr(
        watch_module.AnomalyDetector, "load", lambda path, threads: SimpleNamespace(
            text=path.read_text(), spec=SimpleNamespace(name="x"), ready=lambda: None, threshold=2.0
        ),
    )  # fmt: skip
    file.path.write_text("first")
    assert file.newer().text == "first"
    assert file.newer() is None
    file.path.unlink()  # Snakemake, before it fits again
    assert file.newer() is None
    file.path.write_text("second fit")
    assert file.newer().text == "second fit"
    assert capsys.readouterr().out.count("was fitted again; threshold 2.000 from now on") == 2

    def refuse(path, threads):
        raise ValueError("is damaged")

    monkeypatch.setattr(watch_module.AnomalyDetector, "load", refuse)
    file.path.write_text("third")
    assert file.newer() is None and file.newer() is None
    assert capsys.readouterr().out.count("cannot be used (is damaged); the old one goes on") == 1


def test_the_newer_detector_scores(folder, table):
    write_sound(folder / "a.wav")
    newer = StubDetector(a=lambda path: 9.0)
    given = iter([None, newer])
    run(folder, table, None, newer_detector=lambda: next(given, None))
    assert pd.read_csv(table, sep="\t")["score"][0] == 9.0


def test_what_is_not_heard_is_said_once(folder, table, capsys):
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, np.full(9600, 0.1, np.float32), 96_000)
    run(folder, table)
    assert capsys.readouterr().out.count("NOT HEARD  Recordings hold sound up to 48 kHz") == 1
