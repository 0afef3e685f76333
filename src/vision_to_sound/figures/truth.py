"""How the truth of one clip is made from its event alone (Section 3.2 of the paper).

Arrays in, matplotlib `Figure` out. Time runs to the right in every panel, orange is the truth.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vision_to_sound.figures.cells import (
    DYNAMIC_RANGE_DB,
    SPECTROGRAM_COLOURS,
    TRUTH_COLOUR,
    cell_scales,
    check_shapes,
    colour_bar,
    draw_cells,
    draw_mask,
    frequency_ticks,
    mark_span,
    robust_range_db,
    shade_frames,
)
from vision_to_sound.figures.style import NORMAL_COLOUR, STYLE, new_figure

_MASK_TITLES = {
    "published": "Cells, published rule: the loudest, as many as hold a set share of all decibels",
    "leakfree": "Cells, leakfree rule: the loudest, a set share of the cells in the event's span",
}


def ground_truth_figure(
    *,
    mixture_db: np.ndarray,
    event_db: np.ndarray,
    masks: Mapping[str, np.ndarray],
    frames_truth: np.ndarray,
    span_s: tuple[float, float],
    frame_times_s: np.ndarray,
    mel_centres_hz: np.ndarray,
    title: str,
    stamp: str,
    dpi: int,
) -> Figure:
    """From the event alone to anomalous cells, by either rule, and anomalous frames.

    The last panel is E(t), the power of the event summed over mel bands, in dB; within the span,
    frames above its median are anomalous (truth.loud_frames). Dashed lines mark the span in every
    panel. Source: Sections 3.2.2 and 3.2.3 of the paper; rules: truth.event_truth.

    Args:
        mixture_db: log-mel spectrogram, dB, float (n_frames, n_mels).
        event_db: the same of the event alone as it was mixed in.
        masks: "published" and "leakfree" -> bool (n_frames, n_mels), anomalous cells.
        frames_truth: bool (n_frames,), anomalous frames.
        span_s: onset and end of the event.
        frame_times_s: centres of the frames, float (n_frames,), evenly spaced.
        mel_centres_hz: centres of the mel bands, float (n_mels,), increasing.
        title: over the figure.
        stamp: banner on the figure, "" for none.
        dpi: resolution of raster formats; cells are stored as images in vector formats, too.

    Raises:
        ValueError: an array does not fit the spectrogram's shape, or a mask is missing.
    """
    if set(masks) != set(_MASK_TITLES):
        raise ValueError(f"masks: expected {sorted(_MASK_TITLES)}, got {sorted(masks)}")
    arrays = {"mixture_db": mixture_db, "event_db": event_db}
    arrays |= {f"mask {name}": mask for name, mask in masks.items()}
    check_shapes(arrays, (len(frame_times_s), len(mel_centres_hz)))
    check_shapes({"frames_truth": frames_truth}, (len(frame_times_s),))
    scales = cell_scales(
        frame_times_s,
        n_mels=len(mel_centres_hz),
        ticks=frequency_ticks(mel_centres_hz, spacing=0.13),
        span_s=span_s,
    )
    in_span = (frame_times_s >= span_s[0]) & (frame_times_s < span_s[1])
    with mpl.rc_context(STYLE):
        figure = new_figure(width_in=7.2, height_in=8.2, dpi=dpi, title=title, stamp=stamp)
        grid = figure.subplots(5, 2, sharex="col", width_ratios=[1.0, 0.022])
        axes, bars = grid[:, 0], grid[:, 1]
        low, high = robust_range_db(mixture_db)
        titles = (
            "Mixture: what the methods hear",
            "Event alone, as mixed in: all truth is made from it",
        )
        for row, (values, text) in enumerate(zip((mixture_db, event_db), titles, strict=True)):
            image = draw_cells(
                axes[row], values, scales, cmap=SPECTROGRAM_COLOURS, vmin=low, vmax=high
            )
            colour_bar(axes[row], image, label="dB", beside=bars[row])
            axes[row].set_title(text, loc="left")
        for row, name in enumerate(_MASK_TITLES, start=2):
            draw_mask(axes[row], masks[name], scales, beside=bars[row])
            of_span = masks[name][in_span].mean() if in_span.any() else 0.0
            axes[row].set_title(
                f"{_MASK_TITLES[name]}\n{masks[name].mean():.0%} of all cells, "
                f"{of_span:.0%} of those in the span",
                loc="left",
            )
        for axis in axes[:4]:
            axis.set_ylabel("frequency (Hz)")
            axis.spines[:].set_visible(False)
            mark_span(axis, scales)
        bars[4].set_axis_off()
        _draw_energy(axes[4], event_db, frames_truth, frame_times_s, span_s, in_span)
        axes[4].set(xlim=scales.extent[:2], xlabel="time (s)")
    return figure


def _draw_energy(
    axis: Axes,
    event_db: np.ndarray,
    frames_truth: np.ndarray,
    frame_times_s: np.ndarray,
    span_s: tuple[float, float],
    in_span: np.ndarray,
) -> None:
    power = np.sum(10.0 ** (event_db.astype(np.float64) / 10.0), axis=1)  # (n_frames,)
    energy_db = 10.0 * np.log10(np.maximum(power, 1e-30))
    shade_frames(axis, frames_truth, frame_times_s)
    axis.plot(frame_times_s, energy_db, color="black", linewidth=1.1)
    handles = [
        Line2D([], [], color="black", linewidth=1.1, label="energy E(t)"),
        Patch(color=TRUTH_COLOUR, alpha=0.45, linewidth=0, label="anomalous frames"),
    ]
    if in_span.any():
        median_db = 10.0 * np.log10(max(float(np.median(power[in_span])), 1e-30))
        look = {"color": NORMAL_COLOUR, "linewidth": 1.4}
        axis.plot(span_s, [median_db, median_db], **look)
        handles.insert(1, Line2D([], [], label="its median over the span", **look))
    top_db = float(energy_db.max())
    axis.set_ylim(max(float(energy_db.min()), top_db - DYNAMIC_RANGE_DB) - 3.0, top_db + 5.0)
    for time_s in span_s:
        axis.axvline(time_s, color="0.3", linewidth=1.0, linestyle=(0, (4, 3)))
    axis.set_title("Frames: louder than the median of the event's span", loc="left")
    axis.set_ylabel("energy (dB)")
    axis.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.38),
        ncols=len(handles),
        frameon=False,
    )


def example_event(length_samples: np.ndarray) -> int:
    """Row of the event to show if none is named: a quarter of the events are shorter.

    Short enough to leave room around its span where many events fill their clip. length_samples:
    integers (n_events,), at least one.
    """
    order = np.argsort(length_samples, kind="stable")
    return int(order[len(order) // 4])
