"""How sure a sample-level number is: a bootstrap over the source recordings of the test clips.

Each draw stands for another set of recordings: clip i counts weights[draw, i] times. The weight is that of
the clip's source recording, because clips cut from one recording are alike. Poisson (online) bootstrap:
weights are independent Poisson(1) numbers. (Hanley and MacGibbon 2006; Chamandy et al. 2012.)

A recording's weights depend on (data set, class, recording) and on nothing else. So it weighs the same in
every method, SNR, seed and protocol: differences between methods are paired, and a mean over conditions is
resampled as a whole, however the conditions share recordings.

Differs from Efron's multinomial bootstrap: the number of recordings in a draw is not fixed (its relative
spread is 1 / sqrt(recordings)), which the metrics here, ratios of counts, do not see; in exchange, weights need
not know which other recordings a test set has. Assumes independent recordings, and about 20 of them or more:
with fewer the interval is too narrow. What is held fixed: the trained detector, the mixing (which event falls
into which clip, and at what level) and the share of anomalous clips, which the data sets prescribe. The
training's own randomness shows in the spread over seeds instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_to_sound.seeding import identity_rng

# Draws carry the name of the experiment that they belong to, as it stands in paths (snr in dB).
EXPERIMENT_NAME = "{protocol}/{dataset}/{category}/snr{snr}/{encoder}/{method}/seed{seed}"
# An interval from fewer of its draws would tell about the draws that happen to be defined.
LEAST_DEFINED_SHARE = 0.5
_NO_SPREAD = 1e-6  # of fractions or percent: rounding of float32 draws


def bootstrap_weights(
    groups: Sequence[str], *, n_draws: int, dataset: str, category: str
) -> np.ndarray:
    """How often each clip counts in each draw: uint8 (n_draws, n_clips).

    groups: source recording of each clip (the clip's own name where that is not known).
    """
    names, members = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    weights = np.empty((n_draws, len(names)), dtype=np.uint8)
    for i, name in enumerate(names.tolist()):
        rng = identity_rng("bootstrap", dataset, category, name)
        weights[:, i] = rng.poisson(1.0, size=n_draws)
    return weights[:, members]


def bootstrap_sample_metrics(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """ROC AUC and best F1 of clips that count several times or not at all, for each draw.

    Both as in `metrics` (ties count half; every distinct score is a threshold), from the weighted rates of
    true and false positives. F1 takes the share of anomalous clips from `labels` and not from the draw: the
    data sets fix that share, and letting it vary would widen the interval of F1 several times.

    Args:
        scores: float64 (n_clips,), finite; higher = more anomalous.
        labels: bool (n_clips,), True where anomalous.
        weights: integers (n_draws, n_clips), not negative.

    Returns:
        {"roc", "f1"}: float32 (n_draws,), fractions; NaN where a draw lacks one of the classes.
    """
    if not scores.shape == labels.shape == weights.shape[1:]:
        raise ValueError(
            "expected scores (n_clips,), labels (n_clips,), weights (n_draws, n_clips), "
            f"got {scores.shape}, {labels.shape}, {weights.shape}"
        )
    order = np.argsort(-scores, kind="stable")
    ranked = weights[:, order].astype(np.int64)
    lasts = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of each group of ties

    def found(truth: np.ndarray) -> np.ndarray:
        """Weight called anomalous at each threshold, from none to all: (n_draws, n_thresholds + 1)."""
        called = np.cumsum(ranked * truth[order], axis=1)[:, lasts]
        return np.concatenate([np.zeros((len(called), 1), dtype=np.int64), called], axis=1)

    hits, false_alarms = found(labels), found(~labels)
    positives, negatives = hits[:, -1:], false_alarms[:, -1:]  # (n_draws, 1)
    # exact in 64 bits, as in metrics.Curve.roc_auc
    twice_area = (np.diff(false_alarms, axis=1) * (hits[:, 1:] + hits[:, :-1])).sum(axis=1)
    share = labels.mean() if len(labels) else np.nan
    with np.errstate(invalid="ignore", divide="ignore"):  # draws without one of the classes
        roc = twice_area / (2 * positives * negatives)[:, 0]
        caught = share * (hits / positives)
        f1 = 2 * caught / (caught + (1 - share) * (false_alarms / negatives) + share)
    undefined = (positives * negatives)[:, 0] == 0
    best = {"roc": roc, "f1": f1.max(axis=1)}
    return {name: np.where(undefined, np.nan, x).astype(np.float32) for name, x in best.items()}


def bootstrap_interval(
    draws: np.ndarray, *, value: float, level: float, may_be_alike: bool = False
) -> tuple[float, float]:
    """Interval around a value from its draws: their percentiles, moved so that their mean is the value.

    Moved, because a best F1 is a maximum over thresholds and a draw's is larger still: unmoved, the interval of
    a mean over conditions lies beside the mean itself. ROC AUC has no such bias and hardly moves. What the
    interval covers is the number expected of another test set of this size.

    Args:
        draws: (n_draws,); NaN (a draw without one of the classes) is left out.
        value: what the draws are draws of, from the clips as they are.
        level: share of the draws inside, e.g. 0.95.
        may_be_alike: draws without spread have an interval without width.

    Returns:
        (low, high); NaN if the value is, if fewer than half of the draws are defined, or if all draws are alike:
        clips of one recording, or clips sorted without an error, leave nothing to resample, which says that the
        interval is unknown and not that it has no width.
    """
    defined = np.asarray(draws, dtype=np.float64)
    defined = defined[np.isfinite(defined)]
    if not np.isfinite(value) or len(defined) < max(LEAST_DEFINED_SHARE * len(draws), 1):
        return float("nan"), float("nan")
    if not may_be_alike and np.ptp(defined) <= _NO_SPREAD * max(1.0, abs(value)):
        return float("nan"), float("nan")
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(defined, [tail, 100.0 - tail]) - defined.mean() + value
    return float(low), float(high)
