"""A file that is still coming: its bytes so far, which version they are of, its lock and its room on the disk."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vision_to_sound.archive_record import ArchiveError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Which version of the server's file the bytes of a partial file are the start of.

    validator: ETag, or date of the last change; "" where the server named none. total: bytes of the whole
    file; None where the server did not say.
    """

    validator: str = ""
    total: int | None = None

    @property
    def is_strong(self) -> bool:
        """An ETag that promises the same bytes. A date does not: a file may change twice in a second."""
        return self.validator.startswith('"')


@dataclass(frozen=True)
class PartialFile:
    """FILE.part and, beside it, where its bytes come from."""

    path: Path

    @property
    def final_name(self) -> str:
        return self.path.name.removesuffix(".part")

    @property
    def _origin_path(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.forget_origin()

    def remember_origin(self, url: str, origin: Origin) -> None:
        self._origin_path.write_text(json.dumps({"url": url, **asdict(origin)}), "utf-8")

    def forget_origin(self) -> None:
        self._origin_path.unlink(missing_ok=True)

    def origin(self, url: str) -> Origin:
        """Of the bytes that came from `url`; an empty one when that is not known."""
        try:
            known = json.loads(self._origin_path.read_text("utf-8"))
            validator, total = known["validator"], known["total"]
            if known["url"] == url and is_header_text(validator):
                return Origin(validator, total)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # damaged, or of an earlier version
        return Origin()


@contextmanager
def only_process_at(path: Path) -> Iterator[None]:
    """Other processes that want this file wait here; those on other machines where the disk passes locks on.

    A killed process holds no lock any more; the empty file .FILE.lock that it leaves means nothing.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("another process is fetching %s; waiting until it has ended", path)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                log.warning(
                    "%s: this disk has no locks (%s); fetch it by one run at a time", path, error
                )
            if _is_at(lock, file.fileno()):
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
            # Whoever held this lock took its file away; the next one is another file.


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def check_disk(part: Path, needed: int, remark: str = "") -> None:
    """Raises ArchiveError when the disk of `part` has less than `needed` bytes free."""
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        remark = f" ({remark})" if remark else ""
        raise ArchiveError(
            f"{part.parent}: not enough disk for {part.name}: {needed} bytes needed{remark}, {free} free. "
            "Make room or point the downloads elsewhere."
        )


def is_header_text(text: str) -> bool:
    """Whether a validator can be sent back to the server."""
    return text.isascii() and text.isprintable()
