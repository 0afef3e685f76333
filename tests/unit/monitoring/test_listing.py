"""What a folder holds: each file once, and in words why something is left out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from vision_to_sound.monitoring import listing as module
from vision_to_sound.monitoring.listing import in_both, list_recordings, recording_stamps

ODD = ["e{x}<b>.wav", "=cmd.wav", "a\rb.wav", os.fsdecode(b"x\xff.wav"), "#1 'q' \"r\" $x `y`.wav"]


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "recordings"
    root.mkdir()
    return root


def fill(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)


def test_all_sounds_of_a_folder_and_below_but_nothing_else(folder):
    fill(folder, "b.wav", "A.FLAC", "sub/c d.ogg", ".hidden.wav", ".git/x.wav", "notes.txt", *ODD)
    found = list_recordings(folder)
    assert list(found.recordings) == sorted(["A.FLAC", "b.wav", "sub/c d.ogg", *ODD])
    assert found.not_used == {}
    stat = os.stat(folder / "b.wav")
    assert found.recordings["b.wav"] == (stat.st_size, stat.st_mtime_ns)


def test_a_file_with_two_names_counts_once_under_the_one_without_a_link(folder):
    fill(folder, "b/real.wav", "c.wav")
    (folder / "a.wav").symlink_to("b/real.wav")
    os.link(folder / "c.wav", folder / "d.wav")
    (folder / "z").symlink_to("b")
    found = list_recordings(folder)
    assert list(found.recordings) == ["b/real.wav", "c.wav"]
    assert found.not_used == {
        "a.wav": "is the same file as b/real.wav",
        "d.wav": "is the same file as c.wav",
        "z": "leads to a folder that is listed already",
    }


@pytest.mark.parametrize("target", [".", "..", "sub", "sub/inner"])
def test_loops_add_nothing(folder, target):
    fill(folder, "a.wav", "sub/b.wav", "sub/inner/c.wav")
    (folder / "sub" / "inner" / "loop").symlink_to(folder / target)
    (folder / "loop").symlink_to(folder / target)
    found = list_recordings(folder)
    assert sorted(Path(name).name for name in found.recordings) == ["a.wav", "b.wav", "c.wav"]
    assert "sub/b.wav" in found.recordings


def test_a_folder_elsewhere_is_followed_once(folder, tmp_path):
    fill(tmp_path / "disk", "x.wav")
    (folder / "one").symlink_to(tmp_path / "disk")
    (folder / "two").symlink_to(tmp_path / "disk")
    found = list_recordings(folder)
    assert list(found.recordings) == ["one/x.wav"] and list(found.not_used) == ["two"]


def test_what_cannot_be_opened_is_left_out_and_the_others_are_not(folder):
    fill(folder, "good.wav")
    (folder / "annexed.wav").symlink_to("/nowhere/SHA256E-s1--ab.wav")
    (folder / "self.wav").symlink_to("self.wav")
    (folder / "gone").symlink_to("/nowhere/folder")
    os.mkfifo(folder / "pipe.wav")
    found = list_recordings(folder)
    assert list(found.recordings) == ["good.wav"]
    assert "link to /nowhere/SHA256E-s1--ab.wav, which cannot" in found.not_used["annexed.wav"]
    assert "link to self.wav" in found.not_used["self.wav"]
    assert found.not_used["pipe.wav"] == "is not a file"


def test_a_folder_below_that_cannot_be_listed_is_said(folder, monkeypatch):
    fill(folder, "good.wav", "locked/a.wav")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(module.os, "scandir", refuse)
    found = list_recordings(folder)
    assert list(found.recordings) == ["good.wav"]
    assert found.not_used == {"locked": "cannot be listed (Permission denied)"}


@pytest.mark.parametrize("suffix", ["m4a", "MP4", "wma", "voc", "amr", "mkv"])
def test_sound_that_is_not_read_is_named_with_what_to_do(folder, suffix):
    fill(folder, "a.wav", f"b.{suffix}")
    assert list_recordings(folder).not_used[f"b.{suffix}"] == (
        f".{suffix.lower()} is not read; convert it, e.g. ffmpeg -i in.{suffix.lower()} out.flac"
    )


def test_a_folder_without_sound_says_what_is_in_it(folder):
    with pytest.raises(ValueError, match="there is no folder"):
        list_recordings(folder / "nowhere")
    with pytest.raises(ValueError, match=r"holds no sound file that can be read \(.*\)$"):
        list_recordings(folder).check_not_empty()
    fill(folder, "a.m4a")
    with pytest.raises(ValueError, match=r"only a\.m4a: \.m4a is not read; convert it"):
        list_recordings(folder).check_not_empty()


def test_a_stamp_changes_with_size_time_and_content_and_with_nothing_else(folder):
    fill(folder, "a.wav", "b.wav", *ODD)
    os.utime(folder / "b.wav", ns=(5, 5))
    before = recording_stamps(list_recordings(folder))
    assert recording_stamps(list_recordings(folder)) == before
    changes = {
        "time": lambda path: os.utime(path, ns=(7, 7)),
        "size": lambda path: (path.write_bytes(b"12"), os.utime(path, ns=(5, 5))),
        "content": lambda path: (path.write_bytes(b"x"), os.utime(path, ns=(5, 5))),
    }
    for what, change in changes.items():
        change(folder / "b.wav")
        after = recording_stamps(list_recordings(folder))
        assert {name for name in after if after[name] != before[name]} == {"b.wav"}, what
        (folder / "b.wav").write_bytes(b"1")
        os.utime(folder / "b.wav", ns=(5, 5))
        assert recording_stamps(list_recordings(folder)) == before
    # a copy that keeps times, of the same size: unpacked archives give such files
    large = os.urandom(20_000)
    (folder / "b.wav").write_bytes(large[:10_000])
    (folder / "c.wav").write_bytes(large[10_000:])
    for name in ("b.wav", "c.wav"):
        os.utime(folder / name, ns=(5, 5))
    before = recording_stamps(list_recordings(folder))
    shutil.copy2(folder / "c.wav", folder / "b.wav")
    assert recording_stamps(list_recordings(folder))["b.wav"] != before["b.wav"]


def test_files_in_both_folders(folder):
    fill(folder, "normal/a.wav", "test/b.wav", "c.wav")
    whole, part = list_recordings(folder), list_recordings(folder / "test")
    assert in_both(whole, part) == [("test/b.wav", "b.wav")]
    assert in_both(list_recordings(folder / "normal"), part) == []
    (folder / "normal" / "linked.wav").symlink_to(folder / "test" / "b.wav")
    assert in_both(part, list_recordings(folder / "normal")) == [("b.wav", "linked.wav")]
