"""The way through many clips: batches, precision, memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from encoder_helpers import (
    AISFX,
    CLAP,
    CONV_BLOCKS,
    randomise,
    relative_error,
    some_spectrograms,
)

from vision_to_sound.encoders.embed import batch_size_for, bytes_per_clip, embed
from vision_to_sound.encoders.weights import random_weights


@CONV_BLOCKS
def test_batch_size_does_not_change_the_taps(spec):
    encoder = random_weights(spec, seed=4)
    spectrograms_db = some_spectrograms(spec, 7, 40)
    options = {"device": "cpu", "precision": "float32"}
    with torch.inference_mode():
        expected = [tap.numpy() for tap in encoder(torch.from_numpy(spectrograms_db))]
    for batch_size in (1, 3, 7, 100):
        batches = list(embed(encoder, spectrograms_db, batch_size=batch_size, **options))
        assert all(tap.dtype == np.float16 for batch in batches for tap in batch)
        assert [len(batch[0]) for batch in batches][:-1] == [batch_size] * (len(batches) - 1)
        for tap, reference in zip(zip(*batches, strict=True), expected, strict=True):
            tap = np.concatenate(tap).astype(np.float32)
            # one step of float16
            np.testing.assert_allclose(tap, reference, rtol=1e-3, atol=1e-4 * reference.max())


@CONV_BLOCKS
def test_folded_batch_norms_change_rounding_only(spec):
    encoder = random_weights(spec, seed=4)
    randomise(encoder, seed=5)
    encoder.eval()
    names = list(encoder.state_dict())
    spectrograms_db = torch.from_numpy(some_spectrograms(spec, 2, 40))
    with torch.inference_mode():
        plain, folded = encoder(spectrograms_db), encoder.folded()(spectrograms_db)
    for got, expected in zip(folded, plain, strict=True):
        assert relative_error(got, expected) < 2e-6
    assert list(encoder.state_dict()) == names


@CONV_BLOCKS
def test_bfloat16_is_within_one_percent(spec):
    encoder = random_weights(spec, seed=4)
    randomise(encoder, seed=5)
    if encoder.bn0 is not None:
        encoder.bn0.running_mean.fill_(-35.0)
        encoder.bn0.running_var.fill_(144.0)
    spectrograms_db = some_spectrograms(spec, 2, 64)
    exact, fast = (
        next(iter(embed(encoder, spectrograms_db, device="cpu", batch_size=2, precision=p)))
        for p in ("float32", "bfloat16")
    )
    for got, expected in zip(fast, exact, strict=True):
        assert 0 < relative_error(got, expected) < 0.01


class RecordingSpectrograms:
    """Stands for a memory map; notes which thread reads what."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.ndim = values, values.shape, values.ndim
        self.reads: list[tuple[int, bool]] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.reads.append((rows.start, threading.current_thread() is threading.main_thread()))
        return self.values[rows]


def test_the_next_batch_is_read_ahead_by_another_thread_and_no_further():
    spectrograms_db = RecordingSpectrograms(some_spectrograms(AISFX, 8, 16))
    encoder = random_weights(AISFX, seed=0)
    batches = embed(encoder, spectrograms_db, device="cpu", batch_size=2, precision="float32")
    assert spectrograms_db.reads == []  # nothing before the first batch is asked for
    next(batches)
    batches.close()  # stops early without waiting for the rest
    assert spectrograms_db.reads == [(0, False), (2, False)]


def test_embedding_no_clips_yields_nothing():
    options = {"device": "cpu", "batch_size": 2, "precision": "float32"}
    encoder = random_weights(AISFX, seed=0)
    assert list(embed(encoder, some_spectrograms(AISFX, 0, 16), **options)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "float16"}, "'float16'.*float32, bfloat16"),
        ({"batch_size": 0}, "batch_size.*got 0"),
        ({"spectrograms_db": np.zeros((2, 16, 64), np.float32)}, r"96.*\(2, 16, 64\)"),
    ],
)
def test_wrong_settings_are_found_before_the_first_batch(changes, message):
    arguments = {"batch_size": 2, "precision": "float32", "device": "cpu"}
    arguments |= {"spectrograms_db": some_spectrograms(AISFX, 2, 16)} | changes
    with pytest.raises(ValueError, match=message):
        embed(random_weights(AISFX, seed=0), **arguments)


@pytest.mark.parametrize("value", [np.nan, 1e3])  # 1000 dB: beyond float16 in the deep taps
def test_values_that_float16_cannot_hold_are_an_error(value):
    spectrograms_db = some_spectrograms(CLAP, 4, 16)
    spectrograms_db[3] = value
    encoder = random_weights(CLAP, seed=0)
    encoder.bn0.weight.data.fill_(1e4)
    spectrograms_db[:2] = 0.0
    batches = embed(encoder, spectrograms_db, device="cpu", batch_size=2, precision="float32")
    next(batches)
    with pytest.raises(ValueError, match=r"clap2022_cnn14.*block.*clips 2 to 3.*float16"):
        next(batches)


@CONV_BLOCKS
def test_batch_size_from_a_memory_budget(spec):
    n_frames = spec.front_end.n_frames(4 * spec.front_end.sample_rate_hz)
    per_clip = bytes_per_clip(spec, n_frames)
    assert batch_size_for(10 * per_clip + 1, spec, n_frames) == 10
    with pytest.raises(ValueError, match=f"{spec.name}.*needs.*budget is 1 MB"):
        batch_size_for(10**6, spec, n_frames)

    # the estimate against what the modules of the network really put out
    outputs: list[int] = []
    encoder = random_weights(spec, seed=0)
    for module in encoder.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *call: outputs.append(call[2].nbytes))
    with torch.inference_mode():
        taps = encoder(torch.from_numpy(some_spectrograms(spec, 1, n_frames)))
    needed = 3 * max(outputs) + sum(tap.nbytes for tap in taps)
    assert needed < per_clip < 2 * needed


@pytest.mark.gpu
@CONV_BLOCKS
def test_on_the_card(spec):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    encoder = random_weights(spec, seed=4)
    n_frames = spec.front_end.n_frames(4 * spec.front_end.sample_rate_hz)
    spectrograms_db = some_spectrograms(spec, 6, n_frames)
    options = {"batch_size": 4, "precision": "float32"}
    on_cpu = list(embed(encoder, spectrograms_db, device="cpu", **options))
    torch.cuda.reset_peak_memory_stats()
    on_card = list(embed(encoder, spectrograms_db, device="cuda", **options))
    for batch, reference in zip(on_card, on_cpu, strict=True):
        for got, expected in zip(batch, reference, strict=True):
            # a few cells fall on the other side of a float16 step; TF32 would give some 8e-4
            assert relative_error(got, expected) < 2e-4
    weights_bytes = sum(parameter.nbytes for parameter in encoder.parameters())
    budget = 4 * bytes_per_clip(spec, n_frames) + weights_bytes
    assert torch.cuda.max_memory_allocated() < 1.1 * budget
