"""The bootstrap against repeating clips by hand, and whether its intervals cover what they should."""

from __future__ import annotations

import numpy as np
import pytest

from vision_to_sound.metrics import best_f1, roc_auc
from vision_to_sound.uncertainty import (
    bootstrap_interval,
    bootstrap_sample_metrics,
    bootstrap_weights,
)


def weights_of(groups, *, n_draws=50, dataset="envmix", category="siren"):
    return bootstrap_weights(groups, n_draws=n_draws, dataset=dataset, category=category)


def random_case(seed: int, *, n_clips: int = 40, levels: int | None = None):
    rng = np.random.default_rng(seed)
    labels = rng.random(n_clips) < 0.4
    scores = rng.normal(size=n_clips) + labels
    return (scores if levels is None else np.round(scores * levels) / levels), labels


def reference_f1(scores, labels, weights):
    """Clips repeated; best F1 over thresholds at the share of anomalous clips of the whole set."""
    scores, truth = np.repeat(scores, weights), np.repeat(labels, weights)
    share, best = labels.mean(), 0.0
    for threshold in scores:
        caught = share * (scores[truth] >= threshold).mean()
        false_alarms = (1 - share) * (scores[~truth] >= threshold).mean()
        best = max(best, 2 * caught / (caught + false_alarms + share))
    return best


@pytest.mark.parametrize("levels", [1, 4, None])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_repeating_clips(seed, levels):
    scores, labels = random_case(seed, levels=levels)
    weights = weights_of([f"rec{i // 3}" for i in range(len(scores))])
    draws = bootstrap_sample_metrics(scores, labels, weights)
    assert {x.dtype for x in draws.values()} == {np.dtype(np.float32)}
    roc = [roc_auc(np.repeat(scores, w), np.repeat(labels, w)) for w in weights]
    f1 = [reference_f1(scores, labels, w) for w in weights]
    np.testing.assert_allclose(draws["roc"], roc, atol=1e-6)
    np.testing.assert_allclose(draws["f1"], f1, atol=1e-6)


@pytest.mark.parametrize("levels", [2, None])
def test_unit_weights_give_the_metrics_themselves(levels):
    scores, labels = random_case(5, levels=levels)
    draws = bootstrap_sample_metrics(scores, labels, np.ones((1, len(scores)), dtype=np.uint8))
    assert draws["roc"][0] == np.float32(roc_auc(scores, labels))
    assert draws["f1"][0] == pytest.approx(best_f1(scores, labels), abs=1e-7)


def test_equal_draws_of_both_classes_are_plain_metrics_of_the_repeated_clips():
    scores, labels = random_case(2)
    weights = np.full((1, len(scores)), 3, dtype=np.uint8)
    draws = bootstrap_sample_metrics(scores, labels, weights)
    repeated = best_f1(np.repeat(scores, 3), np.repeat(labels, 3))
    assert draws["f1"][0] == pytest.approx(repeated, abs=1e-7)


def test_a_draw_without_a_class_is_nan():
    scores, labels = np.array([1.0, 2.0, 3.0]), np.array([False, False, True])
    weights = np.array([[1, 1, 0], [0, 0, 2], [0, 0, 0], [1, 0, 1]], dtype=np.uint8)
    with np.errstate(all="raise"):
        draws = bootstrap_sample_metrics(scores, labels, weights)
    for values in draws.values():
        np.testing.assert_array_equal(np.isnan(values), [True, True, True, False])
    assert (draws["roc"][3], draws["f1"][3]) == (1.0, 1.0)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(n_draws, n_clips\), got \(3,\), \(3,\), \(2, 4\)"):
        bootstrap_sample_metrics(np.zeros(3), np.zeros(3, dtype=bool), np.ones((2, 4), dtype=int))


def test_weights_belong_to_the_recording_alone():
    weights = weights_of(["a", "b", "a", "c"])
    assert weights.shape == (50, 4) and weights.dtype == np.uint8
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    other = weights_of(["d", "c", "a"])  # another test set of the same class
    np.testing.assert_array_equal(other[:, 1:], weights[:, [3, 0]])
    assert (weights[:, 0] != weights[:, 1]).any()
    for change in ({"dataset": "mimii"}, {"category": "drilling"}):
        assert (weights_of(["a"], **change) != weights[:, :1]).any()


