"""What Snakemake means to run, and why: its dry run, read by a program."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Not those of the current folder, which may be of something else.
REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = str(REPOSITORY / "config" / "config.yaml")


@dataclass(frozen=True)
class PlannedJob:
    """A job that would run.

    rule, wildcards: which; benchmark: the file that says how long it took; reason: Snakemake's words.
    """

    rule: str
    wildcards: Mapping[str, str]
    benchmark: str = ""
    reason: str = ""

    @property
    def dataset(self) -> str:
        known_by = "mimii" if "_id_" in self.wildcards.get("category", "") else "envmix"
        return self.wildcards.get("dataset", known_by)


def parse_dry_run(text: str) -> list[PlannedJob]:
    """The jobs that `snakemake --dry-run` prints."""
    jobs = []
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.M | re.S):
        line = dict(re.findall(r"^    (wildcards|benchmark|reason): (.*)$", block, re.M))
        pairs = [part.split("=", 1) for part in line.get("wildcards", "").split(", ") if part]
        found = PlannedJob(rule, dict(pairs), line.get("benchmark", ""), line.get("reason", ""))
        jobs.append(found)
    return jobs


def planned_jobs(configfile: str | None, *options: str) -> list[PlannedJob]:
    """Jobs of a dry run in the current folder; the program ends with Snakemake's own words where that fails."""
    files = [CONFIG, *([configfile] if configfile else [])]
    command = [sys.executable, "-m", "snakemake", "--dry-run"]
    command += ["--snakefile", str(REPOSITORY / "Snakefile")]
    # the usual defaults measure input files, which come and go while a run is at work
    command += ["--default-resources", "disk_mb=1", "mem_mb=1", "--cores", "1", *options]
    done = subprocess.run([*command, "--configfile", *files], capture_output=True, text=True)
    if done.returncode:
        sys.exit("\n".join([*done.stdout.splitlines()[-30:], done.stderr]))
    return parse_dry_run(done.stdout)


def merged_config(configfile: str | None) -> dict[str, Any]:
    """config/config.yaml under another config file, as Snakemake does it: mappings merge, all else is replaced."""
    import yaml

    config: dict[str, Any] = {}
    for file in (CONFIG, *([configfile] if configfile else [])):
        config = _merged(config, yaml.safe_load(Path(file).read_text(encoding="utf-8")))
    return config


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        is_part = isinstance(value, Mapping) and key in merged
        merged[key] = _merged(merged[key], value) if is_part else value
    return merged
