"""Score recordings as they appear in a folder: `make watch FOLDER=DIR`, until Ctrl-C.

One process with the fitted detector in memory. A file counts as finished when its size has stayed the same between two
looks; one line on the screen and one in a table for each clip. What lay there before is scored first, unless --new.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from vision_to_sound.audio import BadClipError
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.listing import SUFFIXES
from vision_to_sound.monitoring.result import ClipResult
from vision_to_sound.monitoring.sound_files import SoundFile

log = logging.getLogger(__name__)

COLUMNS = "recording start_s duration_s score p_value verdict strongest_region scored_at".split()


class NewFiles:
    """Finished sound files of a folder that have not been given out yet; a file that was written again is new."""

    def __init__(self, folder: Path, *, skip_present: bool = False) -> None:
        self.folder = folder
        self._given: dict[Path, tuple[int, int]] = {}
        self._growing: dict[Path, tuple[int, int]] = {}
        if skip_present:
            self._given = {path: _state(path) for path in self._sounds()}

    def _sounds(self) -> list[Path]:
        paths = sorted(self.folder.rglob("*"))
        return [
            p
            for p in paths
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
        ]

    def look(self) -> list[Path]:
        """Those whose size and time are as at the last look."""
        finished = []
        for path in self._sounds():
            try:
                state = _state(path)
            except FileNotFoundError:
                continue
            if state == self._given.get(path):
                continue
            if state == self._growing.get(path) and state[0]:
                finished.append(path)
                self._given[path] = state
                del self._growing[path]
            else:
                self._growing[path] = state
        return finished


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def results_of(detector: AnomalyDetector, path: Path) -> Iterator[ClipResult]:
    """Results of all clips of a recording, cut as the normal ones were."""
    file = SoundFile.open(path)
    for clip in detector.embed(file):
        yield detector.score_clip(file, clip)


def line(result: ClipResult, name: str) -> str:
    """What the screen shows of a clip."""
    verdict = "ANOMALOUS" if result.is_anomalous else "normal   "
    text = f"{verdict}  {name} at {result.start_s:.0f} s  score {result.score:.3f}  p = {result.p_value:.3f}"
    if result.regions:
        region = result.regions[0]
        start_s, end_s = result.start_s + region.start_s, result.start_s + region.end_s
        text += f"  {start_s:.2f} to {end_s:.2f} s, {region.low_hz:.0f} to {region.high_hz:.0f} Hz"
    return text


def watch(
    folder: Path,
    detector: AnomalyDetector,
    table: Path,
    *,
    every_s: float = 1.0,
    skip_present: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Score what appears, append to the table; a file that cannot be read is said so and passed over."""
    files = NewFiles(folder, skip_present=skip_present)
    is_new = not table.exists()
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        while goes_on():
            for path in files.look():
                name = str(path.relative_to(folder))
                started = time.monotonic()
                try:
                    results = list(results_of(detector, path))
                except (BadClipError, OSError) as error:
                    print(f"NOT READ   {error}", flush=True)
                    continue
                for result in results:
                    print(line(result, name), flush=True)
                    region = (
                        " ".join(f"{v:.4g}" for v in result.regions[0]) if result.regions else ""
                    )
                    verdict = "anomalous" if result.is_anomalous else "normal"
                    row = [
                        name,
                        result.start_s,
                        result.duration_s,
                        result.score,
                        result.p_value,
                        verdict,
                        region,
                    ]
                    writer.writerow(
                        [*row, datetime.now().astimezone().isoformat(timespec="seconds")]
                    )
                file.flush()
                took_s, length_s = time.monotonic() - started, results[0].file.duration_s
                log.info(
                    "%s: %.1f s of sound in %.2f s, %.0f times real time",
                    name,
                    length_s,
                    took_s,
                    length_s / took_s,
                )
            time.sleep(every_s)


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
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    path = arguments.results / "recordings" / "detector.npz"
    if not arguments.folder.is_dir():
        sys.exit(f"there is no folder {arguments.folder}")
    if not path.is_file():
        sys.exit(f"there is no detector {path}: `make recordings NORMAL=DIR UNSORTED=DIR` fits one")
    detector = AnomalyDetector.load(path, threads=arguments.threads)
    weights = arguments.results / "weights" / f"{detector.spec.name}.safetensors"
    if weights.is_file():
        detector.weights = weights
    print(
        f"watching {arguments.folder}; threshold {detector.threshold:.3f}; Ctrl-C ends", flush=True
    )
    try:
        watch(
            arguments.folder,
            detector,
            arguments.results / "recordings" / "watched.tsv",
            every_s=arguments.every,
            skip_present=arguments.new,
        )
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
