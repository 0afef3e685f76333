"""Score recordings as they appear in a folder: `make watch FOLDER=DIR`, until Ctrl-C.

One process with the fitted detector in memory. A file counts as finished when its size has stayed the same between two
looks; one line on the screen and one in a table for each clip. What lay there before is scored first, unless --new.
Neither a file that cannot be read, nor a full disk, nor a folder that goes away ends the watch: each is said, once.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vision_to_sound.audio import BadClipError, named
from vision_to_sound.file_names import to_text
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.growing_table import GrowingTable
from vision_to_sound.monitoring.levels import recording_faults, unheard
from vision_to_sound.monitoring.listing import list_recordings
from vision_to_sound.monitoring.new_files import NewFiles, now, say, state_of
from vision_to_sound.monitoring.result import ClipResult
from vision_to_sound.monitoring.sound_files import SoundFile

log = logging.getLogger(__name__)

COLUMNS = (
    "recording start_s duration_s score p_value verdict strongest_region recording_faults scored_at"
).split()
_MANY = 20  # more files than that at once: progress is said


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
    return [to_text(name), *numbers, result.verdict, region, "; ".join(faults), now()]


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
        problem: BadClipError | None = None
        try:
            with named(to_text(name), failed="cannot be scored"):
                file = SoundFile.open(path)
                self._say_what_is_not_heard(file.sample_rate_hz)
                for clip in self.detector.embed(file):  # cut as the normal ones were
                    result = self.detector.score_clip(file, clip)
                    is_anomalous |= result.is_anomalous
                    faults = recording_faults(clip)
                    lines.append(line(result, name, faults))
                    rows.append(row(result, name, faults))
        except BadClipError as error:  # whatever one file raises, the others are scored
            log.debug("%s", to_text(name), exc_info=True)
            problem = error
        if self.files.changed(name):
            say(
                f"CHANGED    {to_text(name)}: while it was read; it is read again when it is finished"
            )
            self.files.forget(name)
            return True
        if problem is not None:
            is_gone = state_of(path) is None
            self.n_not_read += 1
            say(
                f"NOT READ   {to_text(name)}: {'it is gone' if is_gone else to_text(problem.problem)}"
            )
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
        self._state = state_of(self.path)

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
        state = state_of(self.path)
        if state is None or state == self._state:
            return None
        self._state = state
        try:
            detector = self.load()
        except (ValueError, OSError) as error:
            say(
                f"DETECTOR   {now()} was fitted again but cannot be used ({error}); the old one goes on"
            )
            return None
        say(f"DETECTOR   {now()} was fitted again; threshold {detector.threshold:.3f} from now on")
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
