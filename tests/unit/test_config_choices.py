"""What one key may hold because of another: said before the first job, or quietly narrowed to what runs."""

from __future__ import annotations

import copy

import pytest
from config_cases import SHIPPED, put, schema_of, shipped_config

from vision_to_sound.archive_table import COLUMNS
from vision_to_sound.config_choices import checked_config
from vision_to_sound.published_data import ENVMIX_EVENTS, ESC50_CLASSES, MIMII_RATE_HZ
from vision_to_sound.synthetic import envmix, mimii

SYNTHETIC = {
    "clips_per_background": 24,
    "clips_per_event": 4,
    "normal_per_id": 12,
    "abnormal_per_id": 6,
    "seed": 0,
}


@pytest.fixture
def config(repository):
    return shipped_config(repository, "config")


@pytest.fixture
def check(repository):
    schema = schema_of(repository)
    table = repository / "config" / "datasets.tsv"
    return lambda config: checked_config(config, schema, archive_table=table)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_config_files_of_the_project_hold(repository, check, name, monkeypatch):
    monkeypatch.chdir(repository)
    config = shipped_config(repository, name)
    if config["mirror"]:
        config["mirror"] = ""  # the folder lies beside the repository on some machines only
    before = copy.deepcopy(config)
    checked = check(config)
    assert config == before  # the caller's own is left alone
    assert set(checked.config) == set(config)
    assert "urbansound8k" in checked.archives and checked.mirrored == frozenset()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("encoders", ["clap"], ["encoder of encoders: 'clap'", "clap2022_cnn14"]),
        ("encoders", ["logmel_dcase2020"], ["encoders", "front end without a network"]),
        ("methods", ["pdaim"], ["name in methods: 'pdaim'; did you mean 'padim'"]),
        ("methods", ["oracle"], ["config key methods: 'oracle' belongs in controls"]),
        ("controls", ["padim"], ["config key controls: 'padim' belongs in methods"]),
        (
            "figures.example_categories",
            ["siren", "sirene"],
            ["background class of figures.example_categories: 'sirene'; did you mean 'siren'"],
        ),
        (
            "figures.example_recordings",
            ["fan_id_01"],
            ["machine of figures.example_recordings: 'fan_id_01'; did you mean 'fan_id_0"],
        ),
        (
            "overrides",
            {"car_hron": {"padim": {}}},
            ["class or machine of overrides: 'car_hron'; did you mean 'car_horn'", "fan_id_00"],
        ),
        (
            "faithfulness.methods",
            ["padim", "patch_core"],
            ["faithfulness.methods", "'patch_core'; did you mean 'patchcore'"],
        ),
        ("faithfulness.methods", ["oracle"], ["faithfulness.methods: 'oracle' does not listen"]),
        ("faithfulness.methods", ["random"], ["faithfulness.methods: 'random' does not listen"]),
        ("listening.methods", ["pdaim"], ["listening.methods", "did you mean 'padim'"]),
        ("listening.methods", ["random"], ["listening.methods: 'random' does not listen"]),
        ("mirror", "no/such/folder", ["mirror: there is no folder no/such/folder"]),
        ("envmix.backgrounds", ["sirens"], ["envmix.backgrounds", "did you mean 'siren'"]),
        ("envmix.events", ["dogs"], ["envmix.events", "did you mean 'dog'", "hand_saw"]),
        ("envmix.clip_s", 5, ["envmix.clip_s: 5 s", "clips of UrbanSound8K, 4.0 s"]),
        ("mimii.clip_s", 12, ["mimii.clip_s: 12 s", "recordings, 10.0 s"]),
        ("mimii.sample_rate_hz", 44100, ["mimii.sample_rate_hz", "16000 Hz, not 44100 Hz"]),
        ("mimii.ids", [0, 1], ["mimii.ids: there is no machine 1", "(0, 2, 4, 6)"]),
        ("mimii.snrs_db", [0, 3], ["mimii.snrs_db", "fan at 3 dB, only at -6, 0, 6 dB"]),
        ("synthetic", {"seed": 0}, ["'synthetic.clips_per_background' is missing"]),
        ("detectors.padim.layers", ["block9"], ["detectors.padim.layers: 'block9'", "block2"]),
        ("detectors.padim.n_channels", 5000, ["detectors.padim.n_channels: 5000", "the 896"]),
        (
            "overrides",
            {"siren": {"patchcore": {"layers": ["layer1"]}}},
            ["overrides.siren.patchcore.layers: 'layer1'", "block4"],
        ),
        (
            "overrides",
            {"fan_id_00": {"cfa": {"n_neighbours": 1000, "layers": ["block4"]}}},
            ["of overrides.fan_id_00.cfa: together 1003, more than the 344 cells of a clip"],
        ),
        ("detectors.padim", {"n_channels": 3}, ["'detectors.padim.regularisation' is missing"]),
        ("detectors", {}, ["'detectors.patchcore.bank_size' is missing"]),
    ],
)
def test_a_choice_that_cannot_be_is_named(config, check, path, value, words):
    with pytest.raises(ValueError) as caught:
        check(put(config, path, value))
    for word in words:
        assert word in str(caught.value)


