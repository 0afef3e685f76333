"""How well scores find the truth, at three levels. Every definition is written here and once.

A higher score means more anomalous, and every metric is a fraction: 1 is perfect, higher is better.
A threshold calls a cell anomalous if its score is at or above it. All *distinct* scores are
thresholds (no bins), so cells of equal score are always called together, and only the order of the
scores matters: any strictly increasing transform leaves every metric as it is.

roc               area under true-positive rate against false-positive rate; 0.5 by chance. Equals
                  the probability that an anomalous cell outscores a normal one (ties count half).
f1                largest F1 over all thresholds. Calling everything anomalous is one of them, so it
                  never falls below 2 p / (1 + p) at a share p of positives: 2/3 on balanced clips.
au_pro_*          area under region overlap against false-positive rate, up to a limit of the rate.
                  Overlap = mean over all regions of the share of the region that is found; a region
                  is a connected part (8 neighbours) of one clip's mask; false positives count over
                  the normal cells of all clips. (Bergmann et al. 2020, MVTec AD.) The curve starts
                  at (0, 0) and is cut at the limit by linear interpolation.
au_pro_standard   area / limit: limit / 2 by chance (0.15 at 0.3).
au_pro_published  both axes min-maxed on the curve up to the limit, i.e. area / (limit * overlap at
                  the limit): about 0.5 by chance at any limit, whatever is found there.
                  Differs from min-maxing only those points of a curve that happen to lie within the
                  limit: by less than one step between thresholds where scores are fine-grained, and
                  it stays defined where they are few (a perfect two-valued map gives 1).

Undefined values (one class only, no region, nothing found up to the limit) are NaN with a warning.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from vision_to_sound.scores import LEAKFREE, PUBLISHED, AnomalyScores, Truth

LOGGER = logging.getLogger(__name__)

_WORTH_A_THREAD = 100_000

NORMALISATIONS = ("published", "standard")
# the form of AU-PRO that stands in a protocol's tables
HEADLINE_AU_PRO = {PUBLISHED: "au_pro_published", LEAKFREE: "au_pro_standard"}


@dataclass(frozen=True)
class Curve:
    """What each threshold finds, from the strictest to the laxest.

    Holds the corners only: thresholds between two of them change nothing but the false positives.

    name: what was scored, for messages.
    false_positives: int64 (n,), from 0 to n_negatives.
    true_positives:  int64 (n,), from 0 to n_positives.
    overlap: float64 (n,), mean share of a region that is found, 0 to 1; None without regions.
    """

    name: str
    false_positives: np.ndarray
    true_positives: np.ndarray
    overlap: np.ndarray | None

    @property
    def n_negatives(self) -> int:
        return int(self.false_positives[-1])

    @property
    def n_positives(self) -> int:
        return int(self.true_positives[-1])

    def _is_defined(self, metric: str) -> bool:
        if self.n_negatives and self.n_positives:
            return True
        LOGGER.warning(
            "%s: %s is undefined (NaN) with %d anomalous and %d normal ones",
            self.name,
            metric,
            self.n_positives,
            self.n_negatives,
        )
        return False

    def roc_auc(self) -> float:
        if not self._is_defined("ROC AUC"):
            return float("nan")
        # twice the area, exact in 64 bits: at most 2 * n_positives * n_negatives
        heights = self.true_positives[1:] + self.true_positives[:-1]
        twice_area = int(np.dot(np.diff(self.false_positives), heights))
        return twice_area / (2 * self.n_negatives * self.n_positives)

    def best_f1(self) -> float:
        if not self._is_defined("F1"):
            return float("nan")
        called = self.true_positives + self.false_positives
        return float(np.max(2 * self.true_positives / (called + self.n_positives)))

    def au_pro(self, *, fpr_limit: float, normalisation: str) -> float:
        _check_au_pro_settings(fpr_limit, normalisation)
        if self.overlap is None:
            raise ValueError("AU-PRO needs regions: build the curve from region labels")
        if not self._is_defined("AU-PRO"):
            return float("nan")
        rate = self.false_positives / self.n_negatives
        inside = int(np.searchsorted(rate, fpr_limit, side="right"))
        rate, overlap = rate[: inside + 1].copy(), self.overlap[: inside + 1].copy()
        if inside < len(rate):
            step = (fpr_limit - rate[-2]) / (rate[-1] - rate[-2])
            overlap[-1] = overlap[-2] + step * (overlap[-1] - overlap[-2])
            rate[-1] = fpr_limit
        area = float(np.dot(np.diff(rate), overlap[1:] + overlap[:-1])) / 2
        if normalisation == "standard":
            return area / fpr_limit
        if overlap[-1] == 0.0:
            LOGGER.warning(
                "%s: published AU-PRO is undefined (NaN): no region is touched up to a "
                "false-positive rate of %g, so that the overlap cannot be min-maxed",
                self.name,
                fpr_limit,
            )
            return float("nan")
        return area / (fpr_limit * float(overlap[-1]))


class Ranking:
    """Scores sorted once, for any number of truths over the same cells.

    scores: array of any shape, clips along the first axis; infinities are allowed.
    Raises ValueError on NaN, saying how many and in which clips.

    Memory: float32 scores are sorted as 64-bit words (order-preserving bits of the score above, the
    cell's index below). Peak of evaluate() with two masks, on top of what is passed in, measured:
    0.2 GB for 7 million cells (200 clips x 552 x 64), 1.5 GB for 70 million (800 x 1379 x 64).
    """

    def __init__(self, scores: np.ndarray, *, name: str = "scores") -> None:
        scores = np.asarray(scores)
        _refuse_nan(scores, name)
        self.name = name
        self.shape = scores.shape
        flat = scores.ravel()
        n_cells = flat.size
        if flat.dtype == np.float32 and n_cells < 2**32:
            words = _descending_bits(flat).astype(np.uint64)
            words <<= np.uint64(32)
            words |= np.arange(n_cells, dtype=np.uint32)
            _sort_halves(words)
            self._order = words.astype(np.uint32)  # the lower half: which cell
            words >>= np.uint64(32)
            ranked = words
        else:
            self._order = np.argsort(-flat.astype(np.float64))
            ranked = flat[self._order]
        is_start = np.ones(n_cells + 1, dtype=bool)  # the last one closes the last group
        np.not_equal(ranked[1:], ranked[:-1], out=is_start[1:n_cells])
        del ranked
        index_type = np.int32 if n_cells < 2**31 - 1 else np.int64
        self._group_starts = np.flatnonzero(is_start).astype(index_type)

    def curve(self, truth: np.ndarray, *, regions: bool = False) -> Curve:
        """Curve of a truth of the scores' shape: bool, or with `regions` labels (0 = normal)."""
        if truth.shape != self.shape:
            raise ValueError(f"{self.name} have shape {self.shape}, their truth {truth.shape}")
        flat = truth.ravel()
        ranked = (flat != 0)[self._order]  # bytes: a quarter of the labels' memory to jump about in
        positions = np.flatnonzero(ranked).astype(self._group_starts.dtype)

        # groups of equal scores that hold a positive cell
        groups = np.searchsorted(self._group_starts, positions, side="right") - 1
        firsts = np.flatnonzero(np.diff(groups, prepend=-1))
        groups = groups[firsts]
        hits = np.append(firsts, len(positions))  # positives above each group, at last all
        before = self._group_starts[groups] - hits[:-1]
        after = self._group_starts[groups + 1] - hits[1:]
        n_negatives = len(ranked) - len(positions)

        overlap = None
        if regions:
            found = flat[self._order[positions]]
            sizes = np.bincount(found) if len(found) else np.zeros(1, dtype=np.int64)
            n_regions = max(np.count_nonzero(sizes), 1)
            # a cell adds its share of its region, a region its share of all regions
            covered = np.cumsum(1.0 / (sizes[found] * float(n_regions)))
            overlap = _corners(np.append(0.0, covered)[hits])
        return Curve(
            name=self.name,
            false_positives=_corners_between(before, after, n_negatives),
            true_positives=_corners(hits),
            overlap=overlap,
        )


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve, 0 to 1; truth is bool, of the scores' shape. NaN with one class."""
    return Ranking(scores).curve(_as_bool(truth)).roc_auc()


def best_f1(scores: np.ndarray, truth: np.ndarray) -> float:
    """Largest F1 over all thresholds, 0 to 1; truth is bool, of the scores' shape. NaN with one
    class."""
    return Ranking(scores).curve(_as_bool(truth)).best_f1()


def au_pro(maps: np.ndarray, masks: np.ndarray, *, fpr_limit: float, normalisation: str) -> float:
    """Area under region overlap against false-positive rate, 0 to 1.

    maps: (n_clips, n_frames, n_mels); masks: bool, the same shape; fpr_limit in (0, 1];
    normalisation: "published" or "standard" (see the top of this module).
    """
    _check_au_pro_settings(fpr_limit, normalisation)
    curve = Ranking(maps).curve(label_regions(_as_bool(masks)), regions=True)
    return curve.au_pro(fpr_limit=fpr_limit, normalisation=normalisation)


def label_regions(masks: np.ndarray) -> np.ndarray:
    """Connected regions of bool masks (n_clips, n_frames, n_mels): int32, 0 = none, then 1, 2, ...

    Cells that touch by an edge or a corner (8 neighbours) belong together, clips never do.
    """
    if masks.ndim != 3:
        raise ValueError(f"masks must be (n_clips, n_frames, n_mels), got {masks.shape}")
    neighbours = np.ones((3, 3), dtype=bool)
    labels = np.zeros(masks.shape, dtype=np.int32)
    n_regions = 0
    for clip in np.flatnonzero(masks.any(axis=(1, 2))):
        n_found = ndimage.label(masks[clip], structure=neighbours, output=labels[clip])
        labels[clip][masks[clip]] += n_regions
        n_regions += n_found
    return labels


def evaluate(
    scores: AnomalyScores, truth: Truth, *, protocol: str, fpr_limit: float
) -> list[dict[str, str | float | bool]]:
    """All metrics of one experiment, clips, cells and frames pooled over its test clips.

    Returns rows with
      level     "sample", "spectrogram" or "temporal"
      truth     "published" or "leakfree": the mask of a spectrogram row; "" elsewhere
      metric    "roc", "f1", and at the spectrogram level "au_pro_published", "au_pro_standard"
      value     fraction, 0 to 1; NaN where undefined, with a warning
      headline  True for what stands in the protocol's tables: all sample and temporal rows, and at
                the spectrogram level the protocol's own mask with its own form of AU-PRO

    Levels that the truth does not know (`Truth.of_clips`) have no rows. Raises ValueError on an
    unknown protocol, NaN scores and shapes that disagree.
    """
    if protocol not in HEADLINE_AU_PRO:
        raise ValueError(f"protocol must be one of {sorted(HEADLINE_AU_PRO)}, got {protocol!r}")
    _check_au_pro_settings(fpr_limit, "standard")

    rows: list[dict[str, str | float | bool]] = []

    def add(level: str, mask: str, metric: str, value: float, headline: bool) -> None:
        names = {"level": level, "truth": mask, "metric": metric}
        rows.append({**names, "value": value, "headline": headline})

    curve = Ranking(scores.clips, name="clip scores").curve(truth.labels)
    add("sample", "", "roc", curve.roc_auc(), True)
    add("sample", "", "f1", curve.best_f1(), True)

    if truth.masks:
        ranking = Ranking(scores.maps, name="anomaly maps")
        for mask in sorted(truth.masks, key=lambda name: name != protocol):  # the headline first
            curve = ranking.curve(label_regions(truth.masks[mask]), regions=True)
            own = mask == protocol
            add("spectrogram", mask, "roc", curve.roc_auc(), own)
            add("spectrogram", mask, "f1", curve.best_f1(), own)
            for form in NORMALISATIONS:
                metric = f"au_pro_{form}"
                value = curve.au_pro(fpr_limit=fpr_limit, normalisation=form)
                add("spectrogram", mask, metric, value, own and metric == HEADLINE_AU_PRO[protocol])
        del ranking, curve

    if truth.frames.shape[1]:
        curve = Ranking(scores.frame_scores(), name="frame scores").curve(truth.frames)
        add("temporal", "", "roc", curve.roc_auc(), True)
        add("temporal", "", "f1", curve.best_f1(), True)
    return rows


def _corners(hits: np.ndarray) -> np.ndarray:
    """True positives (or overlap) at the corners: each group is entered and left, then the end."""
    # entered: hits[k], left: hits[k + 1]; a corner at the origin before, one at the far end after
    return np.concatenate([hits[:1], np.repeat(hits, 2)[1:-1], hits[-1:]])


def _corners_between(before: np.ndarray, after: np.ndarray, n_negatives: int) -> np.ndarray:
    """False positives at the same corners."""
    inner = np.stack([before, after], axis=1).ravel()
    return np.concatenate([[0], inner, [n_negatives]]).astype(np.int64)


def _descending_bits(scores: np.ndarray) -> np.ndarray:
    """uint32 that rise as the float32 scores fall; equal scores have equal bits."""
    bits = (scores + np.float32(0.0)).view(np.uint32)  # -0.0 + 0.0 = 0.0: one zero only
    # negative floats: the more negative, the larger the bits already; positive: turn them round
    turned = bits >> np.uint32(31)
    turned -= np.uint32(1)  # no bits where negative, all where positive
    turned &= np.uint32(0x7FFFFFFF)
    bits ^= turned
    return bits


def _sort_halves(words: np.ndarray) -> None:
    """Sort in place: the smaller half and the larger one side by side, where there are two cores."""
    middle = len(words) // 2
    if middle < _WORTH_A_THREAD or (os.cpu_count() or 1) < 2:
        words.sort()
        return
    words.partition(middle)
    with ThreadPoolExecutor(max_workers=1) as other:
        larger = other.submit(words[middle:].sort)
        words[:middle].sort()
        larger.result()


def _refuse_nan(scores: np.ndarray, name: str) -> None:
    per_clip = np.isnan(scores).sum(axis=tuple(range(1, scores.ndim)))
    clips = np.flatnonzero(per_clip)
    if len(clips):
        shown = ", ".join(str(clip) for clip in clips[:10]) + (", ..." if len(clips) > 10 else "")
        raise ValueError(
            f"{name}: {int(per_clip.sum())} of {scores.size} values are NaN, in {len(clips)} of "
            f"{len(scores)} clips: {shown}. Look at the detector's log and these clips' features."
        )


def _as_bool(truth: np.ndarray) -> np.ndarray:
    truth = np.asarray(truth)
    if truth.dtype != bool:
        raise ValueError(f"truth must be bool, got {truth.dtype} {truth.shape}")
    return truth


def _check_au_pro_settings(fpr_limit: float, normalisation: str) -> None:
    if not 0.0 < fpr_limit <= 1.0:
        raise ValueError(f"fpr_limit must lie in (0, 1], got {fpr_limit}")
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"normalisation must be one of {NORMALISATIONS}, got {normalisation!r}")
