"""Records that notice a changed file, and members read in place."""

from __future__ import annotations

import gzip
import json
import logging
import os
import unicodedata
import zipfile
from pathlib import Path

import pytest
from archive_cases import (
    LIMIT,
    MEMBERS,
    SUMMER,
    opened,
    record_of,
    tar_file,
    write_tar,
    write_zip,
    zip_with_raw_name,
)

from vision_to_sound.archive_record import ArchiveError, ArchiveRecord, verified_path
from vision_to_sound.archives import Archive, open_archive

# --- Reading --------------------------------------------------------------------------------------


def test_members_are_listed_and_read(archive_path: Path):
    with opened(archive_path) as archive:
        assert archive.members() == list(MEMBERS)
        assert {name: archive.read(name) for name in MEMBERS} == MEMBERS


def test_iterate_gives_the_wanted_in_the_order_of_the_archive(archive_path: Path):
    with opened(archive_path) as archive:
        wav = dict(archive.iterate(lambda name: name.endswith(".wav")))
        assert list(wav.items()) == list(MEMBERS.items())[1:]
        assert list(archive.iterate(lambda name: False)) == []


@pytest.mark.parametrize("archive_path", ["tar.gz"], indirect=True)
def test_tar_is_passed_through_once_without_listing_it_first(archive_path: Path, monkeypatch):
    passes = []
    original = gzip.open
    monkeypatch.setattr(gzip, "open", lambda *a, **k: passes.append(a) or original(*a, **k))
    with opened(archive_path) as archive:
        assert len(dict(archive.iterate(lambda name: True))) == len(MEMBERS)
        assert len(passes) == 1
        assert archive.members() == archive.members() == list(MEMBERS)
        assert len(passes) == 2


def test_stopping_in_the_middle_leaves_the_archive_usable(archive_path: Path):
    with opened(archive_path) as archive:
        assert next(iter(archive.iterate(lambda name: True)))[0] == "top/meta/table.csv"
        assert archive.read("top/audio/a.wav") == MEMBERS["top/audio/a.wav"]


def test_find_does_not_mind_the_top_folder(archive_path: Path):
    with opened(archive_path) as archive:
        assert archive.find("meta/table.csv") == "top/meta/table.csv"
        with pytest.raises(ArchiveError, match="ends in 'eta/table.csv', got none"):
            archive.find("eta/table.csv")


def test_find_of_an_ambiguous_name_is_an_error(tmp_path: Path):
    path = write_zip(tmp_path / "a.zip", {"top/meta/t.csv": b"", "old/meta/t.csv": b""})
    with opened(path) as archive, pytest.raises(ArchiveError, match="2 such members"):
        archive.find("meta/t.csv")


def test_absent_member_is_named(archive_path: Path):
    with opened(archive_path) as archive, pytest.raises(ArchiveError, match="no member 'top/c'"):
        archive.read("top/c")


def test_kind_is_told_by_content_not_by_name(archive_path: Path):
    moved = archive_path.rename(archive_path.with_name("sounds.whl"))
    with opened(moved) as archive:
        assert archive.members() == list(MEMBERS)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_however_its_accents_are_written(tmp_path: Path, form: str):
    name = unicodedata.normalize(form, SUMMER)
    paths = [
        write_zip(tmp_path / "a.zip", {name: b"summer"}),
        zip_with_raw_name(tmp_path / "b.zip", name.encode()),  # UTF-8 that is not marked as such
        write_tar(tmp_path / "a.tar.gz", [tar_file(name, b"summer")]),
    ]
    for path in paths:
        with opened(path) as archive:
            assert archive.members() == [SUMMER]
            for asked in ("NFC", "NFD"):
                assert archive.read(unicodedata.normalize(asked, SUMMER)) == b"summer"
            assert dict(archive.iterate({SUMMER}.__contains__)) == {SUMMER: b"summer"}


def test_names_in_older_encodings(tmp_path: Path):
    latin = tar_file("top/\udce9t\udce9.wav", b"summer")  # bytes e9: Latin-1, not UTF-8
    with opened(write_tar(tmp_path / "a.tar.gz", [latin])) as archive:
        assert archive.members() == [SUMMER] and archive.read(SUMMER) == b"summer"
    raw = SUMMER.encode("cp437")
    with opened(zip_with_raw_name(tmp_path / "a.zip", raw)) as archive:
        assert archive.members() == [SUMMER] and archive.read(SUMMER) == b"summer"
    with opened(zip_with_raw_name(tmp_path / "b.zip", SUMMER.encode("latin-1"))) as archive:
        (name,) = archive.members()  # nothing tells Latin-1 from code page 437
        assert archive.read(name) == b"summer"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("second", [SUMMER, unicodedata.normalize("NFD", SUMMER)])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_an_error(tmp_path: Path, kind: str, second: str):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(SUMMER, b"1")
            file.writestr(second, b"2")
    else:
        write_tar(path, [tar_file(SUMMER, b"1"), tar_file(second, b"2")])
    with pytest.raises(ArchiveError, match="is there twice, and nothing says which") as caught:
        with opened(path) as archive:
            archive.members()
    assert repr(SUMMER) in str(caught.value) and str(path) in str(caught.value)


