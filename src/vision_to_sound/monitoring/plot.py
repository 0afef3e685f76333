"""A scored clip as a picture: the spectrogram, the anomaly map over it, its regions."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vision_to_sound.figures.cells import frequency_ticks
from vision_to_sound.file_names import to_text
from vision_to_sound.monitoring.page_media import MAP_COLOUR
from vision_to_sound.monitoring.result import ClipResult

_SIZE_IN = (9, 3)


def plot_result(result: ClipResult, ax: Axes | None = None) -> Axes:
    """Draw on the given axes, or on a figure of its own; returns the axes."""
    if ax is None:
        _, ax = plt.subplots(figsize=_SIZE_IN, layout="constrained")
    n_mels = result.anomaly_map.shape[1]
    half_hop = result.front_end.hop_s / 2
    place = {
        "extent": (-half_hop, result.times_s[-1] + half_hop, -0.5, n_mels - 0.5),
        "origin": "lower",
        "aspect": "auto",
    }
    ax.imshow(result.spectrogram_db().T, cmap="gray", **place)
    strength = np.clip((result.anomaly_map.T - 0.5) / 1.5, 0.0, 1.0)
    colour = np.broadcast_to(np.array(MAP_COLOUR) / 255, (*strength.shape, 3))
    ax.imshow(np.dstack([colour, 0.85 * strength]), **place)
    centres_hz = result.frequencies_hz
    for region in result.regions:
        low, high = np.interp([region.low_hz, region.high_hz], centres_hz, np.arange(n_mels))
        span_s = region.end_s - region.start_s
        ax.add_patch(
            Rectangle((region.start_s, low), span_s, high - low, fill=False, color="white")
        )
    positions, labels = frequency_ticks(centres_hz, spacing=0.06)
    ax.set_yticks(positions, labels)
    # Above half its rate a recording holds nothing.
    n_recorded = result.front_end.n_bands_below(result.file.sample_rate_hz / 2)
    ax.set_ylim(-0.5, n_recorded - 0.5)
    ax.set(xlabel="time (s)", ylabel="frequency (Hz)")
    name = to_text(result.file.path.name)
    ax.set_title(
        f"{name}: {result.verdict}, score {result.score:.3g}, p = {result.p_value:.2g}",
        fontsize=10,
        parse_math=False,  # a file name may hold dollars
    )
    return ax


def result_png(result: ClipResult) -> bytes:
    """The picture as a PNG file; pyplot's current figure stays what it was."""
    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    plot_result(result, figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
