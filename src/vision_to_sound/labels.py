"""What protocols and methods are called in print, and in which order they stand in tables and figures."""

from __future__ import annotations

from collections.abc import Iterable

from vision_to_sound.detectors import DETECTORS

PROTOCOLS = ("published", "leakfree")
PAPER_ENCODER = "clap2022_cnn14"
# The paper's order of rows (its Baseline comes first), then other methods, then controls.
METHOD_ORDER = ("autoencoder", "cfa", "padim", "patchcore", "stfpm", "spade")
CONTROL_ORDER = ("oracle", "energy", "band_zscore", "random")


def method_label(method: str) -> str:
    """Name for print; a method that the registry does not know keeps its own."""
    return DETECTORS[method].label if method in DETECTORS else method


def is_control(method: str) -> bool:
    """True for the rows that bound the task (oracle, random, ...) instead of competing in it."""
    return method in DETECTORS and DETECTORS[method].is_control


def own_encoder(method: str) -> str:
    """The one encoder that a method works on, whatever the table's is; "" for most."""
    return DETECTORS[method].own_encoder if method in DETECTORS else ""


def reads_embeddings(method: str) -> bool:
    """True where a clip has to go through the encoder's network before the method can score it."""
    return method in DETECTORS and "embeddings" in DETECTORS[method].needs


def method_order(methods: Iterable[str]) -> list[str]:
    """Distinct methods: the paper's order, then unknown ones by name, then controls."""
    known = [*METHOD_ORDER, *CONTROL_ORDER]
    rank = {name: i for i, name in enumerate(known)}
    return sorted(set(methods), key=lambda name: (is_control(name), rank.get(name, 99), name))
