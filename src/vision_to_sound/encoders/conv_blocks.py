"""The network that the encoders trained on sounds share, read at several depths.

Blocks as in PANNs (Kong 2020): two 3x3 convolutions without bias, each with batch norm and ReLU,
then pooling. Differs from the original networks in ending at the deepest tap, where nothing past it
exists, and in having no dropout, which does nothing when a network is only read.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vision_to_sound.encoders import Block, EncoderSpec, tap_shapes

# aiSFX (Ma 2022): log10(10000 power + 1), divided by the largest value met in training.
_AISFX_POWER_GAIN = 10_000.0
_AISFX_SCALE = 9.457798957824707


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, then average or max pooling.

    keep_float32: run the first convolution in float32 even under autocast. For the block that sees
    the spectrogram: there rounding to bfloat16 costs most (aiSFX on recordings: 1.6 instead of 0.6 %
    at the deepest tap) and saves least, with a single input channel.
    """

    def __init__(self, in_channels: int, block: Block, *, keep_float32: bool) -> None:
        super().__init__()
        self.block = block
        self.keep_float32 = keep_float32
        self.conv1 = nn.Conv2d(in_channels, block.channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(block.channels)
        self.conv2 = nn.Conv2d(block.channels, block.channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(block.channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False) if self.keep_float32 else nullcontext():
            x = F.relu_(self.bn1(self.conv1(x)))  # (n, channels, n_time, n_freq)
        x = F.relu_(self.bn2(self.conv2(x)))  # (n, channels, n_time, n_freq)
        if self.block.pool_size == (1, 1):
            return x
        pool = F.avg_pool2d if self.block.pool == "avg" else F.max_pool2d
        return pool(x, self.block.pool_size)  # (n, channels, n_time // 2, n_freq // 2)

    def folded(self) -> ConvBlock:
        """A copy for reading only, its batch norms multiplied into its convolutions: fewer passes over memory."""
        block = copy.deepcopy(self).eval()
        for i in "12":
            conv, norm = (block.get_submodule(name + i) for name in ("conv", "bn"))
            block.add_module(f"conv{i}", fuse_conv_bn_eval(conv, norm))
            block.add_module(f"bn{i}", nn.Identity())
        return block


class ConvBlockEncoder(nn.Module):
    """An encoder built from its description, without weights of its own.

    Module names equal those of the checkpoints (bn0, conv_block1, ...) less the key prefix. Can be
    trained: nothing in `forward` stops gradients.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.n_mels = spec.front_end.n_mels
        self.bn0 = nn.BatchNorm2d(self.n_mels) if spec.has_bn0 else None
        in_channels = 1
        for block in spec.blocks:
            first = block is spec.blocks[0]
            self.add_module(f"conv_{block.name}", ConvBlock(in_channels, block, keep_float32=first))
            in_channels = block.channels

    @property
    def network(self) -> nn.Module:
        """The module whose names are those of the checkpoint."""
        return self

    def folded(self) -> ConvBlockEncoder:
        """A copy for reading only, that gives the same up to rounding, faster. Its state dict has other names."""
        encoder = copy.copy(self)
        encoder._modules = {
            name: module.folded() if isinstance(module, ConvBlock) else module
            for name, module in self.named_children()
        }
        return encoder

    def forward(self, log_mel_db: torch.Tensor) -> list[torch.Tensor]:
        """Taps of log-mel spectrograms.

        Args:
            log_mel_db: float32 (n, n_frames, n_mels), dB, from the encoder's own front end.

        Returns:
            float32 (n, n_time, n_freq, n_channels) for each of `spec.taps`, shallow to deep; a
            rectified linear unit ends each block, so no value is negative.

        Raises:
            ValueError: another number of mel bands, or too few frames for the deepest tap.
        """
        self.spec.check_spectrograms(log_mel_db.shape)
        tap_shapes(self.spec, log_mel_db.shape[1], self.n_mels)  # raises for too short clips
        x = log_mel_db.unsqueeze(1)  # (n, 1, n_frames, n_mels)
        if self.spec.input_transform == "aisfx":
            x = (_AISFX_POWER_GAIN * 10.0 ** (x / 10.0) + 1.0).log10() / _AISFX_SCALE
        if self.bn0 is not None:
            x = self.bn0(x.transpose(1, 3)).transpose(1, 3)  # statistics per mel band
        taps = []
        for block in self.spec.blocks:
            x = self.get_submodule(f"conv_{block.name}")(x)  # (n, channels, n_time, n_freq)
            if block.name in self.spec.tap_names:
                taps.append(x.permute(0, 2, 3, 1).float())  # (n, n_time, n_freq, channels)
        return taps
