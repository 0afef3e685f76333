"""A wrong config says which key, what is allowed, and what was probably meant."""

from __future__ import annotations

import copy

import pytest
import yaml

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.settings import check_choices, check_config, check_known


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
    check_choices(config, DETECTORS)


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
        ("mimii.machine_types", ["fans"], ["mimii.machine_types", "did you mean 'fan'"]),
        ("mimii.machine_types", [], ["mimii.machine_types", "at least 1"]),
        ("mimii.ids", [-1], ["mimii.ids[0]", "-1 is outside 0 to 99"]),
        ("mimii.snrs_db", [6, 61], ["mimii.snrs_db[1]", "61 dB is outside -60 to 60 dB"]),
        ("mimii.sample_rate_hz", 16, ["mimii.sample_rate_hz", "16 Hz", "8000 to 192000 Hz"]),
        ("mimii.contaminated", "no", ["mimii.contaminated", "expected boolean", "'no'"]),
        ("mimii.exclude", [3], ["mimii.exclude[0]", "expected string"]),
        ("mimii.channels", 0, ["mimii.channels"]),
        ("synthetic", {"normal_per_id": 3}, ["synthetic.normal_per_id", "3 recordings", "5 to"]),
        ("embeddings.keep", 1, ["embeddings.keep", "expected boolean", "caches are deleted"]),
        ("detectors.cfa.epoch", 3, ["detectors.cfa.epoch", "did you mean 'epochs'"]),
        ("detectors.cfa.learning_rate", 0, ["cfa.learning_rate", "0 is outside"]),
        ("detectors.stfpm.student_init", "teacher", ["stfpm.student_init", "random"]),
        ("detectors.stfpm.momentum", 1.0, ["stfpm.momentum", "outside 0 to 0.999"]),
        ("detectors.spade.n_clips", 0, ["spade.n_clips", "0 clips is outside 1"]),
        ("detectors.autoencoder.batch_size", 0.5, ["autoencoder.batch_size", "expected integer"]),
        ("faithfulness.mask_controls", ["orakle"], ["mask_controls", "did you mean 'oracle'"]),
        ("faithfulness.method", [], ["faithfulness.method", "did you mean 'methods'"]),
        ("metrics.n_draws", 10, ["metrics.n_draws", "10 bootstrap draws is outside 100"]),
        ("metrics.interval", 95, ["metrics.interval", "95 is outside 0.5 to 0.999"]),
        ("figures.metrics", ["sample_auc"], ["figures.metrics[0]", "sample_roc"]),
        ("check_disk", "yes", ["check_disk", "expected boolean", "cannot hold the results"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(schema, config, path, value, words):
    with pytest.raises(ValueError) as caught:
        check_config(put(config, path, value), schema)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "figures.example_categories",
            ["siren", "sirene"],
            ["unknown background class 'sirene'; did you mean 'siren'"],
        ),
        (
            "figures.example_recordings",
            ["fan_id_01"],
            [
                "machine of figures.example_recordings: 'fan_id_01'; did you mean 'fan_id_0",
                "valve_",
            ],
        ),
        (
            "overrides",
            {"car_hron": {"padim": {}}},
            ["class or machine 'car_hron'; did you mean 'car_horn'", "fan_id_00"],
        ),
        ("figures.example_snr_db", 3, ["figures.example_snr_db is 3", "snrs_db is [6, 0, -6]"]),
        ("figures.example_seed", 42, ["figures.example_seed is 42", "seeds is [0, 1, 2]"]),
        (
            "faithfulness.methods",
            ["padim", "patch_core"],
            ["faithfulness.methods", "'patch_core'; did you mean 'patchcore'"],
        ),
        ("faithfulness.methods", ["spade"], ["faithfulness.methods", "among methods or controls"]),
        ("faithfulness.methods", ["oracle"], ["faithfulness.methods: 'oracle' does not listen"]),
        ("faithfulness.methods", ["random"], ["faithfulness.methods: 'random' does not listen"]),
        ("listening.methods", ["pdaim"], ["listening.methods", "did you mean 'padim'"]),
        ("listening.methods", ["random"], ["listening.methods: 'random' does not listen"]),
    ],
)
def test_a_choice_that_fits_no_other_key_is_named(config, path, value, words):
    with pytest.raises(ValueError) as caught:
        check_choices(put(config, path, value), DETECTORS)
    for word in words:
        assert word in str(caught.value)


def test_choices_that_fit(config):
    for path, value in (
        ("figures.example_categories", []),
        ("figures.example_recordings", ["valve_id_06", "pump_id_02"]),
        ("overrides", {"fan_id_00": {"padim": {}}, "siren": {"padim": {}}}),
        ("faithfulness.methods", ["energy", "autoencoder"]),
        ("listening.methods", ["band_zscore"]),
    ):
        check_choices(put(config, path, value), DETECTORS)


def test_contaminated_training_is_for_the_published_protocol(config):
    config["mimii"]["contaminated"] = True
    check_choices(config, DETECTORS)
    config["protocols"] = ["leakfree"]
    with pytest.raises(ValueError, match="mimii.contaminated is for the published protocol"):
        check_choices(config, DETECTORS)


def test_a_missing_key_is_named(schema, config):
    del config["encoders"]
    with pytest.raises(ValueError, match="'encoders' is missing"):
        check_config(config, schema)


def test_check_known_lists_the_allowed_names():
    check_known("a", ["a", "b"], what="method")
    with pytest.raises(ValueError, match="unknown method 'padmi'; did you mean 'padim'.*patchcore"):
        check_known("padmi", ["padim", "patchcore"], what="method")
