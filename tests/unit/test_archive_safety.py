"""Archives that point outside, inflate without end, or are damaged: an ArchiveError, and nothing else happens."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from archive_cases import (
    LIMIT,
    MEMBERS,
    opened,
    tar_file,
    write_tar,
    write_zip,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_to_sound.archives import ArchiveError

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
