"""Band-wise PaDiM: how unusual is each patch for its frequency, whenever it sounds?

A Gaussian per frequency band of the grid, over all frames of all normal clips, where PaDiM (Defard et al. 2020) has one
per cell: in sound the place in frequency means something, the time since a recorder was started does not. So a band has
as many samples as there are frames, enough for all channels, and clips may be of any length. Differs from PaDiM also in
the covariance, which is shrunk towards a multiple of the identity, and in the clip score, the mean of the highest cells
instead of the highest one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps, readable_bytes
from vision_to_sound.scores import mean_of_highest, n_highest
from vision_to_sound.torch_setup import one_thread

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)


class BandPaDiM(Detector):
    """One Gaussian per band of the grid.

    Args:
        shrinkage: added to the diagonal of each covariance, as a share of the band's mean variance; above 0.
        top_share: share of a clip's cells, the highest of its map, whose mean is the clip score; in (0, 1].
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to use; none for all.

    Attributes:
        mean_: float64 (n_bands, n_channels).
        whitening_: float32 (n_bands, n_channels, n_channels), lower triangular, the inverse Cholesky factor W of each
            covariance: the distance of x is |W (x - mean)| / sqrt(n_channels).
    """

    LEARNED = ("mean_", "whitening_")

    def __init__(
        self, *, shrinkage: float, top_share: float, blur_sigma: float, layers: Sequence[str]
    ) -> None:
        if not shrinkage > 0:
            raise ValueError(f"shrinkage must be above 0, got {shrinkage}")
        if not 0.0 < top_share <= 1.0:
            raise ValueError(f"top_share must be above 0 and at most 1, got {top_share}")
        if blur_sigma < 0:
            raise ValueError(f"blur_sigma must not be negative, got {blur_sigma}")
        self.shrinkage = shrinkage
        self.top_share = top_share
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
        """Mean and covariance of each band over all frames of all clips, in two passes over the clips.

        Raises:
            ValueError: no clips, or an embedding that is not finite.
        """
        reader = PatchReader(train, layers=self.layers, pool=False, channels=None)
        if reader.n_clips == 0:
            raise ValueError("band_padim needs at least one normal clip to learn from, got none")
        n_bands, n, count = reader.n_freq, reader.n_channels, reader.n_clips * reader.n_time
        mean = torch.zeros((n_bands, n), dtype=torch.float64, device=device)
        for _, vectors in reader.clip_blocks(device=device, memory_bytes=memory_bytes // 2):
            mean += vectors.sum((0, 1), dtype=torch.float64) / count
        covariance = torch.zeros((n_bands, n, n), dtype=torch.float64, device=device)
        logger.info(
            "band-wise PaDiM: %d bands, %d channels, %d frames: %s of Gaussians",
            n_bands,
            n,
            count,
            readable_bytes(covariance.nbytes // 2),
        )
        for _, vectors in reader.clip_blocks(device=device, memory_bytes=memory_bytes // 2):
            # (n_bands, n_clips * n_time, n_channels)
            centred = vectors.permute(2, 0, 1, 3).reshape(n_bands, -1, n) - mean[:, None].float()
            for band, block in enumerate(centred):  # one at a time: no copy of all in float64
                block = block.double()
                covariance[band].addmm_(block.T, block, alpha=1.0 / max(count - 1, 1))
        variance = covariance.diagonal(dim1=1, dim2=2).mean(1)
        # a band in which nothing ever changes keeps a spread too
        floor = self.shrinkage * variance.clamp_min(1e-6 * float(variance.max().clamp_min(1e-12)))
        covariance.diagonal(dim1=1, dim2=2).add_(floor[:, None])
        self.mean_ = mean.cpu().numpy()
        self.whitening_ = np.empty((n_bands, n, n), dtype=np.float32)
        identity = torch.eye(n, dtype=torch.float64, device=device)
        with one_thread():
            for band in range(n_bands):
                factor = torch.linalg.cholesky(covariance[band])
                whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
                self.whitening_[band] = whitening.float().cpu().numpy()
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Patch score: Mahalanobis distance over sqrt(n_channels), about 1 in normal sound.

        Raises:
            ValueError: features with other bands or channels than the fitted ones, or not finite (names the row).
        """
        self.state()
        reader = PatchReader(test, layers=self.layers, pool=False, channels=None)
        if (reader.n_freq, reader.n_channels) != self.mean_.shape:
            raise ValueError(
                f"fitted on {self.mean_.shape} (bands, channels), these clips have "
                f"{(reader.n_freq, reader.n_channels)}: use the encoder of the training clips"
            )
        mean = torch.from_numpy(self.mean_).to(device).float()
        whitening = torch.from_numpy(self.whitening_).to(device)
        clips = np.empty(reader.n_clips, dtype=np.float64)
        maps = np.empty((reader.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        n_top = n_highest(self.top_share, test.n_frames * test.n_mels)
        for rows, vectors in reader.clip_blocks(device=device, memory_bytes=memory_bytes // 2):
            distance = torch.empty((len(rows), reader.n_time, reader.n_freq), device=device)
            for band in range(reader.n_freq):
                difference = vectors[:, :, band] - mean[band]  # (n_clips, n_time, n_channels)
                distance[:, :, band] = (difference @ whitening[band].T).square_().mean(-1).sqrt_()
            block = anomaly_maps(
                distance, n_frames=test.n_frames, n_mels=test.n_mels, blur_sigma=self.blur_sigma
            )
            maps[rows] = block.cpu().numpy()
            clips[rows] = mean_of_highest(maps[rows].reshape(len(rows), -1), n_top, axis=1)
        return AnomalyScores(clips=clips, maps=maps)
