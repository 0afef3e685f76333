"""Broken configs of every kind: each is either accepted and runs, or one ValueError that names the key.

The changes are drawn by hypothesis from the shipped config files, the same ones in every run.
"""

from __future__ import annotations

import copy
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest
from config_cases import SHIPPED, schema_of, shipped_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake.api import SnakemakeApi
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from vision_to_sound.config_choices import checked_config
from vision_to_sound.config_schema import check_config

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = schema_of(REPOSITORY)
CONFIGS = {name: shipped_config(REPOSITORY, name) | {"mirror": ""} for name in SHIPPED}
NAMES = ["padim", "oracle", "aisfx", "siren", "dog", "fan", "fan_id_02", "sample_f1", "block3"]

numbers = st.one_of(
    st.integers(-3, 12),
    st.integers(),
    st.sampled_from([2**31, 2**32, 2**64, 10**400, -0.0, 0.5, 4.0, 1e-300, 1e300]),
    st.floats(),  # NaN and infinity too
)
words = st.one_of(st.sampled_from(NAMES), st.text(max_size=12), st.just("{wildcard}/../x"))
scalars = st.one_of(numbers, words, st.booleans(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)


def places(node: object, path: tuple = ()) -> list[tuple]:
    """Paths of everything in a config, sections and items of lists too."""
    found = [path] if path else []
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            found += places(value, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn, name: str, kinds: tuple[str, ...]) -> tuple[dict, tuple, str]:
    """(config, path, kind): one of the shipped configs with one thing changed at the path."""
    config = copy.deepcopy(CONFIGS[name])
    path = draw(st.sampled_from(places(config)))
    *parents, last = path
    node = config
    for key in parents:
        node = node[key]
    kind = draw(st.sampled_from(kinds))
    if kind == "replace":
        node[last] = draw(values)
    elif kind == "misspell" and isinstance(node, dict):
        node[f"{last}_"] = node.pop(last)
    elif kind == "add" and isinstance(node[last], dict):
        node[last][draw(words)] = draw(values)
    elif kind == "repeat" and isinstance(node[last], list):
        node[last] = node[last] * 2
    elif kind == "empty":
        node[last] = draw(st.sampled_from([[], {}, "", None]))
    elif kind == "remove":
        del node[last]
    elif kind == "nudge" and isinstance(node[last], int | float):
        node[last] = node[last] * draw(st.sampled_from([-1, 0, 0.5, 2, 10, 1e9]))
    return config, path, kind


KINDS = ("replace", "misspell", "add", "repeat", "empty", "remove", "nudge")


def problem_of(config: dict) -> str | None:
    """The words of the one error that a config may raise; None where it is accepted."""
    try:
        checked_config(config, SCHEMA, archive_table=REPOSITORY / "config" / "datasets.tsv")
    except (ValueError, OSError) as error:
        return str(error)
    return None


def is_about(message: str, path: tuple) -> bool:
    """Whether the message names the changed key, or a section or a choice that hangs on it."""
    keys = [key for key in path if isinstance(key, str)]
    return any(re.search(rf"\b{re.escape(key)}", message) for key in keys)


@pytest.mark.parametrize("name", SHIPPED)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_changed_config_is_accepted_or_the_key_is_named(name, data):
    config, path, kind = data.draw(changed(name, KINDS))
    message = problem_of(config)
    if message is None:
        jsonschema.validate(config, SCHEMA)  # what Snakemake asks for as well
        return
    assert len(message) < 1500 and "\n" not in message
    assert is_about(message, path), f"{kind} at {path}: {message}"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(config=st.dictionaries(words, values, max_size=6))
def test_any_mapping_at_all_is_one_error(config):
    with pytest.raises(ValueError, match="config key|a key of"):
        check_config(config, SCHEMA)


def test_a_misspelt_key_is_put_right_at_every_depth():
    seen = 0
    for path in places(CONFIGS["config"]):
        *parents, last = path
        config = copy.deepcopy(CONFIGS["config"])
        node = config
        for key in parents:
            node = node[key]
        if not isinstance(node, dict) or parents[:1] == ["overrides"]:
            continue
        wrong = last[:2] + last[1:]  # a letter typed twice
        node[wrong] = node.pop(last)
        with pytest.raises(ValueError) as caught:
            check_config(config, SCHEMA)
        assert wrong in str(caught.value)
        assert f"did you mean '{last}'" in str(caught.value), path
        seen += 1
    assert seen > 100


# --- what is accepted, the Snakefile can work with


def snakefile_takes(config: dict, folder: Path, *, targets: bool) -> None:
    """Parse the Snakefile with this config in place of config.yaml's; with targets, plan the jobs too.

    In a thread of its own: Playwright leaves an event loop running in the thread of the tests that
    follow those of the page, and Snakemake refuses to work inside one.
    """
    with ThreadPoolExecutor(1) as thread:
        thread.submit(parse_and_plan, config, folder, targets=targets).result()


def parse_and_plan(config: dict, folder: Path, *, targets: bool) -> None:
    logging.disable(logging.CRITICAL)
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow_api = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(config=config, replace_workflow_config=True),
                snakefile=REPOSITORY / "Snakefile",
                workdir=folder,
            )
            workflow = workflow_api._workflow  # parses
            if targets:
                workflow.dag_settings = DAGSettings()
                workflow._prepare_dag(
                    forceall=False, ignore_incomplete=True, lock_warn_only=True, nolock=True
                )
                workflow._build_dag()
                assert len(list(workflow.dag.jobs)) > 20
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("snakefile")
    (folder / "config").symlink_to(REPOSITORY / "config")
    return folder


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_snakefile_takes_what_the_checks_accept(folder, data):
    config, _, kind = data.draw(changed("demo", KINDS))
    if problem_of(config) is None:
        snakefile_takes(config, folder, targets=kind != "nudge")


def test_the_snakefile_refuses_what_the_checks_refuse(folder):
    config = copy.deepcopy(CONFIGS["demo"])
    config["envmix"]["snr_db"] = [0]
    with pytest.raises(WorkflowError, match="config: unknown config key 'envmix.snr_db'"):
        snakefile_takes(config, folder, targets=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": ["padim"]},
        {"methods": ["spade"], "controls": []},
        {"methods": ["autoencoder"], "controls": []},
        {"protocols": ["leakfree"]},
        {"results": "./elsewhere/", "datasets": ["mimii"]},
        {"listening": {"count": 0, "methods": []}, "encoders": ["aisfx", "deit_small"]},
    ],
    ids=str,
)
def test_a_short_config_of_ones_own_plans_its_jobs(folder, changes):
    snakefile_takes(copy.deepcopy(CONFIGS["demo"]) | changes, folder, targets=True)
