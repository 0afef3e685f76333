from __future__ import annotations

import numpy as np
import pytest
import torch
from detector_features import AMPLE, CPU, TIGHT, fit_and_score
from torch import nn

from vision_to_sound.detectors import autoencoder
from vision_to_sound.detectors.autoencoder import Autoencoder
from vision_to_sound.detectors.base import Checkpoint
from vision_to_sound.embeddings import ClipFeatures

N_FRAMES, N_MELS = 14, 6


def make_detector(**changes) -> Autoencoder:
    settings = {
        "n_stacked": 5,
        "hidden_size": 16,
        "n_hidden": 2,
        "bottleneck": 3,
        "learning_rate": 1e-2,
        "epochs": 4,
        "batch_size": 32,
    }
    return Autoencoder(**{**settings, **changes})


def make_clips(n_clips: int, seed: int) -> np.ndarray:
    """A hum of two levels that come and go, and a little noise; dB."""
    rng = np.random.default_rng(seed)
    bands = np.linspace(-50.0, -20.0, N_MELS)
    phase = rng.uniform(0.0, 2.0 * np.pi, size=(n_clips, 1, 1))
    swell = 5.0 * np.sin(np.arange(N_FRAMES)[None, :, None] + phase)
    noise = rng.normal(0.0, 0.5, size=(n_clips, N_FRAMES, N_MELS))
    return (bands + swell + noise).astype(np.float32)


def features_of(spectrograms_db: np.ndarray) -> ClipFeatures:
    return ClipFeatures.from_arrays(taps=None, spectrograms_db=spectrograms_db)


def redrawn(detector: Autoencoder, vectors: np.ndarray, *, n_mels: int = N_MELS) -> np.ndarray:
    """What the fitted network makes of stacked frames (n, n_stacked * n_mels), layer by layer in float64."""
    n_in = detector.n_stacked * n_mels
    hidden = [detector.hidden_size] * detector.n_hidden
    values, start = detector.weights_.astype(np.float64), 0

    def take(*shape: int) -> np.ndarray:
        nonlocal start
        part = values[start : start + int(np.prod(shape))].reshape(shape)
        start += part.size
        return part

    x = vectors.astype(np.float64)
    for n_out in [*hidden, detector.bottleneck, *hidden]:
        x = x @ take(n_out, n_in).T
        gain, shift, mean, variance = (take(n_out) for _ in range(4))
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-3) * gain + shift, 0.0)
        n_in = n_out
    x = x @ take(vectors.shape[1], n_in).T + take(vectors.shape[1])
    assert start == len(values)
    return x


