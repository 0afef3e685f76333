"""A wrong config says which key, what is allowed, and what was probably meant."""

from __future__ import annotations

import jsonschema
import pytest
from config_cases import SHIPPED, put, schema_of, shipped_config

from vision_to_sound.config_schema import check_config
from vision_to_sound.detectors import DETECTORS


@pytest.fixture(scope="module")
def schema(repository):
    return schema_of(repository)


@pytest.fixture
def config(repository):
    return shipped_config(repository, "config")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_config_files_of_the_project_pass(repository, schema, name):
    config = shipped_config(repository, name)
    check_config(config, schema)
    jsonschema.validate(config, schema)


def parts_of(schema: dict, path: str = ""):
    """(path, part) of every part of the schema that describes a value."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts_of(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from parts_of(schema[key], f"{path}.{key}")


def test_every_number_has_range_and_unit_and_every_pattern_its_words(schema):
    numbers = [(p, s) for p, s in parts_of(schema) if s.get("type") in ("integer", "number")]
    assert len(numbers) > 50
    for path, part in numbers:
        assert {"minimum", "maximum", "x-unit"} <= set(part), path
    for path, part in parts_of(schema):
        assert ("pattern" in part) == ("x-expected" in part), path
        assert part.get("type") != "object" or "additionalProperties" in part, path


def test_every_detector_has_its_settings_in_schema_and_config(schema, config):
    known = schema["properties"]["detectors"]["properties"]
    assert set(known) == set(DETECTORS)
    for name, settings in config["detectors"].items():
        assert set(settings) == set(known[name].get("properties", {})), name


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("methodes", ["padim"], ["methodes", "did you mean 'methods'"]),
        ("envmix.snr_db", [0], ["envmix.snr_db", "did you mean 'snrs_db'"]),
        ("detectors.patchcore.banksize", 3, ["patchcore.banksize", "'bank_size'"]),
        ("envmix.snrs_db", [0, 99], ["envmix.snrs_db[1]", "99 dB", "-60 to 60 dB"]),
        ("envmix.snrs_db", [], ["envmix.snrs_db", "at least 1"]),
        ("envmix.snrs_db", [0, 0], ["envmix.snrs_db", "0 is named twice"]),
        ("envmix.snrs_db", 0, ["envmix.snrs_db", "expected array", "0 (int)"]),
        ("snrs_db", [0], ["'snrs_db' has no meaning at the top", "envmix or mimii"]),
        ("envmix.threads", 2, ["'threads' has no meaning in envmix", "the top of the file"]),
        ("listening.dpi", 100, ["'dpi' has no meaning in listening; it belongs in figures"]),
        ("envmix.clip_s", float("nan"), ["envmix.clip_s", "nan s is outside 1 to 60 s"]),
        ("envmix.clip_s", float("inf"), ["envmix.clip_s", "inf s is outside 1 to 60 s"]),
        ("envmix.seeds", [10**400], ["envmix.seeds[0]", "... as a seed is outside"]),
        ("detectors.cfa.radius", "1e-5", ["cfa.radius", "write 1.0e-05, without quotes"]),
        ("threads", "2", ["threads", "write 2, without quotes"]),
        ("threads", "two", ["threads: expected integer, got 'two' (str)."]),
        ("results", "", ["results", "a folder without any of { } < >"]),
        ("results", "res{x}", ["results", "a folder without any of { } < >"]),
        ("results", "a<b>", ["results", "a folder without any of { } < >"]),
        ("results", "results ", ["results", "no space at its ends"]),
        ("results", "x" * 2000, ["results", "2000 characters, at most 1000"]),
        ("results", 3, ["results", "expected string", "Folder for everything"]),
        ("stamp", "two\nlines", ["stamp", r"the character '\n'; expected one line"]),
        ("stamp", "half \ud83d", ["stamp", r"the character '\ud83d'"]),
        ("envmix.backgrounds", ["a/b"], ["envmix.backgrounds[0]", "a name of letters"]),
        ("figures.example_clips", ["{n}"], ["example_clips[0]", "the file name of a clip"]),
        ("mimii.exclude", ["fan/3.wav"], ["mimii.exclude[0]", "fan_id_00/abnormal_00000003.wav"]),
        ("overrides", {"a\nb": {}}, ["a key of overrides", r"'\n'"]),
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
        ("mimii.machine_types", ["fans"], ["mimii.machine_types", "did you mean 'fan'"]),
        ("mimii.machine_types", [], ["mimii.machine_types", "at least 1"]),
        ("mimii.ids", [-1], ["mimii.ids[0]", "-1 as an id is outside 0 to 99 as an id"]),
        ("mimii.snrs_db", [6, 61], ["mimii.snrs_db[1]", "61 dB is outside -60 to 60 dB"]),
        ("mimii.sample_rate_hz", 16, ["mimii.sample_rate_hz", "16 Hz", "8000 to 192000 Hz"]),
        ("mimii.contaminated", "no", ["mimii.contaminated", "expected boolean", "'no'"]),
        ("mimii.exclude", [3], ["mimii.exclude[0]", "expected string"]),
        ("mimii.channels", 0, ["mimii.channels"]),
        ("synthetic", {"normal_per_id": 3}, ["synthetic.normal_per_id", "3 recordings", "5 to"]),
        ("embeddings.keep", 1, ["embeddings.keep", "expected boolean", "caches are deleted"]),
        ("detectors.cfa.epoch", 3, ["detectors.cfa.epoch", "did you mean 'epochs'"]),
        (
            "detectors.cfa.learning_rate",
            0,
            ["cfa.learning_rate", "0 per step is outside 1e-07 to 10"],
        ),
        ("detectors.stfpm.student_init", "teacher", ["stfpm.student_init", "random"]),
        (
            "detectors.stfpm.momentum",
            1.0,
            ["stfpm.momentum", "outside 0 to 0.999 of the last step"],
        ),
        ("detectors.spade.n_clips", 0, ["spade.n_clips", "0 clips is outside 1"]),
        ("detectors.autoencoder.batch_size", 0.5, ["autoencoder.batch_size", "expected integer"]),
        ("faithfulness.mask_controls", ["orakle"], ["mask_controls", "did you mean 'oracle'"]),
        ("faithfulness.method", [], ["faithfulness.method", "did you mean 'methods'"]),
        ("metrics.n_draws", 10, ["metrics.n_draws", "10 bootstrap draws is outside 100"]),
        ("metrics.interval", 95, ["metrics.interval", "95 of the draws is outside 0.5 to 0.999"]),
        ("figures.metrics", ["sample_auc"], ["figures.metrics[0]", "sample_roc"]),
        ("check_disk", "yes", ["check_disk", "expected boolean", "cannot hold the results"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(schema, config, path, value, words):
    with pytest.raises(ValueError) as caught:
        check_config(put(config, path, value), schema)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("key", ["encoders", "envmix.clip_s", "figures.dpi", "listening"])
def test_a_missing_key_is_named(schema, config, key):
    *parents, last = key.split(".")
    node = config
    for name in parents:
        node = node[name]
    del node[last]
    with pytest.raises(ValueError, match=f"config key '{key}' is missing"):
        check_config(config, schema)


def test_a_range_names_its_unit_even_for_what_has_none(schema, config):
    with pytest.raises(ValueError) as caught:
        check_config(put(config, "envmix.seeds", [0, -1]), schema)
    assert str(caught.value) == (
        "config key envmix.seeds[1]: -1 as a seed is outside 0 to 4294967295 as a seed"
    )
