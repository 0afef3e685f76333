"""A table on disk that grows row by row for weeks: every row in it is whole, and none is lost to a full disk."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vision_to_sound.file_names import to_text


class GrowingTable:
    """Rows appended to a tab-separated file, its header first.

    A last line that was not written to its end (a kill, a power cut) is taken out; a file with other columns is kept
    under another name. Where the file cannot be written (disk full or read-only, folder gone), that is said once and
    the rows wait in memory until it can.
    """

    def __init__(
        self, path: str | Path, columns: Sequence[str], *, say: Callable[[str], None]
    ) -> None:
        """say: shows a message to people."""
        self.path = Path(path)
        self._header, self._say = _line(columns), say
        self._waiting: list[bytes] = []
        self._is_failing = False
        self._try_to_append()

    @property
    def n_waiting(self) -> int:
        """Rows that could not be written yet."""
        return len(self._waiting)

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        """Append rows, and those that wait."""
        self._waiting += map(_line, rows)
        self.write_waiting()

    def write_waiting(self) -> None:
        """Try once more to write what could not be written."""
        if self._waiting or self._is_failing:
            self._try_to_append()

    def _try_to_append(self) -> None:
        name, n_rows = to_text(str(self.path)), self.n_waiting
        try:
            self._append()
        except OSError as error:
            if not self._is_failing:
                self._say(
                    f"NO TABLE   {name} cannot be written ({error.strerror or error}); the rows wait until it can"
                )
            self._is_failing = True
            return
        if self._is_failing:
            self._say(f"TABLE      {name} is written again, with the {n_rows} rows that waited")
        self._is_failing = False

    def _append(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mend()
        with open(self.path, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            data = (b"" if size else self._header) + b"".join(self._waiting)
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())  # some file systems find only now that they are full
            except BaseException:  # Ctrl-C too: all of it or nothing
                file.truncate(size)
                raise
        self._waiting.clear()

    def _mend(self) -> None:
        """Make what lies there a table that rows can follow."""
        try:
            file = open(self.path, "r+b")
        except FileNotFoundError:
            return
        with file:
            start = file.read(len(self._header))
            if start == self._header:
                self._cut_torn_line(file)
            elif self._header.startswith(start):  # empty, or not even the header was finished
                file.truncate(0)
            else:
                other = self._free_name()
                os.rename(self.path, other)
                self._say(
                    f"TABLE      {to_text(str(self.path))} had other columns; it is now {to_text(other.name)}"
                )

    def _cut_torn_line(self, file: io.BufferedRandom) -> None:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        whole, _, torn = file.read().rpartition(b"\n")
        file.truncate(len(whole) + 1)
        text = to_text(torn.decode(errors="replace").replace("\t", " "))
        self._say(
            f"TABLE      {to_text(str(self.path))}: its last line was not finished and is taken out: {text}"
        )

    def _free_name(self) -> Path:
        n = 1
        while (path := self.path.with_name(f"{self.path.stem}-{n}{self.path.suffix}")).exists():
            n += 1
        return path


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerow(values)
    return text.getvalue().encode()
