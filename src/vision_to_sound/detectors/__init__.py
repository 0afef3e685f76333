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


@dataclass(frozen=True, kw_only=True)
class DetectorEntry:
    """A detector in the table.

    Attributes:
        target: "module:Class", imported when it is created.
        label: how tables and figures call it.
        needs: what it reads, of "embeddings", "spectrograms", "truth", "encoder" (the network behind the
            embeddings) and "train_clips" (the training clips again, when it scores).
        is_control: True where it is no method but a check on data and metrics.
        learns: False where `fit` looks at no clip; it is then done by the job that scores.
        trains: True where `fit` runs epochs: it keeps a checkpoint and a loss per epoch.
        own_encoder: name of the one encoder (front end) that it works on, "" where any will do.
    """

    target: str
    label: str
    needs: tuple[str, ...]
    is_control: bool = False
    learns: bool = True
    trains: bool = False
    own_encoder: str = ""

    @property
    def for_recordings(self) -> bool:
        """True where it can score recordings of which no truth is known, one by one, by themselves."""
        return bool(self.needs) and not {"truth", "train_clips"} & set(self.needs) and self.learns


_PACKAGE = "vision_to_sound.detectors"

# Rows enter rules as settings: a new one reruns nothing else (see provenance.py).
__tables__ = ("DETECTORS",)

DETECTORS: dict[str, DetectorEntry] = {
    "patchcore": DetectorEntry(
        target=f"{_PACKAGE}.patchcore:PatchCore", label="PatchCore", needs=("embeddings",)
    ),
    "padim": DetectorEntry(target=f"{_PACKAGE}.padim:PaDiM", label="PaDiM", needs=("embeddings",)),
    "cfa": DetectorEntry(
        target=f"{_PACKAGE}.cfa:CFA", label="CFA", needs=("embeddings",), trains=True
    ),
    "stfpm": DetectorEntry(
        target=f"{_PACKAGE}.stfpm:STFPM",
        label="STFPM",
        needs=("embeddings", "spectrograms", "encoder"),
        trains=True,
    ),
    "spade": DetectorEntry(
        target=f"{_PACKAGE}.spade:SPADE", label="SPADE", needs=("embeddings", "train_clips")
    ),
    "band_padim": DetectorEntry(
        target=f"{_PACKAGE}.band_padim:BandPaDiM", label="Band-wise PaDiM", needs=("embeddings",)
    ),
    "surprising_energy": DetectorEntry(
        target=f"{_PACKAGE}.surprising_energy:SurprisingEnergy",
        label="Surprising energy",
        needs=("embeddings", "spectrograms"),
    ),
    "band_nn": DetectorEntry(
        target=f"{_PACKAGE}.band_nn:BandNearestNeighbour",
        label="Band-wise nearest neighbour",
        needs=("embeddings",),
    ),
    "fastflow": DetectorEntry(
        target=f"{_PACKAGE}.fastflow:FastFlow", label="FastFlow", needs=("embeddings",), trains=True
    ),
    "autoencoder": DetectorEntry(
        target=f"{_PACKAGE}.autoencoder:Autoencoder",
        label="Autoencoder (DCASE 2020)",
        needs=("spectrograms",),
        trains=True,
        own_encoder="logmel_dcase2020",
    ),
    "oracle": DetectorEntry(
        target=f"{_PACKAGE}.controls:Oracle",
        label="Oracle",
        needs=("truth",),
        is_control=True,
        learns=False,
    ),
    "random": DetectorEntry(
        target=f"{_PACKAGE}.controls:Random",
        label="Random",
        needs=(),
        is_control=True,
        learns=False,
    ),
    "energy": DetectorEntry(
        target=f"{_PACKAGE}.controls:Energy",
        label="Energy",
        needs=("spectrograms",),
        is_control=True,
        learns=False,
    ),
    "band_zscore": DetectorEntry(
        target=f"{_PACKAGE}.controls:BandZScore",
        label="Band z-score",
        needs=("spectrograms",),
        is_control=True,
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
