"""Metrics against counting by hand, slow references and the usual libraries."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_auc_score

from vision_to_sound.metrics import Ranking, au_pro, best_f1, evaluate, label_regions, roc_auc
from vision_to_sound.scores import LEAKFREE, PUBLISHED, Truth

FPR_LIMIT = 0.3


@dataclass(frozen=True)
class Scores:
    """What `evaluate` needs of a detector's scores."""

    clips: np.ndarray
    maps: np.ndarray

    def frame_scores(self) -> np.ndarray:
        return np.sort(self.maps, axis=2)[:, :, -5:].mean(axis=2, dtype=np.float64)


def random_case(seed: int, *, levels: int | None, shape=(4, 9, 7)):
    """Maps rounded to 1 / levels (None: hardly a tie) and blotchy masks; clip 0 is normal."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=shape)
    masks = rng.random(shape) < 0.25
    masks[0] = False
    maps += masks
    if levels is not None:
        maps = np.round(maps * levels) / levels
    return maps.astype(np.float32), masks


# --- slow references: every distinct threshold, plain counting


def confusion(scores, truth):
    """(threshold, true positives, false positives) from nothing called to everything called."""
    rows = [(math.inf, 0, 0)]
    for threshold in sorted(set(scores.ravel().tolist()), reverse=True):
        called = scores >= threshold
        rows.append((threshold, int((called & truth).sum()), int((called & ~truth).sum())))
    return rows


def reference_roc(scores, truth):
    """Share of (anomalous, normal) pairs in the right order, ties half."""
    wins = 0.0
    for anomalous in scores[truth]:
        for normal in scores[~truth]:
            wins += 1.0 if anomalous > normal else 0.5 if anomalous == normal else 0.0
    return wins / (truth.sum() * (~truth).sum())


def reference_f1(scores, truth):
    best = 0.0
    for _, hits, false_alarms in confusion(scores, truth)[1:]:
        misses = int(truth.sum()) - hits
        best = max(best, 2 * hits / (2 * hits + false_alarms + misses))
    return best


def reference_regions(masks):
    """Sets of cells, grown from seeds over the 8 neighbours within one clip."""
    left = {tuple(cell) for cell in np.argwhere(masks).tolist()}
    regions = []
    while left:
        region, front = set(), [left.pop()]
        while front:
            clip, t, band = front.pop()
            region.add((clip, t, band))
            near = {(clip, t + dt, band + db) for dt in (-1, 0, 1) for db in (-1, 0, 1)} & left
            left -= near
            front.extend(near)
        regions.append(region)
    return regions


def reference_au_pro(maps, masks, limit, normalisation):
    regions = reference_regions(masks)
    points = []
    for threshold, _, false_alarms in confusion(maps, masks):
        found = [
            sum(maps[cell] >= threshold for cell in region) / len(region) for region in regions
        ]
        points.append((false_alarms / int((~masks).sum()), sum(found) / len(regions)))
    inside = [point for point in points if point[0] <= limit]
    beyond = points[len(inside) :]
    if beyond:
        (x0, y0), (x1, y1) = inside[-1], beyond[0]
        inside.append((limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)))
    if normalisation == "published":
        (low_x, low_y), (high_x, high_y) = inside[0], inside[-1]
        inside = [
            ((x - low_x) / (high_x - low_x), (y - low_y) / (high_y - low_y)) for x, y in inside
        ]
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(inside))
    return area if normalisation == "published" else area / limit


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [1, 3, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_metrics_equal_the_references(seed, levels, dtype):
    maps, masks = random_case(seed, levels=levels)
    maps = maps.astype(dtype)
    assert roc_auc(maps, masks) == pytest.approx(reference_roc(maps, masks), abs=1e-12)
    assert best_f1(maps, masks) == pytest.approx(reference_f1(maps, masks), abs=1e-12)
    for normalisation in ("standard", "published"):
        for limit in (0.05, FPR_LIMIT, 1.0):
            ours = au_pro(maps, masks, fpr_limit=limit, normalisation=normalisation)
            expected = reference_au_pro(maps, masks, limit, normalisation)
            assert ours == pytest.approx(expected, abs=1e-12), (normalisation, limit)


@pytest.mark.parametrize("seed", range(5))
def test_regions_equal_the_reference(seed):
    masks = np.random.default_rng(seed).random((3, 8, 6)) < 0.35
    labels = label_regions(masks)
    ours = {
        frozenset(map(tuple, np.argwhere(labels == k).tolist())) for k in range(1, labels.max() + 1)
    }
    assert len(ours) > 3 and ours == set(map(frozenset, reference_regions(masks)))


@pytest.mark.parametrize("levels", [2, None])
@pytest.mark.parametrize(("seed", "n_clips"), [(0, 20), (1, 20), (2, 400)])
def test_roc_and_f1_equal_scikit_learn(seed, n_clips, levels):
    maps, masks = random_case(seed, levels=levels, shape=(n_clips, 40, 16))
    truth, scores = masks.ravel(), maps.ravel()
    assert roc_auc(maps, masks) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert best_f1(maps, masks) == pytest.approx(f1.max(), abs=1e-12)


@pytest.fixture(scope="module")
def anomalib_aupro():
    import_module("vision_to_sound.torch_setup")  # before anomalib
    aupro = import_module("anomalib.metrics.aupro")
    torch = import_module("torch")

    def compute(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
        metric = aupro._AUPRO(fpr_limit=limit)
        metric.update(torch.from_numpy(maps), torch.from_numpy(masks.astype(np.int64)))
        return float(metric.compute())

    return compute


@pytest.mark.parametrize("levels", [2, None])
@pytest.mark.parametrize("limit", [0.1, FPR_LIMIT])
def test_standard_au_pro_equals_anomalib(anomalib_aupro, levels, limit):
    maps, masks = random_case(3, levels=levels, shape=(10, 40, 16))
    ours = au_pro(maps, masks, fpr_limit=limit, normalisation="standard")
    # anomalib sums in float32
    assert ours == pytest.approx(anomalib_aupro(maps, masks, limit), abs=2e-5)


def test_roc_and_f1_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.7, 0.1])
    truth = np.array([True, False, True, False, False])
    # pairs: .9 beats three, .7 beats one and ties one
    assert roc_auc(scores, truth) == (3 + 1.5) / 6
    # called: 1 -> 2/3; 2 -> 2/4; 4 (ties together) -> 4/6
    assert best_f1(scores, truth) == pytest.approx(2 / 3)


def test_au_pro_by_hand():
    # two regions, of one and of three cells, and four normal cells
    maps = np.array([[[8.0, 1.0, 7.0, 5.0, 6.0, 4.0, 2.0, 3.0]]], dtype=np.float32)
    masks = np.array([[[1, 0, 0, 1, 1, 1, 0, 0]]], dtype=bool)
    # 8: overlap 1/2 | 7: rate 1/4 | 6, 5, 4: overlap 1/2 + 1/6 each | 3, 2, 1: rate 1/2, 3/4, 1
    area = 0.25 * 0.5 + 0.25 * 1.0
    standard = au_pro(maps, masks, fpr_limit=0.5, normalisation="standard")
    assert standard == pytest.approx(area / 0.5, abs=1e-12)
    # limit between two rates: a tenth more of overlap 1/2
    standard = au_pro(maps, masks, fpr_limit=0.1, normalisation="standard")
    published = au_pro(maps, masks, fpr_limit=0.1, normalisation="published")
    assert standard == pytest.approx(0.5, abs=1e-12)
    assert published == pytest.approx(1.0, abs=1e-12)  # whatever is found, it is found at once
    # limit on a rate where the overlap jumps from 1/2 to 1: all of the jump lies within the limit
    published = au_pro(maps, masks, fpr_limit=0.25, normalisation="published")
    assert published == pytest.approx(0.5, abs=1e-12)


# --- what must hold of any scores


def test_oracle_is_perfect():
    _, masks = random_case(0, levels=None)
    maps = masks.astype(np.float32)
    assert roc_auc(maps, masks) == 1.0 and best_f1(maps, masks) == 1.0
    for normalisation in ("standard", "published"):
        value = au_pro(maps, masks, fpr_limit=FPR_LIMIT, normalisation=normalisation)
        assert value == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("constant", [False, True])
def test_chance(constant):
    rng = np.random.default_rng(1)
    maps = rng.random((30, 50, 32), dtype=np.float32)
    masks = rng.random(maps.shape) < 0.1
    if constant:
        maps[:] = 0.25
    tolerance = 1e-12 if constant else 0.02
    share = masks.mean()
    assert roc_auc(maps, masks) == pytest.approx(0.5, abs=tolerance)
    assert best_f1(maps, masks) == pytest.approx(2 * share / (1 + share), abs=tolerance)
    standard = au_pro(maps, masks, fpr_limit=FPR_LIMIT, normalisation="standard")
    published = au_pro(maps, masks, fpr_limit=FPR_LIMIT, normalisation="published")
    assert standard == pytest.approx(0.15, abs=tolerance)
    assert published == pytest.approx(0.5, abs=tolerance)


@pytest.mark.parametrize("levels", [2, None])
def test_higher_means_more_anomalous(levels):
    maps, masks = random_case(2, levels=levels)
    assert roc_auc(maps, masks) > 0.6
    assert roc_auc(-maps, masks) == pytest.approx(1.0 - roc_auc(maps, masks), abs=1e-12)


cells = st.lists(st.tuples(st.integers(-40, 40), st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: len({truth for _, truth in pairs}) == 2
)


@settings(max_examples=60, deadline=None)
@given(cells, st.sampled_from([np.float32, np.float64]))
def test_only_the_order_of_scores_matters(pairs, dtype):
    scores = np.array([score for score, _ in pairs], dtype=dtype)[None, None] / 4
    truth = np.array([truth for _, truth in pairs])[None, None]

    def every(scores):
        curve = Ranking(scores).curve(label_regions(truth), regions=True)
        pro = curve.au_pro(fpr_limit=FPR_LIMIT, normalisation="standard")
        return curve.roc_auc(), curve.best_f1(), pro

    plain = every(scores)
    assert plain == every(scores * 2 - 30) == every(np.arctan(scores)) == every(np.exp(scores))
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in plain)


def test_float32_and_float64_agree_on_extremes():
    scores = np.array([-np.inf, -1e38, -1e-40, -0.0, 0.0, 1e-40, 3.0, np.inf], dtype=np.float32)
    truth = np.array([0, 1, 0, 1, 0, 1, 0, 1], dtype=bool)
    single, double = Ranking(scores).curve(truth), Ranking(scores.astype(float)).curve(truth)
    np.testing.assert_array_equal(single.true_positives, double.true_positives)
    np.testing.assert_array_equal(single.false_positives, double.false_positives)
    assert single.roc_auc() == double.roc_auc() == reference_roc(scores, truth)


def test_scores_are_left_alone():
    maps, masks = random_case(0, levels=None)
    maps.setflags(write=False)
    masks.setflags(write=False)
    view = maps.transpose(0, 2, 1)  # not contiguous
    assert roc_auc(view, masks.transpose(0, 2, 1)) == pytest.approx(roc_auc(maps, masks), abs=1e-15)


# --- undefined values and errors


@pytest.mark.parametrize("positive", [False, True])
def test_one_class_only_is_nan_with_a_warning(positive, caplog):
    maps = np.random.default_rng(0).random((2, 3, 4), dtype=np.float32)
    masks = np.full(maps.shape, positive)
    with caplog.at_level(logging.WARNING), np.errstate(all="raise"):
        values = [roc_auc(maps, masks), best_f1(maps, masks)]
        for form in ("standard", "published"):
            values.append(au_pro(maps, masks, fpr_limit=FPR_LIMIT, normalisation=form))
    assert all(math.isnan(value) for value in values)
    assert len(caplog.records) == 4 and "undefined" in caplog.text


def test_no_clips_are_nan_too():
    assert math.isnan(roc_auc(np.zeros(0), np.zeros(0, dtype=bool)))
    empty = np.zeros((0, 3, 4), dtype=np.float32)
    value = au_pro(empty, empty > 0, fpr_limit=FPR_LIMIT, normalisation="standard")
    assert math.isnan(value)


def test_published_au_pro_of_the_worst_map(caplog):
    _, masks = random_case(0, levels=None)
    maps = -masks.astype(np.float32)
    assert au_pro(maps, masks, fpr_limit=FPR_LIMIT, normalisation="standard") == 0.0
    with caplog.at_level(logging.WARNING), np.errstate(all="raise"):
        value = au_pro(maps, masks, fpr_limit=FPR_LIMIT, normalisation="published")
    assert math.isnan(value) and "no region is touched" in caplog.text


def test_nan_scores_name_their_clips():
    maps = np.zeros((5, 3, 4), dtype=np.float32)
    maps[1, 0, 0] = maps[3, 2, 1] = maps[3, 2, 2] = np.nan
    with pytest.raises(ValueError, match="3 of 60 values are NaN, in 2 of 5 clips: 1, 3"):
        roc_auc(maps, maps > 0)
    with pytest.raises(ValueError, match="1 of 3 values are NaN, in 1 of 3 clips: 2"):
        best_f1(np.array([0.0, 1.0, np.nan]), np.array([True, False, True]))


def test_wrong_arguments():
    maps, masks = random_case(0, levels=None)
    with pytest.raises(ValueError, match="their truth"):
        roc_auc(maps, masks[:, :-1])
    with pytest.raises(ValueError, match="must be bool"):
        roc_auc(maps, masks.astype(int))
    with pytest.raises(ValueError, match="normalisation"):
        au_pro(maps, masks, fpr_limit=0.3, normalisation="minmax")
    with pytest.raises(ValueError, match="fpr_limit"):
        au_pro(maps, masks, fpr_limit=30.0, normalisation="standard")
    with pytest.raises(ValueError, match="needs regions"):
        Ranking(maps).curve(masks).au_pro(fpr_limit=0.3, normalisation="standard")


# --- evaluate


@pytest.fixture
def experiment() -> tuple[Scores, Truth]:
    maps, published = random_case(6, levels=4, shape=(6, 12, 8))
    published[:3] = False
    rng = np.random.default_rng(7)
    leakfree = published & (rng.random(published.shape) < 0.7)
    labels = np.arange(6) >= 3
    frames = leakfree.any(axis=2) & (rng.random((6, 12)) < 0.6)
    truth = Truth(labels=labels, masks={PUBLISHED: published, LEAKFREE: leakfree}, frames=frames)
    return Scores(clips=labels + rng.normal(size=6), maps=maps), truth


@pytest.mark.parametrize("protocol", [PUBLISHED, LEAKFREE])
def test_evaluate_rows(experiment, protocol):
    scores, truth = experiment
    rows = evaluate(scores, truth, protocol=protocol, fpr_limit=FPR_LIMIT)
    assert all(list(row) == ["level", "truth", "metric", "value", "headline"] for row in rows)
    values = {(row["level"], row["truth"], row["metric"]): row["value"] for row in rows}
    assert len(values) == len(rows) == 12
    expected = {
        ("sample", "", "roc"): reference_roc(scores.clips, truth.labels),
        ("sample", "", "f1"): reference_f1(scores.clips, truth.labels),
        ("temporal", "", "roc"): reference_roc(scores.frame_scores(), truth.frames),
        ("temporal", "", "f1"): reference_f1(scores.frame_scores(), truth.frames),
    }
    for name, mask in truth.masks.items():
        expected |= {
            ("spectrogram", name, "roc"): reference_roc(scores.maps, mask),
            ("spectrogram", name, "f1"): reference_f1(scores.maps, mask),
        }
        for form in ("published", "standard"):
            value = reference_au_pro(scores.maps, mask, FPR_LIMIT, form)
            expected["spectrogram", name, f"au_pro_{form}"] = value
    assert values == pytest.approx(expected, abs=1e-12)

    form = "published" if protocol == PUBLISHED else "standard"
    (other,) = {PUBLISHED, LEAKFREE} - {protocol}
    assert {(row["level"], row["truth"], row["metric"]) for row in rows if row["headline"]} == {
        ("sample", "", "roc"),
        ("sample", "", "f1"),
        ("spectrogram", protocol, "roc"),
        ("spectrogram", protocol, "f1"),
        ("spectrogram", protocol, f"au_pro_{form}"),
        ("temporal", "", "roc"),
        ("temporal", "", "f1"),
    }
    assert [row["truth"] for row in rows[2:10]] == [protocol] * 4 + [other] * 4
    assert all(type(row["value"]) is float and type(row["headline"]) is bool for row in rows)


def test_evaluate_without_masks(experiment):
    scores, truth = experiment
    labels_only = Truth.of_clips(truth.labels)
    rows = evaluate(scores, labels_only, protocol=LEAKFREE, fpr_limit=FPR_LIMIT)
    assert [row["level"] for row in rows] == ["sample", "sample"]


def test_evaluate_errors_say_where(experiment):
    scores, truth = experiment
    with pytest.raises(ValueError, match="protocol must be one of"):
        evaluate(scores, truth, protocol="leak-free", fpr_limit=FPR_LIMIT)
    with pytest.raises(ValueError, match="fpr_limit"):
        evaluate(scores, truth, protocol=LEAKFREE, fpr_limit=0.0)
    cut = Scores(clips=scores.clips, maps=scores.maps[:, :-1])
    with pytest.raises(ValueError, match="anomaly maps have shape"):
        evaluate(cut, truth, protocol=LEAKFREE, fpr_limit=FPR_LIMIT)
    broken = Scores(clips=np.where(truth.labels, np.nan, 0.0), maps=scores.maps)
    with pytest.raises(ValueError, match="clip scores: 3 of 6 values are NaN"):
        evaluate(broken, truth, protocol=LEAKFREE, fpr_limit=FPR_LIMIT)
