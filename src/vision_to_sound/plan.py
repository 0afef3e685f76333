"""What a run will cost before it starts: jobs, disk and time, from the jobs that Snakemake means to run.

    python -m vision_to_sound.plan --configfile config/subset.yaml      (make plan)

Sizes are those of the arrays and exact where the clip counts are; times are measured seconds per clip
(config/speeds.tsv, two CPU cores) and good to a factor of two. Standard library only: the Snakefile imports it
to compare with the free disk before the first job.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_to_sound.encoders import ENCODERS, tap_shapes
from vision_to_sound.front_ends import FrontEnd

_EVENT_CLIPS_PER_CLASS = 40  # ESC-50
_CACHES = {
    "compute_normal_spectrograms",
    "compute_recording_spectrograms",
    "compute_mixture_spectrograms",
    "extract_embeddings",
}


@dataclass(frozen=True)
class PlannedJob:
    """A job that would run: its rule and wildcards."""

    rule: str
    wildcards: Mapping[str, str]


@dataclass
class Cost:
    """Of all jobs of one rule: how many, bytes that stay on disk, seconds on one CPU job slot."""

    jobs: int = 0
    disk_bytes: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class ClipCounts:
    """Clips of an experiment's data: how many train, how many test, how many of those are anomalous."""

    normal: int
    abnormal: int
    train: int
    test: int


def estimate(
    jobs: Iterable[PlannedJob],
    config: Mapping[str, Any],
    *,
    counts: Mapping[tuple[str, str], tuple[int, int]],
    archives: Mapping[str, int | None],
    speeds: Mapping[tuple[str, str], tuple[float, float]],
) -> dict[str, Cost]:
    """Cost per rule, in the order in which the rules first appear.

    Args:
        jobs: jobs that would run.
        config: the checked config.
        counts: (dataset, category) -> clips that are normal and abnormal (0 for EnvMix).
        archives: name -> bytes to fetch; None where unknown, 0 where a mirror has it.
        speeds: (rule, method or "") -> seconds to start a job and seconds per clip of 1000 cells of its
            spectrogram (of an epoch, for methods that train).
    """
    costs: dict[str, Cost] = {}
    for job in jobs:
        cost = costs.setdefault(job.rule, Cost())
        cost.jobs += 1
        if job.rule == "download_archive":
            cost.disk_bytes += archives.get(job.wildcards["archive"]) or 0
        else:
            cost.disk_bytes += _disk_bytes(job, config, counts)
        start_s, clip_s = speeds.get(
            (job.rule, job.wildcards.get("method", "")), speeds.get((job.rule, ""), (1.0, 0.0))
        )
        cost.seconds += start_s + clip_s * _work(job, config, counts)
    return costs


def clip_counts(
    dataset: str, protocol: str, normal: int, abnormal: int, config: Mapping[str, Any]
) -> ClipCounts:
    """Sizes of an experiment: the rules of splits.py without the clips themselves.

    The leakfree split of EnvMix is over recordings; its sizes are those of a split over clips, about.
    """
    if dataset == "envmix":
        test = math.ceil(config["envmix"]["test_share"] * normal)
        anomalous = math.floor(config["envmix"]["anomalous_share"] * test)
        return ClipCounts(normal, anomalous, normal - test, test)
    taken = abnormal if protocol == "leakfree" else int(0.3 * abnormal)
    return ClipCounts(normal, abnormal, normal - taken, 2 * taken)


def _counts_of(job: PlannedJob, config: Mapping[str, Any], counts: Mapping) -> ClipCounts | None:
    wildcards = job.wildcards
    category = wildcards.get("category")
    if category is None:
        return None
    dataset = wildcards.get("dataset") or ("mimii" if "_id_" in category else "envmix")
    normal, abnormal = counts.get((dataset, category), (0, 0))
    return clip_counts(dataset, wildcards.get("protocol", "leakfree"), normal, abnormal, config)


def _frames(job: PlannedJob, config: Mapping[str, Any]) -> tuple[int, int]:
    """Frames and mel bands of one clip on the job's front end."""
    category = job.wildcards.get("category", "")
    clip_s = config["mimii" if "_id_" in category else "envmix"]["clip_s"]
    front_end: FrontEnd = ENCODERS[job.wildcards["encoder"]].front_end
    return front_end.n_frames(round(clip_s * front_end.sample_rate_hz)), front_end.n_mels


def _set_size(job: PlannedJob, clips: ClipCounts) -> int:
    """Clips of the set that a spectrogram or embedding job makes."""
    kind = job.wildcards.get("kind", "normal")
    if kind in ("mixture", "abnormal"):
        return clips.abnormal
    if (
        kind == "normal"
        and job.wildcards.get("set_dir")
        and job.wildcards.get("dataset") != "mimii"
    ):
        return clips.normal - clips.abnormal  # of one experiment: those that get no event
    return clips.normal


