"""anomalib's flow, loss and map of FastFlow. Importing its models takes ten seconds: only in this file."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vision_to_sound.detectors.fastflow import (
    Flow,
    draw_weights,
    likelihood_maps,
    negative_log_likelihood,
)

N_CLIPS, N_CHANNELS, N_TIME, N_FREQ = 3, 7, 9, 4


@pytest.fixture(scope="module")
def anomalib():
    from vision_to_sound import torch_setup  # noqa: F401  isort: skip
    from anomalib.models.image.fastflow.anomaly_map import AnomalyMapGenerator
    from anomalib.models.image.fastflow.loss import FastflowLoss
    from anomalib.models.image.fastflow.torch_model import create_fast_flow_block

    return SimpleNamespace(
        Map=AnomalyMapGenerator, Loss=FastflowLoss, create_fast_flow_block=create_fast_flow_block
    )


def both_flows(anomalib, *, conv3x3_only: bool, hidden_ratio: float, clamp: float):
    """In float64: ours as drawn, channel scales and offsets moved, and theirs with the same weights."""
    settings = {"conv3x3_only": conv3x3_only, "hidden_ratio": hidden_ratio, "clamp": clamp}
    ours = Flow(N_CHANNELS, n_steps=4, **settings)
    draw_weights(ours, seed=0)
    theirs = anomalib.create_fast_flow_block([N_CHANNELS, N_TIME, N_FREQ], flow_steps=4, **settings)
    generator = torch.Generator().manual_seed(1)
    for step, block in zip(ours.steps, theirs.module_list, strict=True):
        torch.testing.assert_close(step.scale.data, block.global_scale.data)
        step.scale.data += torch.randn(step.scale.shape, generator=generator)
        step.offset.data += torch.randn(step.offset.shape, generator=generator)
        step.permutation.copy_(torch.randperm(N_CHANNELS, generator=generator))
        for convolution in (step.network[0], step.network[2]):
            convolution.weight.data *= 10.0  # beyond where the clamp is a straight line
        block.global_scale.data.copy_(step.scale.data)
        block.global_offset.data.copy_(step.offset.data)
        block.w_perm.data.copy_(torch.eye(N_CHANNELS)[step.permutation][:, :, None, None])
        block.subnet.load_state_dict(step.network.state_dict())
    return ours.double(), theirs.double()


@pytest.mark.parametrize(
    ("conv3x3_only", "hidden_ratio", "clamp"), [(False, 1.0, 2.0), (True, 0.6, 1.0)]
)
def test_flow_and_its_determinant_equal_fast_flow_block(
    anomalib, conv3x3_only, hidden_ratio, clamp
):
    ours, theirs = both_flows(
        anomalib, conv3x3_only=conv3x3_only, hidden_ratio=hidden_ratio, clamp=clamp
    )
    generator = torch.Generator().manual_seed(2)
    x = torch.randn((N_CLIPS, N_CHANNELS, N_TIME, N_FREQ), generator=generator).double()
    hidden, log_det = ours(x)
    expected, expected_log_det = theirs(x)
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(log_det, expected_log_det)
    # their loss is summed over values, for one tap
    loss = negative_log_likelihood(hidden, log_det) * N_CHANNELS * N_TIME * N_FREQ
    torch.testing.assert_close(loss.float(), anomalib.Loss()([expected], [expected_log_det]))
    # invertible: their way back from our end
    back, _ = theirs(hidden, rev=True)
    torch.testing.assert_close(back, x)


@pytest.mark.parametrize("n_taps", [1, 3])
def test_maps_equal_anomaly_map_generator(anomalib, n_taps):
    generator = torch.Generator().manual_seed(3)
    shapes = [(N_CLIPS, 6, 18, 10), (N_CLIPS, 8, 9, 5), (N_CLIPS, 10, 9, 5)][:n_taps]
    hidden = [torch.randn(shape, generator=generator) for shape in shapes]
    found = likelihood_maps(hidden, n_frames=37, n_mels=20)
    assert found.shape == (N_CLIPS, 37, 20)
    torch.testing.assert_close(found, anomalib.Map((37, 20))(hidden)[:, 0])
