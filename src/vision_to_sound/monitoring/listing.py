"""What lies in a folder of recordings: the sound files that can be used, and what is left out and why.

The one listing for the workflow, `watch` and `AnomalyDetector`. Standard library only: the Snakefile lists folders.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Containers of which it can be told whether a file is whole (see containers.py).
SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .bwf .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .w64 .wav .wave".split()
)
# Sound all the same.
OTHER_SOUND = frozenset(
    ".3gp .aac .ac3 .amr .ape .avi .avr .dff .dsf .dts .eac3 .gsm .htk .m4a .m4b .mat .mka .mkv .mov .mp2 .mp4 .mpc "
    ".nist .paf .pcm .pvf .ra .raw .sd2 .sf .spx .sph .svx .tta .voc .webm .wma .wv .wve .xi".split()
)

_END_BYTES = 4096


@dataclass(frozen=True)
class Listing:
    """A folder as it is now.

    recordings: {name: (size in bytes, time of the last change in ns)}; names are relative to the folder, sorted.
    not_used: {name: what is wrong, and what to do}: other formats, links to nothing, a second name of the same file.
    identities: {name: (device, inode)} of the recordings.
    """

    folder: Path
    recordings: dict[str, tuple[int, int]]
    not_used: dict[str, str]
    identities: dict[str, tuple[int, int]]

    def check_not_empty(self) -> None:
        """Raises ValueError if there is no recording; says what else is there."""
        if self.recordings:
            return
        others = [f"{name}: {problem}" for name, problem in self.not_used.items()]
        more = f"; and {len(others) - 3} more" if len(others) > 3 else ""
        raise ValueError(
            f"the folder {self.folder} holds no sound file that can be read (wav, flac, ogg, mp3, aiff ...)"
            + (f", only {'; '.join(others[:3])}{more}" if others else "")
        )


def list_recordings(folder: str | Path) -> Listing:
    """The sound files in a folder and the folders below it, each file once.

    Files and folders whose name begins with a dot do not count. Where a file or folder can be reached by two names
    (links), the one without a link counts, else the first in alphabetical order.

    Raises:
        ValueError: no such folder, or it cannot be listed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    recordings, not_used, identities = {}, {}, {}
    names_of: dict[tuple[int, int], str] = {}
    try:
        entries = list(_files_below(folder, not_used))
    except OSError as error:
        raise ValueError(f"the folder {folder} cannot be listed ({error.strerror})") from error
    entries.sort(key=lambda entry: (entry[1], entry[0]))  # links after what they may lead to
    for name, _ in entries:
        suffix = Path(name).suffix.lower()
        if suffix in OTHER_SOUND:
            not_used[name] = f"{suffix} is not read; convert it, e.g. ffmpeg -i in{suffix} out.flac"
        if suffix not in SUFFIXES:
            continue
        try:
            found = os.stat(folder / name)
        except OSError as error:
            not_used[name] = _without_file(folder / name, error)
            continue
        identity = found.st_dev, found.st_ino
        if not stat.S_ISREG(found.st_mode):
            not_used[name] = "is not a file"
        elif identity in names_of:
            not_used[name] = f"is the same file as {names_of[identity]}"
        else:
            names_of[identity] = name
            recordings[name] = found.st_size, found.st_mtime_ns
            identities[name] = identity
    return Listing(
        folder,
        dict(sorted(recordings.items())),
        dict(sorted(not_used.items())),
        identities,
    )


def _files_below(folder: Path, not_used: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """(relative name, whether a link is on the way to it) of all files; each real folder once."""
    found = os.stat(folder)
    visited = {(found.st_dev, found.st_ino)}
    waiting = [("", False)]
    links: list[str] = []
    while waiting or links:
        # Folders behind links come last: their real names go first.
        relative, behind_link = waiting.pop() if waiting else (links.pop(0), True)
        if relative:
            try:
                found = os.stat(folder / relative)
            except OSError as error:
                not_used[relative] = _without_file(folder / relative, error)
                continue
            if (found.st_dev, found.st_ino) in visited:
                not_used[relative] = "leads to a folder that is listed already"
                continue
            visited.add((found.st_dev, found.st_ino))
        try:
            entries = sorted(os.scandir(folder / relative), key=lambda entry: entry.name)
        except OSError as error:
            if not relative:
                raise
            not_used[relative] = f"cannot be listed ({error.strerror})"
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(relative, entry.name)
            if not _leads_to_folder(entry):
                yield name, behind_link or entry.is_symlink()
            elif entry.is_symlink():
                links.append(name)
            else:
                waiting.append((name, behind_link))


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _without_file(path: Path, error: OSError) -> str:
    if path.is_symlink():
        return f"is a link to {os.readlink(path)}, which cannot be opened ({error.strerror})"
    return f"cannot be opened ({error.strerror})"


def recording_stamps(listing: Listing) -> dict[str, str]:
    """{name: size, time and ends of the content} of the recordings of a folder, to see that one changed.

    The ends, because files copied with their times, or unpacked from one archive, may agree in all else.
    """
    return {
        name: f"{size} bytes, {mtime_ns} ns, {_ends_checksum(listing.folder / name, size)}"
        for name, (size, mtime_ns) in listing.recordings.items()
    }


def _ends_checksum(path: Path, size: int) -> str:
    """CRC-32 of the first and last 4 KiB; "" of a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            checksum = zlib.crc32(file.read(_END_BYTES))
            file.seek(max(size - _END_BYTES, 0))
            return f"{zlib.crc32(file.read(_END_BYTES), checksum):08x}"
    except OSError:
        return ""


def in_both(one: Listing, other: Listing) -> list[tuple[str, str]]:
    """(name in one, name in the other) of the files that lie in both folders."""
    names_of = {identity: name for name, identity in other.identities.items()}
    return [
        (name, names_of[identity])
        for name, identity in one.identities.items()
        if identity in names_of
    ]
