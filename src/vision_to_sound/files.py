"""Tables and arrays on disk: the same bytes for the same content, and no half-written file."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vision_to_sound.file_names import from_text, to_text
from vision_to_sound.seals import (
    REMEDY,
    OtherFileError,
    check_start,
    damaged,
    read_sealed,
    replacing,
    replacing_sealed,
)

if TYPE_CHECKING:
    import pandas as pd

# Names that may look like numbers ("42") or be empty, and are text all the same.
_TEXT_COLUMNS = frozenset(
    (
        "clip member recording role truth problem device encoder key content prompt verdict recorded_at known_label"
    ).split()
)
# Names of files in it are `file_names.to_text` of them: pandas takes all names that are no UTF-8 for the same one.
_NAMED_AS_TEXT = "recording"
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
_NPY = b"\x93NUMPY"


def save_array(path: str | Path, array: np.ndarray) -> None:
    """A sealed .npy. The caller gives a temporary name and renames."""
    np.save(path, array, allow_pickle=False)
    seal(path)


def seal(path: str | Path) -> None:
    """Append the checksum that `check_seal` looks for to a finished .npy, or another file that may go on at its end."""
    with open(path, "r+b") as file:
        checksum = _crc32(file, Path(path).stat().st_size)
        file.write(_SEAL.format(checksum).encode())


def open_array(path: str | Path) -> np.memmap:
    """A sealed .npy as a memory map, to be read only; its whole content is checked first.

    Raises ValueError that names the file if a byte of it is not what was written.
    """
    check_start(path, _NPY, expected="an array of the workflow (.npy)")
    check_seal(path)
    return map_array(path)


def check_seal(path: str | Path, remedy: str = REMEDY) -> None:
    """Raises ValueError that names the file if it does not end with the checksum of all before (`seal`)."""
    with open(path, "rb") as file:
        size = max(Path(path).stat().st_size - _SEAL_LENGTH, 0)
        checksum = _crc32(file, size)
        is_whole = file.read() == _SEAL.format(checksum).encode()
    if not is_whole:
        raise damaged(path, remedy=remedy)


def map_array(path: str | Path) -> np.memmap:
    """A .npy as a memory map, to be read only; of its bytes only the header is checked.

    Raises ValueError that names the file if the header cannot be read, or does not fit the file's size.
    """
    check_start(path, _NPY, expected="an array of the workflow (.npy)")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy has no list of what damaged headers raise
        raise damaged(path, error) from error


_PIECE = 1 << 24  # bytes that are read at a time


def _crc32(file: BinaryIO, n_bytes: int) -> int:
    """Of the next n_bytes of a file, in pieces."""
    checksum = 0
    while n_bytes > 0 and (piece := file.read(min(n_bytes, _PIECE))):
        checksum = zlib.crc32(piece, checksum)
        n_bytes -= len(piece)
    return checksum


def read_table(path: str | Path) -> pd.DataFrame:
    """A table that `write_table` wrote; text columns are str, "" where empty; other empty cells are NaN.

    Raises ValueError that names the file if a byte of it is not what was written.
    """
    import pandas as pd

    content = read_sealed(path)
    columns = pd.read_csv(io.BytesIO(content), sep="\t", nrows=0).columns
    text = [name for name in columns if _is_text(name)]
    table = pd.read_csv(
        io.BytesIO(content),
        sep="\t",
        dtype=dict.fromkeys(text, str),
        keep_default_na=False,
        na_values={name: ["", "nan"] for name in columns if name not in text},
        skip_blank_lines=False,  # a name may be a space
        float_precision="round_trip",
    )
    for name in text:
        if name != _NAMED_AS_TEXT:
            table[name] = table[name].map(from_text)
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Tab separated, LF; floats in the shortest form that reads back as it was; a checksum in a file beside it.

    Text is written as `file_names.to_text` has it, so that any text comes back as it was, line ends, bytes that
    are no UTF-8 and all. The column `recording` is that text in memory too.

    Raises:
        ValueError: text in a column that `read_table` does not read as text.
    """
    written = table.copy()
    for name in table.columns:
        is_text = table[name].map(lambda value: isinstance(value, str))
        if not is_text.any():
            continue
        if not _is_text(name):
            raise ValueError(
                f"{path}: column {name!r} holds text, but numbers are read from it; name it in _TEXT_COLUMNS"
            )
        as_text = _as_text_again if name == _NAMED_AS_TEXT else to_text
        written[name] = table[name].where(~is_text, table[name][is_text].map(as_text))
    with replacing_sealed(path) as temporary:
        written.to_csv(temporary, sep="\t", index=False, lineterminator="\n")


