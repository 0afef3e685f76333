"""anomalib's loss and map of STFPM. Importing its models takes ten seconds: only in this file."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from vision_to_sound.detectors.stfpm import matching_loss, matching_maps

N_CLIPS, N_FRAMES, N_MELS = 3, 37, 20
# (n_time, n_freq, n_channels): grids that are not square, and no two alike
GRIDS = {"block2": (18, 10, 6), "block3": (9, 5, 8), "block4": (4, 2, 10)}


@pytest.fixture(scope="module")
def anomalib():
    from vision_to_sound import torch_setup  # noqa: F401  isort: skip
    from anomalib.models.image.stfpm.anomaly_map import AnomalyMapGenerator
    from anomalib.models.image.stfpm.loss import STFPMLoss

    return SimpleNamespace(Map=AnomalyMapGenerator, Loss=STFPMLoss)


def random_taps(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand((N_CLIPS, *grid), generator=generator) for grid in GRIDS.values()]


def as_images(taps: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """(n_clips, n_channels, n_time, n_freq) by name."""
    return {name: tap.permute(0, 3, 1, 2) for name, tap in zip(GRIDS, taps, strict=True)}


def test_loss_equals_stfpm_loss(anomalib):
    """Theirs is summed over the clips of a batch and has a factor 1/2; gradients are in the same proportion."""
    teacher, ours, theirs = random_taps(0), random_taps(1), random_taps(1)
    for tap in (*ours, *theirs):
        tap.requires_grad_()
    found = matching_loss(teacher, ours)
    expected = anomalib.Loss()(as_images(teacher), as_images(theirs))
    torch.testing.assert_close(found * N_CLIPS / 2, expected)
    found.backward()
    expected.backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad * N_CLIPS / 2, b.grad)


@pytest.mark.parametrize("n_taps", [1, 3])
def test_maps_equal_anomaly_map_generator(anomalib, n_taps):
    """Theirs has a factor 1/2 for each tap."""
    teacher, student = random_taps(0)[:n_taps], random_taps(1)[:n_taps]
    found = matching_maps(teacher, student, n_frames=N_FRAMES, n_mels=N_MELS)
    names = list(GRIDS)[:n_taps]
    expected = anomalib.Map()(
        teacher_features=dict(zip(names, (t.permute(0, 3, 1, 2) for t in teacher), strict=True)),
        student_features=dict(zip(names, (s.permute(0, 3, 1, 2) for s in student), strict=True)),
        image_size=(N_FRAMES, N_MELS),
    )
    assert found.shape == (N_CLIPS, N_FRAMES, N_MELS)
    torch.testing.assert_close(found / 2**n_taps, expected[:, 0])
