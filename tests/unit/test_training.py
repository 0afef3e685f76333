"""Training in epochs: the order of clips, the losses, and that a stopped training ends in the same weights."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from vision_to_sound.detectors.base import Checkpoint
from vision_to_sound.training import flat_weights, set_flat_weights, train_epochs

N_CLIPS, N_EPOCHS, BATCH_SIZE = 10, 5, 4


class Fit:
    """A small network on ten clips. Adam and batch norm, so that more than the weights has to survive."""

    def __init__(self, stop_at: int | None = None) -> None:
        rng = np.random.default_rng(0)
        self.clips = torch.from_numpy(rng.normal(size=(N_CLIPS, 6)).astype(np.float32))
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01)
        self.stop_at = stop_at  # this call of step is interrupted
        self.rows: list[list[int]] = []

    def step(self, rows: np.ndarray) -> float:
        if len(self.rows) == self.stop_at:
            raise KeyboardInterrupt
        self.rows.append(rows.tolist())
        clips = self.clips[rows]
        loss = (self.network(clips) - clips).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def train(self, checkpoint: Checkpoint | None = None, **changes) -> np.ndarray:
        settings = {
            "what": "fit",
            "n_clips": N_CLIPS,
            "n_epochs": N_EPOCHS,
            "batch_size": BATCH_SIZE,
            "seed": 7,
        }
        parts = {"network": self.network, "optimizer": self.optimizer}
        return train_epochs(self.step, parts, checkpoint=checkpoint, **{**settings, **changes})


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    return Checkpoint(tmp_path / "checkpoint.pt", key="this training")


@pytest.fixture(scope="module")
def whole() -> tuple[np.ndarray, np.ndarray]:
    """Weights and losses of a training that nothing stopped."""
    fit = Fit()
    losses = fit.train()
    return flat_weights(fit.network), losses


def stopped(checkpoint: Checkpoint, *, after_epochs: int) -> None:
    """A training that was interrupted in the middle of the next epoch."""
    fit = Fit(stop_at=3 * after_epochs + 1)
    with pytest.raises(KeyboardInterrupt):
        fit.train(checkpoint)


def assert_same(fit: Fit, losses: np.ndarray, whole: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(flat_weights(fit.network), whole[0])
    np.testing.assert_array_equal(losses, whole[1])


def epochs_of(rows: list[list[int]]) -> list[list[int]]:
    flat = list(itertools.chain(*rows))
    return [flat[i : i + N_CLIPS] for i in range(0, len(flat), N_CLIPS)]


# --- Order and losses -----------------------------------------------------------------------------


def orders_of(step=lambda rows: 0.0, **changes) -> tuple[list[list[int]], np.ndarray]:
    """Order of clips of each epoch, and losses, where nothing is trained."""
    seen = []

    def watched(rows: np.ndarray) -> float:
        seen.append(rows.tolist())
        return step(rows)

    settings = {"n_clips": N_CLIPS, "n_epochs": 3, "batch_size": BATCH_SIZE, "seed": 7}
    losses = train_epochs(watched, {}, what="fit", checkpoint=None, **{**settings, **changes})
    return epochs_of(seen), losses


def test_every_epoch_takes_every_clip_once_in_batches_and_in_an_order_of_its_own():
    fit = Fit()
    fit.train()
    assert [len(batch) for batch in fit.rows] == [4, 4, 2] * N_EPOCHS
    epochs = epochs_of(fit.rows)
    assert all(sorted(epoch) == list(range(N_CLIPS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == N_EPOCHS


def test_the_order_depends_on_seed_and_epoch_alone():
    np.random.seed(1)
    torch.manual_seed(1)
    first, _ = orders_of()
    np.random.seed(2)
    torch.manual_seed(2)
    assert orders_of()[0] == first
    assert orders_of(batch_size=3)[0] == first
    assert orders_of(n_epochs=2)[0] == first[:2]
    assert all(a != b for a, b in zip(orders_of(seed=8)[0], first, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 4, N_CLIPS, 100])
def test_the_loss_of_an_epoch_is_the_mean_over_clips_whatever_the_batches(batch_size):
    loss_of = np.arange(N_CLIPS) ** 2.0
    _, losses = orders_of(lambda rows: loss_of[rows].mean(), batch_size=batch_size)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, [28.5] * 3, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_with_its_epoch(bad, checkpoint):
    losses = iter([1.0, 1.0, 1.0, 0.5, 0.5, bad])
    with pytest.raises(ValueError, match=r"student: the loss of epoch 2 is (nan|inf).*so far: 1\)"):
        train_epochs(
            lambda rows: next(losses),
            {"network": nn.Linear(2, 2)},
            what="student",
            n_clips=N_CLIPS,
            n_epochs=3,
            batch_size=BATCH_SIZE,
            seed=0,
            checkpoint=checkpoint,
        )
    saved = torch.load(checkpoint.path, weights_only=True)
    assert saved["losses"] == [1.0], "the spoiled epoch is not kept"


@pytest.mark.parametrize("changes", [{"n_epochs": 0}, {"batch_size": 0}])
def test_nothing_to_train_is_refused(changes):
    with pytest.raises(ValueError, match="fit: epochs and batch_size must be at least 1"):
        Fit().train(**changes)


# --- Checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after_epochs", [1, 3, 4])
def test_an_interrupted_training_goes_on_after_its_last_whole_epoch(
    after_epochs, checkpoint, whole
):
    stopped(checkpoint, after_epochs=after_epochs)
    fit = Fit()
    losses = fit.train(checkpoint)
    assert len(epochs_of(fit.rows)) == N_EPOCHS - after_epochs
    assert_same(fit, losses, whole)


def test_a_killed_process_goes_on_to_the_same_weights(repository, checkpoint, whole):
    """SIGKILL leaves no chance to tidy up; once while the second checkpoint is being written."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import torch
        from test_training import Fit
        from vision_to_sound.detectors.base import Checkpoint

        torch.set_num_threads(int(sys.argv[2]))
        real, saves = torch.save, []

        def save(content, file):
            saves.append(file)
            if len(saves) == 2:
                file.write(b"half a checkpoint")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            real(content, file)

        torch.save = save
        Fit().train(Checkpoint(Path(sys.argv[1]), key="this training"))
        """
    )
    paths = [str(repository / "src"), str(repository / "tests" / "unit")]
    done = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint.path), str(torch.get_num_threads())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(os.listdir(checkpoint.path.parent)) == 2
    fit = Fit()
    losses = fit.train(checkpoint)
    assert os.listdir(checkpoint.path.parent) == [checkpoint.path.name]
    assert len(epochs_of(fit.rows)) == N_EPOCHS - 1
    assert_same(fit, losses, whole)


def test_a_finished_training_leaves_its_last_checkpoint_to_the_caller(checkpoint, whole):
    Fit().train(checkpoint)
    assert checkpoint.path.is_file(), "whoever saves the result deletes it"
    fit = Fit()  # killed after training, before the result was saved
    losses = fit.train(checkpoint)
    assert len(epochs_of(fit.rows)) == 1
    assert_same(fit, losses, whole)


def test_a_single_epoch_needs_no_checkpoint(checkpoint):
    Fit().train(checkpoint, n_epochs=1)
    assert not checkpoint.path.exists()


def test_a_checkpoint_of_another_training_is_not_used(checkpoint, whole):
    stopped(Checkpoint(checkpoint.path, key="another training"), after_epochs=2)
    fit = Fit()
    losses = fit.train(checkpoint)
    assert len(epochs_of(fit.rows)) == N_EPOCHS
    assert_same(fit, losses, whole)
    assert torch.load(checkpoint.path, weights_only=True)["key"] == "this training"


def truncated(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path.write_bytes(content)


def one_bit(path) -> None:
    """Of a weight: torch.load itself finds nothing wrong."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if "/data/" in name)
        values = archive.read(name)
    content = bytearray(path.read_bytes())
    content[content.index(values)] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)


