"""The Slurm profile without a Slurm: which rules it names, what it asks for, and where a GPU comes from."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest
import yaml
from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from .conftest import REPOSITORY, copy_of_repository

PROFILE = REPOSITORY / "profiles" / "slurm"


@pytest.fixture(scope="module")
def profile() -> dict:
    return yaml.safe_load((PROFILE / "config.yaml").read_text())


def rule_names() -> set[str]:
    paths = [REPOSITORY / "Snakefile", *(REPOSITORY / "rules").glob("*.smk")]
    return {name for p in paths for name in re.findall(r"^rule (\w+):", p.read_text(), re.M)}


def local_rules() -> set[str]:
    text = (REPOSITORY / "Snakefile").read_text()
    return set(re.findall(r"\w+", re.search(r"^localrules:\n((?:    \w+,\n)+)", text, re.M)[1]))


def test_every_rule_runs_here_or_has_its_time_and_memory(profile):
    """A new rule has to be put in one place or the other; a rule that is gone has to go from both."""
    queued = set(profile["set-resources"])
    assert not queued & local_rules()
    assert queued | local_rules() == rule_names()
    texts = "".join(p.read_text() for p in (REPOSITORY / "rules").glob("*.smk"))
    for rule, resources in profile["set-resources"].items():
        block = re.search(rf"^rule {rule}:\n.*?(?=^\S|\Z)", texts, re.M | re.S)[0]
        # Its own number in the profile, or the config's.
        assert ("mem_mb" in resources) != ("mem_mb=memory_of" in block), rule
        assert "runtime" in resources, rule


def test_grouped_jobs_run_in_turn(profile):
    """Without it a group would ask for the cores, memory and GPUs of all its jobs together."""
    in_turn = {rule for rule, res in profile["set-resources"].items() if "in_turn" in res}
    assert set(profile["groups"]) == in_turn
    assert set(profile["group-components"]) <= set(profile["groups"].values())
    assert profile["resources"] == {"in_turn": 1}
    assert profile["set-resource-scopes"] == {"in_turn": "local"}


def resources(project, *arguments: str) -> dict[tuple[str, str], dict[str, str]]:
    """{(rule, method): resources} of a dry run with the profile."""
    result = project.snakemake("--dry-run", "--workflow-profile", "profiles/slurm", *arguments)
    assert result.returncode == 0, result.stderr
    found = {}
    for line in result.stdout.splitlines():  # indented more in a group
        if match := re.match(r" *(?:local)?rule (\w+):$", line):
            rule, method = match[1], ""
        elif match := re.match(r" *wildcards:.*\bmethod=(\w+)", line):
            method = match[1]
        elif match := re.match(r" *resources: (.*)", line):
            found[rule, method] = dict(item.split("=", 1) for item in match[1].split(", "))
    return found


def test_a_second_attempt_asks_for_twice_as_much(tmp_path, profile):
    """Of memory and time; not of the budget that batches and blocks follow from."""
    project = copy_of_repository(tmp_path / "fresh")
    project.edit("tiny.yaml", "mirror: mirror\n", "")
    project.add_recordings()
    first, second = resources(project), resources(project, "--attempt", "2")
    assert first.keys() == second.keys()
    assert {rule for rule, _ in first} >= set(profile["set-resources"])
    for job, asked in first.items():
        if job[0] not in profile["set-resources"]:
            continue
        for key in ("mem_mb", "runtime"):
            assert int(second[job][key]) == 2 * int(asked[key]), (job, key)
        for key in ("gpu", "budget_mb"):
            assert second[job].get(key) == asked.get(key), (job, key)
    fit = first["fit_detector", "stfpm"]
    assert (fit["mem_mb"], fit["budget_mb"], fit["gpu"]) == ("800", "800", "1")
    assert first["score_clips", "oracle"]["gpu"] == "0"
    assert first["score_clips", "oracle"]["mem_mb"] == "1000"


@pytest.mark.parametrize(("gpu", "partition"), [(0, "cpu"), (1, "gpu")])
def test_a_gpu_is_asked_for_where_the_rule_has_one(gpu, partition):
    """What the executor makes of the rules' gpu=0 and gpu=1, and of partitions.yaml."""
    job = SimpleNamespace(
        name="score_clips",
        threads=2,
        resources=Resources(gpu=gpu, mem_mb=8000, runtime=30, tmpdir="/tmp"),
    )
    partitions = read_partition_file(PROFILE / "partitions.yaml")
    chosen = get_best_partition(partitions, job, logging.getLogger("test"))
    assert chosen == partition
    call = get_submit_command(job, dict.fromkeys(SUBMIT_FIELDS, "x")) + set_gres_string(job)
    assert ("--gpus=1" in call) == ("gpu" in call) == (gpu == 1)
    assert "--mem 8000" in call and "-t 30" in call and "--cpus-per-task=2" in call


SUBMIT_FIELDS = ["run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir"]


class Resources(dict):
    """Snakemake's resources of a job, as far as the executor uses them."""

    __getattr__ = dict.__getitem__
