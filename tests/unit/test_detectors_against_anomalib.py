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

from vision_to_sound.detectors.cfa import CFA, Descriptor, Memory, coupled_hypersphere_loss
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
    from anomalib.models.image.cfa.anomaly_map import AnomalyMapGenerator as CFAMap
    from anomalib.models.image.cfa.loss import CfaLoss
    from anomalib.models.image.cfa.torch_model import CfaModel, CoordConv2d
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    return SimpleNamespace(
        CFAMap=CFAMap,
        CfaLoss=CfaLoss,
        CfaModel=CfaModel,
        CoordConv2d=CoordConv2d,
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
        bank_size=50,
        projection_eps=0.9,
        search_share=1.0,
        n_neighbours=9,
        blur_sigma=1.0,
        layers=[],
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


def cfa_distance(anomalib, descriptors: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Squared distances (n_clips, n_cells, n_centroids), all of them at once."""
    return anomalib.CfaModel.compute_distance(SimpleNamespace(memory_bank=centroids.T), descriptors)


def cfa_loss(anomalib, radius: float) -> torch.nn.Module:
    """Its loss with a radius that learns, as the authors' code has it."""
    loss = anomalib.CfaLoss(num_nearest_neighbors=3, num_hard_negative_features=3, radius=radius)
    loss.radius = torch.nn.Parameter(torch.tensor([radius]))
    return loss


def cfa_descriptor(anomalib, weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Module:
    layer = anomalib.CoordConv2d(N_CHANNELS, N_CHANNELS, kernel_size=1)
    with torch.no_grad():
        layer.conv2d.weight.copy_(weight[:, :, None, None])
        layer.conv2d.bias.copy_(bias)
    return layer


def cfa_patches(features) -> torch.Tensor:  # (n_clips, n_channels, n_time, n_freq)
    reader = PatchReader(features, layers=[], pool=True, channels=None)
    return reader.read(np.arange(features.n_clips), device=CPU).permute(0, 3, 1, 2)


@pytest.mark.parametrize("radius", [1e-5, 1.0, 3.0])
@pytest.mark.parametrize(("n_time", "n_freq"), [(9, 5), (4, 11)])
def test_cfa_loss_and_gradients_equal_cfa_loss(anomalib, radius, n_time, n_freq):
    rng = np.random.default_rng(4)
    centroids = torch.from_numpy(rng.normal(size=(n_time * n_freq, 7)) * 0.5).float()
    start = torch.from_numpy(rng.normal(size=(3, n_time * n_freq, 7)) * 0.5).float()
    theirs = start.clone().requires_grad_()
    loss = cfa_loss(anomalib, radius)
    expected = loss(cfa_distance(anomalib, theirs, centroids))
    expected.backward()
    own, own_radius = start.clone().requires_grad_(), torch.tensor(radius, requires_grad=True)
    squared = Memory(centroids).squared_distances(own.flatten(0, 1), 6)
    found = coupled_hypersphere_loss(squared, own_radius, n_neighbours=3, margin=0.1, nu=1e-3)
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.0)
    torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own_radius.grad, loss.radius.grad[0], rtol=1e-4, atol=1e-7)
    share = (squared[:, :3] > radius**2).float().mean()
    assert share == 1.0 if radius < 0.1 else share < 0.9


@pytest.mark.parametrize("radius", [1e-5, 1.2])
def test_cfa_training_equals_its_parts(anomalib, radius):
    train = make_features(4, seed=5)
    detector = CFA(
        n_neighbours=3,
        n_hard_negatives=3,
        radius=radius,
        margin=0.1,
        nu=1e-3,
        learning_rate=1e-3,
        weight_decay=5e-4,
        epochs=5,
        batch_size=4,  # all clips: their order does not matter
        blur_sigma=1.0,
        layers=[],
    )
    scores = fit_and_score(detector, train, train, seed=6)

    drawn = Descriptor.drawn(N_CHANNELS, radius=radius, rng=np.random.default_rng(6))
    layer, loss = cfa_descriptor(anomalib, drawn.weight, drawn.bias), cfa_loss(anomalib, radius)
    patches = cfa_patches(train)

    def descriptors() -> torch.Tensor:  # (n_clips, n_cells, n_channels)
        return layer(patches).flatten(2).transpose(1, 2)

    centroids = descriptors().detach().mean(0)
    optimizer = torch.optim.AdamW(
        [*layer.parameters(), *loss.parameters()], lr=1e-3, weight_decay=5e-4, amsgrad=True
    )
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        value = loss(cfa_distance(anomalib, descriptors(), centroids))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    np.testing.assert_allclose(detector.centroids_, centroids, atol=1e-5)
    np.testing.assert_allclose(detector.losses_, losses, rtol=1e-4)
    weight = layer.conv2d.weight.detach()[:, :, 0, 0]
    np.testing.assert_allclose(detector.weight_, weight, atol=2e-5)
    np.testing.assert_allclose(detector.bias_, layer.conv2d.bias.detach(), atol=2e-5)
    np.testing.assert_allclose(detector.radius_, loss.radius.detach()[0], atol=2e-5)

    with torch.no_grad():
        distance = cfa_distance(anomalib, descriptors(), centroids)
    grid = anomalib.CFAMap(num_nearest_neighbors=3).compute_score(distance, (N_TIME, N_FREQ))
    np.testing.assert_allclose(scores.clips, grid.flatten(1).amax(1), rtol=1e-3)
    expected = anomaly_maps(grid[:, 0], n_frames=36, n_mels=20, blur_sigma=1.0)
    np.testing.assert_allclose(scores.maps, expected, rtol=1e-3)
