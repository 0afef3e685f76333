"""Members of a zip or a tar.gz, read in place and never trusted.

Nothing is unpacked: members of a zip are read where they lie, a tar.gz is read through once. How a
file gets here is the business of `downloads`; stages that only read archives do not depend on that
code.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import math
import re
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from vision_to_sound.archive_record import ArchiveError, ArchiveRecord, verified_path

_BLOCK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 20  # of a tar: a member's long name, and what else is said about it
_TAR_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_MAX_INFLATION = 100  # of a member that a pass through a tar.gz has to inflate; recordings reach 10
_MIN_INFLATED_BYTES = 1 << 30  # seconds: never a reason to refuse


def open_archive(record: ArchiveRecord, *, max_member_bytes: int) -> Archive:
    """Open a recorded archive for reading, after the check of `verified_path`.

    max_member_bytes: a member that declares more than this is not read (ArchiveError); it bounds
    memory. The kind (zip or tar.gz) is told from the first bytes, not from the name.
    """
    return Archive(verified_path(record), max_member_bytes=max_member_bytes)


class Archive:
    """Members of a zip or a tar.gz, read in place; a context manager.

    Every member's name is checked before anything is read: an absolute name, one with "..", a drive
    letter, a name that is there twice, a link or a device is an ArchiveError that names the member. A
    zip is checked whole when it is opened, a tar.gz as far as a pass gets. Damaged data is an
    ArchiveError too, and so is a member that inflates to more than it declares.

    Names are composed Unicode (NFC), whichever way the archive writes them, so that a table of names
    finds its files. UTF-8 that a zip does not mark as such is read as UTF-8; other bytes beyond
    ASCII as the code page 437 that the format asks for, in a tar as Latin-1.
    """

    def __init__(self, path: Path, *, max_member_bytes: int) -> None:
        self.path = Path(path)
        self.max_member_bytes = max_member_bytes
        self._zip: zipfile.ZipFile | None = None
        self._zip_members: dict[str, zipfile.ZipInfo] = {}
        self._tar_members: list[str] | None = None
        with self.path.open("rb") as file:
            head = file.read(4)
        if head.startswith(b"\x1f\x8b"):
            return
        if not head.startswith(b"PK"):
            raise ArchiveError(
                f"{self.path} is neither a zip nor a gzipped tar: it starts with {head!r}"
            )
        try:
            with self._reading("zip"):
                self._zip = zipfile.ZipFile(self.path)
                self._zip_members = self._checked_zip_members()
        except ArchiveError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()

    def members(self) -> list[str]:
        """Names of all files (no folders), in the order of the archive.

        A tar.gz is read through for it, once; the list is kept.
        """
        if self._zip is not None:
            return list(self._zip_members)
        if self._tar_members is None:
            self._tar_members = [name for name, _ in self._tar_pass()]
        return list(self._tar_members)

    def find(self, suffix: str) -> str:
        """The one member whose path ends in `suffix` ("meta/esc50.csv"), under any top folder.

        Raises ArchiveError when there is none or more than one.
        """
        found = [name for name in self.members() if f"/{name}".endswith(f"/{suffix}")]
        if len(found) != 1:
            some = f"{len(found)} such members: {found[:3]}" if found else "none"
            raise ArchiveError(
                f"{self.path}: expected one member that ends in {suffix!r}, got {some}"
            )
        return found[0]

    def read(self, member: str) -> bytes:
        """Bytes of one member. A tar.gz is read up to it: use `iterate` for several."""
        member = unicodedata.normalize("NFC", member)
        if self._zip is not None:
            if member not in self._zip_members:
                raise self._no_member(member)
            return self._read_zip_member(member)
        for _, data in self.iterate(lambda name: name == member):
            return data
        raise self._no_member(member)

    def iterate(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of every file whose name is wanted, in archive order: one pass."""
        if self._zip is not None:
            for name in filter(wanted, self._zip_members):
                yield name, self._read_zip_member(name)
            return
        for name, read in self._tar_pass():
            if wanted(name):
                yield name, read()

    @contextlib.contextmanager
    def _reading(self, kind: str, member: str = "") -> Iterator[None]:
        """Whatever reading raises becomes an ArchiveError: no list of what a hostile file can provoke is complete.

        Around steps of this class only, never around what its caller does with a member.
        """
        try:
            yield
        except ArchiveError:
            raise
        except Exception as error:
            what = f"{self.path}: member {member!r}" if member else str(self.path)
            detail = f"{type(error).__name__}: {error}"[:300]
            raise ArchiveError(
                f"{what} cannot be read ({detail}). The {kind} is damaged, or made to do harm. "
                "Fetch the archive again."
            ) from error

    # -- zip

    def _checked_zip_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = _zip_name(info)
            self._check_name(name)
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise self._not_a_file(name)
            if not info.is_dir():
                self._check_new(name, members)
                members[name] = info
        return members

    def _read_zip_member(self, name: str) -> bytes:
        info = self._zip_members[name]
        self._check_size(name, info.file_size)
        if info.flag_bits & 1:
            raise ArchiveError(
                f"{self.path}: member {name!r} is encrypted. Take the archive from its original source, or "
                "pack it again without a password."
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Python inflates the others without a bound.
            raise ArchiveError(
                f"{self.path}: member {name!r} is compressed by method {info.compress_type}; expected "
                "deflate. Pack the archive again with an ordinary zip program."
            )
        with self._reading("zip", name), self._zip.open(info) as file:
            # One byte more: meets the checksum. Without a number all of a bomb would be inflated.
            return file.read(info.file_size + 1)

    # -- tar

    def _tar_pass(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """(name, function that reads it now) of every file; then the rest of the stream, with its checksum."""
        with contextlib.ExitStack() as opened:
            with self._reading("tar.gz"):
                # Through gzip: tarfile's own decompressor takes a truncated file for a short one.
                stream = opened.enter_context(gzip.open(self.path, "rb"))
                tar = opened.enter_context(
                    tarfile.open(
                        fileobj=stream,
                        mode="r|",
                        bufsize=_BLOCK_BYTES,
                        encoding="utf-8",
                        tarinfo=_BoundedTarInfo,
                    )
                )
                files = self._tar_files(tar)
            while True:
                with self._reading("tar.gz"):
                    found = next(files, None)
                if found is None:
                    return
                yield found[0], functools.partial(self._read_tar_member, tar, *found)

    def _tar_files(self, tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
        # A member that nobody wants is inflated too, on the way to the next: minutes are fine, hours are not.
        inflated = _MAX_INFLATION * self.path.stat().st_size
        largest = max(self.max_member_bytes, inflated, _MIN_INFLATED_BYTES)
        seen: set[str] = set()
        for info in tar:
            name = _tar_name(info)
            self._check_name(name)
            if info.isreg():
                self._check_new(name, seen)
                seen.add(name)
                if info.size > largest:
                    raise ArchiveError(
                        f"{self.path}: member {name!r} declares {info.size} bytes, more than "
                        f"{_MAX_INFLATION} times the archive. Such a file is not read; take it from its "
                        "original source."
                    )
                yield name, info
            elif not info.isdir():
                raise self._not_a_file(name)
        while tar.fileobj.read(_BLOCK_BYTES):  # to the end, where the stream's own checksum is
            pass

    def _read_tar_member(self, tar: tarfile.TarFile, name: str, info: tarfile.TarInfo) -> bytes:
        self._check_size(name, info.size)
        with self._reading("tar.gz", name):
            data = tar.extractfile(info).read()
            if len(data) != info.size:
                raise EOFError("it breaks off")
        return data

    # -- checks

    def _check_name(self, name: str) -> None:
        # A backslash separates on Windows, where the same archive may be read.
        parts = name.replace("\\", "/").split("/")
        if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise ArchiveError(
                f"{self.path}: member {name!r} points outside of the archive. Such a file is not "
                "read; take it from its original source."
            )

    def _check_new(self, name: str, seen: Container[str]) -> None:
        if name in seen:
            raise ArchiveError(
                f"{self.path}: member {name!r} is there twice, and nothing says which one counts. Take the "
                "archive from its original source, or pack it again."
            )

    def _check_size(self, name: str, size: int) -> None:
        if size > self.max_member_bytes:
            raise ArchiveError(
                f"{self.path}: member {name!r} declares {size} bytes, the limit is "
                f"{self.max_member_bytes} (config key download.max_member_mb, {self.max_member_bytes >> 20} "
                "MiB). Raise it if the file is really that large."
            )

    def _not_a_file(self, name: str) -> ArchiveError:
        return ArchiveError(
            f"{self.path}: member {name!r} is a link or a device; expected files and folders only. "
            "Take the archive from its original source."
        )

    def _no_member(self, member: str) -> ArchiveError:
        return ArchiveError(f"{self.path} has no member {member!r}")


class _BoundedTarInfo(tarfile.TarInfo):
    """Refuses headers without end: tarfile reads long names, lists of holes and the like into memory as a whole."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> _BoundedTarInfo:
        try:
            info = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            # Left as it is, tarfile takes it for the end, and the members behind it for absent.
            raise tarfile.ReadError(str(error)) from error
        largest = _MAX_HEADER_BYTES if info.type in _TAR_HEADERS else math.inf
        if not 0 <= info.size <= largest:
            raise tarfile.ReadError(f"a header claims {info.size} bytes")
        if info.type == tarfile.GNUTYPE_SPARSE:
            info._refuse_holes()
        return info

    def _refuse_holes(self, *_: object) -> None:
        raise tarfile.ReadError("a file with holes; pack it again without tar's option --sparse")

    # The newer ways to write holes, in pax headers.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_holes


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return unicodedata.normalize("NFC", name)


def _tar_name(info: tarfile.TarInfo) -> str:
    name = info.name
    if any("\udc80" <= character <= "\udcff" for character in name):  # bytes that are no UTF-8
        name = name.encode("utf-8", "surrogateescape").decode("latin-1")
    return unicodedata.normalize("NFC", name)
