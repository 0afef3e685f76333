"""p-values and thresholds: what they promise, counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_to_sound.monitoring.conformal import Conformal, held_out_units, n_held_out_for


def counted_p(held_out: np.ndarray, score: float) -> float:
    return (1 + sum(other >= score for other in held_out)) / (len(held_out) + 1)


@given(
    held_out=st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    scores=st.lists(st.integers(-6, 6), min_size=1, max_size=20),
    rate=st.floats(0.01, 0.5),
)
def test_p_values_are_counted_and_threshold_and_verdict_agree(held_out, scores, rate):
    conformal = Conformal(np.sort(np.array(held_out, float)), rate)
    values = np.array(scores, float)
    p_values = conformal.p_values(values)
    np.testing.assert_allclose(p_values, [counted_p(conformal.held_out_scores, s) for s in values])
    called = conformal.is_anomalous(values)
    np.testing.assert_array_equal(called, values > conformal.threshold)
    np.testing.assert_array_equal(called, p_values <= conformal.stated_rate + 1e-9)


@pytest.mark.parametrize("n", [19, 20, 50])
def test_the_false_alarm_rate_holds_over_many_draws(n):
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(4000):
        held_out, new = rng.gamma(2.0, size=n), rng.gamma(2.0, size=4)
        alarms.append(Conformal(np.sort(held_out), 0.05).is_anomalous(new).mean())
    assert np.mean(alarms) <= 0.05 + 3 * np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) > 0.03  # and it is no threshold that nothing exceeds


def test_too_few_clips_state_the_rate_that_they_can_show():
    conformal = Conformal(np.arange(9.0), 0.05)
    assert conformal.stated_rate == pytest.approx(0.1)
    assert conformal.threshold == 8.0 and conformal.is_anomalous(np.array([8.5])).all()
    assert n_held_out_for(0.05) == 19 and n_held_out_for(0.1) == 9 and n_held_out_for(0.01) == 99


@pytest.mark.parametrize("scores", [[], [1.0, 0.0], [np.nan]])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(ValueError, match="conformal"):
        Conformal(np.array(scores, float), 0.05)


@given(counts=st.lists(st.integers(1, 9), min_size=2, max_size=30), wanted=st.integers(1, 40))
def test_whole_recordings_are_held_out_and_at_most_half_of_the_clips(counts, wanted):
    units = [f"r{i}" for i in range(len(counts))]
    order = list(np.random.default_rng(0).permutation(len(counts)))
    chosen = held_out_units(units, order, counts, wanted)
    assert sum(counts[i] for i in chosen) <= sum(counts) / 2
    assert chosen == sorted(set(chosen))
    if all(count == 1 for count in counts):
        assert len(chosen) == min(wanted, len(counts) // 2)
