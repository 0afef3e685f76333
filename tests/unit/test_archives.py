"""Records that notice a changed file, and members read in place, never outside."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import logging
import os
import random
import struct
import tarfile
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_to_sound.archives import Archive, ArchiveError, ArchiveRecord, open_archive

MEMBERS = {
    "top/meta/table.csv": b"a,b\n1,2\n",
    "top/audio/a.wav": bytes(range(256)) * 40,
    "top/audio/b.wav": b"",
    "top/audio/\u00e9t\u00e9.wav": b"summer",
}
LIMIT = 20_000


def tar_file(name: str, content: bytes = b"x", **changes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def write_tar(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def write_zip(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture(params=["zip", "tar.gz"])
def archive_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same members as a zip and as a tar.gz, folders included."""
    path = tmp_path / f"sounds.{request.param}"
    if request.param == "zip":
        return write_zip(path, {"top/": b"", **MEMBERS})
    folder = tar_file("top", b"", type=tarfile.DIRTYPE)
    return write_tar(path, [folder, *(tar_file(*item) for item in MEMBERS.items())])


def record_of(path: Path, **changes) -> ArchiveRecord:
    record = ArchiveRecord(
        name="sounds",
        path=str(path),
        bytes=path.stat().st_size,
        checksum=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        licence="CC0",
        source="mirror",
        mtime_ns=path.stat().st_mtime_ns,
    )
    return dataclasses.replace(record, **changes)


def opened(path: Path) -> Archive:
    return open_archive(record_of(path), max_member_bytes=LIMIT)


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


def zip_with_raw_name(path: Path, name: bytes, content: bytes = b"summer") -> Path:
    """A zip whose member has these bytes as its name, with no word of an encoding."""
    write_zip(path, {"x" * len(name): content})
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    return path


SUMMER = "top/\u00e9t\u00e9.wav"  # NFC


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
    with pytest.raises(ArchiveError, match="claims to be UTF-8"):
        opened(path)


# --- Safety ---------------------------------------------------------------------------------------

OUTSIDE = ["/etc/x.wav", "../x.wav", "top/../../x.wav", "C:/x.wav", "..\\x.wav", "\\\\host\\x.wav"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_zip_member_that_points_outside_is_an_error(tmp_path: Path, name: str):
    path = write_zip(tmp_path / "a.zip", {"top/a.wav": b"a", name: b"x"})
    with pytest.raises(ArchiveError, match="points outside") as error:
        opened(path)
    assert repr(name) in str(error.value) and "a.zip" in str(error.value)


@pytest.mark.parametrize("name", OUTSIDE)
def test_tar_member_that_points_outside_is_an_error(tmp_path: Path, name: str):
    path = write_tar(tmp_path / "a.tar.gz", [tar_file("top/a.wav"), tar_file(name)])
    with opened(path) as archive:
        with pytest.raises(ArchiveError, match="points outside") as error:
            archive.members()
        assert repr(name) in str(error.value)
        with pytest.raises(ArchiveError, match="points outside"):
            list(archive.iterate(lambda _: False))


def test_dots_inside_a_name_are_fine(tmp_path: Path):
    path = write_zip(tmp_path / "a.zip", {"top/a..b.wav": b"a", "top/...": b"", "./top/c": b""})
    with opened(path) as archive:
        assert len(archive.members()) == 3


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_tar_link_or_device_is_an_error(tmp_path: Path, kind: bytes):
    entry = tar_file("top/x.wav", b"", type=kind, linkname="/etc/passwd")
    with opened(write_tar(tmp_path / "a.tar.gz", [entry])) as archive:
        with pytest.raises(ArchiveError, match="'top/x.wav' is a link or a device"):
            archive.read("top/x.wav")


def test_zip_link_is_an_error(tmp_path: Path):
    link = zipfile.ZipInfo("top/x.wav")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    with pytest.raises(ArchiveError, match="'top/x.wav' is a link or a device"):
        opened(write_zip(tmp_path / "a.zip", {link: b"/etc/passwd"}))


def test_member_above_the_limit_is_not_read(tmp_path: Path):
    big = b"\0" * (LIMIT + 1)  # compresses well: the declared size is what counts
    paths = [
        write_zip(tmp_path / "a.zip", {"top/big.wav": big, "top/fits.wav": big[1:]}),
        write_tar(
            tmp_path / "a.tar.gz", [tar_file("top/big.wav", big), tar_file("top/fits.wav", big[1:])]
        ),
    ]
    for path in paths:
        with opened(path) as archive:
            with pytest.raises(ArchiveError, match=r"'top/big.wav' declares 20001 .*20000"):
                archive.read("top/big.wav")
            assert archive.read("top/fits.wav") == big[1:]


def zip_that_lies(path: Path, size: int, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip whose one member, `size` zeros, declares 100 bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("top/bomb.wav", bytes(size))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 100)))
    return path


