"""PatchCore: how far is each patch of a clip from the nearest patch of normal clips?

Source: Roth et al. 2022, "Towards total recall in industrial anomaly detection". Differs: the map is
bilinear, and it is not scaled to 0..1 over the clips of a batch, which would make a clip's map depend on
the others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.coreset import k_centre_greedy
from vision_to_sound.detectors.distances import (
    near_neighbour,
    nearest_in_bank,
    nearest_neighbour,
    paired_squared_distances,
)
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps, readable_bytes

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)


class PatchCore(Detector):
    """Memory bank of normal patches.

    Args:
        bank_size: number of patches to keep; all of them where there are fewer.
        projection_eps: distortion that the random projection before the selection may have, in (0, 1).
        search_share: part of the bank that a patch is compared with, in (0, 1]; 1 finds the nearest bank patch, less
            is faster and finds a near one (`distances.near_neighbour`).
        n_neighbours: bank patches that re-weight a clip's score; 1 leaves the largest patch score as it is.
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to use; none for all.

    Attributes:
        bank_: float32 (n_bank, n_channels), in the order of selection.
    """

    LEARNED = ("bank_",)

    def __init__(
        self,
        *,
        bank_size: int,
        projection_eps: float,
        search_share: float,
        n_neighbours: int,
        blur_sigma: float,
        layers: Sequence[str],
    ) -> None:
        if bank_size < 1 or n_neighbours < 1:
            raise ValueError(
                f"bank_size and n_neighbours must be at least 1, got {bank_size} and {n_neighbours}"
            )
        if not 0.0 < projection_eps < 1.0:
            raise ValueError(f"projection_eps must lie between 0 and 1, got {projection_eps}")
        if not 0.0 < search_share <= 1.0:
            raise ValueError(f"search_share must be above 0 and at most 1, got {search_share}")
        if blur_sigma < 0:
            raise ValueError(f"blur_sigma must not be negative, got {blur_sigma}")
        self.bank_size = bank_size
        self.projection_eps = projection_eps
        self.search_share = search_share
        self.n_neighbours = n_neighbours
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
        """Select the bank.

        Raises:
            ValueError: no clips, an embedding that is not finite (names the row), or memory_bytes too small for
                the projected patches (says how much is needed).
        """
        reader = self._reader(train)
        if reader.n_patches == 0:
            raise ValueError("PatchCore needs at least one normal clip to learn from, got none")
        if self.bank_size >= reader.n_patches:
            logger.info(
                "PatchCore: bank_size is %d and there are %d patches: the bank holds all of them",
                self.bank_size,
                reader.n_patches,
            )
            chosen = np.arange(reader.n_patches)
        else:
            chosen = k_centre_greedy(
                reader,
                self.bank_size,
                rng=rng,
                projection_eps=self.projection_eps,
                device=device,
                memory_bytes=memory_bytes,
            ).numpy()
        logger.info(
            "PatchCore: bank of %d patches, %s",
            len(chosen),
            readable_bytes(4 * len(chosen) * reader.n_channels),
        )
        bank = reader.gather(chosen, device=torch.device("cpu"), memory_bytes=memory_bytes)
        self.bank_ = bank.numpy()
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Patch score: distance to the nearest bank patch. Clip score: the largest one, re-weighted (Eq. 7).

        Raises:
            ValueError: features of other channels than the bank's, or not finite (names the row).
        """
        self.state()
        reader = self._reader(test)
        if reader.n_channels != self.bank_.shape[1]:
            raise ValueError(
                f"the bank holds patches of {self.bank_.shape[1]} channels, these clips' have {reader.n_channels}: "
                "fit and score with the same encoder and layers"
            )
        bank = torch.from_numpy(self.bank_).to(device)
        clips = np.empty(reader.n_clips, dtype=np.float64)
        maps = np.empty((reader.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        blocks = reader.clip_blocks(device=device, memory_bytes=memory_bytes // 2)
        for rows, vectors in blocks:
            n_clips = len(rows)
            flat = vectors.reshape(-1, reader.n_channels)  # (n_clips * n_time * n_freq, n_channels)
            if self.search_share < 1.0:
                distance, nearest = near_neighbour(
                    flat, bank, share=self.search_share, memory_bytes=memory_bytes // 2
                )
            else:
                distance, nearest = nearest_neighbour(
                    flat,
                    bank,
                    memory_bytes=memory_bytes // 2,
                    shared=reader.shared_channels(n_clips, device=device),
                )
            clips[rows] = self._clip_scores(
                vectors.reshape(n_clips, -1, reader.n_channels),
                distance.reshape(n_clips, -1),
                nearest.reshape(n_clips, -1),
                bank,
            )
            grid = distance.reshape(n_clips, reader.n_time, reader.n_freq)
            maps[rows] = (
                anomaly_maps(
                    grid, n_frames=test.n_frames, n_mels=test.n_mels, blur_sigma=self.blur_sigma
                )
                .cpu()
                .numpy()
            )
        return AnomalyScores(clips=clips, maps=maps)

    def _clip_scores(
        self,
        vectors: torch.Tensor,
        distance: torch.Tensor,
        nearest: torch.Tensor,
        bank: torch.Tensor,
    ) -> np.ndarray:
        """Largest patch score of each clip times (1 - w).

        w is the softmax, over the n_neighbours bank patches nearest to the patch's own nearest one m*, of
        their distances to the patch, taken at m*: near 1 / n_neighbours where the bank is dense around m*. With one
        neighbour, or a bank of one patch, w would be 1 and every score 0: the score stays as it is.

        Args:
            vectors: (n_clips, n_patches, n_channels). distance, nearest: (n_clips, n_patches).
        """
        largest, patch = distance.max(1)
        if min(self.n_neighbours, len(bank)) == 1:
            return largest.cpu().numpy()
        every = torch.arange(len(vectors), device=vectors.device)
        anomalous = vectors[every, patch]  # (n_clips, n_channels)
        support = nearest_in_bank(bank, nearest[every, patch], self.n_neighbours)
        n_support = support.shape[1]
        to_support = paired_squared_distances(
            anomalous, every.repeat_interleave(n_support), bank, support.flatten()
        ).sqrt()
        weight = torch.softmax(to_support.reshape(-1, n_support), dim=1)[:, 0]
        return ((1.0 - weight) * largest).cpu().numpy()

    def _reader(self, features: ClipFeatures) -> PatchReader:
        return PatchReader(features, layers=self.layers, pool=True, channels=None)
