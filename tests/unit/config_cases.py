"""Configs for tests: the shipped ones, and small changes to them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

SHIPPED = ("config", "demo", "subset")


def schema_of(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "config" / "schema.yaml").read_text(encoding="utf-8"))


def shipped_config(repository: Path, name: str) -> dict[str, Any]:
    """A config file of the project on top of config.yaml, as Snakemake lays one over the other."""
    folder = repository / "config"
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    update_config(config, yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")))
    return config


def put(config: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with the value at "envmix.clip_s"."""
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    node = config
    for name in parents:
        node = node[name]
    node[last] = value
    return config
