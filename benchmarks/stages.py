"""Two runs of the same config, stage by stage: what their jobs cost, from the files of Snakemake's `benchmark:`.

    python -m benchmarks.stages OTHER/results/subset results/subset

Only jobs that both runs did count. Seconds are of the processor, sampled by Snakemake, so that what else the machine
did hardly counts; wall seconds stand beside them. Both include start-up and imports.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

DETECTOR_RULES = ("fit_detector", "score_clips", "measure_faithfulness", "evaluate")
HEADER = ("stage", "jobs", "before, s", "after, s", "times as fast", "before, wall s", "after")


def jobs_of(results: Path) -> dict[Path, tuple[float, float]]:
    """(processor seconds, wall seconds) of each job, by the path of its benchmark file."""
    found = {}
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        cpu_s = row["cpu_time"]  # "NA" where the job was over before it could be sampled
        cpu_s = float(row["s"]) if cpu_s == "NA" else float(cpu_s)
        found[path.relative_to(results / "benchmarks")] = (cpu_s, float(row["s"]))
    return found


def stage_of(job: Path) -> str:
    """The rule, and where it matters the detector: the last folder before the seed."""
    rule = job.parts[0].removesuffix(".tsv")
    if rule not in DETECTOR_RULES:
        return rule
    method = job.stem if rule == "evaluate" else job.parts[-2]
    return f"{rule} {method}"


def compared(before: Path, after: Path, *, least_s: float) -> list[tuple[str, int, np.ndarray]]:
    """Stage, jobs, and (2, 2) processor and wall seconds before and after: the dearest first, the sum at the end.

    Stages of less than least_s are one.
    """
    old, new = jobs_of(before), jobs_of(after)
    common = sorted(old.keys() & new.keys())
    if not common:
        raise SystemExit(
            f"{before} and {after} have no job in common: are these folders of results?"
        )
    stages = defaultdict(list)
    for job in common:
        stages[stage_of(job)].append((old[job], new[job]))
    rows = [(stage, len(jobs), np.sum(jobs, axis=0).T) for stage, jobs in stages.items()]
    dear = [row for row in rows if row[2][0].max() >= least_s]
    cheap = [row for row in rows if row[2][0].max() < least_s]
    dear.sort(key=lambda row: -row[2][0, 0])
    if cheap:
        seconds = np.sum([seconds for *_, seconds in cheap], axis=0)
        dear.append((f"{len(cheap)} cheaper stages", sum(n for _, n, _ in cheap), seconds))
    return [*dear, ("all", len(common), np.sum([seconds for *_, seconds in rows], axis=0))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="results folder of the earlier run")
    parser.add_argument("after", type=Path, help="results folder of the later run")
    parser.add_argument("--least-s", type=float, default=10.0, help="fold cheaper stages into one")
    arguments = parser.parse_args()
    rows = compared(arguments.before, arguments.after, least_s=arguments.least_s)
    print(f"| {' | '.join(HEADER)} |\n{'| --- ' * len(HEADER)}|")
    for stage, n_jobs, ((cpu_s, cpu_s_now), (wall_s, wall_s_now)) in rows:
        ratio = f"{cpu_s / cpu_s_now:.1f}" if cpu_s_now else "-"
        seconds = f"{cpu_s:.0f} | {cpu_s_now:.0f} | {ratio} | {wall_s:.0f} | {wall_s_now:.0f}"
        print(f"| {stage} | {n_jobs} | {seconds} |")


if __name__ == "__main__":
    main()
