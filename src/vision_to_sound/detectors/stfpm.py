"""STFPM: where does a student that has heard normal clips only no longer follow its teacher?

Source: Wang et al. 2021, "Student-teacher feature pyramid matching for anomaly detection". The student, a
network like the encoder, learns to give the encoder's taps for normal clips. Loss and map compare directions:
the channels of a cell are scaled to unit length on both sides. Both are scaled as in the authors' own code,
which the learning rate of 0.4 goes with: squared distances without a factor 1/2, mean over the clips of a batch.

Differs: the teacher's taps are read from the embedding cache (float16 there) and not computed anew each epoch;
all clips are trained on and the last epoch counts, where the authors keep the best epoch on a fifth of the clips.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch.nn import functional as F

from vision_to_sound.detectors.base import AnomalyScores, Detector, EncoderSource
from vision_to_sound.detectors.patches import (
    blur_kernel_size,
    choose_taps,
    gaussian_blur,
    readable_bytes,
    upsample_map,
)
from vision_to_sound.encoders.build import build_encoder
from vision_to_sound.encoders.weights import load_encoder, random_weights
from vision_to_sound.stage import progress
from vision_to_sound.torch_setup import exact_float32
from vision_to_sound.training import flat_weights, set_flat_weights, train_epochs

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

STUDENT_INITS = ("random", "pretrained")


class STFPM(Detector):
    """A student of the encoder's architecture. Needs `encoder` set; features with taps and spectrograms.

    Args:
        learning_rate, momentum, weight_decay: of stochastic gradient descent.
        epochs: passes over the training clips.
        batch_size: clips in a step; bounds the memory of training (activations of that many clips are held).
        student_init: "random" (Wang 2021) or "pretrained": starts as a copy of the teacher. The loss does not start
            at 0 then, because batch norm goes by the batch in training: aiSFX gives 0.7 on four clips of one
            class, and 1e-7 when batch norm goes by its running statistics.
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to match; none for all.

    Attributes:
        student_: float32 (n_values,), weights and batch norm's running statistics, in the order of the network.
        losses_: float64 (epochs,), mean loss of an epoch's clips; see `matching_loss`.
    """

    LEARNED = ("student_", "losses_")

    def __init__(
        self,
        *,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        student_init: str,
        blur_sigma: float,
        layers: Sequence[str],
    ) -> None:
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
        if weight_decay < 0 or blur_sigma < 0:
            raise ValueError(
                f"weight_decay and blur_sigma must not be negative, got {weight_decay} and {blur_sigma}"
            )
        if epochs < 1 or batch_size < 1:
            raise ValueError(
                f"epochs and batch_size must be at least 1, got {epochs} and {batch_size}"
            )
        if student_init not in STUDENT_INITS:
            raise ValueError(
                f"student_init is {student_init!r}, allowed: {', '.join(STUDENT_INITS)}"
            )
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.student_init = student_init
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
        """Train the student. Memory is bounded by batch_size, not by memory_bytes.

        Raises:
            RuntimeError: no encoder set.
            ValueError: no clips, taps that are not the encoder's, features that are not finite (names the row), or
                a loss that is no longer finite.
        """
        source, taps = self._encoder(), self._used_taps(train)
        if train.n_clips == 0:
            raise ValueError("STFPM needs at least one normal clip to learn from, got none")
        weights_seed, order_seed = (int(seed) for seed in rng.integers(2**32, size=2))
        if self.student_init == "pretrained":
            student = load_encoder(source.spec, source.weights)
        else:
            student = random_weights(source.spec, seed=weights_seed)
        student.to(device).train()
        optimizer = torch.optim.SGD(
            student.parameters(),
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        logger.info(
            "STFPM: %s student of %s, %d clips at a time (setting batch_size)",
            self.student_init,
            readable_bytes(flat_weights(student).nbytes),
            self.batch_size,
        )

        def step(rows: np.ndarray) -> float:
            spectrograms_db, teacher_taps = _read(train, rows, taps, device=device)
            student_taps = student(spectrograms_db)
            loss = matching_loss(teacher_taps, [student_taps[i] for i in taps])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        with exact_float32():
            self.losses_ = train_epochs(
                step,
                {"student": student, "optimizer": optimizer},
                what="STFPM",
                n_clips=train.n_clips,
                n_epochs=self.epochs,
                batch_size=self.batch_size,
                seed=order_seed,
                checkpoint=self.checkpoint,
            )
        self.student_ = flat_weights(student)
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Map: see `matching_maps`. Clip score: its largest cell.

        One clip at a time, whatever memory_bytes, so that the others cannot touch its numbers.

        Raises:
            RuntimeError: no encoder set, or not fitted.
            ValueError: taps that are not the encoder's, a student of another encoder, or features that are not
                finite (names the row).
        """
        self.state()
        source, taps = self._encoder(), self._used_taps(test)
        student = build_encoder(source.spec)
        set_flat_weights(student, self.student_)
        student.to(device).eval()
        clips = np.empty(test.n_clips, dtype=np.float64)
        maps = np.empty((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        advance = progress(test.n_clips, "STFPM: scoring")
        with torch.inference_mode(), exact_float32():
            for row in range(test.n_clips):
                spectrogram_db, teacher_taps = _read(test, np.array([row]), taps, device=device)
                student_taps = student(spectrogram_db)
                block = matching_maps(
                    teacher_taps,
                    [student_taps[i] for i in taps],
                    n_frames=test.n_frames,
                    n_mels=test.n_mels,
                )
                block = gaussian_blur(block, self.blur_sigma, blur_kernel_size(self.blur_sigma))
                maps[row] = block[0].cpu().numpy()
                clips[row] = block.amax().item()
                advance(1)
        return AnomalyScores(clips=clips, maps=maps)

    def _encoder(self) -> EncoderSource:
        if self.encoder is None:
            raise RuntimeError(
                "STFPM needs the encoder behind the embeddings: set its attribute `encoder` before fit and score"
            )
        return self.encoder

    def _used_taps(self, features: ClipFeatures) -> list[int]:
        """Indices of the taps to match."""
        spec = self._encoder().spec
        expected = [(tap.name, tap.channels) for tap in spec.taps]
        found = [(tap.name, tap.n_channels) for tap in features.taps]
        if found != expected:
            raise ValueError(
                f"the embeddings hold the taps {found} (name, channels), encoder {spec.name!r} has {expected}: "
                "give STFPM the encoder that made them"
            )
        return choose_taps(features.taps, self.layers)


def squared_distances(
    teacher_taps: Sequence[torch.Tensor], student_taps: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Squared distance of each cell's two unit vectors, (n, n_time, n_freq) per tap; a zero vector stays zero.

    Between 0 and 4; where no activation is negative (after a rectified linear unit), at most 2.

    Args:
        teacher_taps, student_taps: (n, n_time, n_freq, n_channels) each.
    """
    return [
        (F.normalize(teacher, dim=3) - F.normalize(student, dim=3)).square().sum(3)
        for teacher, student in zip(teacher_taps, student_taps, strict=True)
    ]


def matching_loss(
    teacher_taps: Sequence[torch.Tensor], student_taps: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Sum over taps of the mean squared distance over cells and clips (Wang 2021, section 3.2, times 2)."""
    return torch.stack([d.mean() for d in squared_distances(teacher_taps, student_taps)]).sum()


def matching_maps(
    teacher_taps: Sequence[torch.Tensor],
    student_taps: Sequence[torch.Tensor],
    *,
    n_frames: int,
    n_mels: int,
) -> torch.Tensor:
    """Product over taps of the squared distances, each brought to the spectrogram's grid first (bilinear).

    Returns:
        (n, n_frames, n_mels), 0 to 2 per tap multiplied: up to 8 with three taps that are never negative.
        Small products are true: rounding the cache to float16 alone leaves some 1e-8 a tap, 1e-23 with
        three, and float32 goes down to 1e-38.
    """
    maps = [
        upsample_map(d, n_frames, n_mels) for d in squared_distances(teacher_taps, student_taps)
    ]
    return torch.stack(maps).prod(0)


def _read(
    features: ClipFeatures, rows: np.ndarray, taps: Sequence[int], *, device: torch.device
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """dB spectrograms (n, n_frames, n_mels) and the wanted taps (n, n_time, n_freq, n_channels), float32."""
    spectrograms_db = features.read_spectrograms(rows)
    arrays = features.read_taps(rows)
    for array in (spectrograms_db, *(arrays[i] for i in taps)):
        bad = ~np.isfinite(array).reshape(len(rows), -1).all(axis=1)
        if bad.any():
            raise ValueError(
                f"the spectrogram or the embedding of clip row {rows[bad][0]} is not finite. Look at that clip's "
                "audio, then delete and recompute both"
            )
    return (
        torch.from_numpy(spectrograms_db).to(device),
        [torch.from_numpy(arrays[i]).to(device) for i in taps],
    )
