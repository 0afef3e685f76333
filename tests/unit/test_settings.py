"""A wrong config says which key, what is allowed, and what was probably meant."""

from __future__ import annotations

import copy

import pytest
import yaml

from vision_to_sound.settings import check_config, check_known


@pytest.fixture(scope="module")
def schema(repository):
    return yaml.safe_load((repository / "config" / "schema.yaml").read_text())


@pytest.fixture
def config(repository):
    return yaml.safe_load((repository / "config" / "config.yaml").read_text())


def put(config: dict, path: str, value: object) -> dict:
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    node = config
    for name in parents:
        node = node[name]
    node[last] = value
    return config


@pytest.mark.parametrize("name", ["config", "demo", "subset"])
def test_the_config_files_of_the_project_pass(repository, schema, config, name):
    from snakemake.utils import update_config

    other = yaml.safe_load((repository / "config" / f"{name}.yaml").read_text())
    update_config(config, other)
    check_config(config, schema)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("methodes", ["padim"], ["methodes", "did you mean 'methods'"]),
        ("envmix.snr_db", [0], ["envmix.snr_db", "did you mean 'snrs_db'"]),
        ("detectors.patchcore.banksize", 3, ["patchcore.banksize", "'bank_size'"]),
        ("envmix.snrs_db", [0, 99], ["envmix.snrs_db[1]", "99 dB", "-60 to 60 dB"]),
        ("envmix.snrs_db", [], ["envmix.snrs_db", "at least 1"]),
        ("envmix.snrs_db", [0, 0], ["envmix.snrs_db", "twice"]),
        ("envmix.snrs_db", [1.5], ["expected integer", "1.5"]),
        ("envmix.seeds", [True], ["expected integer", "True"]),
        ("envmix.clip_s", "4 s", ["envmix.clip_s", "expected number", "'4 s'"]),
        ("embeddings.precision", "bfloat", ["embeddings.precision", "did you mean 'bfloat16'"]),
        ("memory_mb", 3, ["memory_mb", "3 MiB is outside 500"]),
        (
            "overrides",
            {"siren": {"padim": {"n_chanels": 3}}},
            ["siren.padim.n_chanels", "n_channels"],
        ),
        ("detectors", None, ["detectors", "expected object"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(schema, config, path, value, words):
    with pytest.raises(ValueError) as caught:
        check_config(put(config, path, value), schema)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_key_is_named(schema, config):
    del config["encoders"]
    with pytest.raises(ValueError, match="'encoders' is missing"):
        check_config(config, schema)


def test_check_known_lists_the_allowed_names():
    check_known("a", ["a", "b"], what="method")
    with pytest.raises(ValueError, match="unknown method 'padmi'; did you mean 'padim'.*patchcore"):
        check_known("padmi", ["padim", "patchcore"], what="method")