def _as_text_again(name: str) -> str:
    return to_text(from_text(name))


def _is_text(column: str) -> bool:
    return column in _TEXT_COLUMNS or column.endswith(_TEXT_ENDINGS)


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


def load_arrays(
    path: str | Path,
    *,
    expected: str = "arrays of the workflow (.npz)",
    names: Iterable[str] = (),
    only: Iterable[str] = (),
    remedy: str = REMEDY,
) -> dict[str, np.ndarray]:
    """Arrays of an .npz that `save_arrays` wrote. Takes no more memory than the file has bytes.

    Args:
        expected: what the file should be, for error messages.
        names: arrays that must be there; others may be.
        only: arrays to read; all by default.
        remedy: what to do about a damaged file, for its error message.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: another kind of file (OtherFileError): not an .npz, compressed, pickled, or without an array of
            `names`; or not what was written.
    """
    names, only = set(names), set(only)
    check_start(path, b"PK\x03\x04", b"PK\x05\x06", expected=expected)
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if problem := _why_not_ours(archive, found, names | only):
                raise OtherFileError(path, expected=expected, got=f"an .npz {problem}")
            _check_all_listed(archive)
            return {name: _read_member(archive, found[name]) for name in only or found}
    except (OtherFileError, MemoryError):
        raise
    except Exception as error:  # zipfile and NumPy have no list of what damaged bytes raise
        raise damaged(path, error, remedy) from error


def _why_not_ours(
    archive: zipfile.ZipFile, found: Mapping[str, zipfile.ZipInfo], names: set[str]
) -> str:
    """What is not as in an .npz of save_arrays, after "an .npz ..."; "" if nothing."""
    members = archive.infolist()
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED or not info.filename.endswith(".npy"):
            return f"whose member {info.filename} is compressed or no array (.npy)"
    size = os.fstat(archive.fp.fileno()).st_size
    if sum(info.file_size for info in members) > size or len(found) < len(members):
        return f"of {size} bytes whose members have the same name, or say that they are larger"
    missing = sorted(names - set(found))
    return f"without {', '.join(missing)}: its arrays are {sorted(found)}" if missing else ""


_ZIP_END = 22  # bytes


def _check_all_listed(archive: zipfile.ZipFile) -> None:
    """zipfile does not count members: with one bit wrong, an entry is read as part of the one before."""
    archive.fp.seek(-_ZIP_END, os.SEEK_END)  # our files have no comment
    n_members = int.from_bytes(archive.fp.read()[10:12], "little")
    if n_members != len(archive.infolist()):
        raise ValueError(f"{len(archive.infolist())} of {n_members} arrays are listed")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array. Its header is compared with the member's size before memory is taken; the end checks the CRC-32."""
    with archive.open(info) as member:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, is_fortran, dtype = read_header[np.lib.format.read_magic(member)](member)
        n_bytes = info.file_size - member.tell()
        if dtype.hasobject:
            raise OtherFileError(
                archive.filename,
                expected="numbers and text",
                got=f"Python objects in {info.filename}",
            )
        if not dtype.itemsize or math.prod(shape) * dtype.itemsize != n_bytes:
            raise ValueError(f"{info.filename} says {dtype} {shape} and has {n_bytes} bytes")
        values = np.empty(n_bytes, np.uint8)
        for start in range(0, n_bytes, _PIECE):
            piece = values[start : start + _PIECE]
            data = member.read(len(piece))
            if len(data) < len(piece):
                raise ValueError(f"{info.filename} ends early")
            piece[:] = np.frombuffer(data, np.uint8)
    return values.view(dtype).reshape(shape, order="F" if is_fortran else "C")
