"""PaDiM: how unusual is each patch for its place in time and frequency?

Source: Defard et al. 2020, "PaDiM: a patch distribution modeling framework". One Gaussian per grid cell
over a random choice of channels; the score is the Mahalanobis distance. Differs only in how it is computed:
inverse Cholesky factors in float64, cells in blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps, readable_bytes

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth
from vision_to_sound.torch_setup import one_thread

logger = logging.getLogger(__name__)

# Square float64 matrices per cell alive at a time: covariance, factor, its inverse and a copy.
_MATRICES_PER_CELL = 4


class PaDiM(Detector):
    """One Gaussian per cell of the grid.

    Args:
        n_channels: how many of the channels to use, drawn at random.
        regularisation: added to the diagonal of every covariance, in squared units of the embedding; > 0, so
            fewer clips than channels are enough.
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to use; none for all.

    Attributes:
        channels_: int64 (n_channels,), sorted.
        grid_: int64 (2,), n_time and n_freq.
        mean_: float64 (n_cells, n_channels).
        whitening_: float32 (n_cells, n_channels (n_channels + 1) / 2), lower triangle, row by row, of the inverse
            Cholesky factor W of each covariance: the distance of x is |W (x - mean)|.
    """

    LEARNED = ("channels_", "grid_", "mean_", "whitening_")

    def __init__(
        self,
        *,
        n_channels: int,
        regularisation: float,
        blur_sigma: float,
        layers: Sequence[str],
    ) -> None:
        if n_channels < 1:
            raise ValueError(f"n_channels must be at least 1, got {n_channels}")
        if not regularisation > 0:
            raise ValueError(f"regularisation must be above 0, got {regularisation}")
        if blur_sigma < 0:
            raise ValueError(f"blur_sigma must not be negative, got {blur_sigma}")
        self.n_channels = n_channels
        self.regularisation = regularisation
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
        """Mean and covariance (divided by n_clips - 1) of each cell.

        Raises:
            ValueError: no clips, more channels asked for than there are, or an embedding that is not finite.
        """
        whole = PatchReader(train, layers=self.layers, pool=False, channels=None)
        if whole.n_clips == 0:
            raise ValueError("PaDiM needs at least one normal clip to learn from, got none")
        if self.n_channels > whole.n_channels:
            raise ValueError(
                f"n_channels is {self.n_channels}, but the taps {[tap.name for tap in whole.taps]} have "
                f"{whole.n_channels} channels: set n_channels to that or less"
            )
        if whole.n_clips <= self.n_channels:
            logger.warning(
                "PaDiM: %d clips for covariances of %d channels: directions without data are held up by "
                "regularisation (%g) alone",
                whole.n_clips,
                self.n_channels,
                self.regularisation,
            )
        channels = np.sort(rng.choice(whole.n_channels, size=self.n_channels, replace=False))
        self.channels_ = channels.astype(np.int64)
        reader = PatchReader(train, layers=self.layers, pool=False, channels=self.channels_)
        n_cells, n = reader.group_size, self.n_channels
        self.grid_ = np.array([reader.n_time, reader.n_freq], dtype=np.int64)
        self.mean_ = np.empty((n_cells, n), dtype=np.float64)
        self.whitening_ = np.empty((n_cells, n * (n + 1) // 2), dtype=np.float32)
        # Half of the budget for clips as they are read, half for a block of cells over all clips.
        cell_bytes = 8 * (2 * reader.n_clips * n + _MATRICES_PER_CELL * n * n)
        step = _blocks(n_cells, cell_bytes, memory_bytes // 2)
        logger.info(
            "PaDiM: %d cells, %d channels, %d clips: %s of Gaussians, %d of %d cells at a time "
            "(%s; config key memory_mb changes it)",
            n_cells,
            n,
            reader.n_clips,
            readable_bytes(self.whitening_.nbytes),
            step,
            n_cells,
            readable_bytes(step * cell_bytes),
        )
        for first in range(0, n_cells, step):
            cells = slice(first, min(first + step, n_cells))
            mean, whitening = self._fit_cells(reader, cells, device, memory_bytes // 2)
            self.mean_[cells] = mean.cpu().numpy()
            self.whitening_[cells] = whitening.cpu().numpy()
        return self

    def _fit_cells(
        self, reader: PatchReader, cells: slice, device: torch.device, memory_bytes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_cells, n = cells.stop - cells.start, self.n_channels
        values = torch.empty((n_cells, reader.n_clips, n), dtype=torch.float64, device=device)
        for rows, vectors in reader.clip_blocks(device=device, memory_bytes=memory_bytes):
            block = vectors.reshape(len(rows), -1, n)[:, cells]  # (n_rows, n_cells, n_channels)
            values[:, rows[0] : rows[-1] + 1] = block.transpose(0, 1)
        mean = values.mean(1)  # (n_cells, n_channels)
        values -= mean[:, None]
        # (n_cells, n_channels, n_channels); a single clip has no spread, only the regularisation
        covariance = values.transpose(1, 2) @ values
        covariance /= max(reader.n_clips - 1, 1)
        del values
        covariance.diagonal(dim1=1, dim2=2).add_(self.regularisation)
        with one_thread():
            factor = torch.linalg.cholesky(covariance)
            identity = torch.eye(n, dtype=torch.float64, device=device).expand_as(factor)
            whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        row, column = torch.tril_indices(n, n, device=device)
        return mean, whitening[:, row, column].float()

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Patch score: Mahalanobis distance (not squared). Clip score: the largest cell of the blurred map.

        Raises:
            ValueError: features of another grid than the fitted ones, or not finite (names the row).
        """
        self.state()
        reader = PatchReader(test, layers=self.layers, pool=False, channels=self.channels_)
        grid = (reader.n_time, reader.n_freq)
        if grid != tuple(self.grid_):
            raise ValueError(
                f"fitted on a grid of {tuple(int(n) for n in self.grid_)} (time, frequency), these clips have "
                f"{grid}: clips must have the length, and the encoder, of the training clips"
            )
        clips = np.empty(reader.n_clips, dtype=np.float64)
        maps = np.empty((reader.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        for rows, vectors in reader.clip_blocks(device=device, memory_bytes=memory_bytes // 2):
            distance = self._distances(
                vectors.reshape(len(rows), -1, self.n_channels), memory_bytes=memory_bytes // 2
            )
            block = anomaly_maps(
                distance.reshape(len(rows), *grid),
                n_frames=test.n_frames,
                n_mels=test.n_mels,
                blur_sigma=self.blur_sigma,
            )
            maps[rows] = block.cpu().numpy()
            clips[rows] = block.flatten(1).amax(1).double().cpu().numpy()
        return AnomalyScores(clips=clips, maps=maps)

    def _distances(self, vectors: torch.Tensor, *, memory_bytes: int) -> torch.Tensor:
        """Mahalanobis distances float64 (n_clips, n_cells) of vectors (n_clips, n_cells, n_channels)."""
        n_clips, n_cells, n = vectors.shape
        device = vectors.device
        result = torch.empty((n_clips, n_cells), dtype=torch.float64, device=device)
        row, column = torch.tril_indices(n, n, device=device)
        step = _blocks(n_cells, 8 * (3 * n_clips * n + 2 * n * n), memory_bytes)
        for first in range(0, n_cells, step):
            cells = slice(first, min(first + step, n_cells))
            packed = torch.from_numpy(self.whitening_[cells]).to(device).double()
            whitening = torch.zeros((len(packed), n, n), dtype=torch.float64, device=device)
            whitening[:, row, column] = packed
            mean = torch.from_numpy(self.mean_[cells]).to(device)
            difference = (vectors[:, cells].double() - mean).permute(1, 2, 0)
            # (n_cells, n_channels, n_channels) @ (n_cells, n_channels, n_clips)
            result[:, cells] = (whitening @ difference).square_().sum(1).sqrt_().T
        return result


def _blocks(n_items: int, item_bytes: int, memory_bytes: int) -> int:
    """How many items to work on at a time; at least one."""
    return int(max(1, min(n_items, memory_bytes // item_bytes)))
