"""The tiny workflow on a one-node Slurm with profiles/slurm, against the same run without a cluster.

    make test-slurm          (on Debian; Slurm is unpacked in a temporary folder that goes afterwards)

Equal means: every file in results/tables and results/metrics, byte for byte. Besides, Slurm's own record must say
that GPU jobs got a GPU and others none, only rules that the profile names may have been in the queue, and nothing
may be left to do. Exit status 1 if anything differs; then the folder with both runs stays.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from one_node import OneNodeSlurm

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from workflow.conftest import Project, copy_of_repository, make_mirror  # noqa: E402

ON_SLURM = [
    *("--workflow-profile", "profiles/slurm", "--configfile", "tiny.yaml"),
    # What a cluster with accounting and NFS does not need; a small cluster answers at once.
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3"),
    *("--latency-wait", "5"),
]
GPU_JOBS = {"rule_extract_embeddings", "rule_fit_detector", "rule_measure_faithfulness"}
MIXED_JOBS = {"group_scores"}  # methods and controls


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="keep both runs and Slurm's logs")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    folder = Path(tempfile.mkdtemp(prefix="vision_to_sound_slurm_"))
    print(f"logs: {folder}/*.log", flush=True)
    try:
        failures = compare(folder)
    except (RuntimeError, subprocess.SubprocessError) as error:
        failures = [str(error)]
    except KeyboardInterrupt:
        failures = ["stopped"]
    if keep or failures:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def compare(folder: Path) -> list[str]:
    """Make both runs; what is wrong with the second, [] if nothing is."""
    local = copy_of_repository(folder / "local")
    make_mirror(local)
    cluster = copy_of_repository(folder / "cluster")
    shutil.copytree(local.root / "mirror", cluster.root / "mirror")
    with timed("without a cluster"):
        run(
            local.command(),
            project=local,
            environment=local.environment(),
            log=folder / "local.log",
        )
    with slurm(folder / "slurm") as one_node:
        with timed("on Slurm"):
            run(
                [sys.executable, "-m", "snakemake", *ON_SLURM],
                project=cluster,
                environment=one_node.environment,
                log=folder / "cluster.log",
            )
        jobs = by_name(one_node.jobs())
    print_jobs(jobs)
    n_equal, failures = different_files(local.root / "results", cluster.root / "results")
    print(f"{n_equal} files in tables and metrics are equal byte for byte")
    failures += wrong_jobs(jobs)
    left = cluster.would_run()
    if left:
        failures.append(f"after the run on Slurm these would run again: {sorted(left)}")
    return failures


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[OneNodeSlurm]:
    one_node = OneNodeSlurm(folder)
    try:
        with timed("unpacking and starting Slurm"):
            one_node.start()
        yield one_node
    finally:
        one_node.stop()


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def run(command: list[str], *, project: Project, environment: dict[str, str], log: Path) -> None:
    """To the end, or stopped with this script; raises RuntimeError with the last lines if it fails."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=project.root,
            env={key: value for key, value in environment.items() if key != "PYTHONPATH"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # one Ctrl-C for this script, one for Snakemake
        )
        try:
            process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
    if process.returncode:
        raise RuntimeError(f"snakemake failed; {log} ends with:\n{log.read_text()[-3000:]}")


def different_files(first: Path, second: Path) -> tuple[int, list[str]]:
    """Number of equal files in tables and metrics of two runs, and what differs."""
    found = [
        {
            str(path.relative_to(root)): path.read_bytes()
            for name in ("tables", "metrics")
            for path in (root / name).rglob("*")
            if path.is_file()
        }
        for root in (first, second)
    ]
    names = sorted(found[0].keys() | found[1].keys())
    different = [name for name in names if found[0].get(name) != found[1].get(name)]
    failures = [f"{name} differs" for name in different]
    if not names:
        failures.append(f"no tables in {first}")
    return len(names) - len(different), failures


def by_name(jobs: dict[str, dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """{rule_NAME or group_NAME: what Slurm says of its jobs}; the executor names log folders so.

    It lets a group's rules follow its name, which holds no underscore itself.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for job in jobs.values():
        name = re.search(r"slurm_logs/(rule_\w+|group_[^\W_]+)", job["StdOut"])
        found.setdefault(name[1] if name else job["StdOut"], []).append(job)
    return found


def wrong_jobs(jobs: dict[str, list[dict[str, str]]]) -> list[str]:
    """What Slurm's record of its jobs says against the profile."""
    profile = yaml.safe_load((REPOSITORY / "profiles" / "slurm" / "config.yaml").read_text())
    groups = profile["groups"]
    expected = {f"rule_{rule}" for rule in profile["set-resources"] if rule not in groups}
    expected |= {f"group_{group}" for group in groups.values()}
    failures = [f"{name} was in the queue" for name in sorted(jobs.keys() - expected)]
    failures += [f"{name} was never in the queue" for name in sorted(expected - jobs.keys())]
    for name, found in jobs.items():
        states = {job["JobState"] for job in found}
        if states != {"COMPLETED"}:
            failures.append(f"{name} ended as {sorted(states)}")
        if any(job["Partition"] != ("gpu" if n_gpus(job) else "cpu") for job in found):
            failures.append(f"{name} was in the wrong partition")
        gpus = {n_gpus(job) for job in found}
        wanted = {1} if name in GPU_JOBS else {0, 1} if name in MIXED_JOBS else {0}
        if not gpus <= wanted or (name in GPU_JOBS | MIXED_JOBS and 1 not in gpus):
            failures.append(f"{name} got {sorted(gpus)} GPUs")
    return failures


def n_gpus(job: dict[str, str]) -> int:
    match = re.fullmatch(r"gres:gpu:(\d+)", job.get("TresPerJob", ""))
    return int(match[1]) if match else 0


def print_jobs(jobs: dict[str, list[dict[str, str]]]) -> None:
    print(f"{sum(map(len, jobs.values()))} jobs in the queue:")
    for name, found in sorted(jobs.items()):
        asked = {
            f"{job['Partition']}, {n_gpus(job)} GPU, {job['NumCPUs']} CPU, "
            f"{job['MinMemoryNode']}, {job['TimeLimit']}"
            for job in found
        }
        print(f"  {len(found):3d} {name}: {'; '.join(sorted(asked))}")


if __name__ == "__main__":
    sys.exit(main())
