"""Env files without conda: pins equal requirements.txt, and they cover what the scripts import."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from vision_to_sound.provenance import stage_fingerprint

from .conftest import copy_of_repository

REPOSITORY = Path(__file__).resolve().parents[2]
ENVS = {path.stem: path for path in sorted((REPOSITORY / "envs").glob("*.yaml"))}
DISTRIBUTION = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
# Registries load these by name, so the closure of the script does not show them.
LOADED_BY_NAME = {
    "fit_detector": "vision_to_sound.detectors",
    "score_clips": "vision_to_sound.detectors",
    "measure_faithfulness": "vision_to_sound.detectors",
    "fit_recordings": "vision_to_sound.detectors",
    "score_recordings": "vision_to_sound.detectors",
}


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def env_pins(path: Path) -> dict[str, str]:
    found = {}
    for item in yaml.safe_load(path.read_text())["dependencies"]:
        for pin in item["pip"] if isinstance(item, dict) else [item]:
            name, _, version = pin.replace("==", "=").partition("=")
            found[name] = version
    return found


def rules_by_env() -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    for path in (REPOSITORY / "rules").glob("*.smk"):
        for match in re.finditer(r"envs/(\w+)\.yaml|workflow_scripts/(\w+)\.py", path.read_text()):
            if match[1]:  # snakefmt puts conda before script in every rule
                rules.setdefault(match[1], [])
                environment = match[1]
            else:
                rules[environment].append(match[2])
    return rules


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def third_party_imports(rule: str) -> set[str]:
    source_root = REPOSITORY / "src"
    script = REPOSITORY / "workflow_scripts" / f"{rule}.py"
    modules = []
    if rule in LOADED_BY_NAME:
        folder = source_root.joinpath(*LOADED_BY_NAME[rule].split("."))
        modules = [f"{LOADED_BY_NAME[rule]}.{p.stem}" for p in folder.glob("[a-z]*.py")]
    names = imports_of(script)
    for module in stage_fingerprint(script, source_root=source_root, modules=modules):
        if ":" not in module:
            stem = source_root.joinpath(*module.split("."))
            names |= imports_of(
                stem.with_suffix(".py")
                if stem.with_suffix(".py").is_file()
                else stem / "__init__.py"
            )
    own = {"vision_to_sound", "snakemake", "__future__"}
    return {DISTRIBUTION.get(n, n) for n in names if n not in sys.stdlib_module_names} - own


@pytest.mark.parametrize("name", ENVS)
def test_pins_equal_requirements(name):
    found = env_pins(ENVS[name])
    assert found.pop("python") == "3.11"
    found.pop("pip", None)
    known = pins()
    assert found == {package: known[package] for package in found}


@pytest.mark.parametrize("name", ENVS)
def test_every_import_of_a_stage_is_in_its_environment(name):
    for rule in rules_by_env()[name]:
        missing = third_party_imports(rule) - set(env_pins(ENVS[name]))
        assert not missing, f"{rule} imports {missing}, envs/{name}.yaml does not have them"


def test_every_rule_with_a_script_has_an_environment():
    found = 0
    for path in (REPOSITORY / "rules").glob("*.smk"):
        for rule in re.findall(r"^rule \w+:\n.*?(?=^\S|\Z)", path.read_text(), re.M | re.S):
            if "    script:" in rule:
                found += 1
                assert re.search(r'    conda:\n        "\.\./envs/\w+\.yaml"', rule), rule
    assert found == len(list((REPOSITORY / "workflow_scripts").glob("*.py")))


def test_a_dry_run_with_conda_would_make_every_environment(tmp_path, stand_in_conda):
    project = copy_of_repository(tmp_path / "fresh")
    project.edit("tiny.yaml", "mirror: mirror\n", "")
    project.add_recordings()
    result = project.snakemake("--dry-run", "--sdm", "conda")
    assert result.returncode == 0, result.stderr
    announced = re.findall(r"Conda environment envs/(\w+)\.yaml will be created", result.stdout)
    assert sorted(announced) == sorted(ENVS)


def test_requirements_are_exact_and_name_no_address():
    text = (REPOSITORY / "requirements.txt").read_text()
    for line in text.splitlines():
        assert (
            not line or line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9a-z.]+", line)
        )
    assert "://" not in text and "+" not in text


def test_the_snakefile_needs_the_standard_library_only():
    """What common.smk imports, with all that it imports at module level."""
    allowed = {"yaml", "vision_to_sound", *sys.stdlib_module_names}
    text = (REPOSITORY / "rules" / "common.smk").read_text()
    seen: set[str] = set()
    queue = re.findall(r"^from (vision_to_sound[\w.]*)", text, re.M)
    queue += [
        f"vision_to_sound.{m}"
        for m in re.findall(r"^from vision_to_sound import (\w+)", text, re.M)
    ]
    while queue:
        module = queue.pop()
        if module in seen:
            continue
        seen.add(module)
        stem = (REPOSITORY / "src").joinpath(*module.split("."))
        path = (
            stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
        )
        for node in ast.parse(path.read_text()).body:  # top level only
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                assert name.partition(".")[0] in allowed, f"{module} imports {name}"
                if name.startswith("vision_to_sound"):
                    queue.append(name)
    assert {"vision_to_sound.provenance", "vision_to_sound.plan"} <= seen