def test_taps_of_maps_are_checked_too(config, check):
    config = put(config, "methods", ["surprising_energy"])
    config = put(config, "detectors.surprising_energy.map_layers", ["block9"])
    with pytest.raises(ValueError, match="surprising_energy.map_layers: 'block9'.*block2"):
        check(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"mimii.contaminated": True, "protocols": ["leakfree"]},
            "mimii.contaminated is for the published protocol",
        ),
        (
            {"envmix.backgrounds": ["car_horn"], "envmix.events": ["car_horn"]},
            "envmix.events: 'car_horn' is the only one and a background too",
        ),
        (
            {"mimii.clip_s": 1.0, "detectors.autoencoder.n_stacked": 60},
            "detectors.autoencoder.n_stacked: 60 frames are more than the 32 of a clip",
        ),
        (
            {"synthetic": SYNTHETIC, "envmix.events": ["cat"]},
            "event class of envmix.events: 'cat'",
        ),
        (
            {"synthetic": SYNTHETIC, "envmix.anomalous_share": 0.1},
            "of 22 clips 6 would be tested and 0 of them get an event",
        ),
        (
            {"synthetic": {**SYNTHETIC, "abnormal_per_id": 12}},
            "synthetic.normal_per_id: 12 recordings are too few; 12 are tested",
        ),
        (
            {"synthetic": {**SYNTHETIC, "abnormal_per_id": 40}, "protocols": ["published"]},
            "synthetic.normal_per_id: 12 recordings are too few; 12 are tested",
        ),
    ],
)
def test_choices_that_do_not_go_together(config, check, changes, words):
    for path, value in changes.items():
        config = put(config, path, value)
    with pytest.raises(ValueError) as caught:
        check(config)
    assert words in str(caught.value)


def test_choices_that_fit(config, check):
    for path, value in (
        ("figures.example_recordings", ["valve_id_06", "pump_id_02"]),
        ("overrides", {"fan_id_00": {"padim": {}}, "gun_shot": {"padim": {"n_channels": 10}}}),
        ("faithfulness.methods", ["energy", "autoencoder"]),
        ("listening.methods", ["band_zscore"]),
        ("synthetic", SYNTHETIC),
        ("mimii.contaminated", True),
    ):
        section, _, key = path.partition(".")
        checked = check(put(config, path, value)).config
        assert (checked[section][key] if key else checked[section]) == value


def test_what_is_not_run_is_not_checked(config, check):
    config = put(put(config, "datasets", ["envmix"]), "mimii.ids", [99])
    assert check(config).config["mimii"]["ids"] == [99]
    config = put(put(config, "methods", ["padim"]), "detectors.autoencoder.n_stacked", 100)
    check(put(config, "envmix.clip_s", 1))