DAMAGES = {
    "one bit": one_bit,
    "truncated": truncated,
    "flipped": flipped,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "text": lambda path: path.write_text("no checkpoint"),
    "bare tensor": lambda path: torch.save(torch.zeros(3), path),
    "other content": lambda path: torch.save({"key": "k", "model": torch.zeros(3)}, path),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_checkpoint_begins_anew_with_a_warning(damage, checkpoint, whole, caplog):
    stopped(checkpoint, after_epochs=2)
    DAMAGES[damage](checkpoint.path)
    fit = Fit()
    with caplog.at_level(logging.WARNING):
        losses = fit.train(checkpoint)
    assert "is damaged" in caplog.text and "begins anew" in caplog.text
    assert str(checkpoint.path) in caplog.text
    assert len(epochs_of(fit.rows)) == N_EPOCHS
    assert_same(fit, losses, whole)


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def as_plain_pickle(content, path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [torch.save, as_plain_pickle])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(
    write, checkpoint, tmp_path, whole, caplog
):
    trap = tmp_path / "trap"
    write({"key": checkpoint.key, "losses": [0.0], "parts": Trap(str(trap))}, checkpoint.path)
    fit = Fit()
    with caplog.at_level(logging.WARNING):
        losses = fit.train(checkpoint)
    assert not trap.exists()
    assert "begins anew" in caplog.text
    assert_same(fit, losses, whole)


# --- Weights as one array -------------------------------------------------------------------------


def test_flat_weights_there_and_back():
    fit, other = Fit(), Fit()
    fit.train()
    weights = flat_weights(fit.network)
    # two layers, batch norm's scale, shift, running mean and variance; not its counter
    assert weights.dtype == np.float32 and weights.shape == (6 * 5 + 5 + 4 * 5 + 5 * 6 + 6,)
    np.testing.assert_array_equal(weights[:30].reshape(5, 6), fit.network[0].weight.detach())
    assert (flat_weights(other.network) != weights).any()
    set_flat_weights(other.network, weights)
    np.testing.assert_array_equal(flat_weights(other.network), weights)
    clips = fit.clips
    assert torch.equal(other.network.eval()(clips), fit.network.eval()(clips))


@pytest.mark.parametrize("n_values", [90, 92])
def test_weights_of_another_network_are_refused(n_values):
    fit = Fit()
    before = flat_weights(fit.network)
    with pytest.raises(ValueError, match=f"has {n_values} values, this one takes 91.*same encoder"):
        set_flat_weights(fit.network, np.zeros(n_values, dtype=np.float32))
    np.testing.assert_array_equal(flat_weights(fit.network), before)
