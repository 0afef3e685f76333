"""A tiny finished run on a copy of the repository, and dry runs that say what would run again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ["Snakefile", "rules", "envs", "config", "profiles", "report", "src", "workflow_scripts"]

TINY_CONFIG = """\
results: results
downloads: results/downloads
mirror: mirror
synthetic:
  clips_per_background: 16
  clips_per_event: 3
  normal_per_id: 10
  abnormal_per_id: 4
  seed: 0
datasets: [envmix, mimii]
encoders: [aisfx]
methods: [patchcore, padim, stfpm, autoencoder]
controls: [oracle, random]
envmix:
  backgrounds: [air_conditioner, siren]
  events: [dog, glass_breaking]
  snrs_db: [0]
  seeds: [0]
  clip_s: 2.0
mimii:
  machine_types: [fan]
  ids: [0]
  snrs_db: [0]
  seeds: [42]
  clip_s: 2.0
detectors:
  patchcore: {bank_size: 100}
  padim: {n_channels: 20}
  stfpm: {epochs: 2}
  autoencoder: {epochs: 2}
metrics: {n_draws: 100}
faithfulness: {methods: [padim], mask_controls: [oracle]}
figures:
  metrics: [sample_roc, spectrogram_roc]
  example_categories: [siren]
  example_recordings: [fan_id_00]
  dpi: 50
listening: {count: 1, methods: [patchcore]}
threads: 1
memory_mb: 800
"""


# Answers what Snakemake asks a conda before it makes environments, and nothing else.
STAND_IN_CONDA = """\
#!/bin/sh
case "$*" in
  "info --json") echo '{"conda_prefix": "/nowhere", "platform": "linux-64"}' ;;
  "--version") echo "conda 24.7.1" ;;
  "config --get channel_priority --json") echo '{"get": {"channel_priority": "strict"}}' ;;
  *) echo "unexpected: conda $*" >&2; exit 1 ;;
esac
"""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side: those of the tiny run on one worker, so that it is made once."""
    for item in items:
        if "finished" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("tiny run"))
        elif "paper" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("paper"))
        elif "sorted_folder" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("recordings"))


@dataclass(frozen=True)
class Project:
    """A copy of the repository that Snakemake runs in."""

    root: Path

    def command(self, *arguments: str, config: str = "tiny.yaml") -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", "--resources", "gpu=2"),
            *("--configfile", config, "--cores", "2", *arguments),
        ]

    def environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def snakemake(self, *arguments: str, config: str = "tiny.yaml") -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments, config=config),
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            errors="backslashreplace",  # names that are no UTF-8
            timeout=1800,
        )

    def planned_jobs(
        self, *arguments: str, config: str = "tiny.yaml"
    ) -> dict[str, dict[str, list[str]]]:
        """{rule: {wildcards of a job: its inputs}} of a dry run; {} if there is nothing to do."""
        result = self.snakemake("--dry-run", *arguments, config=config)
        output = result.stdout + result.stderr
        assert result.returncode == 0, output[-5000:]
        jobs: dict[str, dict[str, list[str]]] = {}
        for rule, block in re.findall(
            r"^(?:local)?rule (\w+):\n(.*?)(?=^\S|\Z)", output, re.M | re.S
        ):
            fields = dict(re.findall(r"^    (wildcards|input): (.*)$", block, re.M))
            inputs = fields.get("input", "").split(", ")
            jobs.setdefault(rule, {})[fields.get("wildcards", "")] = inputs
        for target in ("all", "leaderboard"):
            jobs.pop(target, None)
        return jobs

    def would_run(self, *arguments: str, config: str = "tiny.yaml") -> dict[str, set[str]]:
        """{rule: wildcards of its jobs}."""
        planned = self.planned_jobs(*arguments, config=config)
        return {rule: set(jobs) for rule, jobs in planned.items()}

    def reasons(self, *arguments: str) -> str:
        result = self.snakemake("--dry-run", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    def add_recordings(self) -> None:
        """Folders of sound files that nobody reads, and the config that names them."""
        for side in ("normal", "unsorted"):
            (self.root / side).mkdir()
            (self.root / side / "a.wav").touch()
        self.edit(
            "tiny.yaml",
            "datasets: [envmix, mimii]\n",
            "datasets: [envmix, mimii, folder]\nnormal: normal\nunsorted: unsorted\n"
            "recordings: {prompts: [a rattle, a hiss]}\n",
        )

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text, f"{name} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1))


def copy_of_repository(root: Path) -> Project:
    root.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, root / name)
    (root / "tiny.yaml").write_text(TINY_CONFIG)
    return Project(root)


def make_mirror(project: Project) -> None:
    """The folder that tiny.yaml takes the encoder's weights from; they are random."""
    script = Path(__file__).with_name("make_weights.py")
    subprocess.run(
        [sys.executable, str(script), str(project.root / "mirror")],
        check=True,
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(project.root / "src")},
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A tiny run to the end, with random encoder weights from a mirror; nobody changes it."""
    project = copy_of_repository(tmp_path_factory.mktemp("workflow") / "finished")
    make_mirror(project)
    result = project.snakemake("all", "leaderboard")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-5000:]
    return project


def _link_arrays(source: str, target: str) -> None:
    """Hundreds of megabytes of arrays: the workflow replaces them, it never writes into them."""
    if source.endswith((".npy", ".npz")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@pytest.fixture
def stand_in_conda(tmp_path, monkeypatch) -> None:
    """A conda on the PATH that is good for dry runs: no machine of the project's had a real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "conda").write_text(STAND_IN_CONDA)
    (folder / "conda").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def project(finished, tmp_path) -> Iterator[Project]:
    """A copy of the finished run, with times, to be changed at will."""
    root = tmp_path / "copy"
    shutil.copytree(finished.root, root, symlinks=True, copy_function=_link_arrays)
    yield Project(root)
    shutil.rmtree(root, ignore_errors=True)  # it may have been moved
