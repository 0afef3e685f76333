from __future__ import annotations

import numpy as np
import pytest
import torch
from detector_features import (
    AMPLE,
    CPU,
    N_CHANNELS,
    N_FRAMES,
    N_FREQ,
    N_MELS,
    N_TIME,
    TAPS,
    TIGHT,
    fit_and_score,
    make_features,
    random_taps,
)
from scipy.spatial.distance import cdist
from scipy.special import softmax

from vision_to_sound.detectors import cfa
from vision_to_sound.detectors.base import Checkpoint
from vision_to_sound.detectors.cfa import (
    CFA,
    Descriptor,
    Memory,
    coupled_hypersphere_loss,
    initial_centroids,
    softmin_score,
    with_place,
)
from vision_to_sound.detectors.patches import PatchReader, anomaly_maps

N_CELLS = N_TIME * N_FREQ


def make_detector(**changes) -> CFA:
    settings = {
        "n_neighbours": 3,
        "n_hard_negatives": 3,
        "radius": 1e-5,
        "margin": 0.1,
        "nu": 1e-3,
        "learning_rate": 1e-3,
        "weight_decay": 5e-4,
        "epochs": 3,
        "batch_size": 4,
        "blur_sigma": 2.0,
        "layers": [],
    }
    return CFA(**{**settings, **changes})


def fitted(detector: CFA, train, *, memory_bytes: int = AMPLE) -> CFA:
    return detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=memory_bytes)


def patches_of(features) -> torch.Tensor:
    """(n_clips, n_time, n_freq, n_channels)"""
    reader = PatchReader(features, layers=[], pool=True, channels=None)
    return reader.read(np.arange(features.n_clips), device=CPU)


def slow_descriptors(detector: CFA, features) -> np.ndarray:
    """(n_clips, n_cells, n_channels), cell by cell in float64"""
    patches = patches_of(features).numpy().astype(np.float64)
    result = np.empty((len(patches), N_CELLS, N_CHANNELS))
    for clip in range(len(patches)):
        for t in range(N_TIME):
            for f in range(N_FREQ):
                place = [2 * t / (N_TIME - 1) - 1, 2 * f / (N_FREQ - 1) - 1]
                inputs = np.concatenate([patches[clip, t, f], place])
                result[clip, t * N_FREQ + f] = detector.weight_ @ inputs + detector.bias_
    return result


def test_scores_equal_the_slow_way():
    train, test = make_features(6, seed=0), make_features(4, seed=1)
    detector = make_detector()
    scores = fit_and_score(detector, train, test)
    assert scores.clips.dtype == np.float64 and scores.maps.dtype == np.float32
    assert scores.maps.shape == (4, N_FRAMES, N_MELS) and scores.frames is None
    grid = np.empty((4, N_TIME, N_FREQ))
    for clip, descriptors in enumerate(slow_descriptors(detector, test)):
        distances = np.sort(cdist(descriptors, detector.centroids_.astype(np.float64)), axis=1)
        share = softmax(-distances[:, :3], axis=1)[:, 0]
        grid[clip] = (share * distances[:, 0]).reshape(N_TIME, N_FREQ)
    np.testing.assert_allclose(scores.clips, grid.max((1, 2)), rtol=1e-5)
    maps = anomaly_maps(
        torch.from_numpy(grid), n_frames=N_FRAMES, n_mels=N_MELS, blur_sigma=2.0
    ).numpy()
    np.testing.assert_allclose(scores.maps, maps, rtol=1e-5)


def test_what_is_learned_and_the_loss_falls():
    detector = fitted(make_detector(epochs=12), make_features(8, seed=0))
    shapes = {name: (array.dtype, array.shape) for name, array in detector.state().items()}
    f32 = np.dtype(np.float32)
    assert shapes == {
        "weight_": (f32, (N_CHANNELS, N_CHANNELS + 2)),
        "bias_": (f32, (N_CHANNELS,)),
        "centroids_": (f32, (N_CELLS, N_CHANNELS)),
        "radius_": (f32, ()),
        "grid_": (np.dtype(np.int64), (2,)),
        "losses_": (np.dtype(np.float64), (12,)),
    }
    assert detector.grid_.tolist() == [N_TIME, N_FREQ]
    assert (np.diff(detector.losses_) < 0).all()
    assert detector.losses_[-1] < 0.9 * detector.losses_[0]
    assert detector.radius_ > 1e-4  # learned: it grows while any patch lies outside its spheres


