"""Results of one's own recordings as people see them: what a run ends with, and where the last run's go.

Standard library only: the Snakefile imports this.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

PAGE = "page.html"
# What a run ends with; the rest of the folder are caches and tables that the next run starts from.
_ENDS = (PAGE, "clips.tsv", "regions.tsv", "metrics.tsv", "names.tsv", "audacity")
_PREVIOUS = "previous"
_N_WORST = 3


def recordings_folder(config: Mapping[str, Any]) -> Path:
    results = os.path.expanduser(str(config.get("results", "results")))
    return Path(os.path.normpath(results)) / "recordings"


def set_aside_results_of_before(
    config: Mapping[str, Any], to_be_made: Collection[str] | None = None
) -> None:
    """Move page and tables of the last run, if there are any, to the folder `previous` beside them.

    A run that is about to make them anew may fail, and a page that belongs to other folders or settings would look like
    its result. to_be_made: paths of those that the run makes; None: none of them belongs to this run.
    """
    folder = recordings_folder(config)
    old = [
        name
        for name in _ENDS
        if (folder / name).exists() and (to_be_made is None or str(folder / name) in to_be_made)
    ]
    if not old or "folder" not in config.get("datasets", ()):
        return
    previous = folder / _PREVIOUS
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir()
    for name in old:
        os.replace(folder / name, previous / name)


def summary(config: Mapping[str, Any]) -> str:
    """What came out of the recordings, in a few lines for the end of a run; "" if nothing did."""
    folder = recordings_folder(config)
    if not (folder / PAGE).is_file():
        return ""
    with open(folder / "clips.tsv", newline="", encoding="utf-8") as file:
        clips = list(csv.DictReader(file, delimiter="\t"))
    anomalous = [clip for clip in clips if clip["verdict"] == "anomalous"]
    n_recordings = len({clip["recording"] for clip in clips})
    of = f"{n_recordings} recordings" + (
        f" ({len(clips)} clips)" if len(clips) > n_recordings else ""
    )
    worst = "; ".join(
        f"{clip['recording']} (p = {float(clip['p_value']):.3f})" for clip in anomalous[:_N_WORST]
    )
    lines = [
        f"{len(anomalous)} of {len(clips)} clips anomalous, of {of}"
        + (f". Worst: {worst}" if worst else "")
    ]
    left_out = sum(_n_rows(folder / f"{side}_skipped.tsv") for side in ("normal", "unsorted"))
    if left_out:
        files = "1 file was" if left_out == 1 else f"{left_out} files were"
        lines.append(f"{files} not used: the page says which and why")
    lines += [
        f"page    {folder / PAGE}",
        f"tables  {folder / 'clips.tsv'}, regions.tsv, metrics.tsv",
    ]
    return "".join(f"  {line}\n" for line in lines)


def _n_rows(table: Path) -> int:
    with open(table, newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file, delimiter="\t"))


if __name__ == "__main__":
    print("\n" + summary({"results": sys.argv[1]}))
