"""FastFlow: how likely is each place of the taps under a normalising flow that was trained on normal clips?

Source: Yu et al. 2021, "FastFlow: Unsupervised anomaly detection and localization via 2D normalizing flows"; order
and constants of a step as in anomalib 2.7. Per tap a chain of invertible steps turns a clip's embedding, time and
frequency kept, into values that shall be independent and standard normal; training raises the likelihood. A step:
a small convolutional network looks at half of the channels and says by what to scale and shift the others (affine
coupling, the log of the scale held within +-clamp); then each channel is scaled and shifted by learned numbers, and
channels change places. Networks of 3x3 and of 1x1 cells alternate. All cells share the weights, so clips may be of
any length; only the zeros beyond the edges tell a network where it is.

Differs from both: the layer norm before the flow has nothing learned. Theirs has a weight and a bias per cell and
channel, which ties it to one grid, and the loss leaves out its part of the likelihood: shrinking the weight is a gain.
The loss is a mean over values where theirs is a sum; taps share no weights, so only the weight decay counts more.
All clips are trained on and the last epoch counts; the map may be blurred. As theirs it shows z
alone, not the determinant.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.detectors.patches import (
    blur_kernel_size,
    choose_taps,
    gaussian_blur,
    readable_bytes,
    upsample_map,
)
from vision_to_sound.stage import progress
from vision_to_sound.torch_setup import exact_float32
from vision_to_sound.training import flat_weights, set_flat_weights, train_epochs

if TYPE_CHECKING:
    from vision_to_sound.embeddings import ClipFeatures
    from vision_to_sound.scores import Truth

logger = logging.getLogger(__name__)

# Constants of a step, as in anomalib (from FrEIA): what the network says is made smaller, so that a flow starts near
# the identity; the scale of a channel is 0.1 softplus(s, beta 0.5), and 1 at the start.
_DAMPING = 0.1
_SCALE_FACTOR, _SCALE_BETA = 0.1, 0.5


class FastFlow(Detector):
    """A normalising flow per tap.

    Args:
        n_steps: coupling steps of each flow.
        hidden_ratio: channels within a step's network, as a multiple of those that it looks at.
        clamp: bound of the log of a coupling's scale.
        conv3x3_only: True for networks of 3x3 cells in all steps, False where every other one has 1x1.
        learning_rate, weight_decay: of Adam.
        epochs: passes over the training clips.
        batch_size: clips in a step; bounds the memory of training (activations of that many clips are held).
        blur_sigma: standard deviation of the blur of maps, in cells of the spectrogram; 0 for none.
        layers: names of the taps to use; none for all.

    Attributes:
        weights_: float32 (n_values,), of the flows of all taps, shallow to deep, in the order of their steps.
        permutations_: int64 (n_steps * n_channels of all taps,): which channel comes to each place, step by step.
        losses_: float64 (epochs,), mean negative log-likelihood of an epoch's clips, in nats per value, without the
            constant log(2 pi) / 2, summed over taps.
    """

    LEARNED = ("weights_", "permutations_", "losses_")

    def __init__(
        self,
        *,
        n_steps: int,
        hidden_ratio: float,
        clamp: float,
        conv3x3_only: bool,
        learning_rate: float,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        blur_sigma: float,
        layers: Sequence[str],
    ) -> None:
        if min(n_steps, epochs, batch_size) < 1:
            raise ValueError(
                f"n_steps, epochs and batch_size must be at least 1, got {n_steps}, {epochs} and {batch_size}"
            )
        if not min(hidden_ratio, clamp, learning_rate) > 0:
            raise ValueError(
                "hidden_ratio, clamp and learning_rate must be above 0, got "
                f"{hidden_ratio}, {clamp} and {learning_rate}"
            )
        if min(weight_decay, blur_sigma) < 0:
            raise ValueError(
                f"weight_decay and blur_sigma must not be negative, got {weight_decay} and {blur_sigma}"
            )
        self.n_steps = n_steps
        self.hidden_ratio = hidden_ratio
        self.clamp = clamp
        self.conv3x3_only = conv3x3_only
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
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
        """Train the flows; goes on from `checkpoint` if that is ours. Memory is bounded by batch_size.

        Raises:
            ValueError: no clips, a tap of one channel, an embedding that is not finite (names the row), or a loss
                that is not (names the epoch).
        """
        taps = choose_taps(train.taps, self.layers)
        if train.n_clips == 0:
            raise ValueError("FastFlow needs at least one normal clip to learn from, got none")
        flows = self._flows([train.taps[i].n_channels for i in taps])
        weights_seed, order_seed = (int(seed) for seed in rng.integers(2**32, size=2))
        draw_weights(flows, seed=weights_seed)
        for step in _steps(flows):
            step.permutation.copy_(torch.from_numpy(rng.permutation(len(step.permutation))))
        flows.to(device)
        optimizer = torch.optim.Adam(
            flows.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        logger.info(
            "FastFlow: %s of flows, %d clips at a time (setting batch_size)",
            readable_bytes(flat_weights(flows).nbytes),
            self.batch_size,
        )

        def train_on(rows: np.ndarray) -> float:
            loss = torch.zeros((), device=device)
            for flow, tap in zip(flows, read_normalised(train, rows, taps, device), strict=True):
                loss = loss + negative_log_likelihood(*flow(tap))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        with exact_float32():
            self.losses_ = train_epochs(
                train_on,
                {"flows": flows, "optimizer": optimizer},
                what="FastFlow",
                n_clips=train.n_clips,
                n_epochs=self.epochs,
                batch_size=self.batch_size,
                seed=order_seed,
                checkpoint=self.checkpoint,
            )
        self.weights_ = flat_weights(flows)
        self.permutations_ = torch.cat([s.permutation for s in _steps(flows)]).cpu().numpy()
        return self

    def score(
        self,
        test: ClipFeatures,
        *,
        device: torch.device,
        memory_bytes: int,
        truth: Truth | None = None,
    ) -> AnomalyScores:
        """Map: see `likelihood_maps`. Clip score: its largest cell.

        One clip at a time, whatever memory_bytes, so that the others cannot touch its numbers.

        Raises:
            ValueError: taps of other channels than the fitted ones, or not finite (names the row).
        """
        self.state()
        taps = choose_taps(test.taps, self.layers)
        n_channels = [test.taps[i].n_channels for i in taps]
        if self.n_steps * sum(n_channels) != len(self.permutations_):
            raise ValueError(
                f"fitted on {len(self.permutations_) // self.n_steps} channels, the taps of these clips have "
                f"{sum(n_channels)}: fit and score with the same encoder, layers and settings"
            )
        flows = self._flows(n_channels)
        set_flat_weights(flows, self.weights_)
        first = 0
        for step in _steps(flows):
            n = len(step.permutation)
            step.permutation.copy_(torch.from_numpy(self.permutations_[first : first + n]))
            first += n
        flows.to(device)
        clips = np.empty(test.n_clips, dtype=np.float64)
        maps = np.empty((test.n_clips, test.n_frames, test.n_mels), dtype=np.float32)
        advance = progress(test.n_clips, "FastFlow: scoring")
        with torch.inference_mode(), exact_float32():
            for row in range(test.n_clips):
                inputs = read_normalised(test, np.array([row]), taps, device)
                hidden = [flow(tap)[0] for flow, tap in zip(flows, inputs, strict=True)]
                block = likelihood_maps(hidden, n_frames=test.n_frames, n_mels=test.n_mels)
                block = gaussian_blur(block, self.blur_sigma, blur_kernel_size(self.blur_sigma))
                maps[row] = block[0].cpu().numpy()
                clips[row] = block.amax().item()
                advance(1)
        return AnomalyScores(clips=clips, maps=maps)

    def _flows(self, n_channels: Sequence[int]) -> nn.ModuleList:
        """A flow per tap, weights and permutations still to be set."""
        if min(n_channels) < 2:
            raise ValueError("FastFlow splits the channels of a tap in two: it needs at least two")
        return nn.ModuleList(
            Flow(
                n,
                n_steps=self.n_steps,
                hidden_ratio=self.hidden_ratio,
                clamp=self.clamp,
                conv3x3_only=self.conv3x3_only,
            )
            for n in n_channels
        )


class CouplingStep(nn.Module):
    """Affine coupling, scale and offset per channel, permutation of channels: invertible, with a known determinant."""

    def __init__(
        self, n_channels: int, *, kernel_size: int, hidden_ratio: float, clamp: float
    ) -> None:
        super().__init__()
        self.n_changed = n_channels // 2
        self.n_seen = n_channels - self.n_changed
        n_hidden = max(1, int(self.n_seen * hidden_ratio))
        self.network = nn.Sequential(
            nn.Conv2d(self.n_seen, n_hidden, kernel_size, padding="same"),
            nn.ReLU(),
            nn.Conv2d(n_hidden, 2 * self.n_changed, kernel_size, padding="same"),
        )
        self.clamp = clamp
        start = math.log(math.expm1(_SCALE_BETA / _SCALE_FACTOR)) / _SCALE_BETA
        self.scale = nn.Parameter(torch.full((1, n_channels, 1, 1), start))
        self.offset = nn.Parameter(torch.zeros(1, n_channels, 1, 1))
        self.register_buffer("permutation", torch.arange(n_channels))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n_clips, n_channels, n_time, n_freq) -> the same, and log |det| of the Jacobian (n_clips,)."""
        seen, changed = x.split([self.n_seen, self.n_changed], dim=1)
        log_scale, shift = (_DAMPING * self.network(seen)).chunk(2, dim=1)
        log_scale = self.clamp * torch.tanh(log_scale)
        x = torch.cat([seen, changed * log_scale.exp() + shift], dim=1)
        scale = _SCALE_FACTOR * F.softplus(self.scale, beta=_SCALE_BETA)
        n_cells = x.shape[2] * x.shape[3]
        log_det = log_scale.sum((1, 2, 3)) + n_cells * scale.log().sum()
        return (x * scale + self.offset)[:, self.permutation], log_det


