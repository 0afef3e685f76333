"""Clip counts, a config and jobs for the tests of plan.py."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from vision_to_sound.dry_run import PlannedJob
from vision_to_sound.files import write_table
from vision_to_sound.plan import bytes_and_work

COUNTS = {
    ("envmix", "siren"): (834, 0),  # 625 train, 209 test, 104 of them anomalous
    ("envmix", "car_horn"): (187, 0),  # 140 train, 47 test, 23 of them anomalous
    ("mimii", "fan_id_00"): (1011, 407),
}
# CLAP, EnvMix: 552 frames of 64 bands, 4 s
SPECTROGRAM = 552 * 64 * 4
EMBEDDING = (138 * 16 * 128 + 69 * 8 * 256 + 34 * 4 * 512) * 2
CLAP, ENVMIX = {"encoder": "clap2022_cnn14"}, {"dataset": "envmix", "category": "siren"}
MIMII = {"dataset": "mimii", "category": "fan_id_00"}
PUBLISHED, LEAKFREE = {"protocol": "published"}, {"protocol": "leakfree"}
EXPERIMENT = {"snr": "0", "seed": "0"}
KCELLS = 552 * 64 / 1000


def paper_config(repository: Path, tmp_path: Path) -> dict:
    """config/config.yaml, its results in a temporary folder."""
    config = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    return config | {"results": str(tmp_path / "results")}


def make_job(rule: str, *parts: dict, **wildcards) -> PlannedJob:
    return PlannedJob(rule, {k: v for part in (*parts, wildcards) for k, v in part.items()})


def size_of(config, rule: str, *parts: dict, **wildcards) -> float:
    return bytes_and_work(make_job(rule, *parts, **wildcards), config, COUNTS)[0]


def work_of(config, rule: str, *parts: dict, **wildcards) -> float:
    return bytes_and_work(make_job(rule, *parts, **wildcards), config, COUNTS)[1]


def put(config: dict, **changes) -> dict:
    """Config with other settings of methods."""
    detectors = {m: s | changes.get(m, {}) for m, s in config["detectors"].items()}
    return config | {"detectors": detectors}


def write_index(config, name: str, rows: list[tuple]) -> None:
    path = Path(config["results"], "index", f"{name}.tsv")
    columns = ["clip", "category", "duration_s", "label"][: len(rows[0])]
    write_table(pd.DataFrame(rows, columns=columns), path)
