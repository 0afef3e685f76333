"""What levels say of how a clip was recorded: every trap in one phrase, and nothing where nothing is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vision_to_sound.monitoring.levels import LEVELS, levels_of, recording_faults

RNG = np.random.default_rng(0)
NOISE = 0.05 * RNG.standard_normal((4000, 8)).astype(np.float32)
MONO = NOISE[:, :1]


def clipped(samples):
    return np.clip(40 * samples, -1, 1 - 2**-15).astype(np.float32)


def levels(samples, channel=None):
    heard = samples.mean(axis=1) if channel is None else samples[:, channel]
    found = levels_of(samples, heard, sample_rate_hz=16_000, full_scale=1 - 2**-15, channel=channel)
    assert list(found) == LEVELS
    return SimpleNamespace(**found)


def stereo(left, right):
    return np.concatenate([left, right], axis=1)


@pytest.mark.parametrize(
    ("samples", "channel"),
    [
        (MONO, None),
        (NOISE, None),  # unrelated channels lose 9 dB in their mean
        (stereo(MONO, MONO), None),
        (
            stereo(MONO, 0 * MONO),
            None,
        ),  # one channel is off: 3 dB for its share of the power, 3 for the mean
        (stereo(MONO, -MONO), 0),  # one is heard, so nothing cancels
        (stereo(MONO, clipped(MONO)), 0),
        (MONO + 0.01, None),  # -26 dB of noise, -40 dB of offset
    ],
)
def test_nothing_is_said_where_nothing_is_wrong(samples, channel):
    assert recording_faults(levels(samples, channel)) == []


@pytest.mark.parametrize(
    ("samples", "channel", "phrase"),
    [
        (
            stereo(MONO, -MONO),
            None,
            "channels cancel each other: level -240 dB, channels -26 dB; set",
        ),
        (stereo(MONO, -0.9 * MONO), None, "channels cancel each other: level -52 dB"),
        (np.concatenate([MONO, -MONO, MONO, -MONO], axis=1), None, "channels cancel each other"),
        (clipped(MONO), None, "clipped: "),
        (stereo(MONO, clipped(MONO)), None, "clipped: "),
        (stereo(MONO, clipped(MONO)), 1, "clipped: "),
        (MONO + 0.2, None, "a constant offset (DC) of 0.2 of full scale"),
        (stereo(MONO + 0.2, MONO - 0.2), None, "a constant offset (DC) of 0.2 of full scale"),
        (0 * MONO, None, "silent"),
        (0 * MONO + 0.25, None, "silent, a constant of 0.25"),
    ],
)
def test_each_trap_is_one_phrase(samples, channel, phrase):
    said = recording_faults(levels(samples, channel))
    assert any(phrase in text for text in said)
    assert len(said) == (2 if "-240" in phrase or samples.shape[1] == 4 else 1)  # and silent


def test_levels_are_without_the_mean():
    assert levels(MONO + 0.3).level_db == pytest.approx(levels(MONO).level_db, abs=0.01)
    assert levels(MONO + 0.3).dc == pytest.approx(0.3, abs=0.01)
    assert levels(MONO).level_db == pytest.approx(20 * np.log10(MONO.std()), abs=1e-3)
