"""A tiny finished run on a copy of the repository, and dry runs that say what would run again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ["Snakefile", "rules", "envs", "config", "profiles", "report", "src", "workflow_scripts"]

TINY_CONFIG = """\
results: results
downloads: results/downloads
mirror: mirror
synthetic: {clips_per_background: 16, clips_per_event: 3, seed: 0}
encoders: [aisfx]
methods: [patchcore, padim]
controls: [oracle, random]
envmix:
  backgrounds: [air_conditioner, siren]
  events: [dog, glass_breaking]
  snrs_db: [0]
  seeds: [0]
detectors:
  patchcore: {bank_size: 100}
  padim: {n_channels: 20}
figures: {example_categories: [siren], dpi: 50}
listening: {count: 1}
memory_mb: 800
"""


@dataclass(frozen=True)
class Project:
    """A copy of the repository that Snakemake runs in."""

    root: Path

    def snakemake(self, *arguments: str, config: str = "tiny.yaml") -> subprocess.CompletedProcess:
        command = [
            *(sys.executable, "-m", "snakemake", "--cores", "2"),
            *("--configfile", config, *arguments),
        ]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=900
        )

    def would_run(self, *arguments: str, config: str = "tiny.yaml") -> dict[str, set[str]]:
        """{rule: wildcards of its jobs} of a dry run; {} if there is nothing to do."""
        result = self.snakemake("--dry-run", *arguments, config=config)
        output = result.stdout + result.stderr
        assert result.returncode == 0, output
        jobs: dict[str, set[str]] = {}
        for rule, block in re.findall(
            r"^(?:local)?rule (\w+):\n(.*?)(?=^\S|\Z)", output, re.M | re.S
        ):
            wildcards = re.search(r"^    wildcards: (.*)$", block, re.M)
            jobs.setdefault(rule, set()).add(wildcards[1] if wildcards else "")
        jobs.pop("all", None)
        return jobs

    def reasons(self, *arguments: str) -> str:
        result = self.snakemake("--dry-run", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

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


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A tiny run to the end, with random encoder weights from a mirror; nobody changes it."""
    project = copy_of_repository(tmp_path_factory.mktemp("workflow") / "finished")
    subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("make_weights.py")),
            str(project.root / "mirror"),
        ],
        check=True,
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(project.root / "src")},
    )
    result = project.snakemake()
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-5000:]
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the finished run, with times, to be changed at will."""
    shutil.copytree(finished.root, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy")
