"""Surprising energy: energy that neither the normal sound, nor the rest of the clip, nor its embedding explains.

Ours. Three witnesses look at every cell of a clip's log-mel spectrogram:

- level: how far it is above what the training clips have in its mel band, this clip's loudness allowed for;
- own background: how far it is above the clip's own median in its band;
- embedding: how unusual its patch is for its frequency (band-wise PaDiM).

Each is asked at three levels, for the clip (mean of its highest cells), for the frame (mean of its highest bands,
smoothed over time) and for the cell, and is counted in standard deviations of what it says of normal clips that it was
not fitted on; the mean of the witnesses decides. Where the question is "at which frequencies", surprise alone is a
poor answer: at -20 dB a cell surprises as much as at 0 dB. So the map adds its surprise to the energy itself, as dB.
And whether a clip is normal is heard best from other taps than where it is not: for the map another embedding is asked.

At last each level is put on one scale, -log10 of the share of held-out normal clips, frames or cells that are as high:
2 means one in a hundred, in a map as in a clip. A monotone step: order, and so every ROC, stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vision_to_sound.detectors.band_padim import BandPaDiM
from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.controls import spectrogram_blocks
from vision_to_sound.scores import FRAME_TOP_CELLS, mean_of_highest, n_highest

if TYPE_CHECKING:
    import torch

    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

# What they say stands side by side: level, own background, embedding of clips and frames, embedding of the map.
N_VOICES = 4
OF_CLIPS_AND_FRAMES, OF_MAPS = [0, 1, 2], [0, 1, 3]

# In a band where (nearly) nothing ever changes a step of this much counts as one standard deviation.
MIN_STD_DB = 1.0

# float32 arrays of a spectrogram's size alive at a time, and how many cells of held-out clips calibrate maps.
_ARRAYS_PER_CLIP = 15
_MAX_CALIBRATION_CELLS = 2_000_000


class SurprisingEnergy(Detector):
    """Clip, frame and cell surprise of three witnesses, on one scale.

    Args:
        shrinkage: of the embedding witness, see BandPaDiM.
        layers, map_layers: taps that the embedding witness sees of clips and frames, and of maps; none for all.
        top_share: share of a clip's cells, the highest of each witness, whose mean is its word on the clip; in (0, 1].
        smoothing_frames: standard deviation of the smoothing of frame scores over time, in frames; 0 for none.
        frame_weight_db, cell_weight_db: what one standard deviation of the frame's and of the cell's surprise is worth
            in the map, in dB of energy; not negative.
        n_folds: parts into which the training clips are cut, in their order, to be held out in turn: calibration
            must not see the clips that a witness was fitted on. Clips of one recording are neighbours in the
            order of every experiment, so parts share few recordings. At least 2.

    Attributes:
        mean_db_, std_db_, residual_std_db_: float64 (n_mels,), level of a band over all frames, its spread, and its
            spread about the clips' own medians.
        mean_, whitening_, map_mean_, map_whitening_: of the embedding witnesses, see BandPaDiM.
        centres_, scales_: float64 (3, N_VOICES), mean and standard deviation of each over held-out clips, frames and
            cells.
        clip_scale_, frame_scale_, map_scale_: float64 (2, n_points), see SurpriseScale.
    """

    LEARNED = (
        "mean_db_",
        "std_db_",
        "residual_std_db_",
        "mean_",
        "whitening_",
        "map_mean_",
        "map_whitening_",
        "centres_",
        "scales_",
        "clip_scale_",
        "frame_scale_",
        "map_scale_",
    )

    def __init__(
        self,
        *,
        shrinkage: float,
        layers: Sequence[str],
        map_layers: Sequence[str],
        top_share: float,
        smoothing_frames: float,
        frame_weight_db: float,
        cell_weight_db: float,
        n_folds: int,
    ) -> None:
        if n_folds < 2:
            raise ValueError(f"n_folds must be at least 2, got {n_folds}")
        if min(smoothing_frames, frame_weight_db, cell_weight_db) < 0:
            raise ValueError(
                "smoothing_frames, frame_weight_db and cell_weight_db must not be negative, got "
                f"{smoothing_frames}, {frame_weight_db} and {cell_weight_db}"
            )
        # refuses a wrong shrinkage or top_share now, not after hours
        BandPaDiM(shrinkage=shrinkage, top_share=top_share, blur_sigma=0.0, layers=[])
        self.shrinkage = shrinkage
        self.layers = layers
        self.map_layers = map_layers
        self.top_share = top_share
        self.smoothing_frames = smoothing_frames
        self.frame_weight_db = frame_weight_db
        self.cell_weight_db = cell_weight_db
        self.n_folds = n_folds

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Hold each part of the clips out once to calibrate, then fit on all of them.

        Raises:
            ValueError: fewer than two clips, or a spectrogram or embedding that is not finite.
        """
        if train.n_clips < 2:
            raise ValueError(
                f"surprising_energy needs at least two normal clips, got {train.n_clips}: it is calibrated on clips "
                "that it was not fitted on"
            )
        work = {"rng": rng, "device": device, "memory_bytes": memory_bytes}
        rows = np.arange(train.n_clips)
        parts = np.array_split(rows, min(self.n_folds, train.n_clips))
        stride = max(1, train.n_clips * train.n_frames * train.n_mels // _MAX_CALIBRATION_CELLS)
        held_out: list[_Words] = []
        for number, part in enumerate(parts, start=1):
            logger.info("part %d of %d held out: %d clips", number, len(parts), len(part))
            witnesses = self._witnesses(train.subset(np.setdiff1d(rows, part)), **work)
            words = self._ask(witnesses, train.subset(part), device, memory_bytes)
            held_out += [word.thinned(stride) for word in words]
        levels = (
            np.concatenate([word.clips for word in held_out]),
            np.concatenate([word.frames.reshape(-1, N_VOICES) for word in held_out]),
            np.concatenate([word.cells.reshape(-1, N_VOICES) for word in held_out]),
        )
        self.centres_ = np.stack([level.mean(0, dtype=np.float64) for level in levels])
        spread = np.stack([level.std(0, dtype=np.float64) for level in levels])
        self.scales_ = np.where(spread > 1e-9, spread, 1.0)
        answers = [self._answers(word) for word in held_out]
        clips, frames, cells = (np.concatenate([a[i].ravel() for a in answers]) for i in range(3))
        self.clip_scale_ = SurpriseScale.fit(clips).points
        self.frame_scale_ = SurpriseScale.fit(frames).points
        self.map_scale_ = SurpriseScale.fit(cells).points
        background, embedding, of_map = self._witnesses(train, **work)
        self.mean_db_, self.std_db_ = background.mean_db, background.std_db
        self.residual_std_db_ = background.residual_std_db
        self.mean_, self.whitening_ = embedding.mean_, embedding.whitening_
        self.map_mean_, self.map_whitening_ = of_map.mean_, of_map.whitening_
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """-log10 of the share of held-out normal clips, frames and cells that score as high.

        Raises:
            ValueError: features with other bands or channels than the fitted ones, or not finite (names the row).
        """
        self.state()
        if test.n_mels != len(self.mean_db_):
            raise ValueError(
                f"fitted on {len(self.mean_db_)} mel bands, these clips have {test.n_mels}: use one encoder"
            )
        background = Background(self.mean_db_, self.std_db_, self.residual_std_db_)
        embedding, of_map = self._embeddings()
        embedding.mean_, embedding.whitening_ = self.mean_, self.whitening_
        of_map.mean_, of_map.whitening_ = self.map_mean_, self.map_whitening_
        clips = np.empty(test.n_clips, dtype=np.float64)
        frames = np.empty((test.n_clips, test.n_frames), dtype=np.float64)
        maps = np.empty((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        for words in self._ask((background, embedding, of_map), test, device, memory_bytes):
            clip, frame, cell = self._answers(words)
            clips[words.rows] = SurpriseScale(self.clip_scale_)(clip)
            frames[words.rows] = SurpriseScale(self.frame_scale_)(frame)
            maps[words.rows] = SurpriseScale(self.map_scale_)(cell)
        return AnomalyScores(clips=clips, maps=maps, frames=frames)

    def _embeddings(self) -> tuple[BandPaDiM, BandPaDiM]:
        """Of clips and frames, and of maps: one and the same where they see the same taps."""
        settings = {"shrinkage": self.shrinkage, "top_share": self.top_share, "blur_sigma": 0.0}
        embedding = BandPaDiM(layers=self.layers, **settings)
        if list(self.layers) == list(self.map_layers):
            return embedding, embedding
        return embedding, BandPaDiM(layers=self.map_layers, **settings)

    def _witnesses(
        self,
        clips: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> _Witnesses:
        embedding, of_map = self._embeddings()
        embedding.fit(clips, rng=rng, device=device, memory_bytes=memory_bytes)
        if of_map is not embedding:
            of_map.fit(clips, rng=rng, device=device, memory_bytes=memory_bytes)
        return Background.fit(clips, memory_bytes), embedding, of_map

    def _ask(
        self,
        witnesses: _Witnesses,
        clips: ClipFeatures,
        device: torch.device,
        memory_bytes: int,
    ) -> Iterator[_Words]:
        """What the witnesses say of clips, block by block."""
        background, embedding, of_map = witnesses
        work = {"device": device, "memory_bytes": memory_bytes // 2}
        blocks = spectrogram_blocks(clips, memory_bytes // 2, arrays_per_clip=_ARRAYS_PER_CLIP)
        for rows, spectrograms_db in blocks:
            part = clips.subset(rows)
            unusual = embedding.score(part, **work).maps
            in_map = unusual if of_map is embedding else of_map.score(part, **work).maps
            # (n_rows, n_frames, n_mels, N_VOICES)
            cells = np.stack([*background.surprise(spectrograms_db), unusual, in_map], axis=-1)
            yield _Words(
                rows=rows,
                clips=mean_of_highest(
                    cells.reshape(len(rows), -1, N_VOICES),
                    n_highest(self.top_share, cells[0, ..., 0].size),
                    axis=1,
                ),
                frames=self._smoothed(mean_of_highest(cells, FRAME_TOP_CELLS, axis=2)),
                cells=cells,
                energy_db=spectrograms_db,
                frame_of_cell=None,
            )

    def _smoothed(self, frames: np.ndarray) -> np.ndarray:
        if self.smoothing_frames == 0:
            return frames
        return gaussian_filter1d(frames, self.smoothing_frames, axis=1)

    def _answers(self, words: _Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean surprise of clips (n,) and frames (n, n_frames) in standard deviations, and the map in dB."""
        clip, frame, cell = (
            (said - self.centres_[level]) / self.scales_[level]
            for level, said in enumerate((words.clips, words.frames, words.cells))
        )
        its_frame = frame[..., OF_MAPS].mean(-1)
        if words.frame_of_cell is None:
            its_frame = its_frame[:, :, None]
        else:
            its_frame = its_frame.ravel()[words.frame_of_cell]
        surprise_db = self.cell_weight_db * cell[..., OF_MAPS].mean(-1)
        surprise_db += self.frame_weight_db * its_frame
        return (
            clip[..., OF_CLIPS_AND_FRAMES].mean(-1),
            frame[..., OF_CLIPS_AND_FRAMES].mean(-1),
            words.energy_db + surprise_db,
        )


@dataclass(frozen=True)
class _Words:
    """What the witnesses say of some clips; higher is more surprising, each in units of its own.

    rows: (n,). clips: (n, N_VOICES). frames: (n, n_frames, N_VOICES). cells: (n, n_frames, n_mels, N_VOICES),
    energy_db: the same without the last axis. Thinned: cells (n_cells, N_VOICES), energy_db and frame_of_cell,
    the position in `frames` of a cell's frame, (n_cells,).
    """

    rows: np.ndarray
    clips: np.ndarray
    frames: np.ndarray
    cells: np.ndarray
    energy_db: np.ndarray
    frame_of_cell: np.ndarray | None

    def thinned(self, stride: int) -> _Words:
        """Every stride-th cell of each clip; all clips and frames.

        The first one is another in each clip, lest a stride that divides the number of bands see a few bands only;
        it goes by the clip's row, so that blocks do not matter.
        """
        n_frames, n_mels = self.energy_db.shape[1:]
        n_cells = n_frames * n_mels
        chosen = np.concatenate(
            [
                clip * n_cells + np.arange(row % stride, n_cells, stride)
                for clip, row in enumerate(self.rows)
            ]
        )
        return _Words(
            rows=self.rows,
            clips=self.clips,
            frames=self.frames,
            cells=self.cells.reshape(-1, N_VOICES)[chosen],
            energy_db=self.energy_db.ravel()[chosen],
            frame_of_cell=chosen // n_mels,
        )


@dataclass(frozen=True)
class Background:
    """What normal sound has in each mel band: float64 (n_mels,) each, in dB."""

    mean_db: np.ndarray
    std_db: np.ndarray
    residual_std_db: np.ndarray

    @classmethod
    def fit(cls, clips: ClipFeatures, memory_bytes: int) -> Background:
        """Over all frames of all clips, in two passes; residuals are taken from each clip's median in the band."""
        count = clips.n_clips * clips.n_frames
        mean = np.zeros(clips.n_mels)
        for _, block in spectrogram_blocks(clips, memory_bytes, arrays_per_clip=_ARRAYS_PER_CLIP):
            mean += block.sum((0, 1), dtype=np.float64) / count
        squares, residual_sum, residual_squares = np.zeros((3, clips.n_mels))
        for _, block in spectrogram_blocks(clips, memory_bytes, arrays_per_clip=_ARRAYS_PER_CLIP):
            residual = block - np.median(block, axis=1, keepdims=True)
            squares += np.square(block - mean).sum((0, 1), dtype=np.float64)
            residual_sum += residual.sum((0, 1), dtype=np.float64)
            residual_squares += np.square(residual).sum((0, 1), dtype=np.float64)
        variance = residual_squares / count - (residual_sum / count) ** 2
        return cls(
            mean_db=mean,
            std_db=np.maximum(np.sqrt(squares / count), MIN_STD_DB),
            residual_std_db=np.maximum(np.sqrt(np.maximum(variance, 0.0)), MIN_STD_DB),
        )

    def surprise(self, spectrograms_db: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the level, and against the clip's own background: float32 (n_clips, n_frames, n_mels) each.

        A clip may be louder as a whole than the training clips were: the median over bands of its medians' distance
        from theirs is no surprise.
        """
        own = np.median(spectrograms_db, axis=1, keepdims=True)
        loudness = np.median(own - self.mean_db, axis=2, keepdims=True)
        level = (spectrograms_db - self.mean_db - loudness) / self.std_db
        against_own = (spectrograms_db - own) / self.residual_std_db
        return level.astype(np.float32), against_own.astype(np.float32)


_Witnesses = tuple[Background, BandPaDiM, BandPaDiM]


@dataclass(frozen=True)
class SurpriseScale:
    """-log10 of the share of normal scores that are as high, strictly rising over the whole line.

    points: float64 (2, n_points), scores and their values, both strictly rising. Between them a line. Above the last
    one an exponential tail (a line in -log10), whose scale is the mean excess over it: ten normal scores or a
    hundredth of them, whichever are more, lie there. Below the first one the first line goes on, to below 0.
    """

    points: np.ndarray

    N_POINTS = 512
    TAIL_COUNT = 10
    TAIL_SHARE = 0.01

    @classmethod
    def fit(cls, normal_scores: np.ndarray) -> SurpriseScale:
        """normal_scores: (n,), n >= 1, finite, of clips that nothing was fitted on."""
        scores = np.sort(np.asarray(normal_scores, dtype=np.float64))
        n = len(scores)
        n_tail = min(max(cls.TAIL_COUNT, int(cls.TAIL_SHARE * n)), n // 2)
        start = n - 1 - n_tail  # rank of the last point
        ranks = np.unique(np.linspace(0, start, min(cls.N_POINTS, start + 1)).round().astype(int))
        values = -np.log10((n - ranks) / (n + 1.0))
        knots, first = np.unique(scores[ranks], return_index=True)  # ties: the larger share
        excess = float((scores[start + 1 :] - scores[start]).mean()) if n_tail else 0.0
        excess = max(excess, 1e-6 * max(1.0, abs(float(scores[start]))))
        # one more point, one factor of ten into the tail
        tail = (knots[-1] + np.log(10.0) * excess, values[first][-1] + 1.0)
        return cls(np.stack([np.append(knots, tail[0]), np.append(values[first], tail[1])]))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """float64, of the same shape."""
        knots, values = self.points
        scores = np.asarray(scores, dtype=np.float64)
        slopes = np.diff(values) / np.diff(knots)
        piece = np.clip(np.searchsorted(knots, scores, side="right") - 1, 0, len(slopes) - 1)
        return values[piece] + slopes[piece] * (scores - knots[piece])
