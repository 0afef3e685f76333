"""The parts of anomalib that compute the same thing. Importing its models takes ten seconds: all in this file."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detector_features import (
    AMPLE,
    CPU,
    N_CHANNELS,
    N_FREQ,
    N_TIME,
    fit_and_score,
    make_features,
)

from vision_to_sound.detectors.coreset import greedy_selection
from vision_to_sound.detectors.padim import PaDiM
from vision_to_sound.detectors.patchcore import PatchCore
from vision_to_sound.detectors.patches import (
    PatchReader,
    anomaly_maps,
    blur_kernel_size,
    gaussian_blur,
)


@pytest.fixture(scope="module")
def anomalib():
    from vision_to_sound import torch_setup  # noqa: F401  isort: skip
    from anomalib.models.components import GaussianBlur2d, KCenterGreedy, MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    return SimpleNamespace(
        GaussianBlur2d=GaussianBlur2d,
        KCenterGreedy=KCenterGreedy,
        MultiVariateGaussian=MultiVariateGaussian,
        PaDiMMap=AnomalyMapGenerator,
        PatchcoreModel=PatchcoreModel,
    )


def test_selection_equals_k_center_greedy(anomalib):
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(800, 40))).float()
    # three axes: its way to leave out the random projection
    sampler = anomalib.KCenterGreedy(embedding=features[:, :, None], sampling_ratio=0.25)
    torch.manual_seed(7)
    expected = sampler.select_coreset_idxs()
    torch.manual_seed(7)
    start = int(torch.randint(high=800, size=(1,)))
    found = greedy_selection(features, 200, start=start, memory_bytes=AMPLE)
    assert found.tolist() == expected


def test_blur_equals_gaussian_blur_2d(anomalib):
    maps = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 90, 40))).float()
    expected = anomalib.GaussianBlur2d(sigma=4.0, channels=1)(maps[:, None])[:, 0]
    torch.testing.assert_close(
        gaussian_blur(maps, 4.0, blur_kernel_size(4.0)), expected, atol=1e-5, rtol=1e-5
    )


def test_patchcore_clip_scores_equal_compute_anomaly_score(anomalib):
    train, test = make_features(4, seed=0), make_features(6, seed=1)
    detector = PatchCore(
        bank_size=50, projection_eps=0.9, n_neighbours=9, blur_sigma=1.0, layers=[]
    )
    scores = fit_and_score(detector, train, test)
    model = anomalib.PatchcoreModel(
        layers=["layer1"], backbone="resnet18", pre_trained=False, num_neighbors=9
    )
    model.memory_bank = torch.from_numpy(detector.bank_)
    reader = PatchReader(test, layers=[], pool=True, channels=None)
    patches = reader.read(np.arange(6), device=CPU).reshape(-1, N_CHANNELS)
    patch_scores, locations = model.nearest_neighbors(patches, n_neighbors=1)
    expected = model.compute_anomaly_score(
        patch_scores.reshape(6, -1), locations.reshape(6, -1), patches
    )
    np.testing.assert_allclose(scores.clips, expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("n_train", [40, 6])
def test_padim_maps_equal_multi_variate_gaussian(anomalib, n_train):
    train, test = make_features(n_train, seed=2), make_features(3, seed=3)
    # it adds 1e-5 beside the 0.01
    detector = PaDiM(n_channels=10, regularisation=0.01 + 1e-5, blur_sigma=2.0, layers=[])
    scores = fit_and_score(detector, train, test)

    def embedding(features) -> torch.Tensor:  # (n_clips, n_channels, n_time, n_freq)
        reader = PatchReader(features, layers=[], pool=False, channels=detector.channels_)
        vectors = reader.read(np.arange(features.n_clips), device=CPU)
        return vectors.permute(0, 3, 1, 2).contiguous().double()

    gaussian = anomalib.MultiVariateGaussian().double()
    stats = [part.double() for part in gaussian.fit(embedding(train))]
    distance = anomalib.PaDiMMap(sigma=2).compute_distance(embedding(test), stats)
    assert distance.shape == (3, 1, N_TIME, N_FREQ)
    expected = anomaly_maps(distance[:, 0], n_frames=36, n_mels=20, blur_sigma=2.0)
    np.testing.assert_allclose(scores.maps, expected.numpy(), rtol=1e-4)
