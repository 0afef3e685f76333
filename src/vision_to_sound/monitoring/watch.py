"""Score recordings as they appear in a folder: `make watch FOLDER=DIR`, until Ctrl-C.

One process with the fitted detector in memory. A file counts as finished when its size has stayed the same between two
looks; one line on the screen and one in a table for each clip. What lay there before is scored first, unless --new.
Neither a file that cannot be read, nor a full disk, nor a folder that goes away ends the watch: each is said, once.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vision_to_sound.audio import BadClipError
from vision_to_sound.file_names import to_text
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.growing_table import GrowingTable
from vision_to_sound.monitoring.levels import recording_faults, unheard
from vision_to_sound.monitoring.listing import Listing, list_recordings
from vision_to_sound.monitoring.result import ClipResult
from vision_to_sound.monitoring.sound_files import SoundFile

log = logging.getLogger(__name__)

COLUMNS = (
    "recording start_s duration_s score p_value verdict strongest_region recording_faults scored_at"
).split()
GROWS_LONG_S = 600.0  # after that a file that is still being written is mentioned
_MANY = 20  # more files than that at once: progress is said
_N_NAMED = 10  # files that are not used, named at one look

State = tuple[int, int]  # of a file: size in bytes, time of the last change in ns


def say(text: str) -> None:
    """One line on the screen. A screen that is gone, or a log file on a full disk, ends no watch."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _now() -> str:
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

    def done(self, name: str, error: Exception | None = None) -> None:
        """Not again until it changes.

        Where the system could not read it (an OSError), new permissions count as a change, and so does a folder that
        comes back.
        """
        self._scored[name] = self._waiting.pop(name).state
        self._failed.pop(name, None)
        if isinstance(error, OSError):
            self._failed[name] = _permissions_changed_ns(self.folder / name)

    def changed(self, name: str) -> bool:
        """Whether a recording that `look` gave is another by now; False for one that is gone."""
        state = _state(self.folder / name)
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
        say(f"FOLDER     {_now()} {to_text(str(self.folder))} {text}")

    def _say_not_used(self, not_used: dict[str, str]) -> None:
        new = [name for name, problem in not_used.items() if problem != self._not_used.get(name)]
        for name in new[:_N_NAMED]:
            say(f"NOT USED   {to_text(name)}: {to_text(not_used[name])}")
        if len(new) > _N_NAMED:
            say(f"NOT USED   and {len(new) - _N_NAMED} more like these")
        self._not_used.update(not_used)


def _state(path: Path) -> State | None:
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


def line(result: ClipResult, name: str, faults: Sequence[str]) -> str:
    """What the screen shows of a clip. faults: of how it was recorded, see `levels.recording_faults`."""
    verdict = "ANOMALOUS" if result.is_anomalous else "normal   "
    text = (
        f"{verdict}  {to_text(name)} at {result.start_s:.0f} s  score {result.score:.3f}  "
        f"p = {result.p_value:.3f}"
    )
    if result.regions:
        region = result.regions[0]
        start_s, end_s = result.start_s + region.start_s, result.start_s + region.end_s
        text += f"  {start_s:.2f} to {end_s:.2f} s, {region.low_hz:.0f} to {region.high_hz:.0f} Hz"
    return "  ".join([text, *(f"({fault})" for fault in faults)])


def row(result: ClipResult, name: str, faults: Sequence[str]) -> list[object]:
    """What the table holds of a clip, see COLUMNS."""
    region = " ".join(f"{v:.4g}" for v in result.regions[0]) if result.regions else ""
    numbers = [result.start_s, result.duration_s, result.score, result.p_value]
    return [to_text(name), *numbers, result.verdict, region, "; ".join(faults), _now()]


def problem_of(error: Exception) -> str:
    """What one file raised, in one line."""
    if isinstance(error, BadClipError):
        return to_text(error.problem)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return to_text(f"cannot be scored ({type(error).__name__}: {error})")


