"""The tiny run is disturbed: killed anywhere, its disk full, its files damaged. A clear word, and the next start
ends where an undisturbed run does.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from .conftest import Project, copy_of_repository

pytestmark = pytest.mark.slow
SIREN = "leakfree/envmix/siren"
CACHE = f"results/embeddings/{SIREN}/normal/aisfx.npy"
PADIM = f"results/scores/{SIREN}/snr0/aisfx/padim/seed0.npz"


def tables(project: Project) -> dict[str, bytes]:
    """All numbers that a run ends with."""
    found = {}
    for folder in ("tables", "metrics", "faithfulness", "scores"):
        for path in sorted((project.root / "results" / folder).rglob("*.*")):
            found[str(path.relative_to(project.root))] = path.read_bytes()
    assert len(found) > 50
    return found


@pytest.fixture
def unstarted(finished, tmp_path) -> Iterator[Project]:
    """Another copy of the repository that has run nothing yet."""
    project = copy_of_repository(tmp_path / "run")
    shutil.copytree(finished.root / "mirror", project.root / "mirror")
    yield project
    shutil.rmtree(project.root, ignore_errors=True)


@contextmanager
def running(project: Project, *arguments: str) -> Iterator[subprocess.Popen]:
    """A run in a process group of its own; nothing of it is left afterwards."""
    run = subprocess.Popen(
        project.command(*arguments),
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield run
    finally:
        try:
            os.killpg(run.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        run.communicate()


def job_of(run: subprocess.Popen, *, wait_s: float) -> psutil.Process | None:
    """A job that is at work, as soon as there is one."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and run.poll() is None:
        for child in psutil.Process(run.pid).children(recursive=True):
            try:
                if "/scripts/" in " ".join(child.cmdline()):
                    return child
            except psutil.Error:
                continue
        time.sleep(0.05)
    return None


# --- killed


def test_killed_at_twenty_moments_it_ends_in_the_same_bytes(unstarted, finished):
    """Every other time all of it, else one job: kill -9, nothing can clean up."""
    rng = random.Random(0)
    told = 0
    for kill in range(20):
        assert unstarted.snakemake("--unlock").returncode == 0
        with running(unstarted) as run:
            job = job_of(run, wait_s=60)
            if job is None:
                break  # it was ready before it could be killed
            time.sleep(rng.uniform(0.0, 12.0))
            if kill % 2:
                os.killpg(run.pid, signal.SIGKILL)
            elif victim := job_of(run, wait_s=60):
                rule = re.search(r"\.(\w+)\.py", " ".join(victim.cmdline()))[1]
                victim.kill()
                said, _ = run.communicate(timeout=120)
                assert run.returncode != 0
                assert rule in said and f"results/logs/{rule}" in said
                told += 1
    assert kill >= 10 and told >= 5, "too few were killed in the middle"
    assert unstarted.snakemake("--unlock").returncode == 0
    last = unstarted.snakemake()
    assert last.returncode == 0, last.stderr[-5000:]
    assert tables(unstarted) == tables(finished)
    assert unstarted.would_run() == {}


def test_one_core_and_two_give_the_same_bytes(unstarted, finished):
    """In another folder, one job after the other, in another order."""
    result = unstarted.snakemake("--cores", "1")
    assert result.returncode == 0, result.stderr[-5000:]
    assert tables(unstarted) == tables(finished)