def _disk_bytes(job: PlannedJob, config: Mapping[str, Any], counts: Mapping) -> float:
    clips = _counts_of(job, config, counts)
    envmix = config["envmix"]
    samples = envmix["sample_rate_hz"] * envmix["clip_s"]
    if job.rule == "extract_events":
        per_class = config["synthetic"].get("clips_per_event", _EVENT_CLIPS_PER_CLASS)
        return 4.0 * samples * per_class * len(envmix["events"])
    if clips is None:
        return 0.0
    if job.rule == "extract_backgrounds":
        return 4.0 * samples * clips.normal
    if "encoder" not in job.wildcards:
        return 0.0
    n_frames, n_mels = _frames(job, config)
    cells = n_frames * n_mels
    if not config["embeddings"]["keep"] and job.rule in _CACHES:
        return 0.0  # gone when its last reader has finished
    if job.rule in ("compute_normal_spectrograms", "compute_recording_spectrograms"):
        return 4.0 * cells * _set_size(job, clips)
    if job.rule == "compute_mixture_spectrograms":
        return 3 * 4.0 * cells * clips.abnormal
    if job.rule == "extract_embeddings":
        return 2.0 * _embedding_values(job, config) * _set_size(job, clips)
    if job.rule == "compute_truth":
        has_masks = job.wildcards.get("dataset") == "envmix"
        return clips.test * (n_frames + 2 * cells / 8) if has_masks else float(clips.test)
    if job.rule == "score_clips":
        return 4.0 * cells * clips.test
    if job.rule == "fit_detector":
        return _detector_bytes(job, config)
    return 0.0


def _embedding_values(job: PlannedJob, config: Mapping[str, Any]) -> int:
    shapes = tap_shapes(ENCODERS[job.wildcards["encoder"]], *_frames(job, config))
    return sum(n_time * n_freq * n_channels for n_time, n_freq, n_channels in shapes)


def _detector_bytes(job: PlannedJob, config: Mapping[str, Any]) -> float:
    """Of what a method keeps; 20 MB for networks, next to nothing for controls."""
    method, spec = job.wildcards["method"], ENCODERS[job.wildcards["encoder"]]
    settings = config["detectors"].get(method, {})
    if not spec.taps:
        return 1e6
    shapes = tap_shapes(spec, *_frames(job, config))
    n_cells = max(n_time * n_freq for n_time, n_freq, _ in shapes)
    n_channels = sum(channels for _, _, channels in shapes)
    if method == "padim":
        n = settings["n_channels"]
        return n_cells * (4.0 * n * (n + 1) / 2 + 8.0 * n)
    if method == "patchcore":
        return 4.0 * settings["bank_size"] * n_channels
    if method == "cfa":
        return 4.0 * n_channels * (n_channels + n_cells)
    return 2e7 if method == "stfpm" else 1e5


def _work(job: PlannedJob, config: Mapping[str, Any], counts: Mapping) -> float:
    """Clips times thousands of cells (times epochs) that a job works through."""
    clips = _counts_of(job, config, counts)
    if clips is None or "encoder" not in job.wildcards:
        return float(clips.normal) if clips else 0.0
    n_frames, n_mels = _frames(job, config)
    kcells = n_frames * n_mels / 1000
    if job.rule == "fit_detector":
        epochs = config["detectors"].get(job.wildcards["method"], {}).get("epochs", 1)
        return kcells * clips.train * epochs
    if job.rule in ("score_clips", "evaluate", "compute_truth", "measure_faithfulness"):
        return kcells * clips.test
    if job.rule == "compute_mixture_spectrograms":
        return kcells * 3 * clips.abnormal
    return kcells * _set_size(job, clips)


# --- Input and output -----------------------------------------------------------------------------


def read_counts(path: Path, config: Mapping[str, Any]) -> dict[tuple[str, str], tuple[int, int]]:
    """Clip counts of the full data sets; of indexes that lie in results/ and of synthetic sets instead."""
    counts = {
        (row["dataset"], row["category"]): (int(row["normal"]), int(row["abnormal"] or 0))
        for row in _rows(path)
    }
    synthetic = config["synthetic"]
    if synthetic:
        made = (synthetic.get("normal_per_id", 0), synthetic.get("abnormal_per_id", 0))
        for dataset, category in list(counts):
            is_envmix = dataset == "envmix"
            clips = (math.ceil(0.9 * synthetic["clips_per_background"]), 0) if is_envmix else made
            counts[dataset, category] = clips
    index = Path(config["results"], "index", "urbansound8k.tsv")
    if index.is_file():
        found: dict[str, int] = {}
        for row in _rows(index):
            long_enough = float(row["duration_s"]) >= config["envmix"]["clip_s"]
            found[row["category"]] = found.get(row["category"], 0) + long_enough
        counts |= {("envmix", category): (n, 0) for category, n in found.items()}
    for index in sorted(Path(config["results"], "index").glob("mimii_*.tsv")):
        pairs: dict[str, list[int]] = {}
        for row in _rows(index):
            pairs.setdefault(row["category"], [0, 0])[int(row["label"])] += 1
        counts |= {("mimii", category): tuple(pair) for category, pair in pairs.items()}
    return counts


