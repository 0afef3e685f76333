"""What the tests of the encoders share besides fixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_to_sound.encoders import ENCODERS, EncoderSpec

CLAP, PANNS, AISFX = (ENCODERS[name] for name in ("clap2022_cnn14", "panns_cnn14", "aisfx"))
WIDE, DEIT, LOGMEL = (ENCODERS[n] for n in ("wide_resnet50", "deit_small", "logmel_dcase2020"))
MN04 = ENCODERS["efficientat_mn04"]
CONV_BLOCKS = pytest.mark.parametrize("spec", (CLAP, PANNS, AISFX), ids=lambda spec: spec.name)


def some_spectrograms(spec: EncoderSpec, n_clips: int, n_frames: int) -> np.ndarray:
    """Log-mel dB with the levels of real clips."""
    rng = np.random.default_rng(3)
    shape = (n_clips, n_frames, spec.front_end.n_mels)
    return rng.normal(-35.0, 12.0, shape).astype(np.float32)


def randomise(network: torch.nn.Module, seed: int) -> None:
    """All weights and batch norm statistics at random, so that no term can go unseen."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.2, 0.2),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                tensor.uniform_(low, high, generator=generator)


def relative_error(got: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
    got, expected = (np.asarray(values, np.float64) for values in (got, expected))
    assert got.shape == expected.shape
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def msclap_taps(network: torch.nn.Module, log_mels: torch.Tensor) -> list[torch.Tensor]:
    x = network.bn0(log_mels[:, None].transpose(1, 3)).transpose(1, 3)
    taps = []
    for block in (network.conv_block1, network.conv_block2, network.conv_block3):
        x = block(x, pool_size=(2, 2), pool_type="avg")
        taps.append(x)
    taps.append(network.conv_block4(x, pool_size=(2, 2), pool_type="avg"))
    return [tap.permute(0, 2, 3, 1) for tap in taps[1:]]


def full_state(network: torch.nn.Module, *, prefix: str) -> dict[str, torch.Tensor]:
    """All keys and shapes; what lies past block 4 as zeros that take no room in a file."""
    return {
        prefix + key: torch.zeros(()).expand(value.shape)
        if key.startswith(("conv_block5", "conv_block6", "fc", "spectrogram", "logmel"))
        else value
        for key, value in network.state_dict().items()
    }
