"""EfficientAT's mobile network: MobileNetV3-Large of any width, trained on AudioSet.

Schmid 2023, "Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation", after
Howard 2019, "Searching for MobileNetV3" (Table 1). Differs from the original in ending at the deepest tap.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from vision_to_sound.encoders import EncoderSpec, tap_shapes

# The waveform's mel power becomes (ln(power + 1e-5) + 4.5) / 5.
_POWER_FLOOR, _LOG_SHIFT, _LOG_SCALE = 1e-5, 4.5, 5.0
_STEM_CHANNELS = 16
# Of each inverted residual block: kernel, channels inside and behind it at width 1, squeeze-and-excitation,
# activation, stride.
_BLOCKS = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)


class MobileEncoder(nn.Module):
    """An encoder built from its description, with initial weights (He 2015, by fan-in).

    Names in `network` equal those of the checkpoints less their prefix. Can be trained. Computes in float32
    under autocast too: rounding to bfloat16 would cost 3 to 4 % at the taps (ESC-50 recordings), in a
    network so narrow that there is little to save.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.n_mels = spec.front_end.n_mels
        self._tap_depths = [int(tap.name.removeprefix("block")) for tap in spec.taps]
        channels = _scaled(_STEM_CHANNELS, spec.mobilenet.width)
        layers: list[nn.Module] = [_convolution(1, channels, 3, nn.Hardswish, stride=2)]
        for kernel, inner, outer, squeezes, activation, stride in _BLOCKS[: self._tap_depths[-1]]:
            inner, outer = (_scaled(n, spec.mobilenet.width) for n in (inner, outer))
            layers.append(
                InvertedResidual(
                    channels,
                    inner,
                    outer,
                    kernel=kernel,
                    squeezes=squeezes,
                    activation=activation,
                    stride=stride,
                )
            )
            channels = outer
        self.network = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, log_mel_db: torch.Tensor) -> list[torch.Tensor]:
        """Taps of log-mel spectrograms.

        Args:
            log_mel_db: float32 (n, n_frames, n_mels), dB, from the encoder's own front end.

        Returns:
            float32 (n, n_time, n_freq, n_channels) for each of `spec.taps`, shallow to deep; no
            activation ends a block, so values can be negative. From the first squeeze-and-excitation
            on (block 4), a cell's channels are weighed by their means over the whole clip.

        Raises:
            ValueError: another number of mel bands, or no frames.
        """
        self.spec.check_spectrograms(log_mel_db.shape)
        tap_shapes(self.spec, log_mel_db.shape[1], self.n_mels)  # raises for clips without frames
        taps = []
        with torch.autocast(log_mel_db.device.type, enabled=False):
            x = network_input(log_mel_db)
            for depth, layer in enumerate(self.network):
                x = layer(x)  # (n, channels, n_freq, n_time)
                if depth in self._tap_depths:
                    taps.append(x.permute(0, 3, 2, 1))  # (n, n_time, n_freq, channels)
        return taps


def network_input(log_mel_db: torch.Tensor) -> torch.Tensor:
    """float32 (n, n_frames, n_mels), dB -> (n, 1, n_mels, n_frames), as the network was trained on.

    Differs for silence, whose power is 1e-10 here and 0 there: by 2e-6.
    """
    power = 10.0 ** (log_mel_db.transpose(1, 2).unsqueeze(1) / 10.0)
    return ((power + _POWER_FLOOR).log() + _LOG_SHIFT) / _LOG_SCALE


class InvertedResidual(nn.Module):
    """More channels by a 1x1 convolution, one filter for each, squeeze-and-excitation, fewer channels."""

    def __init__(
        self,
        channels: int,
        inner: int,
        outer: int,
        *,
        kernel: int,
        squeezes: bool,
        activation: type[nn.Module],
        stride: int,
    ) -> None:
        super().__init__()
        self.has_shortcut = stride == 1 and channels == outer
        layers = [_convolution(channels, inner, 1, activation)] if inner != channels else []
        layers.append(_convolution(inner, inner, kernel, activation, stride=stride, groups=inner))
        layers += [SqueezeExcitation(inner)] if squeezes else []
        layers.append(_convolution(inner, outer, 1, nn.Identity))
        self.block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, n_freq, n_time) -> (n, outer, ceil(n_freq / stride), ceil(n_time / stride))."""
        return x + self.block(x) if self.has_shortcut else self.block(x)


class SqueezeExcitation(nn.Module):
    """Channels weighed in 0 to 1 by a small network that sees their means over the map (Hu 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible_by_8(channels // 4)
        layers = {
            "fc1": nn.Linear(channels, squeezed),
            "relu": nn.ReLU(),
            "fc2": nn.Linear(squeezed, channels),
            "sigmoid": nn.Sigmoid(),
        }
        # a list because the authors also tried weights for bands and frames
        self.conc_se_layers = nn.ModuleList([nn.Sequential(OrderedDict(layers))])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, n_freq, n_time), the same out."""
        weights = self.conc_se_layers[0](x.mean(dim=(2, 3)))  # (n, channels)
        return x * weights[:, :, None, None]


def _convolution(
    channels: int,
    outer: int,
    kernel: int,
    activation: type[nn.Module],
    *,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution, batch norm, activation; a stride keeps cells that are not whole."""
    shape = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
    norm = nn.BatchNorm2d(outer, eps=1e-3, momentum=0.01)
    return nn.Sequential(nn.Conv2d(channels, outer, kernel, **shape), norm, activation())


def _scaled(channels: int, width: float) -> int:
    return _divisible_by_8(channels * width)


def _divisible_by_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8; the one above where that lost more than a tenth."""
    nearest = max(8, math.floor(channels / 8 + 0.5) * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