def test_weights_are_poisson_of_mean_one():
    weights = weights_of([f"rec{i}" for i in range(200)], n_draws=1000)
    shares = np.bincount(weights.ravel(), minlength=5)[:5] / weights.size
    expected = np.exp(-1) / np.array([1, 1, 2, 6, 24])
    np.testing.assert_allclose(shares, expected, atol=0.005)
    assert weights.mean() == pytest.approx(1.0, abs=0.01)


def test_interval_by_hand():
    draws = np.arange(101.0)  # percentiles are the numbers themselves, their mean is 50
    assert bootstrap_interval(draws, value=50.0, level=0.9) == (5.0, 95.0)
    assert bootstrap_interval(draws, value=40.0, level=0.9) == (-5.0, 85.0), "moved to the value"
    with_gaps = np.concatenate([draws, np.full(101, np.nan)])
    assert bootstrap_interval(with_gaps, value=50.0, level=0.9) == (5.0, 95.0)
    too_few = np.append(with_gaps, np.nan)
    assert np.isnan(bootstrap_interval(too_few, value=50.0, level=0.9)).all()
    assert np.isnan(bootstrap_interval(draws, value=np.nan, level=0.9)).all()


def simulated_experiment(rng, n_recordings: int):
    """Clips cut from recordings that differ in level and in how well an event stands out of them."""
    groups = np.repeat(np.arange(n_recordings), rng.integers(1, 7, n_recordings))
    labels = rng.permutation(np.arange(len(groups)) % 2 == 0)
    levels, contrasts = rng.normal(size=(2, n_recordings))[:, groups]
    scores = levels + rng.normal(size=len(groups)) + (1.2 + contrasts) * labels
    return scores, labels, groups


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(11)
    covered = {"roc": [], "f1": []}
    # a best F1 is a maximum: what is expected at this size, not its limit, is to be covered
    others = [simulated_experiment(rng, 50)[:2] for _ in range(800)]
    expected = {
        "roc": roc_auc(*simulated_experiment(rng, 30_000)[:2]),
        "f1": np.mean([best_f1(scores, labels) for scores, labels in others]),
    }
    for _ in range(200):
        scores, labels, groups = simulated_experiment(rng, 50)
        draws = bootstrap_sample_metrics(scores, labels, weights_of(groups, n_draws=300))
        values = {"roc": roc_auc(scores, labels), "f1": best_f1(scores, labels)}
        for metric, value in values.items():
            low, high = bootstrap_interval(draws[metric], value=value, level=0.95)
            covered[metric].append(low <= expected[metric] <= high)
    assert 0.88 <= np.mean(covered["roc"]) <= 0.99
    assert 0.88 <= np.mean(covered["f1"]) <= 0.99


def test_f1_interval_of_a_mean_over_conditions_holds_the_mean():
    """Unmoved percentiles of best F1 lie above the value, the more so the more conditions are averaged."""
    rng = np.random.default_rng(12)
    values, draws = [], []
    for i in range(24):
        labels = np.arange(60) % 2 == 0
        scores = rng.normal(size=60) + 0.5 * labels
        weights = weights_of(np.arange(60), category=f"class{i}", n_draws=300)
        draws.append(bootstrap_sample_metrics(scores, labels, weights)["f1"])
        values.append(best_f1(scores, labels))
    value, draws = np.mean(values), np.mean(draws, axis=0)
    assert np.percentile(draws, 2.5) > value
    low, high = bootstrap_interval(draws, value=value, level=0.95)
    assert low < value < high and high - low < 0.05


def test_clips_of_one_recording_widen_the_interval():
    scores, labels, groups = simulated_experiment(np.random.default_rng(3), 100)
    widths = []
    for names in (groups, np.arange(len(groups))):
        roc = bootstrap_sample_metrics(scores, labels, weights_of(names, n_draws=1000))["roc"]
        low, high = bootstrap_interval(roc, value=roc_auc(scores, labels), level=0.95)
        widths.append(high - low)
    assert widths[0] > 1.15 * widths[1]
