"""Autoencoder: how badly does a network that has seen normal clips redraw a few frames of this one?

Source: the baseline of DCASE 2020 task 2 (Koizumi 2020; the code is Keras). 5 frames of 128 mel bands side by
side are squeezed through 8 numbers; the score is the mean squared error. What Keras does unasked is done here
too: Glorot's initial weights, its batch norm and Adam constants.

Differs: no tenth of the vectors is put aside (DCASE only watched the loss on it); silence lies at -100 dB,
there at -156 dB; dense layers before a batch norm have no bias, which it would take off again. One network per
machine or background class, where DCASE trains one per machine type. The anomaly map is ours.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.patches import readable_bytes
from vision_to_sound.stage import progress
from vision_to_sound.torch_setup import exact_float32
from vision_to_sound.training import flat_weights, set_flat_weights, train_epochs

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

# Constants of Keras, where PyTorch's differ. Momentum: weight of the newest batch in running statistics.
_BATCH_NORM = {"momentum": 0.01, "eps": 1e-3}
_ADAM_EPS = 1e-7
# Float32 arrays of a batch's size alive at a time: input, output, activations, gradients.
_ARRAYS_PER_BATCH = 8


class Autoencoder(Detector):
    """Dense autoencoder over a few neighbouring frames of the log-mel spectrogram, dB as they are.

    Args:
        n_stacked: neighbouring frames that make one input vector.
        hidden_size: units of each hidden layer.
        n_hidden: hidden layers on either side of the bottleneck.
        bottleneck: units in the middle.
        learning_rate: of Adam.
        epochs: passes over all vectors of all training clips.
        batch_size: vectors, of whatever clips, in a step.

    Attributes:
        weights_: float32 (n_values,), weights and batch norm's running statistics, layer after layer.
        losses_: float64 (epochs,), mean squared error of an epoch's batches, dB^2.
    """

    LEARNED = ("weights_", "losses_")

    def __init__(
        self,
        *,
        n_stacked: int,
        hidden_size: int,
        n_hidden: int,
        bottleneck: int,
        learning_rate: float,
        epochs: int,
        batch_size: int,
    ) -> None:
        sizes = {
            "n_stacked": n_stacked,
            "hidden_size": hidden_size,
            "n_hidden": n_hidden,
            "bottleneck": bottleneck,
            "epochs": epochs,
            "batch_size": batch_size,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
        self.n_stacked = n_stacked
        self.hidden_size = hidden_size
        self.n_hidden = n_hidden
        self.bottleneck = bottleneck
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size

    def fit(
        self,
        train: ClipFeatures,
        *,
        rng: np.random.Generator,
        device: torch.device,
        memory_bytes: int,
    ) -> Self:
        """Train on all vectors of all clips, shuffled anew each epoch. All spectrograms are held in memory.

        Raises:
            ValueError: no clips, clips of fewer frames than n_stacked, a spectrogram that is not finite (names the
                row), memory_bytes too small for the spectrograms (says how much is needed), or a loss that is no
                longer finite.
        """
        if train.n_clips == 0:
            raise ValueError(
                "the autoencoder needs at least one normal clip to learn from, got none"
            )
        n_windows = self._n_windows(train)
        n_inputs = self.n_stacked * train.n_mels
        needed = 4 * (
            train.n_clips * train.n_frames * train.n_mels
            + _ARRAYS_PER_BATCH * self.batch_size * n_inputs
        )
        if needed > memory_bytes:
            raise ValueError(
                f"the autoencoder holds the spectrograms of all {train.n_clips} training clips and a batch: "
                f"{readable_bytes(needed)}, but may use {readable_bytes(memory_bytes)}: raise the config key "
                "memory_mb"
            )
        spectrograms_db = torch.cat(
            [_read_finite(train, row, device=device) for row in range(train.n_clips)]
        )  # (n_clips, n_frames, n_mels)
        logger.info(
            "autoencoder: %d vectors of %d values, %s in memory",
            train.n_clips * n_windows,
            n_inputs,
            readable_bytes(needed),
        )
        weights_seed, order_seed = (int(seed) for seed in rng.integers(2**32, size=2))
        network = self._network(train.n_mels)
        _draw_weights(network, seed=weights_seed)
        network.to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate, eps=_ADAM_EPS)
        stacked = np.arange(self.n_stacked)

        def step(vectors: np.ndarray) -> float:
            clips, first_frames = np.divmod(vectors[:, None], n_windows)
            inputs = spectrograms_db[clips, first_frames + stacked].flatten(1)  # (n, n_inputs)
            network.train(len(inputs) > 1)  # a lone vector has no batch to be normalised by
            loss = F.mse_loss(network(inputs), inputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        with exact_float32():
            self.losses_ = train_epochs(
                step,
                {"network": network, "optimizer": optimizer},
                what="autoencoder",
                n_clips=train.n_clips * n_windows,
                n_epochs=self.epochs,
                batch_size=self.batch_size,
                seed=order_seed,
                checkpoint=self.checkpoint,
            )
        self.weights_ = flat_weights(network)
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Clip score: mean squared error over all stacked frames, dB^2, as DCASE defines it.

        Map: each cell's squared error, mean over the windows that hold it: n_stacked of them, fewer at the ends.
        The ends therefore weigh more in the map's mean than in the clip score. One clip at a time, whatever
        memory_bytes, so that the others cannot touch its numbers.

        Raises:
            ValueError: clips of another number of mel bands than the fitted ones, of fewer frames than n_stacked,
                or not finite (names the row).
        """
        self.state()
        n_windows = self._n_windows(test)
        network = self._network(test.n_mels)
        set_flat_weights(network, self.weights_)
        network.to(device).eval()
        clips = np.empty(test.n_clips, dtype=np.float64)
        maps = np.empty((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        n_covering = torch.zeros((test.n_frames, 1), device=device)  # windows over each frame
        for k in range(self.n_stacked):
            n_covering[k : k + n_windows] += 1
        advance = progress(test.n_clips, "autoencoder: scoring")
        with torch.inference_mode(), exact_float32():
            for row in range(test.n_clips):
                frames = _read_finite(test, row, device=device)[0]  # (n_frames, n_mels)
                windows = frames.unfold(0, self.n_stacked, 1)  # (n_windows, n_mels, n_stacked)
                inputs = windows.transpose(1, 2).flatten(1)  # (n_windows, n_stacked * n_mels)
                errors = (network(inputs) - inputs).square_()
                clips[row] = errors.mean(dtype=torch.float64).item()
                errors = errors.reshape(n_windows, self.n_stacked, test.n_mels)
                total = torch.zeros_like(frames)
                for k in range(self.n_stacked):
                    total[k : k + n_windows] += errors[:, k]
                maps[row] = (total / n_covering).cpu().numpy()
                advance(1)
        return AnomalyScores(clips=clips, maps=maps)

    def _n_windows(self, features: ClipFeatures) -> int:
        n_windows = features.n_frames - self.n_stacked + 1
        if n_windows < 1:
            raise ValueError(
                f"n_stacked is {self.n_stacked}, but these clips have {features.n_frames} frames: use longer clips "
                "or stack fewer frames"
            )
        return n_windows

    def _network(self, n_mels: int) -> nn.Sequential:
        """(n, n_stacked * n_mels) -> the same; weights are still to be set."""
        hidden = [self.hidden_size] * self.n_hidden
        layers: list[nn.Module] = []
        n_in = n_inputs = self.n_stacked * n_mels
        for n_out in [*hidden, self.bottleneck, *hidden]:
            layers += [
                nn.Linear(n_in, n_out, bias=False),
                nn.BatchNorm1d(n_out, **_BATCH_NORM),
                nn.ReLU(),
            ]
            n_in = n_out
        return nn.Sequential(*layers, nn.Linear(n_in, n_inputs))


def _draw_weights(network: nn.Module, *, seed: int) -> None:
    """Glorot's uniform weights, biases zero, as Keras starts."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _read_finite(features: ClipFeatures, row: int, *, device: torch.device) -> torch.Tensor:
    """dB spectrogram of one clip, float32 (1, n_frames, n_mels)."""
    spectrogram_db = features.read_spectrograms(np.array([row]))
    if not np.isfinite(spectrogram_db).all():
        raise ValueError(
            f"the spectrogram of clip row {row} is not finite. Look at that clip's audio, then delete and "
            "recompute the spectrograms"
        )
    return torch.from_numpy(spectrogram_db).to(device)
