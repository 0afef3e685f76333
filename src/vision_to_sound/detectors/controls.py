"""Controls: detectors that learn nothing worth the name, so that a table can be read.

They go through the same stages as methods. The oracle shows that truth and metrics fit together, chance shows where
zero lies, energy and band_zscore show how far a method gets that only hears how loud something is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import numpy as np

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.scores import mean_of_highest, n_highest
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    import torch

    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

# Bands in which nothing ever sounds have no spread; a cell that differs there by this much counts as one.
MIN_STD_DB = 0.1

# Float64 arrays of a spectrogram's size alive at a time.
_ARRAYS_PER_CLIP = 4


class Oracle(Detector):
    """Answers with the truth: clip label, mask as map, anomalous frames as frame scores.

    Where only labels are known (recordings without stems), the whole map of an anomalous clip is 1.

    Args:
        mask: which of the masks of the truth is the map, "published" or "leakfree".
    """

    def __init__(self, *, mask: str) -> None:
        check_known(mask, ("published", "leakfree"), what="value for the oracle's setting 'mask':")
        self.mask = mask

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Learns nothing."""
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Raises ValueError without truth, without the mask asked for, or where shapes differ from the clips'."""
        if truth is None:
            raise ValueError("the oracle needs the truth of the clips that it scores: pass truth=")
        shape = (test.n_clips, test.n_frames, test.n_mels)
        if truth.labels.shape != shape[:1]:
            raise ValueError(f"the truth has {len(truth.labels)} labels for {test.n_clips} clips")
        labels = truth.labels.astype(np.float64)
        if not truth.masks:
            maps = np.broadcast_to(labels.astype(np.float32)[:, None, None], shape).copy()
            return AnomalyScores(clips=labels, maps=maps)
        if self.mask not in truth.masks:
            raise ValueError(
                f"the truth holds the masks {sorted(truth.masks)}, the oracle's setting asks for {self.mask!r}"
            )
        mask = truth.masks[self.mask]
        if mask.shape != shape:
            raise ValueError(
                f"the truth is of shape {mask.shape} (clips, frames, mels), expected {shape}"
            )
        return AnomalyScores(
            clips=labels, maps=mask.astype(np.float32), frames=truth.frames.astype(np.float64)
        )


class Random(Detector):
    """Chance: uniform scores and maps in [0, 1) that do not depend on any data.

    Attributes:
        seed_: uint64 (1,), drawn by fit; the same detector gives the same scores again.
    """

    LEARNED = ("seed_",)

    def __init__(self) -> None:
        pass

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Draws the seed; looks at no clip."""
        self.seed_ = rng.integers(2**63, size=1, dtype=np.uint64)
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        self.state()
        rng = np.random.default_rng(int(self.seed_[0]))
        clips = rng.random(test.n_clips)
        maps = rng.random((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        return AnomalyScores(clips=clips, maps=maps)


class Energy(Detector):
    """Loudness: the map is the clip's own log-mel spectrogram in dB, the score its mean power in dB."""

    def __init__(self) -> None:
        pass

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Learns nothing."""
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Clip score: 10 log10 of the mean power over all cells, in dB."""
        clips = np.empty(test.n_clips, dtype=np.float64)
        maps = np.empty((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        for rows, spectrograms_db in spectrogram_blocks(
            test, memory_bytes, arrays_per_clip=_ARRAYS_PER_CLIP
        ):
            maps[rows] = spectrograms_db
            power = 10.0 ** (spectrograms_db.astype(np.float64) / 10.0)
            clips[rows] = 10.0 * np.log10(power.mean(axis=(1, 2)))
        return AnomalyScores(clips=clips, maps=maps)


class BandZScore(Detector):
    """Loudness for its frequency: z-score of each cell against its mel band over all frames of normal clips.

    Args:
        top_share: share of a clip's cells, the largest ones, whose mean is the clip score; in (0, 1].

    Attributes:
        mean_db_, std_db_: float64 (n_mels,); the deviation is at least MIN_STD_DB.
    """

    LEARNED = ("mean_db_", "std_db_")

    def __init__(self, *, top_share: float) -> None:
        if not 0.0 < top_share <= 1.0:
            raise ValueError(f"top_share must be above 0 and at most 1, got {top_share}")
        self.top_share = top_share

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Mean and standard deviation per band, in one pass over the clips.

        Raises:
            ValueError: no clips, or a spectrogram that is not finite (names the row).
        """
        if train.n_clips == 0:
            raise ValueError("band_zscore needs at least one normal clip to learn from, got none")
        count = 0
        mean = np.zeros(train.n_mels)
        squares = np.zeros(train.n_mels)  # sum of squared deviations from the mean so far
        for rows, spectrograms_db in spectrogram_blocks(
            train, memory_bytes, arrays_per_clip=_ARRAYS_PER_CLIP
        ):
            block = spectrograms_db.reshape(-1, train.n_mels).astype(np.float64)
            block_count = len(rows) * train.n_frames
            block_mean = block.mean(axis=0)
            # Chan, Golub and LeVeque 1979: two groups' deviations joined without cancellation
            shift = block_mean - mean
            total = count + block_count
            squares += ((block - block_mean) ** 2).sum(axis=0)
            squares += shift**2 * (count * block_count / total)
            mean += shift * (block_count / total)
            count = total
        self.mean_db_ = mean
        self.std_db_ = np.maximum(np.sqrt(squares / max(count - 1, 1)), MIN_STD_DB)
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Map: z-scores. Clip score: mean of the top_share largest ones (at least one cell)."""
        self.state()
        if test.n_mels != len(self.mean_db_):
            raise ValueError(
                f"fitted on {len(self.mean_db_)} mel bands, these clips have {test.n_mels}: use one encoder"
            )
        n_top = n_highest(self.top_share, test.n_frames * test.n_mels)
        clips = np.empty(test.n_clips, dtype=np.float64)
        maps = np.empty((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        for rows, spectrograms_db in spectrogram_blocks(
            test, memory_bytes, arrays_per_clip=_ARRAYS_PER_CLIP
        ):
            z_scores = (spectrograms_db - self.mean_db_) / self.std_db_  # float64
            maps[rows] = z_scores
            clips[rows] = mean_of_highest(z_scores.reshape(len(rows), -1), n_top, axis=1)
        return AnomalyScores(clips=clips, maps=maps)


def spectrogram_blocks(
    features: ClipFeatures, memory_bytes: int, *, arrays_per_clip: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, dB spectrograms float32 (n_rows, n_frames, n_mels)); ValueError where one is not finite.

    arrays_per_clip: how many float64 arrays of a spectrogram's size the caller holds at a time.
    """
    clip_bytes = 8 * arrays_per_clip * features.n_frames * features.n_mels
    step = int(max(1, memory_bytes // clip_bytes))
    for first in range(0, features.n_clips, step):
        rows = np.arange(first, min(first + step, features.n_clips))
        spectrograms_db = features.read_spectrograms(rows)
        for row, spectrogram_db in zip(rows, spectrograms_db, strict=True):
            if not np.isfinite(spectrogram_db).all():
                raise ValueError(
                    f"the spectrogram of clip row {row} is not finite. Look at that clip's audio, then delete and "
                    "recompute the spectrograms"
                )
        yield rows, spectrograms_db