class Watch:
    """Scores what `NewFiles` gives; counts what it did."""

    def __init__(self, files: NewFiles, detector: AnomalyDetector, table: GrowingTable) -> None:
        self.files, self.detector, self.table = files, detector, table
        self._said_of_hearing: set[str] = set()
        self.n_scored = self.n_anomalous = self.n_not_read = 0

    def score(self, names: list[str]) -> None:
        """All of them; only up to the first that is gone, so that the next look finds what became of the folder."""
        if len(names) > _MANY:
            say(f"{len(names)} recordings to score")
        for i, name in enumerate(names, start=1):
            if not self._score_one(name):
                return
            if i % 100 == 0:
                say(f"{i} of {len(names)} recordings are done")

    def _score_one(self, name: str) -> bool:
        """False if the file is gone."""
        started = time.monotonic()
        path = self.files.folder / name
        lines, rows, is_anomalous = [], [], False
        problem: Exception | None = None
        try:
            file = SoundFile.open(path)
            self._say_what_is_not_heard(file.sample_rate_hz)
            for clip in self.detector.embed(file):  # cut as the normal ones were
                result = self.detector.score_clip(file, clip)
                is_anomalous |= result.is_anomalous
                faults = recording_faults(clip)
                lines.append(line(result, name, faults))
                rows.append(row(result, name, faults))
        except Exception as error:  # whatever one file raises, the others are scored
            log.debug("%s", to_text(name), exc_info=True)
            problem = error
        if self.files.changed(name):
            say(
                f"CHANGED    {to_text(name)}: while it was read; it is read again when it is finished"
            )
            self.files.forget(name)
            return True
        if problem is not None:
            is_gone = _state(path) is None
            self.n_not_read += 1
            say(f"NOT READ   {to_text(name)}: {'it is gone' if is_gone else problem_of(problem)}")
            if is_gone:
                self.files.forget(name)
            else:
                self.files.done(name, problem)
            return not is_gone
        self.files.done(name)
        self.n_scored += 1
        self.n_anomalous += is_anomalous
        for text in lines:
            say(text)
        self.table.add(rows)
        took_s = max(time.monotonic() - started, 1e-6)
        log.info(
            "%s: %.1f s of sound in %.2f s, %.0f times real time",
            to_text(name),
            file.duration_s,
            took_s,
            file.duration_s / took_s,
        )
        return True

    def _say_what_is_not_heard(self, sample_rate_hz: int) -> None:
        said = unheard(self.detector.spec.front_end.f_max_hz, sample_rate_hz)
        if said and said not in self._said_of_hearing:
            say(f"NOT HEARD  {said}")
            self._said_of_hearing.add(said)

    def say_end(self) -> None:
        self.table.write_waiting()
        say(
            f"stopped: {self.n_scored} recordings scored, {self.n_anomalous} of them anomalous, "
            f"{self.n_not_read} not read; table {to_text(str(self.table.path))}"
        )
        if self.table.n_waiting:
            say(f"NO TABLE   {self.table.n_waiting} rows could not be written; they stand above")


def watch(
    folder: str | Path,
    detector: AnomalyDetector,
    table: str | Path,
    *,
    every_s: float = 1.0,
    skip_present: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
    newer_detector: Callable[[], AnomalyDetector | None] = lambda: None,
) -> None:
    """Score what appears and append it to the table, until KeyboardInterrupt.

    Args:
        folder: where recordings appear; folders below it count.
        detector: fitted.
        table: tab-separated, see COLUMNS.
        every_s: seconds between two looks; longer where a look itself takes longer.
        skip_present: leave out what lies there already.
        goes_on: asked before each look; False ends the watch.
        newer_detector: asked before each look for a detector to go on with.

    Raises:
        ValueError, OSError: no such folder. After that nothing that happens to files, table or folder.
    """
    files = NewFiles(folder, skip_present=skip_present)
    running = Watch(files, detector, GrowingTable(table, COLUMNS, say=say))
    try:
        while goes_on():
            started = time.monotonic()
            running.detector = newer_detector() or running.detector
            finished = files.look()
            look_s = time.monotonic() - started
            running.score(finished)
            running.table.write_waiting()
            time.sleep(max(every_s, look_s))
    except KeyboardInterrupt:
        say("")
    running.say_end()


class DetectorFile:
    """The detector of `make recordings`, which may be fitted again while the watch goes on."""

    def __init__(self, results: Path, *, threads: int) -> None:
        self.path = results / "recordings" / "detector.npz"
        self._weights, self._threads = results / "weights", threads
        self._state = _state(self.path)

    def load(self) -> AnomalyDetector:
        """Raises ValueError, OSError: no detector, or no weights for it."""
        detector = AnomalyDetector.load(self.path, threads=self._threads)
        weights = self._weights / f"{detector.spec.name}.safetensors"
        if weights.is_file():
            detector.weights = weights
        detector.ready()  # what is missing for all recordings is no fault of the first
        return detector

    def newer(self) -> AnomalyDetector | None:
        """The detector if it was fitted again since the last look; None also while it is being made."""
        state = _state(self.path)
        if state is None or state == self._state:
            return None
        self._state = state
        try:
            detector = self.load()
        except (ValueError, OSError) as error:
            say(
                f"DETECTOR   {_now()} was fitted again but cannot be used ({error}); the old one goes on"
            )
            return None
        say(f"DETECTOR   {_now()} was fitted again; threshold {detector.threshold:.3f} from now on")
        return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where recordings appear; folders below it count")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="of `make recordings`"
    )
    parser.add_argument(
        "--every", type=float, default=1.0, metavar="S", help="seconds between two looks"
    )
    parser.add_argument("--new", action="store_true", help="leave out what lies there already")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not 0.0 < arguments.every <= 86_400.0:
        parser.error(f"--every: expected seconds above 0, at most 86400, got {arguments.every}")
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal need not know every character
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _watch_as_told(arguments)
    except KeyboardInterrupt:
        say("stopped")
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def _watch_as_told(arguments: argparse.Namespace) -> None:
    folder, file = arguments.folder, DetectorFile(arguments.results, threads=arguments.threads)
    if not folder.is_dir():
        sys.exit(f"there is no folder {folder}")
    if not file.path.is_file():
        sys.exit(
            f"there is no detector {file.path}: `make recordings NORMAL=DIR UNSORTED=DIR` fits one"
        )
    detector = file.load()
    n = len(list_recordings(folder).recordings)
    say(
        f"watching {to_text(str(folder))}, {n} recordings there now; threshold {detector.threshold:.3f}; Ctrl-C ends"
    )
    table = arguments.results / "recordings" / "watched.tsv"
    watch(
        folder,
        detector,
        table,
        every_s=arguments.every,
        skip_present=arguments.new,
        newer_detector=file.newer,
    )


if __name__ == "__main__":
    main()
