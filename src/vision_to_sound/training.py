"""Training in epochs: shuffled batches, a loss per epoch, and a checkpoint that survives a kill.

Stopped anywhere and started again, training goes on after the last finished epoch and ends in the same weights,
bit for bit on a CPU with the same number of threads: the order of an epoch depends on the seed and the epoch
alone, and the checkpoint holds the optimizer's state as well.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from vision_to_sound.detectors.base import Checkpoint
from vision_to_sound.files import check_seal, replacing, seal
from vision_to_sound.stage import progress

log = logging.getLogger(__name__)


class Stateful(Protocol):
    """A module or optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


def train_epochs(
    step: Callable[[np.ndarray], float],
    parts: Mapping[str, Stateful],
    *,
    what: str,
    n_clips: int,
    n_epochs: int,
    batch_size: int,
    seed: int,
    checkpoint: Checkpoint | None,
) -> np.ndarray:
    """Call `step` on every batch of every epoch; the last epoch counts, whatever its loss.

    Args:
        step: trains on the clips of these rows, int64 (n,), and returns their mean loss. All chance
            within it must come from the rows and the parts.
        parts: all that training changes: modules, optimizers.
        what: name for the log.
        seed: of the order of clips.
        checkpoint: None to keep none. The file is left behind: whoever saves the result deletes it.

    Returns:
        Mean loss of each epoch, float64 (n_epochs,), finished ones of an earlier run included.

    Raises:
        ValueError: the loss is no longer finite (names the epoch), or n_epochs or batch_size below 1.
    """
    if n_epochs < 1 or batch_size < 1:
        raise ValueError(
            f"{what}: epochs and batch_size must be at least 1, got {n_epochs} and {batch_size}"
        )
    losses = _resume(parts, checkpoint, what=what)
    advance = progress(n_epochs, f"{what}: training", unit="epoch")
    advance(len(losses))
    for epoch in range(len(losses), n_epochs):
        order = np.random.default_rng([seed, epoch]).permutation(n_clips)
        total = 0.0
        for first in range(0, n_clips, batch_size):
            rows = order[first : first + batch_size]
            total += len(rows) * step(rows)
        loss = total / n_clips
        if not np.isfinite(loss):
            raise ValueError(
                f"{what}: the loss of epoch {epoch + 1} is {loss}; lower the learning rate "
                f"(losses so far: {', '.join(f'{value:.4g}' for value in losses[-5:]) or 'none'})"
            )
        losses.append(loss)
        log.info("%s: epoch %d of %d, loss %.6g", what, epoch + 1, n_epochs, loss)
        if checkpoint is not None and epoch + 1 < n_epochs:
            _save(parts, losses, checkpoint)
        advance(1)
    return np.array(losses, dtype=np.float64)


def flat_weights(network: torch.nn.Module) -> np.ndarray:
    """What a network has learned as one float32 (n_values,), in the order of its layers.

    Batch norm's running statistics count, its step counters tell nothing.
    """
    return np.concatenate([value.cpu().numpy().ravel() for value in _values(network)])


def set_flat_weights(network: torch.nn.Module, weights: np.ndarray) -> None:
    """Put back what `flat_weights` gave.

    Raises:
        ValueError: another number of values: the network is not built as the one that learned.
    """
    values = _values(network)
    sizes = [value.numel() for value in values]
    if len(weights) != sum(sizes):
        raise ValueError(
            f"the fitted network has {len(weights)} values, this one takes {sum(sizes)}: fit and score "
            "with the same encoder, front end and settings"
        )
    for value, part in zip(values, torch.from_numpy(weights).split(sizes), strict=True):
        value.copy_(part.view_as(value))


def _values(network: torch.nn.Module) -> list[torch.Tensor]:
    return [value for value in network.state_dict().values() if value.is_floating_point()]


def _save(parts: Mapping[str, Stateful], losses: list[float], checkpoint: Checkpoint) -> None:
    content = {
        "key": checkpoint.key,
        "losses": list(losses),
        "parts": {name: part.state_dict() for name, part in parts.items()},
    }
    # Into an open file: given a path, torch writes the temporary name into the bytes.
    with replacing(checkpoint.path) as path:
        with open(path, "wb") as file:
            torch.save(content, file)
        seal(path)


def _resume(
    parts: Mapping[str, Stateful], checkpoint: Checkpoint | None, *, what: str
) -> list[float]:
    """Put the parts where the checkpoint left them; losses of its epochs, [] to begin anew."""
    if checkpoint is None or not checkpoint.path.is_file():
        return []
    try:
        check_seal(checkpoint.path, remedy="training begins anew")  # torch compares no checksum
    except ValueError as error:
        log.warning("%s: %s", what, error)
        return []
    try:
        content = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
        _check_content(content)
    except pickle.UnpicklingError:
        # torch's own words advise to load it without care
        log.warning(
            "%s: %s is damaged or asks to run code, which is refused: training begins anew",
            what,
            checkpoint.path,
        )
        return []
    except Exception as error:  # torch has no list of what damaged bytes raise
        log.warning("%s: %s is damaged (%s): training begins anew", what, checkpoint.path, error)
        return []
    if content["key"] != checkpoint.key:
        log.info("%s: %s is of another training and not used", what, checkpoint.path)
        return []
    for name, part in parts.items():
        part.load_state_dict(content["parts"][name])
    log.info("%s: going on after epoch %d", what, len(content["losses"]))
    return list(content["losses"])


def _check_content(content: Any) -> None:
    """ValueError for a file of tensors that is no checkpoint of a training."""
    if not isinstance(content, dict) or set(content) != {"key", "losses", "parts"}:
        raise ValueError(f"expected key, losses and parts, got a {type(content).__name__}")
