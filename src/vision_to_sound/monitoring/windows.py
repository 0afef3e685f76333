"""Recordings of any length in pieces that detectors take: clips for people, windows for networks.

A recording is cut into clips of at most a minute or so; each gets a score. A clip is covered by overlapping windows of
one length, which an encoder embeds; their maps are faded into each other to the clip's map. Windows are cut out of the
clip's spectrogram, not of its samples, so that no window has an edge that the clip does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Lengths to choose from; a new recording seldom moves the median from one to another, so caches stay good.
WINDOW_LENGTHS_S = (1.0, 2.0, 4.0, 10.0)


def usual_window_s(durations_s: Sequence[float]) -> float:
    """The longest of `WINDOW_LENGTHS_S` that at least half of the recordings last, else the shortest.

    Raises:
        ValueError: no recordings.
    """
    if not len(durations_s):
        raise ValueError("no recordings, so no window length follows from them")
    middle = float(np.median(durations_s))
    fitting = [length for length in WINDOW_LENGTHS_S if length <= middle]
    return max(fitting, default=WINDOW_LENGTHS_S[0])


def clip_bounds(n_samples: int, longest: int) -> list[tuple[int, int]]:
    """[(start, stop)] of equal clips (to one sample), none longer than `longest`, that cover a recording."""
    n_clips = max(1, math.ceil(n_samples / longest))
    edges = [i * n_samples // n_clips for i in range(n_clips + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def window_starts(n_frames: int, n_window: int, overlap: float) -> np.ndarray:
    """First frames of the windows that cover n_frames: int64, ascending, from 0 to n_frames - n_window.

    Neighbours overlap by at least the share `overlap` (0 to below 1) of a window, evenly spread.

    Raises:
        ValueError: fewer frames than a window has.
    """
    if n_frames < n_window:
        raise ValueError(f"{n_frames} frames are fewer than the {n_window} of a window")
    if not 0.0 <= overlap < 1.0:
        raise ValueError(f"overlap: expected 0 or more and below 1, got {overlap}")
    furthest = n_frames - n_window
    step = max(1, round(n_window * (1.0 - overlap)))
    n_windows = math.ceil(furthest / step) + 1
    return np.round(np.linspace(0, furthest, n_windows)).astype(np.int64)


def stitch(maps: np.ndarray, starts: np.ndarray, n_frames: int) -> np.ndarray:
    """One map from the maps of overlapping windows: their mean, weighted by a window that fades at both ends.

    Where windows agree the result is what they say; where one begins or ends it has no weight, so there is no seam.

    Args:
        maps: (n_windows, n_window, n_mels). starts: (n_windows,), frames, ascending and without gaps between windows.

    Returns:
        float32 (n_frames, n_mels); of a clip shorter than a window its first n_frames.
    """
    n_window = maps.shape[1]
    if len(maps) == 1:
        return np.asarray(maps[0][:n_frames], dtype=np.float32)
    fade = np.sin(np.pi * (np.arange(n_window) + 0.5) / n_window) ** 2  # above 0 everywhere
    total = np.zeros((n_frames, maps.shape[2]))
    weight = np.zeros(n_frames)
    for start, window_map in zip(starts, maps, strict=True):
        frames = slice(start, start + n_window)
        total[frames] += fade[:, None] * window_map
        weight[frames] += fade
    return (total / weight[:, None]).astype(np.float32)


def repeated_to(samples: np.ndarray, n_samples: int) -> np.ndarray:
    """Samples (n,) again and again up to n_samples: silence in its place would be an anomaly of its own."""
    if len(samples) >= n_samples:
        return samples
    return np.resize(samples, n_samples)