def slow_loss(
    descriptors: torch.Tensor, centroids: torch.Tensor, radius: torch.Tensor, detector: CFA
) -> torch.Tensor:
    """Patch by patch against every centroid. descriptors: (n_patches, n_channels)"""
    attraction, repulsion = [], []
    for descriptor in descriptors:
        squared = ((descriptor - centroids) ** 2).sum(1).sort().values
        n, m = detector.n_neighbours, detector.n_hard_negatives
        attraction.append(torch.clamp(squared[:n] - radius**2, min=0))
        repulsion.append(torch.clamp(radius**2 - squared[n : n + m] - detector.margin, min=0))
    return (torch.stack(attraction).mean() + torch.stack(repulsion).mean()) / detector.nu


@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        # spheres wide enough for both halves of the loss to matter, and n_neighbours other than the negatives
        {"radius": 1.2, "n_neighbours": 2, "n_hard_negatives": 5},
    ],
)
def test_training_equals_the_slow_way(changes, memory_bytes):
    train = make_features(3, seed=0)
    settings = {"epochs": 4, "batch_size": 3, "learning_rate": 0.005, "weight_decay": 0.5}
    detector = fitted(make_detector(**settings, **changes), train, memory_bytes=memory_bytes)
    slow = Descriptor.drawn(N_CHANNELS, radius=detector.radius, rng=np.random.default_rng(0))
    slow = slow.double()
    inputs = with_place(patches_of(train)).double()
    centroids = slow(inputs).detach().reshape(3, N_CELLS, -1).mean(0)
    np.testing.assert_allclose(detector.centroids_, centroids, rtol=1e-4, atol=1e-6)
    optimizer = torch.optim.AdamW(slow.parameters(), lr=0.005, weight_decay=0.5, amsgrad=True)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = slow_loss(slow(inputs), centroids, slow.radius, detector)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(detector.losses_, losses, rtol=1e-5)
    np.testing.assert_allclose(detector.weight_, slow.weight.detach(), atol=2e-5)
    np.testing.assert_allclose(detector.bias_, slow.bias.detach(), atol=2e-5)
    np.testing.assert_allclose(detector.radius_, slow.radius.detach(), atol=2e-5)


