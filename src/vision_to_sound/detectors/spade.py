"""SPADE: how far is a clip, and each of its patches, from the normal clips most like it?

Source: Cohen and Hoshen 2020, "Sub-image anomaly detection with deep pyramid correspondences". The distances are
squared, as in the paper's formulas (common re-implementations take plain ones). Differs: the embedding of a
whole clip is the mean over the cells of the deepest tap that is used, where the paper pools the network's last
layer; the map is computed on the largest tap's grid and then enlarged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.distances import (
    block_sizes,
    paired_squared_distances,
    rounding_margin,
)
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps, readable_bytes
from vision_to_sound.stage import progress
from vision_to_sound.torch_setup import exact_float32

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

# Candidates beyond those asked for that a quick distance proposes and an exact one puts in order.
_SPARE_CANDIDATES = 2


class SPADE(Detector):
    """Nearest normal clips, then nearest patches among theirs. `score` reads the patches from `train_clips`.

    Args:
        n_clips: normal clips to compare a clip with (K); all of them where there are fewer.
        n_patches: patches of those clips to compare a patch with (kappa).
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to use; none for all. The deepest one finds the clips, all find the patches.

    Attributes:
        pooled_: float64 (n_train, n_channels of the deepest tap), mean over its cells, in the order of the clips.
    """

    LEARNED = ("pooled_",)

    def __init__(
        self, *, n_clips: int, n_patches: int, blur_sigma: float, layers: Sequence[str]
    ) -> None:
        if n_clips < 1 or n_patches < 1:
            raise ValueError(
                f"n_clips and n_patches must be at least 1, got {n_clips} and {n_patches}"
            )
        if blur_sigma < 0:
            raise ValueError(f"blur_sigma must not be negative, got {blur_sigma}")
        self.n_clips = n_clips
        self.n_patches = n_patches
        self.blur_sigma = blur_sigma
        self.layers = layers

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Pool the normal clips; their patches stay where they are.

        Raises:
            ValueError: no clips, or an embedding that is not finite (names the row).
        """
        if train.n_clips == 0:
            raise ValueError("SPADE needs at least one normal clip to learn from, got none")
        if train.n_clips < self.n_clips:
            logger.info(
                "SPADE: n_clips is %d and there are %d normal clips: all of them are compared with",
                self.n_clips,
                train.n_clips,
            )
        self.pooled_ = self._pooled(train, device=device, memory_bytes=memory_bytes)
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Clip score: mean squared distance of its pooled embedding to those of the n_clips nearest normal clips.

        Patch score: mean squared distance to the n_patches nearest patches, wherever they lie, of those clips.

        Raises:
            ValueError: train_clips are missing or not those of `fit`, features of other channels than theirs, or
                not finite (names the row).
        """
        self.state()
        gallery, reader = self._readers(test)
        n_nearest = min(self.n_clips, gallery.n_clips)
        if self.n_patches > n_nearest * gallery.group_size:
            raise ValueError(
                f"n_patches is {self.n_patches}, but {n_nearest} clips have only "
                f"{n_nearest * gallery.group_size} patches: lower it"
            )
        clips = np.empty(test.n_clips, dtype=np.float64)
        nearest = np.empty((test.n_clips, n_nearest), dtype=np.int64)
        pooled = self._pooled(test, device=device, memory_bytes=memory_bytes)
        for row, vector in enumerate(pooled):
            squared = np.square(self.pooled_ - vector).sum(1)  # (n_train,)
            nearest[row] = np.argsort(squared, kind="stable")[:n_nearest]
            clips[row] = squared[nearest[row]].mean()

        maps = np.empty((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        # Half of the budget for test clips, whose patches stay while normal clips pass by, one at a time.
        clip_bytes = reader.group_size * (4 * reader.n_channels + 8 * self.n_patches)
        step = int(max(1, min(test.n_clips, memory_bytes // 2 // clip_bytes)))
        logger.info(
            "SPADE: %d test clips of %d x %d cells, %d channels, against %d of %d normal clips each; %d at a time "
            "(%s; config key memory_mb changes it)",
            test.n_clips,
            reader.n_time,
            reader.n_freq,
            reader.n_channels,
            n_nearest,
            gallery.n_clips,
            step,
            readable_bytes(step * clip_bytes),
        )
        advance = progress(nearest.size, "SPADE: comparing", unit="pair of clips")
        for first in range(0, test.n_clips, step):
            rows = np.arange(first, min(first + step, test.n_clips))
            squared = self._patch_distances(
                reader, rows, gallery, nearest[rows], advance, device, memory_bytes // 4
            )
            block = anomaly_maps(
                squared.reshape(len(rows), reader.n_time, reader.n_freq),
                n_frames=test.n_frames,
                n_mels=test.n_mels,
                blur_sigma=self.blur_sigma,
            )
            maps[rows] = block.cpu().numpy()
        return AnomalyScores(clips=clips, maps=maps)

    def _patch_distances(
        self,
        reader: PatchReader,
        rows: np.ndarray,
        gallery: PatchReader,
        nearest: np.ndarray,
        advance: Callable[[int], None],
        device: torch.device,
        memory_bytes: int,
    ) -> torch.Tensor:
        """Mean squared distance of each patch to its nearest ones, float64 (n_rows, n_cells) on the device.

        nearest: int64 (n_rows, n_nearest), rows of the normal clips. Each of them is read once.
        """
        patches = torch.empty((len(rows), reader.group_size, reader.n_channels), device=device)
        for i in range(len(rows)):  # one by one: reading takes a few copies
            patches[i] = reader.read(rows[i : i + 1], device=device)[0].flatten(0, 1)
        squared = torch.full(
            (*patches.shape[:2], self.n_patches), torch.inf, dtype=torch.float64, device=device
        )
        for normal in np.unique(nearest):
            bank = gallery.read(np.array([normal]), device=device)[0].flatten(0, 1)
            for i in np.flatnonzero((nearest == normal).any(1)):
                keep_smallest(squared[i], patches[i], bank, memory_bytes=memory_bytes)
                advance(1)
        return squared.mean(2)

    def _readers(self, test: ClipFeatures) -> tuple[PatchReader, PatchReader]:
        """Readers of the normal clips and of these, after a check that they belong together."""
        if self.train_clips is None or self.train_clips.n_clips != len(self.pooled_):
            n_given = "none" if self.train_clips is None else self.train_clips.n_clips
            raise ValueError(
                f"SPADE compares with the patches of the {len(self.pooled_)} clips it was fitted on, "
                f"got {n_given}: set train_clips to them before score"
            )
        gallery, reader = self._reader(self.train_clips), self._reader(test)
        normal, own = ([tap.n_channels for tap in part.taps] for part in (gallery, reader))
        if normal != own or own[-1] != self.pooled_.shape[1]:
            raise ValueError(
                f"fitted on {self.pooled_.shape[1]} channels of the deepest tap; the taps of train_clips have "
                f"{normal} channels, those of these clips {own}: fit and score with the same encoder and layers"
            )
        return gallery, reader

    def _pooled(
        self, features: ClipFeatures, *, device: torch.device, memory_bytes: int
    ) -> np.ndarray:
        """Mean over the cells of the deepest tap used, float64 (n_clips, n_channels)."""
        deepest = self._reader(features).taps[-1].name
        reader = PatchReader(features, layers=[deepest], pool=False, channels=None)
        pooled = np.empty((reader.n_clips, reader.n_channels), dtype=np.float64)
        for rows, vectors in reader.clip_blocks(device=device, memory_bytes=memory_bytes):
            pooled[rows] = vectors.mean(dim=(1, 2), dtype=torch.float64).cpu().numpy()
        return pooled

    def _reader(self, features: ClipFeatures) -> PatchReader:
        return PatchReader(features, layers=self.layers, pool=False, channels=None)


def keep_smallest(
    squared: torch.Tensor, queries: torch.Tensor, bank: torch.Tensor, *, memory_bytes: int
) -> None:
    """Update the smallest squared distances of each query by those to the vectors of one more bank.

    One matrix product proposes candidates; those that can be smaller than what is known are computed again
    from their differences.

    Args:
        squared: float64 (n_queries, n), ascending, inf where there was no vector yet; changed in place.
        queries: float32 (n_queries, n_channels). bank: float32 (n_bank, n_channels).
        memory_bytes: bound on temporary arrays.
    """
    n = squared.shape[1]
    margin_share = rounding_margin(queries.shape[1])
    block_rows, block_columns = block_sizes(queries.shape[1], memory_bytes=memory_bytes)
    # Distances do not change when both sides move by the same vector; lengths, and so errors, shrink.
    centre = bank.mean(0)
    with exact_float32():
        for column in range(0, len(bank), block_columns):
            b = bank[column : column + block_columns] - centre  # (columns, n_channels)
            b_sq = b.square().sum(1)
            n_candidates = min(n + _SPARE_CANDIDATES, len(b))
            for row in range(0, len(queries), block_rows):
                a = queries[row : row + block_rows] - centre  # (rows, n_channels)
                a_sq = a.square().sum(1, keepdim=True)
                known = squared[row : row + block_rows]
                # (rows, columns): squared distance without the row's own |a|^2
                approximate = torch.addmm(b_sq, a, b.T, alpha=-2.0)
                values, candidates = approximate.topk(n_candidates, largest=False)
                margin = margin_share * (a_sq + b_sq.max())
                i, j = torch.nonzero(values + a_sq - margin < known[:, -1:], as_tuple=True)
                exact = torch.full(
                    values.shape, torch.inf, dtype=torch.float64, device=squared.device
                )
                exact[i, j] = paired_squared_distances(
                    queries, i + row, bank, candidates[i, j] + column
                )
                known.copy_(torch.cat([known, exact], dim=1).sort(dim=1).values[:, :n])
