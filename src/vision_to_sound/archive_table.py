"""The table of archives, datasets.tsv: which files the workflow can ask for, and what each has to be.

A mirror, a directory of files that are there already, may bring a table of its own. Standard library only:
the Snakefile imports this.
"""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vision_to_sound.archive_record import CHECKSUM_DIGITS

TABLE_NAME = "datasets.tsv"
COLUMNS = ("name", "file", "bytes", "checksum", "url", "licence", "doi")
# What the names of PyTorch's weights carry; enough against damage, not against intent.
MIN_CHECKSUM_DIGITS = 8
MEMBER_LIST_COLUMNS = ("member", "checksum")
URL_SCHEMES = ("http://", "https://", "pypi:")
_MEMBERS = "members:"
_WHOLE_CHECKSUM = re.compile(
    "|".join(f"{algorithm}:[0-9a-f]{{{n}}}" for algorithm, n in CHECKSUM_DIGITS.items())
)


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
        return _WHOLE_CHECKSUM.fullmatch(self.checksum) is not None


def read_table(path: Path, *, optional: Iterable[str] = ()) -> dict[str, ArchiveRow]:
    """Rows of a tab-separated table by name. Columns: `COLUMNS`; the `optional` ones may miss.

    Raises ValueError with the line number for anything that is not as it should be.
    """
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
    return read_table(table) | _rows_of_mirror(mirror)


def mirrored_names(mirror: Path | None) -> frozenset[str]:
    """Names that the mirror's own table lists: they have to come from the mirror."""
    return frozenset(_rows_of_mirror(mirror))


def _rows_of_mirror(mirror: Path | None) -> dict[str, ArchiveRow]:
    if mirror is None or not (mirror / TABLE_NAME).is_file():
        return {}
    return read_table(mirror / TABLE_NAME, optional=("doi",))


def find_in_mirror(mirror: Path, file: str) -> Path | None:
    """The file in the mirror, or, where it is not there, in one of the folders in it; else None."""
    mirror = Path(mirror)
    places = [mirror / file, *sorted(mirror.glob(f"*/{glob.escape(file)}"))]
    return next((path for path in places if path.is_file()), None)


def read_member_list(path: Path) -> dict[str, str]:
    """Checksum ("md5:..." or "sha256:...", whole) of each member, from a tab-separated table.

    Members are named without the archive's top folder, which may change. Raises ValueError with the line
    number for anything else.
    """
    lines = path.read_text("utf-8").splitlines()
    if not lines or tuple(lines[0].split("\t")) != MEMBER_LIST_COLUMNS:
        raise ValueError(
            f"{path}: expected the columns {' '.join(MEMBER_LIST_COLUMNS)} (tab separated), got {lines[:1]}"
        )
    members: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        name, _, checksum = line.partition("\t")
        if not name or name in members or not _WHOLE_CHECKSUM.fullmatch(checksum):
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
    elif checksum:
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
    if algorithm not in CHECKSUM_DIGITS:
        raise ValueError(
            f"{where}: unknown checksum algorithm in {checksum!r}; expected md5:<hex digits> or "
            "sha256:<hex digits> or members:<file>"
        )
    n_digits = CHECKSUM_DIGITS[algorithm]
    if not re.fullmatch(f"[0-9a-f]{{{MIN_CHECKSUM_DIGITS},{n_digits}}}", digits):
        raise ValueError(
            f"{where}: {algorithm} has {n_digits} hex digits, of which at least the first "
            f"{MIN_CHECKSUM_DIGITS} are needed, got {checksum!r}"
        )
