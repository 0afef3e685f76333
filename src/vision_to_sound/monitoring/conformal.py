"""A threshold without labels: split conformal p-values from normal clips that the detector was not fitted on.

If a new normal clip is exchangeable with the held-out ones, P(p <= a) <= a for every a: a verdict at p <= a raises a
false alarm on at most the share a of normal clips (Vovk, Gammerman and Shafer 2005, section 2; Bates et al. 2023 for
outliers). That holds on average over held-out sets, whatever the detector is; how often anomalies are found it does
not say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vision_to_sound.seeding import identity_order

FEW_HELD_OUT = 5  # fewer clips than that tell no threshold, though they be whole recordings


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


def fitted_and_held_out(
    recordings: Sequence[str], *, false_alarm_rate: float, held_out_share: float, seed: int
) -> tuple[list[int], list[int]]:
    """(clips to fit on, clips to hold out): whole recordings; the end of each where there are too few.

    recordings: of each clip. Raises ValueError for fewer than two clips.
    """
    if len(recordings) < 2:
        raise ValueError(
            f"{len(recordings)} normal clip: one to learn from and one for the threshold are needed. Add normal "
            "recordings"
        )
    units = list(dict.fromkeys(recordings))
    members = [[i for i, name in enumerate(recordings) if name == unit] for unit in units]
    wanted = max(n_held_out_for(false_alarm_rate), round(held_out_share * len(recordings)))
    order = identity_order(units, "held out", seed)
    chosen = held_out_units(units, order, [len(m) for m in members], wanted)
    held_out = {i for unit in chosen for i in members[unit]}
    if len(held_out) < min(wanted, FEW_HELD_OUT):
        share = min(0.5, wanted / len(recordings))
        held_out = {i for m in members for i in m[len(m) - int(share * len(m)) :]} | held_out
    if not held_out:  # two recordings of one clip
        held_out = set(members[order[0]][-1:])
    return [i for i in range(len(recordings)) if i not in held_out], sorted(held_out)


def are_whole(recordings: Sequence[str], held_out: Sequence[int]) -> bool:
    """Whether no recording gave clips to both sides."""
    chosen = {recordings[i] for i in held_out}
    return chosen.isdisjoint(
        recordings[i] for i in range(len(recordings)) if i not in set(held_out)
    )


def threshold_warnings(
    conformal: Conformal, *, n_fitted: int, are_whole_recordings: bool
) -> list[str]:
    """Why the threshold does not keep the rate that was asked for, a sentence each."""
    scores, asked, stated = (
        conformal.held_out_scores,
        conformal.false_alarm_rate,
        conformal.stated_rate,
    )
    found = []
    if stated > asked + 1e-9:
        needed, n = n_held_out_for(asked), len(scores)
        found.append(
            f"the false alarm rate is {stated:.1%}, not the {asked:.1%} asked for: {n} normal clips kept from fitting "
            f"can show no less. {asked:.1%} needs {needed} of them, and so at least {2 * needed} normal clips in all; "
            f"here are {n + n_fitted}"
        )
    if not are_whole_recordings:
        found.append(
            "the threshold comes from parts of the recordings that the detector learned from: false alarms will be "
            "more frequent than stated. Add normal recordings made at other times"
        )
    if len(scores) > 1 and scores[0] == scores[-1]:
        found.append(
            f"all {len(scores)} normal clips that give the threshold have the same score, {scores[0]:.4g}: are they "
            "copies, or all silent? Whatever differs from them will be called anomalous"
        )
    return found