# --- narrowed to what runs


def test_one_method_alone_is_a_whole_config(config, check):
    found = check(put(config, "methods", ["padim"])).config
    assert found["faithfulness"]["methods"] == ["padim"] and found["listening"]["methods"] == []
    found = check(put(config, "methods", ["spade", "patchcore"])).config
    assert found["faithfulness"]["methods"] == ["patchcore"]
    assert found["listening"]["methods"] == ["patchcore"]


def test_one_class_one_machine_one_snr_and_one_seed_are_a_whole_config(config, check):
    for path, value in (
        ("envmix.backgrounds", ["drilling", "jackhammer"]),
        ("envmix.snrs_db", [6]),
        ("envmix.seeds", [7, 8]),
        ("mimii.machine_types", ["valve"]),
    ):
        config = put(config, path, value)
    figures = check(config).config["figures"]
    assert figures["example_categories"] == ["drilling"]
    assert figures["example_recordings"] == ["valve_id_00"]
    assert (figures["example_snr_db"], figures["example_seed"]) == (6, 7)


def test_no_examples_stay_none(config, check):
    config = put(put(config, "figures.example_categories", []), "figures.example_recordings", [])
    figures = check(config).config["figures"]
    assert figures["example_categories"] == figures["example_recordings"] == []


def test_examples_that_run_stay_as_they_are(config, check):
    config = put(config, "figures.example_categories", ["gun_shot", "drilling", "siren"])
    assert check(config).config["figures"]["example_categories"] == ["drilling", "siren"]


# --- folders and mirrors


def test_folders_take_their_plain_form(config, check, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = put(put(config, "results", "./some//results/"), "mirror", "~")
    checked = check(config)
    assert checked.config["results"] == "some/results"
    assert checked.mirror == tmp_path and checked.config["mirror"] == str(tmp_path)


def mirror_with(folder, *names: str) -> str:
    lines = ["\t".join(COLUMNS)]
    for name in names:
        row = dict.fromkeys(COLUMNS, "") | {"name": name, "file": f"{name}.zip", "licence": "CC0"}
        lines.append("\t".join(row.values()))
    (folder / "datasets.tsv").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_archives_of_a_mirrors_own_table_may_hold_anything(config, check, tmp_path):
    fans = [f"mimii_{snr}_dB_fan" for snr in (6, 12)]
    for path, value in (
        ("mirror", mirror_with(tmp_path, "urbansound8k", "esc50", *fans)),
        ("envmix.backgrounds", ["my_office"]),
        ("envmix.events", ["my_kettle"]),
        ("envmix.clip_s", 20),
        ("mimii.machine_types", ["fan"]),
        ("mimii.ids", [17]),
        ("mimii.snrs_db", [6, 12]),
        ("mimii.sample_rate_hz", 48000),
    ):
        config = put(config, path, value)
    checked = check(config)
    assert checked.mirrored == {"urbansound8k", "esc50", *fans}
    assert checked.config["figures"]["example_categories"] == ["my_office"]
    with pytest.raises(ValueError, match="sample_rate_hz"):  # the pump comes from the network
        check(put(put(config, "mimii.machine_types", ["fan", "pump"]), "mimii.snrs_db", [6]))


def test_a_broken_table_of_a_mirror_is_named(config, check, tmp_path):
    (tmp_path / "datasets.tsv").write_text("name\tfile\n")
    with pytest.raises(ValueError, match="datasets.tsv: expected the columns"):
        check(put(config, "mirror", str(tmp_path)))


def test_published_facts_are_those_of_the_synthetic_archives():
    assert set(ENVMIX_EVENTS) == set(envmix.ESC50_CLASSES) <= set(ESC50_CLASSES)
    assert len(ESC50_CLASSES) == len(set(ESC50_CLASSES)) == 50
    assert mimii.RATE_HZ == MIMII_RATE_HZ