class Flow(nn.Module):
    """Steps one after the other, the first with a network of 3x3 cells."""

    def __init__(
        self,
        n_channels: int,
        *,
        n_steps: int,
        hidden_ratio: float,
        clamp: float,
        conv3x3_only: bool,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            CouplingStep(
                n_channels,
                kernel_size=1 if i % 2 == 1 and not conv3x3_only else 3,
                hidden_ratio=hidden_ratio,
                clamp=clamp,
            )
            for i in range(n_steps)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n_clips, n_channels, n_time, n_freq) -> the same, and log |det| of the Jacobian (n_clips,)."""
        log_det = x.new_zeros(len(x))
        for step in self.steps:
            x, step_log_det = step(x)
            log_det = log_det + step_log_det
        return x, log_det


def draw_weights(flows: nn.Module, *, seed: int) -> None:
    """Convolutions uniform within 1 / sqrt(number of inputs), as PyTorch starts them."""
    generator = torch.Generator().manual_seed(seed)
    for module in flows.modules():
        if isinstance(module, nn.Conv2d):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            for parameter in (module.weight, module.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)


def negative_log_likelihood(hidden: torch.Tensor, log_det: torch.Tensor) -> torch.Tensor:
    """Mean over clips and values, in nats, without log(2 pi) / 2 (Yu 2021, Eq. 3): ().

    hidden: (n_clips, n_channels, n_time, n_freq). log_det: (n_clips,).
    """
    n_values = hidden[0].numel()
    return (0.5 * hidden.square().sum((1, 2, 3)) - log_det).mean() / n_values


def likelihood_maps(hidden: Sequence[torch.Tensor], *, n_frames: int, n_mels: int) -> torch.Tensor:
    """Mean over taps of -exp(-mean over channels of z^2 / 2), bilinear: (n_clips, n_frames, n_mels), -1 to 0."""
    maps = [upsample_map(-(-0.5 * z.square().mean(1)).exp(), n_frames, n_mels) for z in hidden]
    return torch.stack(maps).mean(0)


def read_normalised(
    features: ClipFeatures, rows: np.ndarray, taps: Sequence[int], device: torch.device
) -> list[torch.Tensor]:
    """The wanted taps, float32 (n_rows, n_channels, n_time, n_freq) each, of mean 0 and variance 1 in each clip.

    Raises:
        ValueError: an embedding is not finite; names the clip's row.
    """
    arrays, result = features.read_taps(rows), []
    for index in taps:
        tap = torch.from_numpy(arrays[index]).to(device).permute(0, 3, 1, 2)
        bad = ~torch.isfinite(tap).flatten(1).all(1)
        if bad.any():
            raise ValueError(
                f"the embedding of clip row {rows[int(torch.nonzero(bad)[0])]} (tap {features.taps[index].name}) is "
                "not finite. Look at that clip's audio, then delete and recompute the embeddings"
            )
        result.append(F.layer_norm(tap.contiguous(), tap.shape[1:]))
    return result


def _steps(flows: nn.ModuleList) -> list[CouplingStep]:
    return [step for flow in flows for step in flow.steps]
