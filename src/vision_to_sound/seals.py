"""Files with checksums: whatever a disk does to one of them is an error that names it, never another number.

A table's checksum lies in a hidden file beside it, so that other programs read the table as it is; JSON holds its own.
Arrays have theirs in `files`. Standard library only: stages that read no arrays use this too.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REMEDY = "delete it, the next run makes it again"
_MAX_WORDS = 200  # some readers put all that they read into their error
_JSON = '{{"crc32": "{:08x}", "content": {}}}\n'
_JSON_PARTS = re.compile(rb'\{"crc32": "([0-9a-f]{8})", "content": (.*)\}\n', re.S)


class OtherFileError(ValueError):
    """A file of another kind than was expected: perhaps somebody's own, and nobody is told to delete it."""

    def __init__(self, path: str | Path, *, expected: str, got: str) -> None:
        super().__init__(f"{path}: expected {expected}, got {got}")


def damaged(path: str | Path, why: object = "checksum", remedy: str = REMEDY) -> ValueError:
    """The error for a file of the right kind that is not as it was written. why: words, or what a reader raised."""
    words = str(why)[:_MAX_WORDS] or type(why).__name__
    return ValueError(f"{path} is damaged ({words}); {remedy}")


def check_start(path: str | Path, *starts: bytes, expected: str, after: int = 0) -> None:
    """Raises OtherFileError for a folder, and for a file that has none of `starts` after so many bytes."""
    if Path(path).is_dir():
        raise OtherFileError(path, expected=expected, got="a folder")
    with open(path, "rb") as file:
        head = file.read(after + max(map(len, starts)))
    if not head.startswith(starts, after):
        got = f"a file that starts with {head!r}" if head else "an empty file"
        raise OtherFileError(path, expected=expected, got=got)


def _where_pids_count() -> str:
    """Names this machine, or this container on it: elsewhere the same process id is another process."""
    try:
        pids = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        pids = ""
    return f"{zlib.crc32(f'{os.uname().nodename} {pids}'.encode()):08x}"


_HERE = _where_pids_count()


@functools.cache
def _remove_leftovers(folder: Path) -> None:
    """Delete what `replacing` wrote in a folder for processes that were killed before they could; once a run."""
    for path in folder.glob(f".*.{_HERE}-*"):
        pid = re.match(rf".*\.{_HERE}-(\d+)", path.name)
        if pid is None:
            continue
        try:
            os.kill(int(pid[1]), 0)  # signal 0 only asks
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (PermissionError, OverflowError):
            pass


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to the yielded temporary path; it takes the real name only when the block ends well.

    What a killed process left behind in this folder is removed. An OSError that names no file (a full disk,
    in the middle of an array) is raised again with the name.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final.parent.absolute())
    # The suffix stays last: numpy and pandas look at it.
    temporary = final.with_name(f".{final.stem}.{_HERE}-{os.getpid()}{final.suffix}")
    try:
        yield temporary
        os.replace(temporary, final)
    except OSError as error:
        if error.filename or final.name in str(error):
            raise
        raise OSError(error.errno or errno.EIO, f"{final}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_sealed(path: str | os.PathLike[str]) -> Iterator[Path]:
    """`replacing`, with a checksum in the hidden file `.NAME.crc32` beside it. For files that fit into memory.

    The old file goes before the new checksum comes, and that comes before the new file: stopped anywhere, there is
    an old pair, a new pair, or no file, never a file beside the checksum of another.
    """
    with replacing(path) as temporary:
        yield temporary
        seal = _seal(temporary.read_bytes())
        with replacing(_seal_path(path)) as seal_path:
            seal_path.write_bytes(seal)
            Path(path).unlink(missing_ok=True)


def read_sealed(path: str | os.PathLike[str]) -> bytes:
    """Content of a file that `replacing_sealed` wrote.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not what was written, or its checksum is gone.
    """
    content = Path(path).read_bytes()
    try:
        seal = _seal_path(path).read_bytes()
    except FileNotFoundError:
        raise damaged(path, f"no checksum {_seal_path(path).name} beside it") from None
    if seal != _seal(content):
        raise damaged(path)
    return content


def _seal(content: bytes) -> bytes:
    return f"{zlib.crc32(content):08x} {len(content)}\n".encode()


def _seal_path(path: str | os.PathLike[str]) -> Path:
    return Path(path).with_name(f".{Path(path).name}.crc32")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """One line of JSON, keys sorted, with a checksum of it: {"crc32": ..., "content": ...}."""
    text = json.dumps(content, sort_keys=True)
    with replacing(path) as temporary:
        temporary.write_text(_JSON.format(zlib.crc32(text.encode()), text), encoding="utf-8")


def read_json(path: str | os.PathLike[str], *, expected: str) -> Any:
    """The content that `write_json` was given. expected: what the file should be, for error messages.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: another kind of file (OtherFileError), or not what was written.
    """
    check_start(path, b'{"crc32": "', expected=expected)
    parts = _JSON_PARTS.fullmatch(Path(path).read_bytes())
    if not parts or zlib.crc32(parts[2]) != int(parts[1], 16):
        raise damaged(path)
    with contents_of(path, expected=expected):
        return json.loads(parts[2])


@contextlib.contextmanager
def contents_of(path: str | os.PathLike[str], *, expected: str) -> Iterator[None]:
    """Around what is made of a file's content: what does not fit is a ValueError that names the file."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        got = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: expected {expected}; {got}") from error