def test_a_member_larger_than_it_declares_is_not_inflated(tmp_path: Path):
    size = 64 << 20
    with opened(zip_that_lies(tmp_path / "a.zip", size)) as archive:
        tracemalloc.start()
        try:
            with pytest.raises(ArchiveError, match="'top/bomb.wav'.*not as large as the 100 bytes"):
                archive.read("top/bomb.wav")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < size // 8


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_cannot_be_bounded_is_an_error(tmp_path: Path, method: int):
    with opened(zip_that_lies(tmp_path / "a.zip", 1 << 20, method)) as archive:
        with pytest.raises(ArchiveError, match=f"by method {method}; expected deflate"):
            archive.read("top/bomb.wav")


def test_a_member_that_a_pass_would_inflate_for_hours_is_an_error(tmp_path: Path):
    info, _ = tar_file("top/bomb.bin", b"")
    info.size = 1 << 40
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf() + bytes(1 << 20))
    with opened(path) as archive:
        with pytest.raises(ArchiveError, match="'top/bomb.bin' declares 1099511627776 bytes"):
            list(archive.iterate(lambda name: name.endswith(".wav")))


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
)
def test_a_header_without_end_is_not_read(tmp_path: Path, kind: bytes):
    info, _ = tar_file("././@LongLink", b"", type=kind)
    info.size = 64 << 20
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf() + b"a" * info.size)
    tracemalloc.start()
    try:
        with opened(path) as archive, pytest.raises(ArchiveError, match="header claims 67108864"):
            archive.members()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < info.size // 4


def test_a_long_name_is_read(tmp_path: Path):
    name = "/".join(["folder" * 10] * 20) + "/a.wav"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=form) as tar:
            tar.addfile(tar_file(name, b"long")[0], io.BytesIO(b"long"))
        with opened(tmp_path / "a.tar.gz") as archive:
            assert archive.members() == [name] and archive.read(name) == b"long"


# --- Damage ---------------------------------------------------------------------------------------


def test_neither_zip_nor_tar_says_what_it_starts_with(tmp_path: Path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"<html>log in</html>")
    with pytest.raises(ArchiveError, match="neither a zip nor a gzipped tar.*<htm"):
        opened(path)


def test_truncated_archive_is_an_error(archive_path: Path):
    archive_path.write_bytes(archive_path.read_bytes()[:-30])
    with pytest.raises(ArchiveError, match="damaged"), opened(archive_path) as archive:
        list(archive.iterate(lambda name: True))


def test_flipped_bit_is_an_error(tmp_path: Path):
    noise = os.urandom(5000)
    paths = [
        write_zip(tmp_path / "a.zip", {"top/a.wav": noise}),
        write_tar(tmp_path / "a.tar.gz", [tar_file("top/a.wav", noise)]),
    ]
    for path in paths:
        content = bytearray(path.read_bytes())
        content[2500] ^= 1
        path.write_bytes(content)
        with opened(path) as archive, pytest.raises(ArchiveError, match="damaged|cannot be read"):
            list(archive.iterate(lambda name: True))


def test_checksum_of_the_whole_tar_counts(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar.gz", [tar_file("top/a.wav")])
    # Padded to the size of one read: nothing but reading on meets the checksum at the end.
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()).ljust(1 << 20, b"\0")))
    content[-8] ^= 1
    path.write_bytes(content)
    with opened(path) as archive, pytest.raises(ArchiveError, match="damaged tar.gz.*CRC"):
        archive.members()


def test_encrypted_zip_is_an_error(tmp_path: Path):
    path = write_zip(tmp_path / "a.zip", {"top/a.wav": b"secret"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)
    with opened(path) as archive, pytest.raises(ArchiveError, match="'top/a.wav' is encrypted"):
        archive.read("top/a.wav")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["zip", "tar", "tar.gz"]))
def test_any_damage_is_an_archive_error_or_does_no_harm(tmp_path_factory, seed: int, kind: str):
    """Bytes changed at random, in the inflated tar too: whatever is wrong, it has one name."""
    chance = random.Random(seed)
    path = tmp_path_factory.mktemp("damage") / f"a.{kind}"
    if kind == "zip":
        write_zip(path, MEMBERS)
    else:
        write_tar(path, [tar_file(*item) for item in MEMBERS.items()])
    content = bytearray(path.read_bytes() if kind != "tar" else gzip.decompress(path.read_bytes()))
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(4, min(len(content), 4000))] = chance.randrange(256)
    path.write_bytes(content if kind != "tar" else gzip.compress(content))
    try:
        with opened(path) as archive:
            found = dict(archive.iterate(lambda name: True))
            assert list(found) == archive.members()
            for name in found:
                archive.read(name)
    except ArchiveError as error:
        assert str(path) in str(error)


# --- Record ---------------------------------------------------------------------------------------


def test_record_survives_the_disk(archive_path: Path, tmp_path: Path):
    record = record_of(archive_path)
    target = tmp_path / "records" / "sounds.json"
    record.save(target)
    first = target.read_bytes()
    assert ArchiveRecord.load(target) == record
    record.save(target)
    assert target.read_bytes() == first and os.listdir(target.parent) == ["sounds.json"]
    keys = [line.split('"')[1] for line in first.decode().splitlines()[1:-1]]
    assert keys == sorted(keys) and len(keys) == 7


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a"}', '"text"', "{]"])
def test_file_that_is_no_record_is_an_error(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ArchiveError, match="a.json is not an archive record"):
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
        ("UrbanSound8K.tar.gz", "metadata/UrbanSound8K.csv", 326),
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
