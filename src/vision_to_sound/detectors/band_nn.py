"""Band-wise nearest neighbour: how far is each patch from what normal clips hold in its frequency band?

Sources: BEAM (Saengthong and Shinozaki 2026, arXiv 2603.13749) matches each sub-band of a clip with a bank of its own
instead of all bands with one clip, and lets them count alike; GenRep (the same 2024, arXiv 2409.05035) matches what a
general network hears, pooled over time but not over frequency, with the nearest normal clip. The scale is that of
Wilkinghoff et al. 2025 (arXiv 2509.10951): a distance over the distance that the neighbour itself has from other
normal sound, so that neither rare kinds of normal sound nor restless bands score high.

Differs: nothing is pooled over time, the bank holds single frames, so that scores say when (BEAM and GenRep score
whole clips; BEAM fuses mean and maximum over time). Distances are Euclidean as in GenRep, not cosine as in BEAM. A
neighbour's own distance leaves out patches of its own clip, and a share of what is usual in the band is added to it,
lest one that lies close to others make all look far away. No domains, no mixed-up samples (GenRep's MemMixup).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.distances import BLOCK_ROWS, paired_squared_distances
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps, readable_bytes
from vision_to_sound.scores import mean_of_highest, n_highest
from vision_to_sound.torch_setup import exact_float32

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

# Candidates beyond those wanted, among which rounding may have put the nearest ones in the wrong order.
_SPARE_CANDIDATES = 4
# A band in which nothing ever changes is taken to change by this share of the liveliest one.
_SMALLEST_CHANGE = 1e-3


class BandNearestNeighbour(Detector):
    """A bank of normal patches for each band of the grid, all bands of the same frames.

    Args:
        bank_size: frames to keep, at random, as many of each clip; all of them where there are fewer.
        n_neighbours: nearest patches of the bank whose mean distance counts.
        usual_quantile: which quantile of the bank's own distances is called usual in a band; from 0 to 1.
        usual_share: share of the usual distance that is added to each own distance; above 0.
        top_share: share of a clip's cells, the highest of its map, whose mean is the clip score; in (0, 1].
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to use; none for all.

    Attributes:
        bank_: float32 (n_bands, n_bank, n_channels), frames in the order of clips and time.
        scale_: float64 (n_bands, n_bank), what distances to each patch of the bank are divided by.
    """

    LEARNED = ("bank_", "scale_")

    def __init__(
        self,
        *,
        bank_size: int,
        n_neighbours: int,
        usual_quantile: float,
        usual_share: float,
        top_share: float,
        blur_sigma: float,
        layers: Sequence[str],
    ) -> None:
        if bank_size < 2:  # of two clips
            raise ValueError(f"bank_size must be at least 2, got {bank_size}")
        if n_neighbours < 1:
            raise ValueError(f"n_neighbours must be at least 1, got {n_neighbours}")
        if not 0.0 <= usual_quantile <= 1.0:
            raise ValueError(f"usual_quantile must lie between 0 and 1, got {usual_quantile}")
        if not usual_share > 0:
            raise ValueError(f"usual_share must be above 0, got {usual_share}")
        if not 0.0 < top_share <= 1.0:
            raise ValueError(f"top_share must be above 0 and at most 1, got {top_share}")
        if blur_sigma < 0:
            raise ValueError(f"blur_sigma must not be negative, got {blur_sigma}")
        self.bank_size = bank_size
        self.n_neighbours = n_neighbours
        self.usual_quantile = usual_quantile
        self.usual_share = usual_share
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
        """Draw the bank, and measure how far its patches are from those of other clips.

        Raises:
            ValueError: fewer than two clips, or an embedding that is not finite (names the row).
        """
        reader = PatchReader(train, layers=self.layers, pool=False, channels=None)
        if reader.n_clips < 2:
            raise ValueError(
                "band_nn compares normal clips with each other and needs at least two, got "
                f"{reader.n_clips or 'none'}"
            )
        frames = choose_frames(reader.n_clips, reader.n_time, self.bank_size, rng=rng)
        n_bands, n_bank = reader.n_freq, len(frames)
        logger.info(
            "band-wise nearest neighbour: %d bands, %d of %d frames, %d channels: bank of %s",
            n_bands,
            n_bank,
            reader.n_clips * reader.n_time,
            reader.n_channels,
            readable_bytes(4 * n_bands * n_bank * reader.n_channels),
        )
        patches = (frames[:, None] * n_bands + np.arange(n_bands)).ravel()
        cpu = torch.device("cpu")
        bank = reader.gather(patches, device=cpu, memory_bytes=memory_bytes)
        bank = bank.reshape(n_bank, n_bands, -1).transpose(0, 1).contiguous()
        clip = torch.from_numpy(frames // reader.n_time).to(device)
        own = torch.empty((n_bands, n_bank), dtype=torch.float64)
        for band in range(n_bands):
            vectors = bank[band].to(device)
            distance, _ = nearest_few(
                vectors, vectors, self.n_neighbours, memory_bytes=memory_bytes, groups=(clip, clip)
            )
            own[band] = mean_of_finite(distance).cpu()
        usual = own.quantile(self.usual_quantile, dim=1)
        usual.clamp_min_(max(_SMALLEST_CHANGE * float(usual.max()), 1e-12))
        self.bank_ = bank.numpy()
        self.scale_ = (own + self.usual_share * usual[:, None]).numpy()
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Patch score: mean distance to the nearest patches of its band's bank over the mean of their scales.

        Raises:
            ValueError: features of other bands or channels than the fitted ones, or not finite (names the row).
        """
        self.state()
        reader = PatchReader(test, layers=self.layers, pool=False, channels=None)
        n_bands, _, n_channels = self.bank_.shape
        if (reader.n_freq, reader.n_channels) != (n_bands, n_channels):
            raise ValueError(
                f"fitted on {(n_bands, n_channels)} (bands, channels), these clips have "
                f"{(reader.n_freq, reader.n_channels)}: use the encoder of the training clips"
            )
        bank = torch.from_numpy(self.bank_).to(device)
        scale = torch.from_numpy(self.scale_).to(device)
        clips = np.empty(reader.n_clips, dtype=np.float64)
        maps = np.empty((reader.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        n_top = n_highest(self.top_share, test.n_frames * test.n_mels)
        for rows, vectors in reader.clip_blocks(device=device, memory_bytes=memory_bytes // 2):
            grid = torch.empty(vectors.shape[:3], dtype=torch.float64, device=device)
            for band in range(n_bands):
                # (n_clips * n_time, n_channels)
                queries = vectors[:, :, band].reshape(-1, n_channels)
                distance, nearest = nearest_few(
                    queries, bank[band], self.n_neighbours, memory_bytes=memory_bytes // 2
                )
                ratio = distance.mean(1) / scale[band][nearest].mean(1)
                grid[:, :, band] = ratio.reshape(len(rows), -1)
            block = anomaly_maps(
                grid, n_frames=test.n_frames, n_mels=test.n_mels, blur_sigma=self.blur_sigma
            )
            maps[rows] = block.cpu().numpy()
            clips[rows] = mean_of_highest(maps[rows].reshape(len(rows), -1), n_top, axis=1)
        return AnomalyScores(clips=clips, maps=maps)


def choose_frames(
    n_clips: int, n_time: int, n_frames: int, *, rng: np.random.Generator
) -> np.ndarray:
    """Frames at random, as many of each clip but for one: int64 (n,), sorted, clip * n_time + time.

    All of them where there are no more than n_frames.
    """
    order = rng.permuted(np.tile(np.arange(n_time), (n_clips, 1)), axis=1)
    clips = rng.permutation(n_clips)
    frames = clips[:, None] * n_time + order[clips]  # (n_clips, n_time)
    return np.sort(frames.T.ravel()[:n_frames])  # a frame of each clip, then the next one of each


def nearest_few(
    queries: torch.Tensor,
    bank: torch.Tensor,
    n_neighbours: int,
    *,
    memory_bytes: int,
    groups: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances from each query to the nearest vectors of the bank, and which ones those are.

    One matrix product proposes candidates, whose distances are computed again from differences.

    Args:
        queries: float32 (n_queries, n_channels). bank: float32 (n_bank, n_channels).
        n_neighbours: at least 1; the whole bank if it holds fewer.
        memory_bytes: bound on temporary arrays; at least one query is worked on.
        groups: int64 (n_queries,) and (n_bank,): a query's neighbours are of other groups than its own. None: any.

    Returns:
        Euclidean distances float64 (n_queries, n), ascending, inf where other groups hold too few, and indices into
        the bank int64 (n_queries, n).
    """
    n_neighbours = min(n_neighbours, len(bank))
    n_candidates = min(n_neighbours + _SPARE_CANDIDATES, len(bank))
    shape = (len(queries), n_neighbours)
    distances = torch.empty(shape, dtype=torch.float64, device=queries.device)
    indices = torch.empty(shape, dtype=torch.int64, device=queries.device)
    # Distances do not change when both sides move by the same vector; lengths, and so errors, shrink.
    centre = bank.mean(0)
    shifted = bank - centre
    lengths_sq = shifted.square().sum(1)
    row_bytes = 8 * len(bank) + 16 * queries.shape[1] + 32 * n_candidates
    step = int(min(max(1, memory_bytes // row_bytes), BLOCK_ROWS))
    with exact_float32():
        for first in range(0, len(queries), step):
            rows = slice(first, first + step)
            # (rows, n_bank): squared distance without the row's own squared length
            rough = torch.addmm(lengths_sq, queries[rows] - centre, shifted.T, alpha=-2.0)
            if groups is not None:
                rough[groups[0][rows, None] == groups[1]] = torch.inf
            values, candidates = rough.topk(n_candidates, largest=False)
            i, j = torch.nonzero(values < torch.inf, as_tuple=True)
            squared = torch.full(values.shape, torch.inf, dtype=torch.float64, device=values.device)
            squared[i, j] = paired_squared_distances(queries, i + first, bank, candidates[i, j])
            nearest = squared.sort(dim=1, stable=True)
            distances[rows] = nearest.values[:, :n_neighbours].sqrt()
            indices[rows] = candidates.gather(1, nearest.indices[:, :n_neighbours])
    return distances, indices


def mean_of_finite(distances: torch.Tensor) -> torch.Tensor:
    """Mean over columns (n, n_neighbours) -> (n,), without those that are infinite; one of each row is finite."""
    finite = distances.isfinite()
    return distances.where(finite, 0.0).sum(1) / finite.sum(1)
