"""A threshold without labels: split conformal p-values from normal clips that the detector was not fitted on.

If a new normal clip is exchangeable with the held-out ones, P(p <= a) <= a for every a: a verdict at p <= a raises a
false alarm on at most the share a of normal clips (Vovk, Gammerman and Shafer 2005, section 2; Bates et al. 2023 for
outliers). That holds on average over held-out sets, whatever the detector is; how often anomalies are found it does
not say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def n_held_out_for(false_alarm_rate: float) -> int:
    """The fewest held-out clips with which a p-value can be as small as the rate: 19 for 5 %."""
    return math.ceil(1.0 / false_alarm_rate - 1e-9) - 1


@dataclass(frozen=True)
class Conformal:
    """Scores of held-out normal clips, ascending: float64 (n,), n >= 1; and the false alarm rate asked for."""

    held_out_scores: np.ndarray
    false_alarm_rate: float

    def __post_init__(self) -> None:
        scores = self.held_out_scores
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise ValueError("conformal: expected finite scores of at least one held-out clip")
        if not 0.0 < self.false_alarm_rate < 1.0:
            raise ValueError(f"false alarm rate {self.false_alarm_rate}: expected above 0, below 1")
        if (np.diff(scores) < 0).any():
            raise ValueError("conformal: held-out scores must be ascending")

    @property
    def stated_rate(self) -> float:
        """The false alarm rate that the verdicts keep: the one asked for, or the lowest that so few clips can show."""
        return max(self.false_alarm_rate, 1.0 / (len(self.held_out_scores) + 1))

    @property
    def threshold(self) -> float:
        """Clips that score above it are anomalous, p <= `stated_rate`; it is itself the score of a held-out clip."""
        n = len(self.held_out_scores)
        n_above = (
            math.floor(self.stated_rate * (n + 1) + 1e-9) - 1
        )  # held-out clips that may score as high
        return float(self.held_out_scores[n - 1 - n_above])

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """float64 of the same shape, from 1 / (n + 1) to 1: the share of clips, this one too, that score as high."""
        n = len(self.held_out_scores)
        n_below = np.searchsorted(self.held_out_scores, scores, side="left")
        return (1.0 + n - n_below) / (n + 1.0)

    def is_anomalous(self, scores: np.ndarray) -> np.ndarray:
        """bool of the same shape."""
        return self.p_values(scores) <= self.stated_rate + 1e-9


def held_out_units(
    units: list[str], order: list[int], clips_per_unit: list[int], wanted: int
) -> list[int]:
    """Positions of the units (recordings) to hold out: in this order, until `wanted` clips are, at most half of all.

    All clips of a recording stay together: beside its neighbour a clip is no new one.
    """
    limit = sum(clips_per_unit) / 2
    chosen, n_clips = [], 0
    for position in order:
        if n_clips >= wanted:
            break
        if n_clips + clips_per_unit[position] <= limit:
            chosen.append(position)
            n_clips += clips_per_unit[position]
    return sorted(chosen)
