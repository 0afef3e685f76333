"""--config key=value: what was typed is what is meant."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_config
from snakemake.utils import update_config

from vision_to_sound.config_command_line import typed
from vision_to_sound.config_schema import check_config

CONFIG = Path(__file__).parents[2] / "config"
BASE = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))
SCHEMA = yaml.safe_load((CONFIG / "schema.yaml").read_text(encoding="utf-8"))


def given(*entries: str) -> dict:
    """The config of `snakemake --cores 2 --config ENTRIES -n`, checked."""
    values = parse_config(entries)
    config = copy.deepcopy(BASE)
    update_config(config, values)
    arguments = ["--cores", "2", "--config", *entries, "-n", "normal=a target"]
    config = typed(config, values, SCHEMA, arguments=arguments)
    check_config(config, SCHEMA)
    return config


@pytest.mark.parametrize(
    "folder",
    ["/data/pump #3", "2024", "1e5", "true", "null", "[a]", "{pump}", "a: b", " x ", "~", "é{",
     "<b>", "`ls`", "$x", "it's", "x\udcff", "- a", "&a *b", "", "a=b", "0x10", "'half", "%TAG"],
)  # fmt: skip
def test_a_folder_is_the_text_that_was_typed(folder):
    assert given(f"normal={folder}", "threads=3")["normal"] == folder


@pytest.mark.parametrize("text", ['"/data/pump #3"', "'/data/pump #3'"])
def test_quotes_are_yamls(text):
    assert given(f"unsorted={text}")["unsorted"] == "/data/pump #3"


def test_numbers_and_booleans_are_what_the_schema_asks_for():
    config = given(
        "check_disk=false",
        "threads=1",
        "recordings={false_alarm_rate: 0.1, page_clips: 7, labels: none, title: 5, channel: -1}",
        "envmix={snrs_db: [0, -6], clip_s: 1e0}",
        "detectors={band_padim: {top_share: 1, layers: []}}",
        "overrides={siren: {patchcore: {bank_size: 10}}}",
    )
    assert config["check_disk"] is False and config["threads"] == 1
    own = config["recordings"]
    assert (own["false_alarm_rate"], own["page_clips"], own["labels"]) == (0.1, 7, "none")
    assert (own["title"], own["channel"], own["overlap"]) == ("5", -1, 0.5)
    assert config["envmix"]["snrs_db"] == [0, -6] and config["envmix"]["clip_s"] == 1.0
    assert config["detectors"]["band_padim"]["top_share"] == 1.0
    assert config["detectors"]["patchcore"]["bank_size"] == 30000
    assert config["overrides"]["siren"]["patchcore"]["bank_size"] == 10


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("check_disk=maybe", "check_disk: expected boolean, got 'maybe'"),
        ("recordings={false_alarm_rate: often}", "false_alarm_rate: expected number, got 'often'"),
        ("recordings={false_alarm_rate: 7}", "false_alarm_rate: 7.0 of the clips|outside"),
        ("recordings={page_clips: 1.5}", "page_clips: expected integer, got '1.5'"),
        ("recordings={methud: padim}", "methud"),
        ("envmix={seeds: [x]}", r"seeds\[0\]: expected integer, got 'x'"),
    ],
)
def test_what_does_not_fit_is_still_refused(entry, words):
    with pytest.raises(ValueError, match=words):
        given(entry)


def test_numbers_of_config_files_are_not_touched():
    config = copy.deepcopy(BASE)
    config["recordings"]["false_alarm_rate"] = "1e-2"
    config = typed(config, {"threads": 3}, SCHEMA, arguments=["--config", "threads=3"])
    with pytest.raises(ValueError, match="To YAML this is text"):
        check_config(config, SCHEMA)
