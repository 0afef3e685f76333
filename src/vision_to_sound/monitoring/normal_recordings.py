"""Recordings to learn from: folders listed, each content once, bad ones left out or named."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vision_to_sound.audio import BadClipError, named
from vision_to_sound.monitoring.arguments import path_of
from vision_to_sound.monitoring.levels import recording_faults
from vision_to_sound.monitoring.listing import list_recordings
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from vision_to_sound.monitoring.embedding import EmbeddedClip

log = logging.getLogger(__name__)

ON_BAD_CLIP = ("skip", "stop")
_REMEDY = "Mend or leave them out, or go on without them: on_bad_clip='skip'."
_N_NAMED = 10  # files that a warning spells out


def content_of(path: str | Path) -> str:
    """Size and SHA-256 of a file: "1234 9f86d08..."."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{os.fstat(file.fileno()).st_size} {digest}"


def warn(message: str) -> None:
    """A warning that points to the line outside of this package that led to it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("vision_to_sound."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


@dataclass
class Recordings:
    """Recordings to learn from.

    files: those that can be opened, each content once, in the order given. contents: `content_of` each.
    problems: {path: what is wrong} of the others. named: paths that were given one by one, not found in a folder.
    on_bad_clip: "skip", "stop", or None: stop for those that were named.
    """

    on_bad_clip: str | None
    files: list[SoundFile] = field(default_factory=list)
    contents: dict[Path, str] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    named: set[Path] = field(default_factory=set)
    _warned_of: set[Path] = field(default_factory=set)
    _copies: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, sources: str | Path | Iterable[str | Path], *, on_bad_clip: str | None = None
    ) -> Recordings:
        """From a folder, a file, or any number of both; warns of what is not used, and of copies.

        Raises:
            ValueError: no recordings, a folder without any, or what is no file.
            FileNotFoundError: no such file or folder.
            BadClipError: see `check`.
        """
        if on_bad_clip is not None:
            check_known(on_bad_clip, ON_BAD_CLIP, what="on_bad_clip")
        found = cls(on_bad_clip)
        paths = [path for source in _each(sources) for path in found._paths_of(source)]
        if not paths:
            raise ValueError("no normal recordings to learn from")
        found._open(paths)
        found.check()
        return found

    def _paths_of(self, source: object) -> list[Path]:
        path = path_of("recordings", source)
        if path.is_dir():
            listing = list_recordings(path)
            listing.check_not_empty()
            if listing.not_used:
                others = [f"{name}: {problem}" for name, problem in listing.not_used.items()]
                warn(f"in {path} {len(others)} are not used: {_some(others)}")
            return [path / name for name in listing.recordings]
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "there is no such file or folder", str(path))
        if not path.is_file():
            raise ValueError(f"recordings: {path} is neither a file nor a folder")
        self.named.add(path)
        return [path]

    def _open(self, paths: Sequence[Path]) -> None:
        first_with: dict[str, Path] = {}
        for path in dict.fromkeys(paths):
            with self.noting_bad(path):
                file, content = SoundFile.open(path), content_of(path)
                if content in first_with:
                    self.note_copy(path, first_with[content])
                else:
                    first_with[content] = path
                    self.files.append(file)
                    self.contents[path] = content
        n_repeated = len(paths) - len(set(paths))
        if n_repeated:
            self._copies.append(f"{n_repeated} paths were given more than once")

    def note_copy(self, path: Path, first: Path) -> None:
        """A recording is left out, since it holds the sound of another."""
        self._copies.append(f"{path} is {first} again")

    @contextlib.contextmanager
    def noting_bad(self, path: Path) -> Iterator[None]:
        """What the block raises is noted as the problem of this recording."""
        try:
            with named(path, failed="cannot be used", remedy="Mend it or leave it out."):
                yield
        except BadClipError as error:
            log.warning("bad recording: %s: %s", path, error.problem)
            self.problems[path] = error.problem

    def check(self) -> None:
        """Warn of copies, and of the bad ones that are left out.

        Raises:
            BadClipError: there are some that are not to be left out, or no others; names all bad ones.
        """
        if self._copies:
            warn(f"the same recordings are learned from once: {_some(self._copies)}")
            self._copies.clear()
        listed = [f"{path}: {problem}" for path, problem in self.problems.items()]
        is_stop = self.on_bad_clip == "stop" or (
            self.on_bad_clip is None and self.named & self.problems.keys()
        )
        is_all = all(file.path in self.problems for file in self.files)
        if listed and (is_stop or is_all):
            path, problem = next(iter(self.problems.items()))
            remedy = "There is no other to learn from." if is_all else _REMEDY
            raise BadClipError(str(path), problem, others=listed[1:], remedy=remedy)
        new = [
            text
            for text, path in zip(listed, self.problems, strict=True)
            if path not in self._warned_of
        ]
        if new:
            warn(f"{len(new)} bad recordings are left out: {_some(new)}")
        self._warned_of.update(self.problems)


def _each(sources: object) -> Iterable[object]:
    if isinstance(sources, str | bytes | os.PathLike):
        return [sources]
    if isinstance(sources, Iterable):
        return sources
    raise ValueError(f"recordings: expected a folder, a file, or a list of them, got {sources!r}")


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _N_NAMED} more" if len(texts) > _N_NAMED else ""
    return "; ".join(texts[:_N_NAMED]) + more


def check_not_silent(clips: Sequence[EmbeddedClip], names: Sequence[str]) -> None:
    """Warn of silent clips; ValueError if all are."""
    silent = [name for name, clip in zip(names, clips, strict=True) if clip.silent]
    if silent and len(silent) == len(clips):
        raise ValueError(
            f"all {len(clips)} normal clips are silent: there is nothing to learn from. Is it the right channel?"
        )
    if silent:
        warn(f"{len(silent)} of {len(clips)} normal clips are silent, the first in {silent[0]}")


def warn_of_faults(clips: Sequence[EmbeddedClip], names: Sequence[str]) -> None:
    """Of normal clips that were not recorded well; silent ones are said elsewhere."""
    bad = {
        name: faults
        for name, clip in zip(names, clips, strict=True)
        if not clip.silent and (faults := recording_faults(clip))
    }
    if bad:
        name, faults = next(iter(bad.items()))
        warn(
            f"{len(bad)} normal recordings were not recorded well, the first {name}: {'; '.join(faults)}"
        )
