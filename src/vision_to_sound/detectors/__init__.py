"""Detectors by name. Only the standard library is imported until one is created: the Snakefile reads this table."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from vision_to_sound.detectors.base import Detector


@dataclass(frozen=True)
class DetectorEntry:
    """A detector in the table.

    Attributes:
        target: "module:Class", imported when it is created.
        needs: what it reads, of "embeddings", "spectrograms" and "truth".
        is_control: True where it is no method but a check on data and metrics.
        learns: False where `fit` looks at no clip; it is then done by the job that scores.
        label: how tables and figures call it.
    """

    target: str
    needs: tuple[str, ...]
    is_control: bool
    learns: bool
    label: str


_PACKAGE = "vision_to_sound.detectors"

# Rows enter rules as settings: a new one reruns nothing else (see provenance.py).
__tables__ = ("DETECTORS",)

DETECTORS: dict[str, DetectorEntry] = {
    "patchcore": DetectorEntry(
        f"{_PACKAGE}.patchcore:PatchCore", ("embeddings",), False, True, "PatchCore"
    ),
    "padim": DetectorEntry(f"{_PACKAGE}.padim:PaDiM", ("embeddings",), False, True, "PaDiM"),
    "oracle": DetectorEntry(f"{_PACKAGE}.controls:Oracle", ("truth",), True, False, "Oracle"),
    "random": DetectorEntry(f"{_PACKAGE}.controls:Random", (), True, False, "Random"),
    "energy": DetectorEntry(
        f"{_PACKAGE}.controls:Energy", ("spectrograms",), True, False, "Energy"
    ),
    "band_zscore": DetectorEntry(
        f"{_PACKAGE}.controls:BandZScore", ("spectrograms",), True, True, "Band z-score"
    ),
}


def create(name: str, settings: Mapping) -> Detector:
    """A detector that has learned nothing yet.

    Args:
        name: a key of DETECTORS.
        settings: exactly the settings that its class takes.

    Raises:
        ValueError: unknown name, unknown setting (both with the nearest match), a missing setting, or a value that
            the detector refuses.
    """
    check_known(name, DETECTORS, what="detector")
    module, class_name = DETECTORS[name].target.split(":")
    detector_class = getattr(importlib.import_module(module), class_name)
    allowed = list(inspect.signature(detector_class).parameters)
    for setting in settings:
        check_known(setting, allowed, what=f"setting of detector {name!r}:")
    missing = [setting for setting in allowed if setting not in settings]
    if missing:
        raise ValueError(
            f"detector {name!r} lacks the settings {', '.join(missing)}. "
            f"It takes: {', '.join(allowed) or 'none'}"
        )
    return detector_class(**settings)
