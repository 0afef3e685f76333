"""Small archives for the tests of archives."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

from vision_to_sound.archive_record import ArchiveRecord
from vision_to_sound.archives import Archive, open_archive

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


def zip_with_raw_name(path: Path, name: bytes, content: bytes = b"summer") -> Path:
    """A zip whose member has these bytes as its name, with no word of an encoding."""
    write_zip(path, {"x" * len(name): content})
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    return path


SUMMER = "top/\u00e9t\u00e9.wav"  # NFC
