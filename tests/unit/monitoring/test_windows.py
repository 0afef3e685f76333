"""Recordings in pieces: nothing is lost, nothing is counted twice, and no seam is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_to_sound.monitoring.windows import (
    clip_bounds,
    repeated_to,
    stitch,
    usual_window_s,
    window_starts,
)


@given(n=st.integers(1, 10**7), longest=st.integers(1, 10**6))
def test_clips_cover_a_recording_and_none_is_too_long(n, longest):
    if n / longest > 1000:
        longest = n // 1000 + 1
    bounds = clip_bounds(n, longest)
    assert bounds[0][0] == 0 and bounds[-1][1] == n
    assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:], strict=False))
    lengths = [stop - start for start, stop in bounds]
    assert max(lengths) <= longest and max(lengths) - min(lengths) <= 1


@given(
    n_window=st.integers(1, 500),
    extra=st.integers(0, 5000),
    overlap=st.floats(0, 0.9, allow_nan=False),
)
def test_windows_cover_a_clip_and_overlap_as_asked(n_window, extra, overlap):
    n_frames = n_window + extra
    starts = window_starts(n_frames, n_window, overlap)
    assert starts[0] == 0 and starts[-1] == extra
    steps = np.diff(starts)
    assert (steps > 0).all()
    if len(steps):
        assert steps.max() <= max(1, round(n_window * (1 - overlap))) + 1
        assert steps.max() <= n_window or overlap == 0


def test_a_clip_of_one_window_is_that_window():
    assert list(window_starts(100, 100, 0.5)) == [0]
    maps = np.random.default_rng(0).normal(size=(1, 100, 4)).astype(np.float32)
    np.testing.assert_array_equal(stitch(maps, np.array([0]), 60), maps[0, :60])


@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.75])
def test_windows_that_agree_are_stitched_to_what_they_say(overlap):
    whole = np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float32)
    starts = window_starts(1000, 137, overlap)
    maps = np.stack([whole[start : start + 137] for start in starts])
    np.testing.assert_allclose(stitch(maps, starts, 1000), whole, rtol=1e-5, atol=1e-6)


def test_windows_that_disagree_leave_no_step():
    """Each window says another constant; the largest step from frame to frame stays small."""
    starts = window_starts(600, 100, 0.5)
    maps = np.broadcast_to(np.arange(len(starts))[:, None, None] % 2, (len(starts), 100, 3))
    stitched = stitch(maps.astype(np.float32), starts, 600)
    assert 0 <= stitched.min() and stitched.max() <= 1
    assert np.abs(np.diff(stitched, axis=0)).max() < 0.05


def test_too_few_frames_and_a_wrong_overlap_are_refused():
    with pytest.raises(ValueError, match="fewer than the 100"):
        window_starts(99, 100, 0.5)
    with pytest.raises(ValueError, match="overlap"):
        window_starts(200, 100, 1.0)


def test_short_sound_is_repeated():
    np.testing.assert_array_equal(repeated_to(np.array([1.0, 2.0, 3.0]), 7), [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(repeated_to(np.array([1.0, 2.0]), 1), [1, 2])


@pytest.mark.parametrize(
    ("durations_s", "expected"),
    [
        ([10.0] * 5, 10.0),
        ([9.9] * 5, 4.0),
        ([0.2], 1.0),
        ([3.0, 60.0, 60.0], 10.0),
        ([2.0, 2.0, 60.0], 2.0),
    ],
)
def test_the_window_follows_from_the_median(durations_s, expected):
    assert usual_window_s(durations_s) == expected
    with pytest.raises(ValueError, match="no recordings"):
        usual_window_s([])
