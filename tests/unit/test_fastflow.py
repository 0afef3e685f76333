"""FastFlow against the Jacobian that autograd writes out, a flow step by step, and training by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detector_features import (
    AMPLE,
    CPU,
    N_FRAMES,
    N_FREQ,
    N_MELS,
    N_TIME,
    TAPS,
    fit_and_score,
    make_features,
    random_taps,
)

from vision_to_sound.detectors import fastflow
from vision_to_sound.detectors.base import Checkpoint
from vision_to_sound.detectors.fastflow import (
    CouplingStep,
    FastFlow,
    Flow,
    draw_weights,
    likelihood_maps,
    negative_log_likelihood,
    read_normalised,
)


def make_detector(**changes) -> FastFlow:
    settings = {
        "n_steps": 3,
        "hidden_ratio": 1.0,
        "clamp": 2.0,
        "conv3x3_only": False,
        "learning_rate": 3e-3,
        "weight_decay": 1e-5,
        "epochs": 3,
        "batch_size": 4,
        "blur_sigma": 0.0,
        "layers": [],
    }
    return FastFlow(**{**settings, **changes})


def fitted(detector: FastFlow, train, *, seed: int = 0) -> FastFlow:
    rng = np.random.default_rng(seed)
    return detector.fit(train, rng=rng, device=CPU, memory_bytes=AMPLE)


def drawn(module: torch.nn.Module, *, seed: int = 0) -> torch.nn.Module:
    """Float64, all that is learned far from where it starts."""
    draw_weights(module, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator)
    for part in module.modules():
        if isinstance(part, CouplingStep):
            part.permutation.copy_(torch.randperm(len(part.permutation), generator=generator))
    return module.double()


def random_input(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("n_channels", [4, 5])
def test_log_determinant_of_a_step_is_that_of_its_jacobian(n_channels, kernel_size):
    step = CouplingStep(n_channels, kernel_size=kernel_size, hidden_ratio=1.0, clamp=2.0)
    drawn(step)
    x = random_input(2, n_channels, 3, 2)
    y, log_det = step(x)
    assert y.shape == x.shape and log_det.shape == (2,)
    for clip in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda v: step(v[None])[0][0], x[clip])
        n = x[clip].numel()
        expected = torch.linalg.slogdet(jacobian.reshape(n, n)).logabsdet
        assert log_det.abs().max() > 0.1
        torch.testing.assert_close(log_det[clip], expected)


@pytest.mark.parametrize("conv3x3_only", [True, False])
def test_log_determinant_of_a_flow_is_that_of_its_jacobian(conv3x3_only):
    flow = Flow(5, n_steps=4, hidden_ratio=0.7, clamp=1.3, conv3x3_only=conv3x3_only)
    sizes = [step.network[0].kernel_size for step in drawn(flow).steps]
    assert sizes == [(3, 3), (3, 3) if conv3x3_only else (1, 1)] * 2
    x = random_input(1, 5, 4, 2)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v)[0], x).reshape(40, 40)
    torch.testing.assert_close(flow(x)[1][0], torch.linalg.slogdet(jacobian).logabsdet)


def test_a_step_written_out():
    """Cell by cell, for a network of 1x1 cells."""
    step = drawn(CouplingStep(5, kernel_size=1, hidden_ratio=1.0, clamp=1.5))
    x = random_input(2, 5, 3, 4)
    first, _, second = step.network
    expected = torch.empty_like(x)
    for clip, time, freq in np.ndindex(2, 3, 4):
        v = x[clip, :, time, freq]
        hidden = torch.relu(first.weight[:, :, 0, 0] @ v[:3] + first.bias)
        said = 0.1 * (second.weight[:, :, 0, 0] @ hidden + second.bias)
        changed = v[3:] * torch.exp(1.5 * torch.tanh(said[:2])) + said[2:]
        scale = 0.1 * 2.0 * torch.log(1.0 + torch.exp(0.5 * step.scale[0, :, 0, 0]))
        v = torch.cat([v[:3], changed]) * scale + step.offset[0, :, 0, 0]
        expected[clip, :, time, freq] = v[step.permutation]
    torch.testing.assert_close(step(x)[0], expected)


def test_a_step_starts_near_the_identity():
    step = CouplingStep(6, kernel_size=3, hidden_ratio=1.0, clamp=2.0)
    draw_weights(step, seed=0)
    x = random_input(2, 6, 3, 2).float()
    assert (step(x)[0] - x).abs().max() < 0.3
    torch.testing.assert_close(step(x)[0][:, :3], x[:, :3], atol=1e-6, rtol=1e-6)


def test_loss_is_the_likelihood_of_a_normal_distribution():
    hidden, log_det = random_input(3, 4, 5, 2), random_input(3, seed=2)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(hidden).sum((1, 2, 3)) + log_det
    expected = -density.mean() / 40 - 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(negative_log_likelihood(hidden, log_det), expected)


def test_training_equals_training_by_hand():
    """One batch an epoch, in the order of clips: what is left is Adam on the loss."""
    train = make_features(3, seed=0)
    detector = fitted(make_detector(batch_size=3, weight_decay=0.1, epochs=4), train)
    flows = torch.nn.ModuleList(
        Flow(n, n_steps=3, hidden_ratio=1.0, clamp=2.0, conv3x3_only=False) for n in (6, 8, 10)
    )
    rng = np.random.default_rng(0)
    draw_weights(flows, seed=int(rng.integers(2**32, size=2)[0]))
    for flow in flows:
        for step in flow.steps:
            step.permutation.copy_(torch.from_numpy(rng.permutation(len(step.permutation))))
    flows.double()
    taps = [
        torch.from_numpy(tap).double().permute(0, 3, 1, 2) for tap in train.read_taps(np.arange(3))
    ]
    taps = [
        torch.stack([(clip - clip.mean()) / (clip.var(correction=0) + 1e-5).sqrt() for clip in tap])
        for tap in taps
    ]
    optimizer = torch.optim.Adam(flows.parameters(), lr=3e-3, weight_decay=0.1)
    losses = []
    for _ in range(4):
        loss = sum(
            negative_log_likelihood(*flow(tap)) for flow, tap in zip(flows, taps, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(detector.losses_, losses, rtol=1e-4)
    values = np.concatenate([p.detach().numpy().ravel() for p in flows.parameters()])
    np.testing.assert_allclose(detector.weights_, values, atol=1e-3)
    assert len(detector.permutations_) == 3 * (6 + 8 + 10)


def test_the_loss_falls_below_that_of_independent_values():
    detector = fitted(make_detector(epochs=15), make_features(12, seed=0))
    assert detector.losses_[-1] < detector.losses_[0] < 3 * 0.55
    assert detector.losses_[-1] < 0.9 * 3 * 0.5, "0.5 nats a tap: white noise"


def test_scores_are_those_of_the_flows():
    train, test = make_features(6, seed=0), make_features(3, seed=1)
    detector = make_detector(blur_sigma=1.5)
    scores = fit_and_score(detector, train, test)
    assert scores.clips.dtype == np.float64 and scores.maps.dtype == np.float32
    assert scores.maps.shape == (3, N_FRAMES, N_MELS)
    np.testing.assert_array_equal(scores.clips, scores.maps.max((1, 2)))
    assert -1.0 <= scores.maps.min() and scores.maps.max() <= 0.0


def test_maps_are_the_mean_over_taps():
    hidden = [
        random_input(2, n_channels, n_time, n_freq) for n_time, n_freq, n_channels in TAPS.values()
    ]
    grids = [-np.exp(-0.5 * (z.numpy() ** 2).mean(1)) for z in hidden]
    flat = likelihood_maps([torch.full_like(z, 2.0) for z in hidden], n_frames=7, n_mels=3)
    np.testing.assert_allclose(flat, -np.exp(-2.0), rtol=1e-6)
    maps = likelihood_maps(hidden[:1], n_frames=N_TIME * 3, n_mels=N_FREQ * 3)
    np.testing.assert_allclose(maps[:, 1::3, 1::3], grids[0], rtol=1e-6)  # centres of cells
    both = likelihood_maps(hidden[1:], n_frames=12, n_mels=6)
    np.testing.assert_allclose(both[:, 1::3, 1::3], (grids[1] + grids[2]) / 2, rtol=1e-6)


def test_a_tap_is_normalised_over_the_whole_clip():
    taps = read_normalised(make_features(3, seed=0), np.array([2, 0]), [0, 2], CPU)
    assert [tuple(tap.shape) for tap in taps] == [(2, 6, 9, 5), (2, 10, 4, 2)]
    for tap in taps:
        np.testing.assert_allclose(tap.mean((1, 2, 3)), 0.0, atol=1e-6)
        np.testing.assert_allclose(tap.var((1, 2, 3), correction=0), 1.0, rtol=1e-4)
    loud = {name: 7.0 * tap for name, tap in random_taps(3, 0).items()}
    again = read_normalised(make_features(3, seed=0, taps=loud), np.array([2, 0]), [0, 2], CPU)
    torch.testing.assert_close(again, taps, atol=1e-4, rtol=1e-4)


def test_a_planted_anomaly_has_the_largest_score_at_its_cell():
    taps = random_taps(4, seed=4)
    taps["block2"][2, 6, 3] += np.array([6.0, -6.0, 6.0, -6.0, 6.0, -6.0], dtype=np.float32)
    detector = make_detector(layers=["block2"], epochs=10)
    scores = fit_and_score(detector, make_features(20, seed=3), make_features(4, 4, taps=taps))
    assert scores.clips.argmax() == 2
    frame, mel = np.unravel_index(scores.maps[2].argmax(), scores.maps[2].shape)
    assert (frame * N_TIME // N_FRAMES, mel * N_FREQ // N_MELS) == (6, 3)


def test_the_time_of_a_patch_does_not_matter_and_clips_may_be_longer():
    """A clip twice: away from the edges and from the seam, its map comes twice."""
    taps = random_taps(2, seed=3)["block2"]
    detector = make_detector(layers=["block2"], n_steps=2)  # one of 3x3: two cells to each side
    scores = fit_and_score(
        detector,
        make_features(6, seed=0),
        make_features(2, seed=3, taps={"block2": np.concatenate([taps] * 2, axis=1)}),
    )
    whole = upsampled_cells(scores.maps)
    np.testing.assert_allclose(whole[:, 3:6], whole[:, 12:15], rtol=1e-4)
    assert np.ptp(whole[:, 3:6]) > 0.01


def upsampled_cells(maps: np.ndarray) -> np.ndarray:
    """(n_clips, 18, n_freq): the cells of 18 times 5 that maps of 36 times 20 were made of, as far as they show."""
    return maps[:, ::2, ::4]


def test_same_seed_same_bytes_other_seed_other_flows(tmp_path):
    train = make_features(5, seed=0)

    def saved(seed: int, name: str) -> bytes:
        fitted(make_detector(), train, seed=seed).save(tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert saved(0, "a.npz") == saved(0, "b.npz") != saved(1, "c.npz")


def test_killed_and_started_again_it_ends_in_the_same_bytes(tmp_path, monkeypatch):
    train = make_features(6, seed=0)
    fitted(make_detector(epochs=4), train).save(tmp_path / "straight.npz")
    calls = 0

    def loss_that_fails(*args):
        nonlocal calls
        calls += 1
        if calls == 10:  # two batches of three taps an epoch: the second batch of epoch 2
            raise KeyboardInterrupt
        return negative_log_likelihood(*args)

    killed, resumed = make_detector(epochs=4), make_detector(epochs=4)
    killed.checkpoint = resumed.checkpoint = Checkpoint(tmp_path / "checkpoint.pt", key="k")
    monkeypatch.setattr(fastflow, "negative_log_likelihood", loss_that_fails)
    with pytest.raises(KeyboardInterrupt):
        fitted(killed, train)
    fitted(resumed, train).save(tmp_path / "resumed.npz")
    assert calls == 10 + 3 * 6  # epoch 1 was not done again
    assert (tmp_path / "resumed.npz").read_bytes() == (tmp_path / "straight.npz").read_bytes()


def test_save_and_load_give_the_same_scores_alone_and_among_others(tmp_path):
    test = random_taps(4, seed=1)
    detector = make_detector()
    scores = fit_and_score(detector, make_features(5, seed=0), make_features(4, seed=1, taps=test))
    detector.save(tmp_path / "fastflow.npz")
    loaded = make_detector().load(tmp_path / "fastflow.npz")
    alone = make_features(1, seed=1, taps={name: tap[2:3] for name, tap in test.items()})
    again = loaded.score(alone, device=CPU, memory_bytes=1)
    np.testing.assert_array_equal(again.clips, scores.clips[2:3])
    np.testing.assert_array_equal(again.maps, scores.maps[2:3])


def test_misuse_is_told():
    features = make_features(2, seed=0)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector().score(features, device=CPU, memory_bytes=AMPLE)
    detector = fitted(make_detector(), features)
    detector.layers = ["block2"]
    with pytest.raises(ValueError, match="fitted on 24 channels.*have 6"):
        detector.score(features, device=CPU, memory_bytes=AMPLE)
    detector.layers, detector.hidden_ratio = [], 2.0
    with pytest.raises(ValueError, match="fit and score with the same"):
        detector.score(features, device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="at least one normal clip"):
        fitted(make_detector(), make_features(0, seed=0))
    with pytest.raises(ValueError, match="needs at least two"):
        fitted(make_detector(), make_features(2, 0, taps={"t": np.ones((2, 3, 4, 1), np.float32)}))
    with pytest.raises(ValueError, match="lower the learning rate"):
        fitted(make_detector(learning_rate=1e30), features)
    taps = random_taps(4, seed=1)
    taps["block3"][1, 0, 0, 0] = np.inf
    broken = make_features(4, seed=1, taps=taps)
    with pytest.raises(ValueError, match=r"clip row 1 \(tap block3\)"):
        fitted(make_detector(), broken)
    with pytest.raises(ValueError, match="clip row 1"):
        fitted(make_detector(), features).score(broken, device=CPU, memory_bytes=AMPLE)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_steps", 0),
        ("hidden_ratio", 0.0),
        ("clamp", 0.0),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("epochs", 0),
        ("batch_size", 0),
        ("blur_sigma", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        make_detector(**{setting: value})
