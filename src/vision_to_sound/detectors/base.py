"""What every detector offers: fit on normal clips, score test clips, save and load what was learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from vision_to_sound.files import load_arrays, save_arrays
from vision_to_sound.scores import AnomalyScores
from vision_to_sound.seals import contents_of

__all__ = ["AnomalyScores", "Checkpoint", "Detector", "EncoderSource"]

if TYPE_CHECKING:
    import torch

    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.encoders import EncoderSpec
    from vision_to_sound.scores import Truth


@dataclass(frozen=True)
class EncoderSource:
    """The pretrained encoder behind the embeddings: its description and its extracted weights."""

    spec: EncoderSpec
    weights: Path


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its last finished epoch.

    key: digest of all that the result depends on (settings, code, data). A checkpoint with another key is
    left from another training and is not used.
    """

    path: Path
    key: str


class Detector:
    """Base of all detectors. `__init__` takes keyword-only settings and only stores them under their names.

    Subclasses name what `fit` learns in LEARNED; those attributes end in an underscore, are numpy arrays,
    and are all that `state` and files hold.
    """

    LEARNED: ClassVar[tuple[str, ...]] = ()

    # Set from outside, before fit and before score, for detectors that use them:
    encoder: EncoderSource | None = None  # made the embeddings; where the registry says "encoder"
    train_clips: ClipFeatures | None = None  # fitted on; where the registry says "train_clips"
    checkpoint: Checkpoint | None = None  # of detectors that train in epochs; None keeps none

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Learn from normal clips.

        Args:
            train: normal clips, at least one.
            rng: the only source of chance.
            device: where the work is done; changes results by rounding at most.
            memory_bytes: bound on what is held at a time; changes results by rounding at most.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fit")

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Score clips, each by itself: a clip's scores do not depend on the other test clips.

        `truth` is for the oracle alone; every other detector ignores it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no score")

    def state(self) -> dict[str, np.ndarray]:
        """What was learned, by name.

        Raises:
            RuntimeError: before fit or load.
        """
        missing = [name for name in self.LEARNED if not hasattr(self, name)]
        if missing:
            raise RuntimeError(f"{type(self).__name__} has not been fitted: call fit or load first")
        return {name: np.asarray(getattr(self, name)) for name in self.LEARNED}

    def load_state(self, state: Mapping[str, np.ndarray]) -> Self:
        """Take over what another detector of this kind learned.

        Raises:
            ValueError: an array is missing or unknown.
        """
        if set(state) != set(self.LEARNED):
            raise ValueError(
                f"{type(self).__name__} learns {sorted(self.LEARNED)}, got {sorted(state)}: "
                "was this state saved by another detector?"
            )
        for name in self.LEARNED:
            setattr(self, name, state[name])
        return self

    def save(self, path: str | Path) -> None:
        """Write the state as .npz, uncompressed. The same state gives the same bytes."""
        save_arrays(path, self.state())

    def load(self, path: str | Path) -> Self:
        """Read the state that `save` wrote; settings stay as they are."""
        expected = f"what a {type(self).__name__} learned (.npz)"
        arrays = load_arrays(path, expected=expected)
        with contents_of(path, expected=expected):
            return self.load_state(arrays)
