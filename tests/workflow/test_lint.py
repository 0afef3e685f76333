"""Rules are clean, and every rule has what a rule of this house has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from .conftest import copy_of_repository

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = {
    match[1]: match[2]
    for path in sorted((REPOSITORY / "rules").glob("*.smk"))
    for match in re.finditer(r"^rule (\w+):\n((?:    .*\n|\n)*)", path.read_text(), re.M)
}
TARGETS = {
    *("metrics", "tables", "figures", "leaderboard", "recordings"),
    *(f"table{n}" for n in (1, 2, 3)),
    *(f"figure{n}" for n in (1, 2, 3, 4)),
}
JOBS = sorted(set(RULES) - TARGETS)


def test_rules_are_found():
    assert len(JOBS) >= 30 and set(RULES) >= TARGETS


@pytest.mark.parametrize("rule", JOBS)
def test_rule_script_log_and_benchmark_share_one_name(rule):
    body = RULES[rule]
    assert f'"../workflow_scripts/{rule}.py"' in body
    assert (REPOSITORY / "workflow_scripts" / f"{rule}.py").is_file()
    assert re.search(rf"log:\n\s+f?\"{{RESULTS}}/logs/{rule}[/.]", body)
    assert re.search(rf"benchmark:\n\s+f?\"{{RESULTS}}/benchmarks/{rule}[/.]", body)
    assert re.search(r"conda:\n\s+\"\.\./envs/(\w+)\.yaml\"", body)


@pytest.mark.parametrize("rule", JOBS)
def test_a_rule_names_its_own_code_with_its_own_environment(rule):
    body = RULES[rule]
    if rule == "download_archive":
        assert "code=" not in body  # a checksum proves the file
        return
    environment = re.search(r"envs/(\w+)\.yaml", body)[1]
    assert re.search(rf'code\(\s*"{rule}", "{environment}"', body)


@pytest.mark.parametrize("rule", JOBS)
def test_params_see_wildcards_only(rule):
    params = re.search(r"^    params:\n((?:        .*\n)*)", RULES[rule], re.M)[1]
    for arguments in re.findall(r"lambda ([^:]*):", params):
        assert arguments in ("wildcards", "w"), f"params of {rule}: lambda {arguments}"
    known = {"settings", "code"}
    if rule == "embed_recordings":  # files of the user, which are no inputs: their names are theirs
        known |= {"recordings", "not_used"}
    assert set(re.findall(r"^        (\w+)=", params, re.M)) <= known


def test_rules_with_most_jobs_have_one_function_for_their_inputs():
    """Snakemake's time goes by the number of functions of a rule, times its thousands of jobs."""
    found = {rule for rule in JOBS if "input:\n        unpack(" in RULES[rule]}
    assert found == {"fit_detector", "score_clips", "measure_faithfulness", "evaluate"}


def test_targets_make_nothing_themselves():
    for rule in TARGETS:
        assert "output:" not in RULES[rule] and "script:" not in RULES[rule]


def test_every_script_belongs_to_a_rule():
    assert {p.stem for p in (REPOSITORY / "workflow_scripts").glob("*.py")} == set(JOBS)


def test_scripts_never_read_the_config():
    for path in (REPOSITORY / "workflow_scripts").glob("*.py"):
        assert "snakemake.config" not in path.read_text(), path.name


def test_no_snakemake_in_the_package():
    for path in (REPOSITORY / "src" / "vision_to_sound").rglob("*.py"):
        source = path.read_text()
        assert not re.search(r"^\s*(import|from) snakemake", source, re.M), path


def test_gpu_rules_are_tagged():
    tagged = {rule for rule in JOBS if re.search(r"^        gpu=", RULES[rule], re.M)}
    benchmarks = {"extract_embeddings", "fit_detector", "score_clips", "measure_faithfulness"}
    assert tagged == benchmarks | {"embed_recordings", "fit_recordings", "score_recordings"}


def test_no_file_is_too_long():
    for folder, most in (("src", 520), ("workflow_scripts", 100), ("rules", 420), ("tests", 700)):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.suffix in (".py", ".smk"):
                assert len(path.read_text().splitlines()) <= most, path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("methods: [padmi]", ["'padmi'", "did you mean 'padim'"]),
        ("encoders: [aisfz]", ["'aisfz'", "did you mean 'aisfx'"]),
        ("mirrror: x", ["unknown config key 'mirrror'", "did you mean 'mirror'"]),
        ("mirror: nowhere", ["there is no folder nowhere"]),
        ("datasets: [mimi]", ["'mimi'", "mimii"]),
        ("weights: none", ["weights", "pretrained", "random"]),
        ("memory_mb: 1", ["memory_mb: 1 MiB is outside 500"]),
        ("overrides: {syren: {padim: {n_channels: 3}}}", ["'syren'; did you mean 'siren'"]),
    ],
)
def test_a_wrong_config_is_one_clear_error_before_any_job(tmp_path, change, words):
    project = copy_of_repository(tmp_path)
    (tmp_path / "wrong.yaml").write_text(change + "\n")
    result = project.snakemake("--dry-run", config="wrong.yaml")
    assert result.returncode != 0
    for word in words:
        assert word in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def settings_of(config: dict, *above: str) -> list[tuple[str, ...]]:
    """Path of every setting; of detectors and overrides their constructors know the rest."""
    found = []
    for key, value in config.items():
        if isinstance(value, dict) and value and (*above, key)[0] not in ("detectors", "overrides"):
            found += settings_of(value, *above, key)
        else:
            found.append((*above, key))
    return found


def unused_settings(config: dict, rules: str) -> list[str]:
    paths = [path for path in settings_of(config)]
    return [".".join(path) for path in paths if f'"{path[-1]}"' not in rules]


def test_every_setting_is_read_by_a_rule():
    config = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
    rules = "\n".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    assert len(settings_of(config)) > 40
    assert unused_settings(config, rules) == []
    config["metrics"]["forgotten"] = 1
    assert unused_settings(config, rules) == ["metrics.forgotten"]
    read_nowhere_else = rules.replace('"mask_share"', "")
    assert "metrics.mask_share" in unused_settings(config, read_nowhere_else)