def test_name_that_claims_to_be_utf8_and_is_not_is_an_error(tmp_path: Path):
    path = write_zip(tmp_path / "a.zip", {"top/\u00e9\u00e9.wav": b""})
    path.write_bytes(path.read_bytes().replace("\u00e9\u00e9".encode(), b"\xe9t\xe9\xff"))
    with pytest.raises(ArchiveError, match="a.zip cannot be read .UnicodeDecodeError"):
        opened(path)


# --- Record ---------------------------------------------------------------------------------------


def test_record_survives_the_disk(archive_path: Path, tmp_path: Path):
    record = record_of(archive_path)
    target = tmp_path / "records" / "sounds.json"
    record.save(target)
    first = target.read_bytes()
    assert ArchiveRecord.load(target) == record
    record.save(target)
    assert target.read_bytes() == first and os.listdir(target.parent) == ["sounds.json"]
    keys = list(json.loads(first)["content"])
    assert keys == sorted(keys) and len(keys) == 7


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a"}', '"text"', "{]"])
def test_file_that_is_no_record_is_an_error(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ArchiveError, match="a.json: expected the record of an archive"):
        ArchiveRecord.load(path)


def test_changed_archive_is_an_error(archive_path: Path):
    record = record_of(archive_path)
    archive_path.write_bytes(archive_path.read_bytes() + b"!")
    with pytest.raises(ArchiveError, match="changed.*expected.*got.*Delete the record") as error:
        open_archive(record, max_member_bytes=LIMIT)
    assert record.checksum in str(error.value)
    assert record_of(archive_path).checksum in str(error.value)


def test_archive_changed_in_place_with_the_same_size_is_an_error(archive_path: Path):
    record = record_of(archive_path)
    content = bytearray(archive_path.read_bytes())
    content[-1] ^= 1
    archive_path.write_bytes(content)
    os.utime(archive_path, ns=(0, record.mtime_ns + 10**9))
    with pytest.raises(ArchiveError, match="changed"):
        open_archive(record, max_member_bytes=LIMIT)


def test_archive_of_another_size_and_the_same_time_is_an_error(archive_path: Path):
    record = record_of(archive_path)
    archive_path.write_bytes(archive_path.read_bytes() + b"!")
    os.utime(archive_path, ns=(record.mtime_ns, record.mtime_ns))
    with pytest.raises(ArchiveError, match="changed"):
        open_archive(record, max_member_bytes=LIMIT)


def test_touched_archive_is_accepted(archive_path: Path, caplog):
    caplog.set_level(logging.INFO)
    record = record_of(archive_path)
    os.utime(archive_path, ns=(0, record.mtime_ns + 10**9))
    with open_archive(record, max_member_bytes=LIMIT) as archive:
        assert archive.members() == list(MEMBERS)
    assert "same checksum" in caplog.text


def test_one_bit_of_an_archive_with_the_same_size_and_time_is_found_where_it_is_read_whole(
    archive_path: Path,
):
    record = record_of(archive_path)
    assert verified_path(record, read_whole=True) == archive_path
    content = bytearray(archive_path.read_bytes())
    content[-1] ^= 1
    archive_path.write_bytes(content)
    os.utime(archive_path, ns=(record.mtime_ns, record.mtime_ns))
    with pytest.raises(ArchiveError, match="changed after it was checked"):
        verified_path(record, read_whole=True)


def test_unchanged_archive_is_not_hashed_again(archive_path: Path):
    record = record_of(archive_path, checksum="md5:" + 32 * "0")
    with open_archive(record, max_member_bytes=LIMIT) as archive:
        assert archive.members() == list(MEMBERS)


def test_archive_that_is_gone_is_an_error(archive_path: Path):
    record = record_of(archive_path)
    archive_path.unlink()
    with pytest.raises(ArchiveError, match="is gone. Delete the record of 'sounds'"):
        open_archive(record, max_member_bytes=LIMIT)


# --- Real archives --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "table", "n_wav"),
    [
        ("ESC-50-master.zip", "meta/esc50.csv", 88),
        ("UrbanSound8K.tar.gz", "metadata/UrbanSound8K.csv", 478),
    ],
)
def test_real_archives_hold_what_their_table_lists(shared_data: Path, file, table, n_wav):
    with Archive(shared_data / file, max_member_bytes=5_000_000) as archive:
        lines = archive.read(archive.find(table)).decode().splitlines()[1:]
        listed = {line.split(",")[0] for line in lines}
        wav = dict(archive.iterate(lambda name: name.endswith(".wav")))
    assert {name.rsplit("/", 1)[1] for name in wav} == listed and len(listed) == n_wav
    assert all(data.startswith(b"RIFF") for data in wav.values())


def test_real_machine_recordings_are_read_in_place(shared_data: Path):
    with Archive(shared_data / "0_dB_fan.zip", max_member_bytes=5_000_000) as archive:
        assert len(archive.members()) == 20
        assert len(archive.read("fan/id_00/normal/00000000.wav")) == 2_560_080
