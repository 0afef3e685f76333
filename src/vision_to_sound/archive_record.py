"""The record of an archive: which file it was when it was checked, and whether it still is that one.

Stages that only use a recorded file depend on this alone, not on the code that fetches or reads archives.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from vision_to_sound.seals import contents_of, read_json, write_json

log = logging.getLogger(__name__)

CHECKSUM_DIGITS = {"md5": 32, "sha256": 64}
_BLOCK_BYTES = 1 << 20


class ArchiveError(RuntimeError):
    """An archive is missing, is not the one that was asked for, or cannot be read safely."""


def file_checksum(path: Path, algorithm: str) -> str:
    """Checksum of a file as "md5:<hex>" or "sha256:<hex>"."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


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
        """JSON with a checksum; the file appears whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> ArchiveRecord:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ArchiveError: another kind of file, or a damaged one; names it.
        """
        expected = "the record of an archive (.json)"
        try:
            values = read_json(path, expected=expected)
            with contents_of(path, expected=expected):
                return cls(**values)
        except ValueError as error:
            raise ArchiveError(str(error)) from error


def verified_path(record: ArchiveRecord, *, read_whole: bool = False) -> Path:
    """The recorded file, after a check that it is still the one that was recorded.

    Size and modification time are compared. Only when they differ is the checksum computed again: a
    file that was merely touched or copied is accepted. Raises ArchiveError when it is gone or has
    changed.

    read_whole: compute the checksum in any case, for a file whose members have none that is compared.
    """
    path = Path(record.path)
    remedy = f"Delete the record of {record.name!r} so that the archive is fetched again."
    if not path.is_file():
        raise ArchiveError(f"{path} (archive {record.name!r}) is gone. {remedy}")
    found = path.stat()
    as_recorded = found.st_size == record.bytes and found.st_mtime_ns == record.mtime_ns
    if as_recorded and not read_whole:
        return path
    got = file_checksum(path, record.checksum.partition(":")[0])
    if got != record.checksum:
        raise ArchiveError(
            f"{path} (archive {record.name!r}) changed after it was checked: expected "
            f"{record.checksum} ({record.bytes} bytes), got {got} ({found.st_size} bytes). {remedy}"
        )
    if not as_recorded:
        log.info("%s has another modification time than its record, but the same checksum", path)
    return path
