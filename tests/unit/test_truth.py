"""Masks and frames against hand-computed cases and slow, obvious references."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.truth import (
    LEAKFREE,
    PUBLISHED,
    Truth,
    event_span,
    event_truth,
    loud_frames,
    loudest_cells,
    published_mask,
)

FLOOR_DB = -100.0


def random_events(rng: np.random.Generator, *, n_clips: int, n_frames: int, n_mels: int, hop: int):
    """Sound between onset and onset + length, silence elsewhere."""
    event_db = np.full((n_clips, n_frames, n_mels), FLOOR_DB, dtype=np.float32)
    onset = rng.integers(0, n_frames * hop // 2, n_clips)
    length = rng.integers(hop, n_frames * hop // 2, n_clips)
    for clip in range(n_clips):
        sounding = [t for t in range(n_frames) if onset[clip] <= t * hop < (onset + length)[clip]]
        event_db[clip, sounding] = rng.normal(-40.0, 12.0, (len(sounding), n_mels))
    return event_db, onset, length


def one_event(event_db: np.ndarray, *, onset: int, length: int, hop: int, share: float = 0.4):
    return event_truth(
        np.asarray(event_db, dtype=np.float32)[None],
        onset_samples=np.array([onset]),
        length_samples=np.array([length]),
        hop_samples=hop,
        labels=np.array([False, True]),
        mask_share=share,
        floor_db=FLOOR_DB,
    )


def reference_published(cells_db: np.ndarray, share: float) -> np.ndarray:
    """Walk from the loudest cell down until the min-maxed running sum passes the share."""
    low, high = float(cells_db.min()), float(cells_db.max())
    value = {
        (t, b): (float(cells_db[t, b]) - low) / (high - low) for t, b in np.ndindex(cells_db.shape)
    }
    ordered = sorted(value.values(), reverse=True)
    total, first = math.fsum(ordered), ordered[0]
    running, threshold = 0.0, None
    for cell in ordered:
        running += cell
        if (running - first) / (total - first) > share:
            threshold = cell
            break
    mask = np.zeros(cells_db.shape, dtype=bool)
    for place, cell in value.items():
        mask[place] = cell > threshold
    return mask


# --- published mask


def test_published_mask_by_hand():
    # v = 1, .8, .6, .4, .2, 0: running sum 1, 1.8, 2.4, 2.8, 3, 3; c = 0, .4, .7, ...
    # c > .4 first at v = .6, so 1 and .8 are in
    cells_db = np.array([[-50.0, -10.0, -40.0], [-30.0, 0.0, -20.0]])
    expected = np.array([[False, True, False], [False, True, False]])
    np.testing.assert_array_equal(published_mask(cells_db, mask_share=0.41), expected)
    # a share that c passes at once: only cells louder than the second
    lower = published_mask(cells_db, mask_share=0.3)
    np.testing.assert_array_equal(lower, cells_db == 0.0)


def test_published_mask_passes_the_share_strictly():
    # v = 1, .75, .25, 0; c = 0, .75, 1, 1: at a share of .75 the first c above it is the third
    cells_db = np.array([[0.0, -10.0, -30.0, -40.0]])
    expected = [[True, True, False, False]]
    np.testing.assert_array_equal(published_mask(cells_db, mask_share=0.75), expected)


def test_published_mask_takes_equal_cells_together():
    cells_db = np.array([[0.0, 0.0, -10.0, -10.0, -10.0, -20.0]])
    # v = 1 1 .5 .5 .5 0, sum 1 2 2.5 3 3.5, c = 0 .4 .6: the threshold is .5, both loudest are in
    expected = [[True, True, False, False, False, False]]
    np.testing.assert_array_equal(published_mask(cells_db, mask_share=0.45), expected)
    # the threshold falls on the loudest value itself: nothing lies strictly above it
    assert not published_mask(cells_db, mask_share=0.35).any()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [0, 3])  # with and without ties
def test_published_mask_equals_the_reference(seed, decimals):
    rng = np.random.default_rng(seed)
    cells_db = np.round(rng.normal(-50.0, 10.0, (11, 7)), decimals).astype(np.float32)
    cells_db[7:] = FLOOR_DB
    expected = reference_published(cells_db, 0.4)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(published_mask(cells_db, mask_share=0.4), expected)


def test_published_mask_does_not_depend_on_the_gain():
    rng = np.random.default_rng(0)
    cells_db = rng.normal(-50.0, 10.0, (20, 8))
    louder = published_mask(cells_db + 17.0, mask_share=0.4)
    np.testing.assert_array_equal(published_mask(cells_db, mask_share=0.4), louder)


@pytest.mark.parametrize("lone", [False, True])
def test_published_mask_is_empty_where_the_definition_divides_by_zero(lone):
    cells_db = np.full((4, 3), -37.5)
    cells_db[2, 1] += 10.0 * lone
    with np.errstate(all="raise"):
        assert not published_mask(cells_db, mask_share=0.4).any()


# --- span


@pytest.mark.parametrize(
    ("onset", "length", "frames"),
    [
        (0, 40, [0, 1, 2, 3]),  # frame 4 is centred on sample 40, no longer inside
        (0, 41, [0, 1, 2, 3, 4]),
        (1, 40, [1, 2, 3, 4]),
        (10, 10, [1]),
        (11, 8, [2]),  # no centre inside: middle 15, halves round up
        (11, 6, [1]),  # middle 14
        (30, 0, [3]),  # no length
        (36, 0, [4]),
        (80, 20, [8, 9]),  # the last frames
        (96, 4, [9]),  # behind the last centre
        (0, 100, list(range(10))),
    ],
)
def test_event_span(onset, length, frames):
    span = event_span(onset, length, hop_samples=10, n_frames=10)
    assert list(range(10))[span] == frames


@pytest.mark.parametrize("seed", range(3))
def test_event_span_equals_a_walk_over_frames(seed):
    rng = np.random.default_rng(seed)
    for _ in range(200):
        onset = int(rng.integers(0, 300))
        length = int(rng.integers(0, 320 - onset))
        inside = [t for t in range(46) if onset <= t * 7 < onset + length]
        if not inside:
            middle = onset + length / 2
            inside = [min(range(46), key=lambda t: (abs(t * 7 - middle), -t))]
        assert list(range(46))[event_span(onset, length, hop_samples=7, n_frames=46)] == inside


# --- leakfree mask and frames


def test_loudest_cells_by_hand():
    span_db = np.array([[-1.0, -9.0], [-2.0, -3.0], [-3.0, -4.0], [-50.0, -3.0], [-7.0, -8.0]])
    # 4 of 10 cells; the three cells of -3 compete for two places: earlier frame, then lower band
    expected = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [0, 0]], dtype=bool)
    np.testing.assert_array_equal(loudest_cells(span_db, share=0.4, floor_db=-100.0), expected)


def test_loudest_cells_never_marks_silence():
    span_db = np.full((5, 4), FLOOR_DB)
    span_db[3, 2] = -60.0
    expected = span_db == -60.0
    np.testing.assert_array_equal(loudest_cells(span_db, share=0.4, floor_db=FLOOR_DB), expected)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 13, 50])
@pytest.mark.parametrize("n_mels", [1, 7, 64])
@pytest.mark.parametrize("tied", [False, True])
def test_loudest_cells_marks_an_exact_number(n_frames, n_mels, tied):
    rng = np.random.default_rng(n_frames * n_mels)
    span_db = rng.normal(-40.0, 5.0, (n_frames, n_mels))
    span_db = np.round(span_db / 5.0) * 5.0 if tied else span_db
    mask = loudest_cells(span_db, share=0.4, floor_db=FLOOR_DB)
    assert mask.sum() == round(0.4 * n_frames * n_mels)
    if mask.any():
        assert span_db[mask].min() >= span_db[~mask].max()


def test_loud_frames_by_hand():
    power = np.array([[1.0, 1.0], [5.0, 0.1], [0.1, 0.1], [1.5, 1.5], [0.5, 0.2]])
    # E = 2, 5.1, .2, 3, .7: median 2, strictly above: frames 1 and 3
    expected = [False, True, False, True, False]
    np.testing.assert_array_equal(loud_frames(10.0 * np.log10(power)), expected)
    # four frames: the median lies between two frames
    np.testing.assert_array_equal(
        loud_frames(10.0 * np.log10(power[:4])), [False, True, False, True]
    )


def test_loud_frames_sum_power_and_not_decibels():
    # one loud band beats two middling ones in power, though neither in dB nor in amplitude
    span_db = np.array([[-10.0, -90.0], [-14.0, -14.0]])
    np.testing.assert_array_equal(loud_frames(span_db), [True, False])


@pytest.mark.parametrize(
    ("energies_db", "expected"),
    [([-30.0], [1]), ([-30.0, -30.0], [1, 1]), ([-40.0, -30.0, -30.0], [0, 1, 1])],
)
def test_loud_frames_is_never_empty(energies_db, expected):
    marked = loud_frames(np.array(energies_db)[:, None])
    np.testing.assert_array_equal(marked, np.array(expected, dtype=bool))


# --- all together


def test_event_truth_by_hand():
    hop, n_frames = 100, 6
    event_db = np.full((n_frames, 2), FLOOR_DB, dtype=np.float32)
    event_db[1:5] = [[-20.0, -60.0], [-10.0, -20.0], [-70.0, -50.0], [-30.0, -60.0]]
    event_db[5] = -15.0  # a leak behind the span, as of a window's slope
    truth = one_event(event_db, onset=100, length=400, hop=hop)

    leakfree = np.zeros((n_frames, 2), dtype=bool)
    leakfree[1, 0] = leakfree[2, 0] = leakfree[2, 1] = True  # round(.4 * 8) = 3
    frames = np.array([0, 1, 1, 0, 0, 0], dtype=bool)
    np.testing.assert_array_equal(truth.masks[LEAKFREE][1], leakfree)
    np.testing.assert_array_equal(truth.frames[1], frames)
    expected = reference_published(event_db, 0.4)
    np.testing.assert_array_equal(truth.masks[PUBLISHED][1], expected)
    assert truth.masks[PUBLISHED][1, 5].any()  # published looks at the whole clip

    for part in (*truth.masks.values(), truth.frames):
        assert part.dtype == bool and not part[0].any()


def test_event_truth_on_many_events():
    rng = np.random.default_rng(5)
    n_anomalous, n_frames, n_mels, hop = 12, 80, 16, 32
    event_db, onset, length = random_events(
        rng, n_clips=n_anomalous, n_frames=n_frames, n_mels=n_mels, hop=hop
    )
    labels = np.zeros(20, dtype=bool)
    labels[rng.permutation(20)[:n_anomalous]] = True
    truth = event_truth(
        event_db,
        onset_samples=onset,
        length_samples=length,
        hop_samples=hop,
        labels=labels,
        mask_share=0.4,
        floor_db=FLOOR_DB,
    )
    np.testing.assert_array_equal(truth.labels, labels)
    for row, clip in enumerate(np.flatnonzero(labels)):
        sounding = np.flatnonzero((event_db[row] > FLOOR_DB).any(axis=1))
        assert truth.masks[LEAKFREE][clip].sum() == round(0.4 * len(sounding) * n_mels)
        assert truth.frames[clip].sum() == max(len(sounding) // 2, 1)
        outside = np.setdiff1d(np.arange(n_frames), sounding)
        assert not truth.masks[LEAKFREE][clip, outside].any()
        assert not truth.frames[clip, outside].any()
        # dB mass is nearly flat over the sounding cells, so 40 % of it is under 40 % of them
        share = truth.masks[PUBLISHED][clip].sum() / (len(sounding) * n_mels)
        assert 0.2 < share < 0.4
    assert not truth.frames[~labels].any()
    assert not any(mask[~labels].any() for mask in truth.masks.values())


def test_event_of_no_length_marks_the_nearest_frame():
    event_db = np.full((6, 5), -80.0)
    event_db[3] = [-20.0, -30.0, -40.0, -50.0, -60.0]
    truth = one_event(event_db, onset=290, length=0, hop=100)
    assert np.flatnonzero(truth.frames[1]).tolist() == [3]
    assert np.argwhere(truth.masks[LEAKFREE][1]).tolist() == [[3, 0], [3, 1]]


def test_silent_event_has_nothing_and_warns(caplog):
    with caplog.at_level(logging.WARNING), np.errstate(all="raise"):
        truth = one_event(np.full((6, 5), FLOOR_DB), onset=100, length=300, hop=100)
    assert truth.labels.tolist() == [False, True]
    assert not truth.frames.any() and not any(mask.any() for mask in truth.masks.values())
    assert "silent" in caplog.text and "1 clips: 1" in caplog.text


def test_event_that_sounds_elsewhere_than_in_its_span_warns(caplog):
    event_db = np.full((6, 5), FLOOR_DB)
    event_db[4:] = [-10.0, -20.0, -30.0, -40.0, -50.0]
    event_db[5] += 0.5
    with caplog.at_level(logging.WARNING):
        truth = one_event(event_db, onset=0, length=300, hop=100)
    assert "within its span" in caplog.text
    assert truth.masks[PUBLISHED].any()
    assert not truth.frames.any() and not truth.masks[LEAKFREE].any()


def test_no_anomalous_clip_is_fine():
    truth = event_truth(
        np.zeros((0, 6, 5), dtype=np.float32),
        onset_samples=np.array([]),
        length_samples=np.array([]),
        hop_samples=100,
        labels=np.zeros(3, dtype=bool),
        mask_share=0.4,
        floor_db=FLOOR_DB,
    )
    assert truth.masks[PUBLISHED].shape == (3, 6, 5) and truth.frames.shape == (3, 6)


# --- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"onset_samples": np.array([0])}, "onset_samples: one row per anomalous clip"),
        ({"onset_samples": np.array([0.0, 1.0])}, "must be integers"),
        ({"onset_samples": np.array([0, -1])}, "1 events outside their clip; first in clip 2"),
        ({"length_samples": np.array([100, 601])}, "clip 2: onset 0, length 601"),
        ({"length_samples": np.array([-1, 1])}, "outside their clip; first in clip 0"),
        (
            {"onset_samples": np.array([600, 0]), "length_samples": np.array([0, 0])},
            "first in clip 0",
        ),
        ({"labels": np.array([1, 0, 1])}, "labels must be bool"),
        ({"labels": np.array([True, False, False])}, r"event_db: one row per anomalous clip \(1\)"),
        ({"mask_share": 40.0}, "mask_share"),
        ({"hop_samples": 0}, "hop_samples"),
    ],
)
def test_errors_say_what_is_wrong(change, message):
    settings = {
        "onset_samples": np.array([0, 0]),
        "length_samples": np.array([100, 100]),
        "hop_samples": 100,
        "labels": np.array([True, False, True]),
        "mask_share": 0.4,
        "floor_db": FLOOR_DB,
    }
    event_db = np.zeros((2, 6, 5), dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        event_truth(event_db, **(settings | change))


def test_nan_names_its_clip():
    event_db = np.zeros((6, 5))
    event_db[2, 2] = np.nan
    with pytest.raises(ValueError, match="1 clips: 1"):
        one_event(event_db, onset=0, length=100, hop=100)


def test_truth_refuses_parts_that_disagree():
    labels = np.array([True, False])
    with pytest.raises(ValueError, match="frames has 3 clips"):
        Truth(labels=labels, masks={}, frames=np.zeros((3, 4), dtype=bool))
    with pytest.raises(ValueError, match="must be bool"):
        Truth(labels=labels, masks={}, frames=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="clips and frames must agree"):
        masks = {PUBLISHED: np.zeros((2, 5, 3), dtype=bool)}
        Truth(labels=labels, masks=masks, frames=np.zeros((2, 4), dtype=bool))


def test_truth_of_clips_knows_labels_only():
    truth = Truth.of_clips(np.array([True, False]))
    assert truth.masks == {} and truth.frames.shape == (2, 0)


def test_without_a_file_the_table_says_what_is_known(tmp_path):
    table = pd.DataFrame({"role": ["train", "test", "test"], "label": [0, 1, 0]})
    assert Truth.of_test_clips("", table).labels.tolist() == [True, False]
    Truth.of_clips(np.array([False, True])).save(tmp_path / "truth.npz")
    assert Truth.of_test_clips(tmp_path / "truth.npz", table).labels.tolist() == [False, True]
