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
from collections import Counter
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

from vision_to_sound.archive_record import ArchiveError
from vision_to_sound.archives import Archive

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
            with pytest.raises(ArchiveError, match="'top/bomb.wav' cannot be read .*BadZipFile"):
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
    with opened(path) as archive, pytest.raises(ArchiveError, match="CRC.*tar.gz is damaged"):
        archive.members()


def test_encrypted_zip_is_an_error(tmp_path: Path):
    path = write_zip(tmp_path / "a.zip", {"top/a.wav": b"secret"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)
    with opened(path) as archive, pytest.raises(ArchiveError, match="'top/a.wav' is encrypted"):
        archive.read("top/a.wav")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar in a sound gzip"])
def test_any_damage_is_an_archive_error_or_does_no_harm(tmp_path: Path, kind: str):
    """Bytes changed at random, some thousand times: whatever is wrong has one name, or the bytes are right."""
    path = tmp_path / "a.zip"
    if kind == "zip":
        write_zip(path, MEMBERS)
    else:
        write_tar(path, [tar_file(*item) for item in MEMBERS.items()])
    whole = path.read_bytes()
    whole = gzip.decompress(whole) if kind == "tar in a sound gzip" else whole
    errors = 0
    for seed in range(1000):
        path.write_bytes(mutated(whole, seed, packed=kind == "tar in a sound gzip"))
        try:
            with Archive(path, max_member_bytes=LIMIT) as archive:
                found = dict(archive.iterate(lambda name: True))
                assert list(found) == archive.members()
        except ArchiveError as error:
            errors += 1
            assert str(path) in str(error)
            continue
        if kind != "tar in a sound gzip":  # that has no checksum of its content
            right = Counter(MEMBERS.values())
            assert Counter(found.values()) <= right, f"seed {seed}"
    assert 200 < errors < 1000


def mutated(content: bytes, seed: int, *, packed: bool) -> bytes:
    """Some bytes changed, a stretch taken out or doubled, or the end cut off."""
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(4, min(len(changed), 4000))
        changed[place] = chance.choice([0, 255, chance.randrange(256), changed[place] ^ 1])
    if chance.random() < 0.3:
        start = chance.randrange(4, len(changed))
        stretch = changed[start : start + chance.choice([1, 30, 512])]
        changed[start:start] = stretch if chance.random() < 0.5 else b""
        if chance.random() < 0.5:
            del changed[start : start + len(stretch)]
    if chance.random() < 0.2:
        del changed[chance.randrange(4, len(changed)) :]
    return gzip.compress(bytes(changed), 1) if packed else bytes(changed)


# --- What parsing can raise -----------------------------------------------------------------------


def gzipped(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def pax_header(size: int = 11) -> bytes:
    info, _ = tar_file("pax", b"", type=tarfile.XHDTYPE)
    info.size = size
    return info.tobuf() + b"11 path=ab\n".ljust(512, b"\0")


def sparse_header(*, extended: bool) -> bytes:
    """An old GNU header of a file with holes; extended: a block with more of them should follow."""
    header = bytearray(tar_file("top/a.wav", b"", type=tarfile.GNUTYPE_SPARSE)[0].tobuf())
    header[482] = extended
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pax_sparse_header(records: str) -> bytes:
    """A pax header with these records, and the member that it is about, with one block of data."""
    info = tarfile.TarInfo("top/a.wav")
    info.size = 512
    info.pax_headers = dict(record.split("=", 1) for record in records.split())
    return info.tobuf(tarfile.PAX_FORMAT) + b"1\n" * 256


ONE_MEMBER = tar_file("top/a.wav")[0].tobuf() + b"x".ljust(512, b"\0")
HOSTILE_TARS = {
    "3000 chained pax headers": pax_header() * 3000,
    "a sparse chain that is cut off": sparse_header(extended=True),
    "a sparse chain cut off in a block": sparse_header(extended=True) + b"\1" * 200,
    "a sparse chain without end": sparse_header(extended=True) + b"\1" * 512 * 2000,
    "sparse 1.0": pax_sparse_header("GNU.sparse.major=1 GNU.sparse.minor=0 GNU.sparse.realsize=9"),
    "sparse 0.1": pax_sparse_header("GNU.sparse.map=0,1,2 GNU.sparse.size=9"),
    "sparse 0.0": pax_sparse_header("GNU.sparse.size=9 GNU.sparse.numblocks=1"),
    "a pax header at the end": pax_header()[:512],
    "a second header that is none": ONE_MEMBER + b"x" * 512,
    "a second header that is cut off": ONE_MEMBER + b"x" * 200,
    "nothing": b"",
    "text": b"no tar at all" * 100,
}


@pytest.mark.parametrize("content", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_hostile_tar_is_an_archive_error_that_names_it(tmp_path: Path, content: bytes):
    path = gzipped(tmp_path / "hostile.tar.gz", content)
    for read in (lambda tar: tar.members(), lambda tar: list(tar.iterate(lambda name: True))):
        with opened(path) as archive, pytest.raises(ArchiveError, match=r"hostile\.tar\.gz cannot"):
            read(archive)


ANY_ERROR = [
    RecursionError,
    IndexError,
    KeyError,
    AttributeError,
    UnicodeError,
    MemoryError,
    OSError,
]


@pytest.mark.parametrize("error", ANY_ERROR)
def test_whatever_parsing_raises_is_an_archive_error(archive_path: Path, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error("deep inside")

    monkeypatch.setattr(tarfile.TarInfo, "frombuf", fail)
    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with opened(archive_path) as archive:
        with pytest.raises(ArchiveError, match=f"{error.__name__}.*deep inside") as caught:
            list(archive.iterate(lambda name: True))
    assert str(archive_path) in str(caught.value)


@pytest.mark.parametrize("error", [*ANY_ERROR, ValueError, EOFError, tarfile.TarError])
def test_an_error_of_the_caller_stays_what_it_is(archive_path: Path, error):
    with opened(archive_path) as archive:
        with pytest.raises(error, match="of the caller"):
            for _ in archive.iterate(lambda name: True):
                raise error("of the caller")
        with pytest.raises(error, match="of the caller"):
            list(archive.iterate(lambda name: raise_(error("of the caller"))))


def raise_(error: Exception) -> None:
    raise error
