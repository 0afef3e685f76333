"""Tables and arrays on disk: the same bytes for the same content, and no half-written file."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# Names that may look like numbers ("42") or be empty, and are text all the same.
_TEXT_COLUMNS = frozenset(
    "clip member recording truth problem device encoder key prompt verdict recorded_at known_label".split()
)
_TEXT_ENDINGS = (
    "category",
    "_recording",
    "event",
    "method",
    "protocol",
    "dataset",
    "level",
    "metric",
    "code",
)


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


def create_array(path: str | Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy as a memory map, its room taken at once.

    Without that a full disk ends the job with a bus error in the middle; here it is an OSError that names
    the file and what it needs.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    size = Path(path).stat().st_size
    try:
        if size:
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        needed = math.prod(shape) * np.dtype(dtype).itemsize / 2**20
        raise OSError(error.errno, f"{path} needs {needed:.0f} MiB: {error.strerror}") from error
    return array


# After its data a sealed .npy holds the CRC-32 of all before; NumPy and others read no further than the data.
_SEAL = "\ncrc32 {:08x}\n"
_SEAL_LENGTH = len(_SEAL.format(0))


def save_array(path: str | Path, array: np.ndarray) -> None:
    """A sealed .npy. The caller gives a temporary name and renames."""
    np.save(path, array, allow_pickle=False)
    seal_array(path)


def seal_array(path: str | Path) -> None:
    """Append the checksum that `open_array` looks for to a finished .npy."""
    with open(path, "r+b") as file:
        checksum = _crc32(file, Path(path).stat().st_size)
        file.write(_SEAL.format(checksum).encode())


def open_array(path: str | Path) -> np.memmap:
    """A sealed .npy as a memory map, to be read only; its whole content is checked first.

    Raises ValueError that names the file if a byte of it is not what was written.
    """
    with open(path, "rb") as file:
        size = max(Path(path).stat().st_size - _SEAL_LENGTH, 0)
        checksum = _crc32(file, size)
        is_whole = file.read() == _SEAL.format(checksum).encode()
    if not is_whole:
        raise ValueError(f"{path} is damaged (checksum); delete it, the next run makes it again")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _crc32(file: BinaryIO, n_bytes: int) -> int:
    """Of the next n_bytes of a file, in pieces."""
    checksum = 0
    while n_bytes > 0 and (piece := file.read(min(n_bytes, 1 << 24))):
        checksum = zlib.crc32(piece, checksum)
        n_bytes -= len(piece)
    return checksum


def read_table(path: str | Path) -> pd.DataFrame:
    """A table of the workflow; text columns are str, "" where empty; other empty cells are NaN."""
    import pandas as pd

    columns = pd.read_csv(path, sep="\t", nrows=0).columns
    text = [name for name in columns if name in _TEXT_COLUMNS or name.endswith(_TEXT_ENDINGS)]
    return pd.read_csv(
        path,
        sep="\t",
        dtype=dict.fromkeys(text, str),
        keep_default_na=False,
        na_values={name: ["", "nan"] for name in columns if name not in text},
        float_precision="round_trip",
    )


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Tab separated, LF; floats in the shortest form that reads back as it was."""
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, lineterminator="\n")


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An uncompressed .npz that np.load reads, without the time of day that np.savez puts in.

    Appears whole or not at all. Raises ValueError for arrays of Python objects.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"array {name!r} for {path} holds Python objects, expected numbers")
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(arrays[name]), allow_pickle=False)


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz; a pickle in it is refused, a damaged file is a ValueError that names it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it, the next run makes it again"
        ) from (error)
