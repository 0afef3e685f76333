"""Finished recordings of a folder as they appear, and what becomes of the folder; said on the screen, once each."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vision_to_sound.audio import BadClipError
from vision_to_sound.file_names import to_text
from vision_to_sound.monitoring.listing import Listing, list_recordings

GROWS_LONG_S = 600.0  # after that a file that is still being written is mentioned
_N_NAMED = 10  # files that are not used, named at one look

State = tuple[int, int]  # of a file: size in bytes, time of the last change in ns


def say(text: str) -> None:
    """One line on the screen. A screen that is gone, or a log file on a full disk, ends no watch."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass
class _Waiting:
    """A recording that is not scored yet; since: when it was first seen, seconds of time.monotonic."""

    state: State
    since: float
    is_mentioned: bool = False


class NewFiles:
    """Finished recordings of a folder that have not been scored yet; a file that was written again is new.

    Says what cannot be used, and what becomes of the folder.
    """

    def __init__(self, folder: str | Path, *, skip_present: bool = False) -> None:
        """skip_present: take what lies there now for scored. ValueError: no such folder."""
        self.folder = Path(folder)
        self._waiting: dict[str, _Waiting] = {}
        self._scored: dict[str, State] = {}
        # Of those that the system could not read: when their permissions last changed, in ns.
        self._failed: dict[str, int | None] = {}
        self._not_used: dict[str, str] = {}
        self._n_held, self._device = 0, os.stat(self.folder).st_dev
        self._problem = ""
        if skip_present:
            self._scored = dict(list_recordings(self.folder).recordings)

    def look(self) -> list[str]:
        """Names of those whose size and time are as at the last look, relative to the folder, sorted."""
        listing = self._list()
        if listing is None:
            return []
        self._say_not_used(listing.not_used)
        waiting = {
            name: self._seen(name, state)
            for name, state in listing.recordings.items()
            if state != self._scored.get(name) or self._may_be_read_now(name)
        }
        finished = [name for name in waiting if waiting[name] is self._waiting.get(name)]
        if not self._problem:
            for name in sorted(self._waiting.keys() - listing.recordings.keys()):
                say(f"NOT READ   {to_text(name)}: it went away before it was finished")
        self._waiting = waiting
        return finished

    def done(self, name: str, error: BadClipError | None = None) -> None:
        """Not again until it changes.

        Where the system could not read it (an OSError is the error's cause), new permissions count as a change, and
        so does a folder that comes back.
        """
        self._scored[name] = self._waiting.pop(name).state
        self._failed.pop(name, None)
        if error is not None and isinstance(error.__cause__, OSError):
            self._failed[name] = _permissions_changed_ns(self.folder / name)

    def changed(self, name: str) -> bool:
        """Whether a recording that `look` gave is another by now; False for one that is gone."""
        state = state_of(self.folder / name)
        return state is not None and state != self._waiting[name].state

    def forget(self, name: str) -> None:
        """Wait anew until it is finished."""
        del self._waiting[name]

    def _seen(self, name: str, state: State) -> _Waiting:
        known = self._waiting.get(name)
        if known is None:
            return _Waiting(state, time.monotonic())
        if known.state == state:
            return known
        waited_s = time.monotonic() - known.since
        is_long = waited_s > GROWS_LONG_S
        if is_long and not known.is_mentioned:
            say(
                f"GROWS      {to_text(name)}: for {waited_s / 60:.0f} minutes; it is scored when it stays the same"
            )
        return _Waiting(state, known.since, is_long)

    def _may_be_read_now(self, name: str) -> bool:
        """Whether the permissions of one that the system could not read have changed."""
        if name not in self._failed:
            return False
        if _permissions_changed_ns(self.folder / name) == self._failed[name]:
            return False
        del self._failed[name], self._scored[name]
        return True

    def _list(self) -> Listing | None:
        try:
            device = os.stat(self.folder).st_dev
            listing = list_recordings(self.folder)
        except (ValueError, OSError) as error:
            self._tell_problem(f"cannot be read ({getattr(error, 'strerror', None) or error})")
            return None
        if device != self._device:
            self._say_of_folder(
                "is on another device now: something was mounted or unmounted there"
            )
            self._device = device
        n = len(listing.recordings)
        if self._n_held and not n:
            self._tell_problem(
                f"held {self._n_held} recordings and holds none now (unmounted, deleted, moved away?)"
            )
        elif self._problem:
            self._problem = ""
            self._say_of_folder(f"is back, with {n} recordings")
            for name in self._failed:
                self._scored.pop(name, None)
            self._failed.clear()
        self._n_held = n or self._n_held
        return listing

    def _tell_problem(self, problem: str) -> None:
        if problem != self._problem:
            self._say_of_folder(f"{problem}. Watching on")
        self._problem = problem

    def _say_of_folder(self, text: str) -> None:
        say(f"FOLDER     {now()} {to_text(str(self.folder))} {text}")

    def _say_not_used(self, not_used: dict[str, str]) -> None:
        new = [name for name, problem in not_used.items() if problem != self._not_used.get(name)]
        for name in new[:_N_NAMED]:
            say(f"NOT USED   {to_text(name)}: {to_text(not_used[name])}")
        if len(new) > _N_NAMED:
            say(f"NOT USED   and {len(new) - _N_NAMED} more like these")
        self._not_used.update(not_used)


def state_of(path: Path) -> State | None:
    """None: it cannot be looked at, most often because it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _permissions_changed_ns(path: Path) -> int | None:
    try:
        return os.stat(path).st_ctime_ns
    except OSError:
        return None