def test_loss_and_gradient_equal_the_slow_way():
    rng = np.random.default_rng(5)
    centroids = torch.from_numpy(rng.normal(size=(20, 6)) * 0.5)
    slow_x = torch.from_numpy(rng.normal(size=(30, 6)) * 0.5).requires_grad_()
    slow_radius = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    detector = make_detector(n_neighbours=2, n_hard_negatives=4)
    expected = slow_loss(slow_x, centroids, slow_radius, detector)
    expected.backward()
    x = slow_x.detach().float().requires_grad_()
    radius = torch.tensor(1.0, requires_grad=True)
    squared = Memory(centroids.float()).squared_distances(x, 6)
    found = coupled_hypersphere_loss(squared, radius, n_neighbours=2, margin=0.1, nu=1e-3)
    found.backward()
    repelled = squared[:, 2:] < 0.9
    assert 0.1 < repelled.float().mean() < 0.9  # both halves take part
    np.testing.assert_allclose(found.item(), expected.item(), rtol=1e-5)
    np.testing.assert_allclose(x.grad, slow_x.grad, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(radius.grad, slow_radius.grad, rtol=1e-4)


def test_centroids_are_the_mean_over_batches():
    features = make_features(7, seed=3)
    reader = PatchReader(features, layers=[], pool=True, channels=None)
    descriptor = Descriptor.drawn(N_CHANNELS, radius=0.0, rng=np.random.default_rng(1))
    found = initial_centroids(reader, descriptor, batch_size=3, memory_bytes=TIGHT)
    running = 0.0
    with torch.no_grad():
        for i, rows in enumerate([[0, 1, 2], [3, 4, 5], [6]]):
            descriptors = descriptor(with_place(reader.read(np.array(rows), device=CPU)))
            batch = descriptors.reshape(len(rows), N_CELLS, N_CHANNELS).mean(0)
            running = (running * i + batch) / (i + 1)
    torch.testing.assert_close(found, running, rtol=1e-5, atol=1e-5)


def test_place_runs_from_minus_one_to_one_along_each_axis():
    inputs = with_place(torch.zeros(2, 4, 3, 5))
    assert inputs.shape == (2 * 4 * 3, 7)
    time, freq = inputs[:, 5].reshape(2, 4, 3), inputs[:, 6].reshape(2, 4, 3)
    torch.testing.assert_close(time[1, :, 2], torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0]))
    torch.testing.assert_close(freq[1, 3], torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.isfinite(with_place(torch.zeros(1, 1, 1, 2))).all()


def test_softmin_score_of_one_and_of_equal_neighbours():
    squared = torch.tensor([[4.0, 4.0, 4.0], [0.0, 1.0, 1.0], [4.0, 1e6, 1e6]])
    np.testing.assert_allclose(softmin_score(squared), [2 / 3, 0, 2], rtol=1e-12)
    np.testing.assert_allclose(softmin_score(squared[:, :1]), [2, 0, 2])


def test_a_planted_anomaly_has_the_largest_patch_score_at_its_cell():
    train = make_features(12, seed=3)
    taps = random_taps(4, seed=4)
    # beyond the reach of the 3x3 mean: time cells 5 to 7 of 9, frequency cells 2 to 4 of 5 (centre 6, 3)
    taps["block2"][2, 5:8, 2:5] += 12.0
    detector = make_detector(blur_sigma=0.0, epochs=10, learning_rate=0.003)
    test = make_features(4, seed=4, taps=taps)
    scores = fit_and_score(detector, train, test)
    assert scores.clips.argmax() == 2
    frame, mel = np.unravel_index(scores.maps[2].argmax(), scores.maps[2].shape)
    assert (frame * N_TIME // N_FRAMES, mel * N_FREQ // N_MELS) == (6, 3)


def test_same_seed_same_bytes_other_seed_other_descriptor(tmp_path):
    train = make_features(5, seed=0)

    def saved(seed: int, name: str) -> bytes:
        detector = make_detector()
        detector.fit(train, rng=np.random.default_rng(seed), device=CPU, memory_bytes=AMPLE)
        detector.save(tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert saved(0, "a.npz") == saved(0, "b.npz")
    assert saved(0, "a.npz") != saved(1, "c.npz")


def test_killed_and_started_again_it_ends_in_the_same_bytes(tmp_path, monkeypatch):
    train = make_features(6, seed=0)
    straight = fitted(make_detector(epochs=4), train)
    straight.save(tmp_path / "straight.npz")
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", key="k")
    calls = 0

    def loss_that_fails(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 4:  # two batches an epoch: the second batch of epoch 2
            raise KeyboardInterrupt
        return coupled_hypersphere_loss(*args, **kwargs)

    killed = make_detector(epochs=4)
    killed.checkpoint = checkpoint
    monkeypatch.setattr(cfa, "coupled_hypersphere_loss", loss_that_fails)
    with pytest.raises(KeyboardInterrupt):
        fitted(killed, train)
    assert checkpoint.path.is_file()
    resumed = make_detector(epochs=4)
    resumed.checkpoint = checkpoint
    fitted(resumed, train)
    assert calls == 4 + 3 * 2  # epoch 1 was not done again
    resumed.save(tmp_path / "resumed.npz")
    assert (tmp_path / "resumed.npz").read_bytes() == (tmp_path / "straight.npz").read_bytes()


def test_results_do_not_depend_on_the_memory_allowed():
    train, test = make_features(5, seed=0), make_features(4, seed=1)
    ample_scores = fit_and_score(make_detector(), train, test)
    tight_scores = fit_and_score(make_detector(), train, test, memory_bytes=TIGHT)
    np.testing.assert_allclose(tight_scores.clips, ample_scores.clips, rtol=1e-3)
    np.testing.assert_allclose(tight_scores.maps, ample_scores.maps, rtol=1e-3)


def test_a_clip_scores_the_same_alone_as_among_others():
    train, test = make_features(5, seed=0), random_taps(4, seed=1)
    detector = make_detector()
    together = fit_and_score(detector, train, make_features(4, seed=1, taps=test))
    alone = {name: tap[2:3] for name, tap in test.items()}
    single = detector.score(make_features(1, seed=1, taps=alone), device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(single.clips, together.clips[2:3], rtol=1e-5)
    np.testing.assert_allclose(single.maps, together.maps[2:3], rtol=1e-5)


def test_save_and_load_give_the_same_scores(tmp_path):
    train, test = make_features(5, seed=0), make_features(2, seed=1)
    detector = make_detector()
    scores = fit_and_score(detector, train, test)
    detector.save(tmp_path / "cfa.npz")
    loaded = make_detector().load(tmp_path / "cfa.npz")
    again = loaded.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_array_equal(again.clips, scores.clips)
    np.testing.assert_array_equal(again.maps, scores.maps)


def test_one_training_clip_one_test_clip_one_layer():
    train, test = make_features(1, seed=0), make_features(1, seed=1)
    detector = make_detector(layers=["block3"])
    scores = fit_and_score(detector, train, test)
    n_time, n_freq, n_channels = TAPS["block3"]
    assert detector.centroids_.shape == (n_time * n_freq, n_channels)
    assert scores.clips.shape == (1,) and 0 < scores.clips[0] < np.inf


def test_a_broken_embedding_is_named():
    taps = random_taps(4, seed=1)
    taps["block2"][1, 0, 0, 0] = np.nan
    broken = make_features(4, seed=1, taps=taps)
    with pytest.raises(ValueError, match="clip row 1"):
        fitted(make_detector(), broken)
    detector = fitted(make_detector(), make_features(4, seed=0))
    with pytest.raises(ValueError, match="clip row 1"):
        detector.score(broken, device=CPU, memory_bytes=AMPLE)


def test_misuse_is_told():
    features = make_features(2, seed=0)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector().score(features, device=CPU, memory_bytes=AMPLE)
    detector = fitted(make_detector(), features)
    detector.layers = ["block2"]
    with pytest.raises(ValueError, match="24 channels, these clips' have 6"):
        detector.score(features, device=CPU, memory_bytes=AMPLE)
    detector.layers = []
    longer = {"block2": (10, 5, 6), "block3": (5, 2, 8), "block4": (5, 2, 10)}
    taps = {name: np.zeros((2, *shape), np.float32) for name, shape in longer.items()}
    with pytest.raises(ValueError, match=r"grid of \(9, 5\).*have \(10, 5\)"):
        detector.score(make_features(2, seed=0, taps=taps), device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="at least one normal clip"):
        fitted(make_detector(), make_features(0, seed=0))
    with pytest.raises(ValueError, match="is 9, but the grid of 4 x 2 has only 8 cells"):
        fitted(make_detector(layers=["block3"], n_hard_negatives=6), features)
    with pytest.raises(ValueError, match="lower the learning rate"):
        fitted(make_detector(learning_rate=1e30), features)
    for changes in (
        {"n_neighbours": 0},
        {"n_hard_negatives": 0},
        {"radius": -1.0},
        {"margin": -1.0},
        {"nu": 0.0},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"epochs": 0},
        {"batch_size": 0},
        {"blur_sigma": -1.0},
    ):
        with pytest.raises(ValueError, match=next(iter(changes))):
            make_detector(**changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    train, test = make_features(5, seed=0), make_features(4, seed=1)
    on_cpu, on_cuda = make_detector(), make_detector()
    cpu_scores = fit_and_score(on_cpu, train, test)
    cuda_scores = fit_and_score(on_cuda, train, test, device=torch.device("cuda"))
    np.testing.assert_allclose(on_cuda.losses_, on_cpu.losses_, rtol=1e-3)
    np.testing.assert_allclose(cuda_scores.clips, cpu_scores.clips, rtol=1e-3)
    np.testing.assert_allclose(cuda_scores.maps, cpu_scores.maps, rtol=1e-3)
