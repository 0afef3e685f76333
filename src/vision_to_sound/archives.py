"""Archives on disk: the record of a checked file, and its members, read in place.

Nothing is unpacked: members of a zip are read where they lie, a tar.gz is read through once. How a
file gets here is the business of `downloads`; stages that only read archives do not depend on that
code.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import logging
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

log = logging.getLogger(__name__)

CHECKSUM_DIGITS = {"md5": 32, "sha256": 64}
_BLOCK_BYTES = 1 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError)


class ArchiveError(RuntimeError):
    """An archive is missing, is not the one that was asked for, or cannot be read safely."""


def file_checksum(path: Path, algorithm: str) -> str:
    """Checksum of a file as "md5:<hex>" or "sha256:<hex>"."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


# --- Record ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArchiveRecord:
    """What was checked, when the archive came: the output of the download stage.

    path: as configured; relative when it lies under the working directory. checksum: "md5:..." or
    "sha256:...". source: "network", "mirror" or "placed by hand" (it lay in the download
    directory). mtime_ns: modification time of the checked file; while it and the size hold, the
    checksum is not computed again.
    """

    name: str
    path: str
    bytes: int
    checksum: str
    licence: str
    source: str
    mtime_ns: int

    def save(self, path: Path) -> None:
        """JSON with sorted keys; the file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", "utf-8")
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> ArchiveRecord:
        """Raises ArchiveError when the file is not a record."""
        try:
            values = json.loads(Path(path).read_text("utf-8"))
            record = cls(**values)
        except (ValueError, TypeError) as error:
            names = ", ".join(field.name for field in fields(cls))
            raise ArchiveError(
                f"{path} is not an archive record (expected a JSON object with {names}; got: "
                f"{error}). Delete it so that the archive is checked again."
            ) from error
        return record


def verified_path(record: ArchiveRecord) -> Path:
    """The recorded file, after a check that it is still the one that was recorded.

    Size and modification time are compared. Only when they differ is the checksum computed again: a
    file that was merely touched or copied is accepted. Raises ArchiveError when it is gone or has
    changed.
    """
    path = Path(record.path)
    remedy = f"Delete the record of {record.name!r} so that the archive is fetched again."
    if not path.is_file():
        raise ArchiveError(f"{path} (archive {record.name!r}) is gone. {remedy}")
    found = path.stat()
    if found.st_size == record.bytes and found.st_mtime_ns == record.mtime_ns:
        return path
    got = file_checksum(path, record.checksum.partition(":")[0])
    if got != record.checksum:
        raise ArchiveError(
            f"{path} (archive {record.name!r}) changed after it was checked: expected "
            f"{record.checksum} ({record.bytes} bytes), got {got} ({found.st_size} bytes). {remedy}"
        )
    log.info("%s has another modification time than its record, but the same checksum", path)
    return path


# --- Members --------------------------------------------------------------------------------------


def open_archive(record: ArchiveRecord, *, max_member_bytes: int) -> Archive:
    """Open a recorded archive for reading, after the check of `verified_path`.

    max_member_bytes: a member that declares more than this is not read (ArchiveError); it bounds
    memory. The kind (zip or tar.gz) is told from the first bytes, not from the name.
    """
    return Archive(verified_path(record), max_member_bytes=max_member_bytes)


class Archive:
    """Members of a zip or a tar.gz, read in place; a context manager.

    Every member's name is checked before anything is read: an absolute name, one with "..", a drive
    letter, a link or a device is an ArchiveError that names the member. A zip is checked whole when
    it is opened, a tar.gz as far as a pass gets. Damaged data is an ArchiveError too.
    """

    def __init__(self, path: Path, *, max_member_bytes: int) -> None:
        self.path = Path(path)
        self.max_member_bytes = max_member_bytes
        self._zip: zipfile.ZipFile | None = None
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
            self._zip = zipfile.ZipFile(self.path)
        except UnicodeDecodeError as error:
            raise ArchiveError(
                f"{self.path}: a member name claims to be UTF-8 and is not ({error.object!r})"
            ) from error
        except _BROKEN as error:
            raise ArchiveError(
                f"{self.path} is a damaged zip ({error}). Fetch it again."
            ) from error
        try:
            for info in self._zip.infolist():
                self._check_zip_member(info)
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
            return [info.filename for info in self._zip.infolist() if not info.is_dir()]
        if self._tar_members is None:
            with self._tar() as tar:
                self._tar_members = [info.name for info in self._tar_files(tar)]
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
        if self._zip is not None:
            try:
                info = self._zip.getinfo(member)
            except KeyError:
                raise self._no_member(member) from None
            return self._read_zip_member(info)
        for _, data in self.iterate(lambda name: name == member):
            return data
        raise self._no_member(member)

    def iterate(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of every file whose name is wanted, in archive order: one pass."""
        if self._zip is not None:
            for info in self._zip.infolist():
                if not info.is_dir() and wanted(info.filename):
                    yield info.filename, self._read_zip_member(info)
            return
        with self._tar() as tar:
            for info in self._tar_files(tar):
                if wanted(info.name):
                    self._check_size(info.name, info.size)
                    data = tar.extractfile(info).read()
                    if len(data) != info.size:
                        raise EOFError(f"{info.name!r} breaks off")
                    yield info.name, data

    # -- zip

    def _check_zip_member(self, info: zipfile.ZipInfo) -> None:
        self._check_name(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._not_a_file(info.filename)

    def _read_zip_member(self, info: zipfile.ZipInfo) -> bytes:
        self._check_size(info.filename, info.file_size)
        try:
            return self._zip.read(info)
        except (*_BROKEN, RuntimeError) as error:  # RuntimeError: encrypted
            raise ArchiveError(
                f"{self.path}: member {info.filename!r} cannot be read ({error})"
            ) from error

    # -- tar

    @contextlib.contextmanager
    def _tar(self) -> Iterator[tarfile.TarFile]:
        """A sequential pass; damaged data becomes an ArchiveError."""
        # Through gzip, not tarfile's own decompressor: that one takes a truncated file for a short
        # one.
        with gzip.open(self.path, "rb") as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK_BYTES) as tar:
                    yield tar
            except _BROKEN as error:
                raise ArchiveError(
                    f"{self.path} is a damaged tar.gz ({type(error).__name__}: {error}). Fetch it "
                    "again."
                ) from error

    def _tar_files(self, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for info in tar:
            self._check_name(info.name)
            if info.isreg():
                yield info
            elif not info.isdir():
                raise self._not_a_file(info.name)
        while tar.fileobj.read(_BLOCK_BYTES):  # to the end, where the stream's own checksum is
            pass

    # -- checks

    def _check_name(self, name: str) -> None:
        # A backslash separates on Windows, where the same archive may be read.
        parts = name.replace("\\", "/").split("/")
        if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise ArchiveError(
                f"{self.path}: member {name!r} points outside of the archive. Such a file is not "
                "read; take it from its original source."
            )

    def _check_size(self, name: str, size: int) -> None:
        if size > self.max_member_bytes:
            raise ArchiveError(
                f"{self.path}: member {name!r} declares {size} bytes, the limit is "
                f"{self.max_member_bytes} (max_member_bytes). Raise it if the file is really that "
                "large."
            )

    def _not_a_file(self, name: str) -> ArchiveError:
        return ArchiveError(
            f"{self.path}: member {name!r} is a link or a device; expected files and folders only. "
            "Take the archive from its original source."
        )

    def _no_member(self, member: str) -> ArchiveError:
        return ArchiveError(f"{self.path} has no member {member!r}")