# --- the disk


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_in_the_middle_of_a_cache(project):
    expected = (project.root / CACHE).read_bytes()
    folder = project.root / "results/embeddings"
    shutil.rmtree(folder)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        result = project.snakemake(CACHE, "--config", "check_disk=False")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert re.search(
        rf"^{re.escape(CACHE)} needs \d+ MiB: No space left on device. Free some", said, re.M
    )
    assert f"results/logs/extract_embeddings/{SIREN}" in said
    again = project.snakemake(CACHE)
    assert again.returncode == 0, again.stderr
    assert (project.root / CACHE).read_bytes() == expected


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs setpriv")
def test_results_that_cannot_be_written(project):
    """As somebody who may write beside results/ and not into it; root is one once it is held to permissions."""
    (project.root / PADIM).unlink()
    held = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    (project.root / "results").chmod(0o555)
    try:
        result = subprocess.run(
            [*(held if os.geteuid() == 0 else []), *project.command()],
            cwd=project.root,
            env=project.environment(),
            capture_output=True,
            text=True,
        )
    finally:
        (project.root / "results").chmod(0o755)
    said = result.stdout + result.stderr
    assert result.returncode != 0 and "Traceback" not in said
    assert "results: no file can be made in the folder results: Permission denied" in said
    assert set(project.would_run()) >= {"score_clips"}
    assert project.snakemake().returncode == 0
    assert project.would_run() == {}, "and nothing was lost"


def test_two_runs_at_once(project):
    """The second says so and leaves; the first goes on."""
    (project.root / PADIM).unlink()
    with running(project) as first:
        assert job_of(first, wait_s=120)
        second = project.snakemake()
        assert second.returncode != 0
        assert "locked" in second.stdout + second.stderr
        first.communicate(timeout=600)
        assert first.returncode == 0
    assert project.would_run() == {}


# --- files


def damage(path: Path) -> None:
    """One bit in the middle; size and time stay as they were. A new file: copies may share the old one."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("damaged", "rerun"),
    [
        (CACHE, PADIM),  # the clip in the middle is a test clip: fitting does not read it
        (f"results/spectrograms/{SIREN}/normal/aisfx.npy", CACHE),
        ("results/weights/aisfx.safetensors", CACHE),
        ("results/clips/envmix/events.npy", f"results/mixtures/{SIREN}/snr0/seed0.tsv"),
        (f"results/detectors/{SIREN}/aisfx/padim/seed0.npz", PADIM),
        (PADIM, f"results/metrics/{SIREN}/aisfx/padim.tsv"),
        (f"results/metrics/{SIREN}/aisfx/padim.tsv", "results/metrics/all.tsv"),
        (f"results/mixtures/{SIREN}/snr0/seed0.tsv", PADIM),
        ("results/index/esc50.tsv", "results/clips/envmix/events.npy"),
        (CACHE.replace(".npy", ".json"), PADIM),
    ],
)
def test_a_damaged_file_is_found_before_its_numbers_are_used(project, finished, damaged, rerun):
    damage(project.root / damaged)
    (project.root / rerun).unlink()
    result = project.snakemake(rerun)
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert re.search(
        rf"{re.escape(damaged)} is damaged.*delete it, the next run makes it again", said
    )
    assert "results/logs/" in said
    (project.root / damaged).unlink()
    again = project.snakemake(rerun)
    assert again.returncode == 0, again.stderr[-3000:]
    for name in (damaged, rerun):
        assert (project.root / name).read_bytes() == (finished.root / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("truncated", "changed after it was checked.*Delete the record of 'esc50'"),
        ("replaced", "changed after it was checked.*Delete the record of 'esc50'"),
        # Size and time say nothing here, and it is not summed up again; each member has a checksum of its own.
        ("one bit, unnoticed", "member '.*' cannot be read .*Fetch the archive again"),
    ],
)
def test_an_archive_that_changed_after_it_was_checked(project, finished, change, expected):
    archive = project.root / "results/synthetic/ESC-50-master.zip"
    data = archive.read_bytes()
    if change == "one bit, unnoticed":
        damage(archive)
    else:
        archive.unlink()
        half = len(data) // 2
        archive.write_bytes(data[:half] if change == "truncated" else data[:-9] + b"X" * 9)
    events = "results/clips/envmix/events.npy"
    (project.root / events).unlink()
    result = project.snakemake(events)
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert re.search(rf"{re.escape(archive.name)}\b.*{expected}", said)
    assert "results/logs/extract_events" in said
    archive.write_bytes(data)
    again = project.snakemake(events)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (project.root / events).read_bytes() == (finished.root / events).read_bytes()