def read_speeds(path: Path) -> dict[tuple[str, str], tuple[float, float]]:
    return {
        (row["rule"], row["method"]): (float(row["start_s"]), float(row["clip_s"]))
        for row in _rows(path)
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def parse_dry_run(text: str) -> list[PlannedJob]:
    """The jobs that `snakemake --dry-run` prints."""
    jobs = []
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.M | re.S):
        line = re.search(r"^    wildcards: (.*)$", block, re.M)
        pairs = (part.partition("=") for part in line[1].split(", ")) if line else ()
        jobs.append(PlannedJob(rule, {name: value for name, _, value in pairs}))
    return jobs


def report(costs: Mapping[str, Cost], *, free_bytes: int, job_slots: int) -> str:
    """A table for people, and one line that says whether the disk is large enough."""
    lines = [f"{'rule':<32}{'jobs':>7}{'disk':>10}{'time':>10}"]
    for rule, cost in costs.items():
        disk, time = _size(cost.disk_bytes), _duration(cost.seconds / job_slots)
        lines.append(f"{rule:<32}{cost.jobs:>7}{disk:>10}{time:>10}")
    jobs = sum(cost.jobs for cost in costs.values())
    needed = sum(cost.disk_bytes for cost in costs.values())
    seconds = sum(cost.seconds for cost in costs.values()) / job_slots
    lines.append(f"{'all':<32}{jobs:>7}{_size(needed):>10}{_duration(seconds):>10}")
    lines.append(
        f"time: on {job_slots} CPU cores, one core a job, without a GPU; within a factor of two"
    )
    verdict = "enough" if needed < free_bytes else "NOT ENOUGH"
    lines.append(f"disk: {_size(needed)} needed, {_size(free_bytes)} free: {verdict}")
    return "\n".join(lines)


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def free_disk(directory: str | Path) -> int:
    """Free bytes where `directory` lies or will lie."""
    path = Path(directory).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def main() -> None:
    """Dry-run Snakemake in the current folder and print what the run would cost."""
    import yaml  # comes with Snakemake

    from vision_to_sound.downloads import mirrored_names, rows_for

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--configfile", help="config file on top of config/config.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="jobs side by side")
    parser.add_argument("targets", nargs="*", help="targets; everything by default")
    given = parser.parse_args()
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", str(given.cores)]
    files = ["config/config.yaml", *([given.configfile] if given.configfile else [])]
    done = subprocess.run(
        [*command, *given.targets, "--configfile", *files], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    config: dict[str, Any] = {}
    for file in files:
        config = _merged(config, yaml.safe_load(Path(file).read_text(encoding="utf-8")))
    mirror = Path(config["mirror"]) if config["mirror"] else None
    print(
        plan_of(
            parse_dry_run(done.stdout),
            config,
            directory=Path("config"),
            archives=to_fetch(
                rows_for(Path("config/datasets.tsv"), mirror), mirrored_names(mirror)
            ),
            job_slots=given.cores,
        )
    )


def plan_of(
    jobs: Iterable[PlannedJob],
    config: Mapping[str, Any],
    *,
    directory: Path,
    archives: Mapping[str, int | None],
    job_slots: int,
) -> str:
    """`report` of the jobs; directory: where clip_counts.tsv and speeds.tsv lie."""
    costs = estimate(
        jobs,
        config,
        counts=read_counts(directory / "clip_counts.tsv", config),
        archives=archives,
        speeds=read_speeds(directory / "speeds.tsv"),
    )
    return report(costs, free_bytes=free_disk(config["results"]), job_slots=job_slots)


def to_fetch(rows: Mapping[str, Any], mirrored: Iterable[str]) -> dict[str, int | None]:
    """Bytes that each archive takes on disk; 0 for what a mirror has, which is read in place."""
    mirrored = set(mirrored)
    return {name: 0 if name in mirrored else row.bytes for name, row in rows.items()}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """As Snakemake lays one config file over another: mappings merge, all else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


if __name__ == "__main__":
    main()
