"""The network of an encoder, of whichever kind, with initial weights."""

from __future__ import annotations

import torch
from torch import nn

from vision_to_sound.encoders import EncoderSpec
from vision_to_sound.encoders.conv_blocks import ConvBlockEncoder
from vision_to_sound.encoders.efficientat import MobileEncoder


def build_encoder(spec: EncoderSpec, *, device: torch.device | str = "cpu") -> nn.Module:
    """The network up to its deepest tap, with the initial weights that its library draws.

    They come from torch's own generator: seed it first (`torch.manual_seed`). Nothing is downloaded.

    Args:
        device: where the weights are; "meta" for names and shapes alone, in no time.

    Returns:
        A module with attributes `spec`, `n_mels` and `network` (the module whose names are those of
        the checkpoint). Called with float32 (n, n_frames, n_mels), dB, it returns float32
        (n, n_time, n_freq, n_channels) for each of `spec.taps`, shallow to deep. It can be trained.

    Raises:
        ValueError: the encoder has no network.
    """
    spec.check_has_network()
    if spec.network == "timm":
        # importing timm takes seconds, and only its own networks need it
        from vision_to_sound.encoders.timm_networks import TimmEncoder

        kind = TimmEncoder
    else:
        kind = MobileEncoder if spec.network == "mobilenet" else ConvBlockEncoder
    with torch.device(device):
        return kind(spec)
