"""What one key of a config may hold because of another, of the registries and of the data sets.

Standard library only: the Snakefile imports this, and jobs do not, so that a change here reruns nothing.
What can be known before the first job is an error here; a job need not find it after a download of 100 GB.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_to_sound.archive_table import ArchiveRow, mirrored_names, rows_for
from vision_to_sound.config_schema import check_config
from vision_to_sound.detectors import DETECTORS
from vision_to_sound.encoders import ENCODERS, tap_shapes
from vision_to_sound.monitoring.listing import in_both, list_recordings
from vision_to_sound.published_data import (
    ENVMIX_EVENTS,
    ESC50_CLASSES,
    MIMII_CLIP_S,
    MIMII_IDS,
    MIMII_RATE_HZ,
    MIMII_TYPES,
    URBANSOUND8K_CLASSES,
    URBANSOUND8K_CLIP_S,
)
from vision_to_sound.settings import check_known, tap_names_of

Config = Mapping[str, Any]


@dataclass(frozen=True)
class CheckedConfig:
    """A config that holds, and the archives that it can ask for.

    config: with folders in their plain form and lists of methods and examples narrowed to what runs. mirror:
    None without one. archives: rows of datasets.tsv and of the mirror's own. mirrored: names of the latter.
    """

    config: dict[str, Any]
    mirror: Path | None
    archives: dict[str, ArchiveRow]
    mirrored: frozenset[str]


def checked_config(config: Config, schema: Config, *, archive_table: Path) -> CheckedConfig:
    """Everything that can be said about a config before the first job.

    Raises ValueError or OSError with the key, what is wrong and what is allowed.
    """
    check_config(config, schema)
    config = copy.deepcopy(dict(config))
    for key in ("results", "downloads", "mirror", "normal", "unsorted"):
        if config[key]:
            config[key] = os.path.normpath(os.path.expanduser(config[key]))
    mirror = Path(config["mirror"]) if config["mirror"] else None
    if mirror and not mirror.is_dir():
        raise ValueError(f"config key mirror: there is no folder {mirror}")
    archives, mirrored = rows_for(archive_table, mirror), mirrored_names(mirror)
    check_methods(config)
    if "envmix" in config["datasets"]:
        check_envmix(config, mirrored)
    if "mimii" in config["datasets"]:
        check_mimii(config, archives, mirrored)
    if "folder" in config["datasets"]:
        check_recordings(config, schema)
    check_synthetic(config)
    check_names(config)
    check_detector_settings(config, schema)
    return CheckedConfig(narrowed_to_what_runs(config), mirror, archives, mirrored)


def machines_of(config: Config) -> list[str]:
    """Machines of MIMII that the config asks for: "fan_id_00"."""
    mimii = config["mimii"]
    return [f"{t}_id_{i:02d}" for t in mimii["machine_types"] for i in mimii["ids"]]


def benchmarks_of(config: Config) -> list[str]:
    """Data sets with published numbers, as opposed to a folder of recordings."""
    return [dataset for dataset in config["datasets"] if dataset != "folder"]


def hears_clips(method: str) -> bool:
    """True for a method or control that looks at the clips; the oracle and chance do not."""
    return bool(DETECTORS[method].needs) and "truth" not in DETECTORS[method].needs


def narrowed_to_what_runs(config: Config) -> dict[str, Any]:
    """The config without what its own choices leave out, so that `methods: [padim]` is a whole config.

    Of faithfulness.methods and listening.methods those stay that run. Of examples those stay whose class, machine,
    SNR or seed runs; where none is left the first that runs takes their place.
    """
    config = copy.deepcopy(dict(config))
    run = config["methods"] + config["controls"]
    for section in ("faithfulness", "listening"):
        methods = config[section]["methods"]
        config[section]["methods"] = [method for method in methods if method in run]
    envmix, figures = config["envmix"], config["figures"]
    for key, running in (
        ("example_categories", envmix["backgrounds"]),
        ("example_recordings", machines_of(config)),
    ):
        if figures[key]:
            figures[key] = [name for name in figures[key] if name in running] or running[:1]
    for key, running in (("example_snr_db", "snrs_db"), ("example_seed", "seeds")):
        if figures[key] not in envmix[running]:
            figures[key] = envmix[running][0]
    return config


# --- methods and names


def check_methods(config: Config) -> None:
    """Names of encoders, methods and controls; each in the list that it belongs to."""
    for name in config["encoders"]:
        check_known(name, ENCODERS, what="encoder of encoders:")
        if ENCODERS[name].network == "none":
            raise ValueError(
                f"config key encoders: {name!r} is a front end without a network, which methods that need it "
                "take by themselves; name another encoder"
            )
    for key, is_control in (("methods", False), ("controls", True)):
        kin = [name for name, entry in DETECTORS.items() if entry.is_control == is_control]
        for name in config[key]:
            if name in DETECTORS and name not in kin:
                other = "methods" if is_control else "controls"
                raise ValueError(f"config key {key}: {name!r} belongs in {other}")
            check_known(name, kin, what=f"name in {key}:")
    for section in ("faithfulness", "listening"):
        for name in config[section]["methods"]:
            key = f"{section}.methods"
            check_known(name, DETECTORS, what=f"method of {key}:")
            if not hears_clips(name):
                raise ValueError(
                    f"config key {key}: {name!r} does not listen to clips; take it out"
                )
    if config["mimii"]["contaminated"] and "published" not in config["protocols"]:
        raise ValueError(
            "config key mimii.contaminated is for the published protocol, which is not among protocols"
        )


def check_names(config: Config) -> None:
    """Classes and machines that other keys name exist somewhere, be it in another run than this one."""
    classes = {*URBANSOUND8K_CLASSES, *config["envmix"]["backgrounds"]}
    machines = {f"{t}_id_{i:02d}" for t in MIMII_TYPES for i in MIMII_IDS} | {*machines_of(config)}
    for key, known, what in (
        ("figures.example_categories", classes, "background class"),
        ("figures.example_recordings", machines, "machine"),
        ("overrides", classes | machines, "class or machine"),
    ):
        section, _, last = key.partition(".")
        for name in config[section][last] if last else config[section]:
            check_known(name, known, what=f"{what} of {key}:")


# --- data sets


def check_envmix(config: Config, mirrored: Iterable[str]) -> None:
    """Classes, clip length and shares against what UrbanSound8K and ESC-50 hold.

    An archive that a mirror's own table lists may hold anything: its index is the judge.
    """
    envmix, synthetic = config["envmix"], bool(config["synthetic"])
    if synthetic or "urbansound8k" not in mirrored:
        for name in envmix["backgrounds"]:
            check_known(name, URBANSOUND8K_CLASSES, what="background class of envmix.backgrounds:")
        if envmix["clip_s"] > URBANSOUND8K_CLIP_S:
            raise ValueError(
                f"config key envmix.clip_s: {envmix['clip_s']} s is longer than the clips of UrbanSound8K, "
                f"{URBANSOUND8K_CLIP_S} s"
            )
    if synthetic or "esc50" not in mirrored:
        known = ENVMIX_EVENTS if synthetic else ESC50_CLASSES
        for name in envmix["events"]:
            check_known(name, known, what="event class of envmix.events:")
    if "leakfree" in config["protocols"]:
        for name in envmix["backgrounds"]:
            if set(envmix["events"]) == {name}:
                raise ValueError(
                    f"config key envmix.events: {name!r} is the only one and a background too; the leakfree "
                    "protocol never mixes a class into itself, so name another event"
                )
    if synthetic and "published" in config["protocols"]:
        _check_shares(config)


def _check_shares(config: Config) -> None:
    """Of synthetic clips the number is known: each side of a published split needs at least one."""
    envmix, made = config["envmix"], config["synthetic"].get("clips_per_background", 0)
    n_clips = made - made // 10  # one in ten is too short
    n_test = math.ceil(envmix["test_share"] * n_clips)
    n_anomalous = math.floor(envmix["anomalous_share"] * n_test)
    if made and not (0 < n_anomalous < n_test < n_clips):
        raise ValueError(
            f"config keys envmix.test_share and envmix.anomalous_share: of {n_clips} clips {n_test} would be "
            f"tested and {n_anomalous} of them get an event; each side needs at least one. Change the shares or "
            "synthetic.clips_per_background"
        )


def check_mimii(config: Config, archives: Config, mirrored: Iterable[str]) -> None:
    """Machines, SNRs, clip length and rate against what the archives hold."""
    mimii, synthetic = config["mimii"], bool(config["synthetic"])
    for machine_type in mimii["machine_types"]:
        names = {snr: f"mimii_{snr}_dB_{machine_type}" for snr in mimii["snrs_db"]}
        for snr, name in names.items():
            if name not in archives:
                some = [n.split("_")[1] for n in archives if n.endswith(f"_dB_{machine_type}")]
                raise ValueError(
                    f"config key mimii.snrs_db: there is no archive of {machine_type} at {snr} dB, only at "
                    f"{', '.join(some)} dB"
                )
        if synthetic or not set(names.values()) <= set(mirrored):
            _check_recordings(mimii, synthetic=synthetic)


def _check_recordings(mimii: Config, *, synthetic: bool) -> None:
    if mimii["sample_rate_hz"] != MIMII_RATE_HZ:
        raise ValueError(
            f"config key mimii.sample_rate_hz: the recordings have {MIMII_RATE_HZ} Hz, not "
            f"{mimii['sample_rate_hz']} Hz; encoders resample them by themselves"
        )
    if synthetic:  # made with any id, of any length
        return
    for number in mimii["ids"]:
        if number not in MIMII_IDS:
            raise ValueError(
                f"config key mimii.ids: there is no machine {number}, only {MIMII_IDS}"
            )
    if mimii["clip_s"] > MIMII_CLIP_S:
        raise ValueError(
            f"config key mimii.clip_s: {mimii['clip_s']} s is longer than the recordings, {MIMII_CLIP_S} s"
        )


def check_recordings(config: Config, schema: Config) -> None:
    """Two folders with sound in them that share none, and a method that can learn from them."""
    folders = {}
    for key in ("normal", "unsorted"):
        if not config[key]:
            raise ValueError(
                f"config key {key}: name the folder of {key} recordings, "
                "snakemake ... --config normal=DIR unsorted=DIR"
            )
        try:
            folders[key] = list_recordings(config[key])
            folders[key].check_not_empty()
        except ValueError as error:
            raise ValueError(f"config key {key}: {error}") from None
    shared = in_both(folders["unsorted"], folders["normal"])
    if shared:
        raise ValueError(
            f"config keys normal and unsorted: {len(shared)} recordings lie in both folders, first {shared[0][0]}; "
            "of what it learned from a detector can say nothing. Name two folders that share none"
        )
    own = config["recordings"]
    method, labels = own["method"], own["labels"]
    fitting = [name for name, entry in DETECTORS.items() if entry.for_recordings]
    if method in DETECTORS and method not in fitting:
        raise ValueError(
            f"config key recordings.method: {method!r} needs more than recordings give; take one of "
            f"{', '.join(fitting)}"
        )
    check_known(method, fitting, what="method of recordings.method:")
    check_known(own["encoder"], ENCODERS, what="encoder of recordings.encoder:")
    if len(own["prompts"]) == 1:
        raise ValueError(
            "config key recordings.prompts: one phrase always fits best; name at least two"
        )
    if labels not in ("names", "none") and not Path(labels).is_file():
        raise ValueError(
            f"config key recordings.labels: expected names, none or a csv file, got {labels!r}"
        )
    known = schema["properties"]["detectors"]["properties"][method].get("properties", {})
    settings = config["detectors"].get(method, {})
    for key in known:
        if key not in settings:
            raise ValueError(f"config key 'detectors.{method}.{key}' is missing")
    encoder = DETECTORS[method].own_encoder or own["encoder"]
    window_s = own["window_s"] or 1.0  # the shortest that is chosen
    _check_fit(method, settings, encoder, window_s, f"detectors.{method}", "recordings")


def check_synthetic(config: Config) -> None:
    """Every number that synthetic archives need, and enough recordings for a split."""
    synthetic = config["synthetic"]
    if not synthetic:
        return
    needed = ["clips_per_background", "clips_per_event", "seed"]
    if "mimii" in config["datasets"]:
        needed += ["normal_per_id", "abnormal_per_id"]
    for key in needed:
        if key not in synthetic:
            raise ValueError(
                f"config key 'synthetic.{key}' is missing; synthetic sounds need {', '.join(needed)}"
            )
    if "mimii" in config["datasets"]:
        n_tested = synthetic["abnormal_per_id"]
        n_tested = n_tested if "leakfree" in config["protocols"] else int(0.3 * n_tested)
        if n_tested >= synthetic["normal_per_id"]:
            raise ValueError(
                f"config key synthetic.normal_per_id: {synthetic['normal_per_id']} recordings are too few; "
                f"{n_tested} are tested beside as many abnormal ones, and one is needed to train on"
            )


# --- detectors


def check_detector_settings(config: Config, schema: Config) -> None:
    """Settings of the methods that run: complete, and fit for the encoders and clip lengths."""
    known = schema["properties"]["detectors"]["properties"]
    for method in config["methods"] + config["controls"]:
        base = config["detectors"].get(method, {})
        for key in known[method].get("properties", {}):
            if key not in base:
                raise ValueError(f"config key 'detectors.{method}.{key}' is missing")
        for dataset, where, changes in _variants(config, method):
            own = DETECTORS[method].own_encoder
            for encoder in [own] if own else config["encoders"]:
                clip_s = config[dataset]["clip_s"]
                _check_fit(method, {**base, **changes}, encoder, clip_s, where, dataset)


def _variants(config: Config, method: str) -> Iterator[tuple[str, str, Config]]:
    """(data set, path of the settings, what they change) of a method for all and for single classes."""
    names = {"envmix": config["envmix"]["backgrounds"], "mimii": machines_of(config)}
    for dataset in benchmarks_of(config):
        yield dataset, f"detectors.{method}", {}
        for name, changes in config["overrides"].items():
            if name in names[dataset] and method in changes:
                yield dataset, f"overrides.{name}.{method}", changes[method]


def _check_fit(
    method: str, settings: Config, encoder: str, clip_s: float, where: str, dataset: str
) -> None:
    spec = ENCODERS[encoder]
    n_frames = spec.front_end.n_frames(round(clip_s * spec.front_end.sample_rate_hz))
    if settings.get("n_stacked", 0) > n_frames:
        raise ValueError(
            f"config key {where}.n_stacked: {settings['n_stacked']} frames are more than the {n_frames} of a "
            f"clip; lower it or raise {dataset}.clip_s"
        )
    if "layers" not in settings:
        return
    names = [tap.name for tap in spec.taps]
    for key in ("layers", "map_layers"):
        for name in tap_names_of(settings.get(key, []), names):
            check_known(name, names, what=f"layer of encoder {encoder} in {where}.{key}:")
    layers = tap_names_of(settings["layers"], names)
    try:
        shapes = tap_shapes(spec, n_frames, spec.front_end.n_mels)
    except ValueError as error:
        raise ValueError(f"config key {dataset}.clip_s: {error}") from None
    used = [shapes[names.index(name)] for name in layers or names]
    n_channels, n_cells = sum(n for *_, n in used), max(t * f for t, f, _ in used)
    if settings.get("n_channels", 0) > n_channels:
        raise ValueError(
            f"config key {where}.n_channels: {settings['n_channels']} channels are more than the {n_channels} "
            f"of encoder {encoder}"
        )
    n_nearest = settings.get("n_neighbours", 0) + settings.get("n_hard_negatives", 0)
    if "n_hard_negatives" in settings and n_nearest > n_cells:
        raise ValueError(
            f"config keys n_neighbours and n_hard_negatives of {where}: together {n_nearest}, more than the "
            f"{n_cells} cells of a clip; lower them"
        )