def slow_scores(detector: Autoencoder, spectrogram_db: np.ndarray) -> tuple[float, np.ndarray]:
    """Clip score and map, one window and one cell at a time."""
    n_frames, n_mels = spectrogram_db.shape
    errors, cells = [], [[[] for _ in range(n_mels)] for _ in range(n_frames)]
    for first in range(n_frames - detector.n_stacked + 1):
        vector = spectrogram_db[first : first + detector.n_stacked].reshape(1, -1)
        error = (redrawn(detector, vector) - vector)[0] ** 2
        errors.append(error.mean())
        for i, value in enumerate(error):
            cells[first + i // n_mels][i % n_mels].append(value)
    return np.mean(errors), np.array([[np.mean(cell) for cell in row] for row in cells])


@pytest.mark.parametrize("n_stacked", [1, 5, N_FRAMES])
def test_scores_equal_the_slow_way(n_stacked):
    train, test = make_clips(8, seed=0), make_clips(3, seed=1)
    detector = make_detector(n_stacked=n_stacked)
    scores = fit_and_score(detector, features_of(train), features_of(test))
    for clip, spectrogram_db in enumerate(test):
        score, anomaly_map = slow_scores(detector, spectrogram_db)
        np.testing.assert_allclose(scores.clips[clip], score, rtol=1e-5)
        np.testing.assert_allclose(scores.maps[clip], anomaly_map, rtol=2e-3, atol=1e-3)
    assert scores.frames is None


def test_the_network_is_that_of_dcase_2020():
    detector = make_detector(hidden_size=128, n_hidden=4, bottleneck=8)
    network = detector._network(128)
    layers = [m for m in network if isinstance(m, nn.Linear)]
    sizes = [(m.in_features, m.out_features) for m in layers]
    assert sizes == [
        (640, 128),
        (128, 128),
        (128, 128),
        (128, 128),
        (128, 8),
        (8, 128),
        (128, 128),
        (128, 128),
        (128, 128),
        (128, 640),
    ]
    kinds = [type(m).__name__ for m in network]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 9 + ["Linear"]
    autoencoder._draw_weights(network, seed=3)
    limit = np.sqrt(6.0 / (640 + 128))
    assert 0.99 * limit < layers[0].weight.abs().max() <= limit
    assert (layers[-1].bias == 0).all()


def test_batches_mix_the_vectors_of_all_clips(monkeypatch):
    """Each epoch shows every window of every clip once, 16 at a time, whatever clip it is from."""
    clips = np.arange(3 * N_FRAMES * N_MELS, dtype=np.float32).reshape(3, N_FRAMES, N_MELS)
    seen = []
    loss = autoencoder.F.mse_loss

    def spy(outputs, inputs):
        seen.append(inputs.clone())
        return loss(outputs, inputs)

    monkeypatch.setattr(autoencoder.F, "mse_loss", spy)
    detector = make_detector(epochs=2, batch_size=16)
    detector.fit(features_of(clips), rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
    n_vectors = 3 * (N_FRAMES - 4)
    assert [len(batch) for batch in seen] == [16, 14, 16, 14]
    expected = {
        tuple(clip[first : first + 5].ravel()) for clip in clips for first in range(N_FRAMES - 4)
    }
    for epoch in (seen[:2], seen[2:]):
        vectors = torch.cat(epoch)
        assert len(vectors) == n_vectors
        assert {tuple(vector.tolist()) for vector in vectors} == expected
    assert not torch.equal(seen[0], seen[2])
    of_clips = {int(vector[0]) // (N_FRAMES * N_MELS) for vector in seen[0]}
    assert of_clips == {0, 1, 2}


@pytest.fixture(scope="module")
def trained() -> Autoencoder:
    """Trained until it can redraw normal clips."""
    detector = make_detector(epochs=60, batch_size=16)
    train = features_of(make_clips(12, seed=0))
    return detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)


def test_the_loss_falls_and_the_last_epoch_counts(trained):
    assert trained.losses_.shape == (60,) and trained.losses_.dtype == np.float64
    assert trained.losses_[-1] < 0.05 * trained.losses_[0]
    # batch norm goes by running statistics in scoring, by the batch in training: near, not equal
    scores = trained.score(features_of(make_clips(12, seed=0)), device=CPU, memory_bytes=AMPLE)
    assert 0.2 < scores.clips.mean() / trained.losses_[-1] < 5.0


def test_an_injected_tone_is_found_where_it_is(trained):
    test = make_clips(4, seed=2)
    test[2, 6:9, 4] += 25.0
    scores = trained.score(features_of(test), device=CPU, memory_bytes=AMPLE)
    assert scores.clips.argmax() == 2
    assert scores.clips[2] > 2.0 * np.delete(scores.clips, 2).max()
    frame, mel = np.unravel_index(scores.maps[2].argmax(), scores.maps[2].shape)
    assert 6 <= frame < 9 and mel == 4


def test_a_clip_scores_the_same_in_any_company():
    test = make_clips(5, seed=1)
    detector = make_detector()
    together = fit_and_score(detector, features_of(make_clips(6, seed=0)), features_of(test))
    alone = detector.score(features_of(test[3:4]), device=CPU, memory_bytes=TIGHT)
    np.testing.assert_array_equal(alone.maps[0], together.maps[3])
    assert alone.clips[0] == together.clips[3]


def test_save_and_load_give_the_same_scores(tmp_path):
    train, test = features_of(make_clips(6, seed=0)), features_of(make_clips(3, seed=1))
    detector = make_detector()
    scores = fit_and_score(detector, train, test)
    detector.save(tmp_path / "autoencoder.npz")
    with np.load(tmp_path / "autoencoder.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["losses_", "weights_"]
        assert arrays["weights_"].dtype == np.float32
    again = make_detector().load(tmp_path / "autoencoder.npz")
    rescored = again.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_array_equal(rescored.maps, scores.maps)
    np.testing.assert_array_equal(rescored.clips, scores.clips)


def saved(path, train, *, seed: int, checkpoint: Checkpoint | None = None) -> bytes:
    detector = make_detector()
    detector.checkpoint = checkpoint
    detector.fit(train, rng=np.random.default_rng(seed), device=CPU, memory_bytes=AMPLE)
    detector.save(path)
    return path.read_bytes()


def test_same_seed_same_bytes_whatever_torch_was_seeded_with(tmp_path):
    train = features_of(make_clips(6, seed=0))
    torch.manual_seed(1)
    first = saved(tmp_path / "a.npz", train, seed=0)
    torch.manual_seed(2)
    assert saved(tmp_path / "b.npz", train, seed=0) == first
    assert saved(tmp_path / "c.npz", train, seed=1) != first


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    train = features_of(make_clips(6, seed=0))
    whole = saved(tmp_path / "whole.npz", train, seed=0)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", key="k")
    loss, calls = autoencoder.F.mse_loss, []

    def killed_in_epoch_three(outputs, inputs):
        calls.append(None)
        if len(calls) == 6:  # two batches an epoch
            raise KeyboardInterrupt
        return loss(outputs, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(autoencoder.F, "mse_loss", killed_in_epoch_three)
        with pytest.raises(KeyboardInterrupt):
            saved(tmp_path / "resumed.npz", train, seed=0, checkpoint=checkpoint)
    assert checkpoint.path.is_file() and not (tmp_path / "resumed.npz").exists()
    resumed = saved(tmp_path / "resumed.npz", train, seed=0, checkpoint=checkpoint)
    assert resumed == whole


def test_a_lone_vector_in_the_last_batch_is_no_obstacle():
    clips = make_clips(1, seed=0)  # 10 windows: batches of 9 and 1
    detector = make_detector(batch_size=9)
    fit_and_score(detector, features_of(clips), features_of(clips))
    assert np.isfinite(detector.losses_).all() and np.isfinite(detector.weights_).all()


def test_misuse_is_told():
    clips = make_clips(3, seed=0)
    features = features_of(clips)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector().score(features, device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="3 training clips.*memory_mb"):
        fit_and_score(make_detector(), features, features, memory_bytes=TIGHT)
    with pytest.raises(ValueError, match="n_stacked is 15.*14 frames"):
        fit_and_score(make_detector(n_stacked=15), features, features)
    with pytest.raises(ValueError, match="at least one normal clip"):
        fit_and_score(make_detector(), features_of(clips[:0]), features)
    with pytest.raises(ValueError, match="learning rate"):
        fit_and_score(make_detector(learning_rate=1e20), features, features)
    detector = make_detector()
    fit_and_score(detector, features, features)
    with pytest.raises(ValueError, match="fit and score with the same"):
        detector.score(features_of(clips[:, :, :5]), device=CPU, memory_bytes=AMPLE)
    with pytest.raises(ValueError, match="n_stacked is 5.*4 frames"):
        detector.score(features_of(clips[:, :4]), device=CPU, memory_bytes=AMPLE)
    clips[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="clip row 1"):
        fit_and_score(make_detector(), features_of(clips), features)
    with pytest.raises(ValueError, match="clip row 1"):
        detector.score(features_of(clips), device=CPU, memory_bytes=AMPLE)
    for setting in ("n_stacked", "hidden_size", "n_hidden", "bottleneck", "epochs", "batch_size"):
        with pytest.raises(ValueError, match=setting):
            make_detector(**{setting: 0})
    with pytest.raises(ValueError, match="learning_rate"):
        make_detector(learning_rate=0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives(tmp_path):
    train, test = features_of(make_clips(6, seed=0)), features_of(make_clips(3, seed=1))
    detector = make_detector()
    on_cpu = fit_and_score(detector, train, test)
    on_cuda = detector.score(test, device=torch.device("cuda"), memory_bytes=AMPLE)
    np.testing.assert_allclose(on_cuda.clips, on_cpu.clips, rtol=1e-4)
    np.testing.assert_allclose(on_cuda.maps, on_cpu.maps, rtol=1e-3, atol=1e-3)
    trained_there = make_detector()
    fit_and_score(trained_there, train, test, device=torch.device("cuda"))
    np.testing.assert_allclose(trained_there.losses_, detector.losses_, rtol=1e-2)
