"""Pictures of one experiment: a clip with its truth and anomaly maps, and all clip scores.

Arrays in, matplotlib `Figure` out. Orange is the truth in every panel of a clip's picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.lib.stride_tricks import sliding_window_view

from vision_to_sound.figures.cells import (
    MAP_COLOURS,
    SPECTROGRAM_COLOURS,
    TRUTH_COLOUR,
    CellScales,
    cell_scales,
    check_shapes,
    colour_bar,
    draw_cells,
    draw_frame_strip,
    draw_mask,
    frequency_ticks,
    mark_span,
    robust_range_db,
    value_range,
)
from vision_to_sound.figures.style import (
    ANOMALOUS_COLOUR,
    NORMAL_COLOUR,
    STYLE,
    method_styles,
    new_figure,
)

_ONE_COLUMN = 5  # this many panels stand in one column, where times line up from top to bottom
_N_COLUMNS = 3  # of a larger figure: mixture, event and truth make the first row


def anomaly_example(
    *,
    mixture_db: np.ndarray,
    event_db: np.ndarray | None,
    mask: np.ndarray | None,
    maps: Mapping[str, np.ndarray],
    frame_times_s: np.ndarray,
    mel_centres_hz: np.ndarray,
    title: str,
    span_s: tuple[float, float] | None,
    frames_truth: np.ndarray | None,
    clip_scores: Mapping[str, str],
    stamp: str,
    dpi: int,
) -> Figure:
    """Mixture, event alone, truth, and one anomaly map per method (Figures 1 and 4 of the paper).

    Differs from the paper: the truth is shown, axes are in seconds and hertz, dashed lines mark the
    event's span. Mixture and event share one colour scale; each map has its own, lowest to highest
    value, because scores of different methods have no common unit. Up to five panels stand in one
    column, more in rows of three.

    Args:
        mixture_db: log-mel spectrogram, dB, float (n_frames, n_mels).
        event_db: the same of the event alone as it was mixed in; None if there is none.
        mask: bool (n_frames, n_mels), cells that are really anomalous; None if unknown.
        maps: method -> anomaly map, float (n_frames, n_mels); drawn in table order.
        frame_times_s: centres of the frames, float (n_frames,), evenly spaced.
        mel_centres_hz: centres of the mel bands, float (n_mels,), increasing.
        title: over the figure.
        span_s: onset and end of the event; None if there is none.
        frames_truth: bool (n_frames,), frames that are really anomalous, a strip over the truth.
        clip_scores: method -> text beside its name, such as its score; may leave methods out.
        stamp: banner on the figure, "" for none.
        dpi: resolution of raster formats; cells are stored as images in vector formats, too.

    Raises:
        ValueError: an array does not fit the spectrogram's shape, or no map is given.
    """
    arrays = {"mixture_db": mixture_db, "event_db": event_db, "mask": mask}
    arrays |= {f"map of {method}": values for method, values in maps.items()}
    check_shapes(arrays, (len(frame_times_s), len(mel_centres_hz)))
    check_shapes({"frames_truth": frames_truth}, (len(frame_times_s),))
    if not maps:
        raise ValueError("maps: expected the anomaly map of at least one method, got none")
    n_inputs = 1 + (event_db is not None) + (mask is not None)
    n_panels = n_inputs + len(maps)
    n_columns = 1 if n_panels <= _ONE_COLUMN else _N_COLUMNS
    n_rows = -(-n_panels // n_columns)
    scales = cell_scales(
        frame_times_s,
        n_mels=len(mel_centres_hz),
        ticks=frequency_ticks(mel_centres_hz, spacing=0.11),
        span_s=span_s,
    )
    with mpl.rc_context(STYLE | ({} if n_columns == 1 else {"axes.titlesize": 8.5})):
        figure = new_figure(
            width_in=7.2 if n_columns == 1 else 0.6 + 3.05 * n_columns,
            height_in=0.8 + (1.62 if n_columns == 1 else 1.9) * n_rows,
            dpi=dpi,
            title=title,
            stamp=stamp,
        )
        axes = _add_axes(figure, n_panels, n_columns=n_columns)
        _draw_inputs(axes[:n_inputs], mixture_db, event_db, mask, frames_truth, scales)
        between = ": " if n_columns == 1 else "\n"
        for axis, (method, style) in zip(
            axes[n_inputs:], method_styles(maps).items(), strict=False
        ):
            texts = [style.title, clip_scores.get(method, "")]
            _draw_map(axis, maps[method], scales, title=between.join(filter(None, texts)))
            _outline_truth(axis, mask, scales)
        if len(axes) > n_panels and span_s is not None and mask is not None:
            _draw_key(axes[n_panels])
    return figure


def _add_axes(figure: Figure, n_panels: int, *, n_columns: int) -> list[Axes]:
    """Axes row by row; labels where rows begin and columns end. Places without a panel come last."""
    n_rows = -(-n_panels // n_columns)
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    axes = list(grid.flat)
    for axis in axes[n_panels:]:
        axis.set_axis_off()
    for axis in axes[:n_panels]:
        axis.spines[:].set_visible(False)
    for axis in grid[:, 0]:
        axis.set_ylabel("frequency (Hz)")
    for axis in axes[max(0, n_panels - n_columns) : n_panels]:
        axis.set_xlabel("time (s)")
        axis.tick_params(labelbottom=True)
    return axes


def _draw_key(axis: Axes) -> None:
    """What the lines on the maps are, in a place that has no panel."""
    handles = [
        Line2D([], [], color=TRUTH_COLOUR, label="outline of the truth"),
        Line2D([], [], color="0.3", linestyle=(0, (4, 3)), label="onset and end of the event"),
    ]
    axis.legend(handles=handles, loc="center", frameon=False)


def _draw_inputs(
    axes: list[Axes],
    mixture_db: np.ndarray,
    event_db: np.ndarray | None,
    mask: np.ndarray | None,
    frames_truth: np.ndarray | None,
    scales: CellScales,
) -> None:
    low, high = robust_range_db(mixture_db)
    panels = [("Mixture: what the methods hear" if event_db is not None else "Clip", mixture_db)]
    panels += [("Event alone, as mixed in", event_db)] if event_db is not None else []
    for axis, (title, values) in zip(axes, panels, strict=False):
        image = draw_cells(axis, values, scales, cmap=SPECTROGRAM_COLOURS, vmin=low, vmax=high)
        colour_bar(axis, image, label="dB")
        axis.set_title(title, loc="left")
        mark_span(axis, scales)
    if mask is None:
        return
    axis = axes[len(panels)]
    draw_mask(axis, mask, scales)
    axis.set_title("Truth: cells", loc="left")
    mark_span(axis, scales)
    if frames_truth is not None:
        draw_frame_strip(axis, frames_truth, scales)
        axis.set_title("Truth: cells, and frames (strip)", loc="left", pad=10)


def _draw_map(axis: Axes, values: np.ndarray, scales: CellScales, *, title: str) -> None:
    low, high = value_range(values)
    image = draw_cells(axis, values, scales, cmap=MAP_COLOURS, vmin=low, vmax=high)
    colour_bar(axis, image, label="score")
    axis.set_title(title, loc="left")
    mark_span(axis, scales)


def _outline_truth(axis: Axes, mask: np.ndarray | None, scales: CellScales) -> None:
    """The edge of the truth as a thin line, so that a map can be read without looking across.

    Each cell goes with the majority of its 3x3 neighbours: lines around single cells hide the map.
    """
    if mask is None:
        return
    windows = sliding_window_view(np.pad(mask.astype(np.float32), 1), (3, 3))
    majority = windows.mean(axis=(2, 3)) > 0.5
    if majority.all() or not majority.any():
        return
    n_frames, n_mels = mask.shape
    step_s = (scales.extent[1] - scales.extent[0]) / n_frames
    times_s = scales.extent[0] + step_s * (np.arange(n_frames) + 0.5)
    axis.contour(
        times_s,
        np.arange(n_mels),
        majority.T.astype(np.float32),
        levels=[0.5],
        colors=TRUTH_COLOUR,
        linewidths=0.7,
    )


def score_histogram(
    scores: Mapping[str, np.ndarray],
    labels: np.ndarray,
    *,
    clip_notes: Mapping[str, str],
    title: str,
    stamp: str,
    dpi: int,
) -> Figure:
    """Clip scores of one experiment, normal against anomalous, a panel per method.

    Args:
        scores: method -> float64 (n_clips,); scores that are not finite are left out and counted.
        labels: bool (n_clips,), True is anomalous.
        clip_notes: method -> short text in its panel, such as its ROC; may leave methods out.
        title: over the figure.
        stamp: banner on the figure, "" for none.
        dpi: resolution of raster formats.

    Raises:
        ValueError: the scores of a method are not one per label.
    """
    labels = np.asarray(labels, dtype=bool)
    styles = method_styles(scores)
    n_columns = min(3, len(styles))
    n_rows = -(-len(styles) // n_columns)
    with mpl.rc_context(STYLE):
        figure = new_figure(
            width_in=1.0 + 2.7 * n_columns,
            height_in=1.0 + 1.9 * n_rows,
            dpi=dpi,
            title=title,
            stamp=stamp,
        )
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
        for axis in axes.flat[len(styles) :]:
            axis.set_axis_off()
        for axis, (method, style) in zip(axes.flat, styles.items(), strict=False):
            values = np.asarray(scores[method], dtype=np.float64)
            if values.shape != labels.shape:
                raise ValueError(
                    f"scores of {method!r}: expected one per label, shape {labels.shape}, got "
                    f"{values.shape}"
                )
            _draw_histogram(axis, values, labels, note=clip_notes.get(method, ""))
            axis.set_title(style.title, loc="left", color="0.4" if style.hollow else "black")
        for axis in axes[:, 0]:
            axis.set_ylabel("clips")
        for axis in axes.flat[max(0, len(styles) - n_columns) : len(styles)]:
            axis.set_xlabel("clip score")
        colours = {"normal": NORMAL_COLOUR, "anomalous": ANOMALOUS_COLOUR}
        handles = [
            Line2D([], [], color=colour, linewidth=6, alpha=0.6, label=f"{name} clips")
            for name, colour in colours.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_histogram(axis: Axes, values: np.ndarray, labels: np.ndarray, *, note: str) -> None:
    finite = np.isfinite(values)
    lost = int((~finite).sum())
    if finite.any():
        low, high = float(values[finite].min()), float(values[finite].max())
        margin = 0.0 if high > low else max(abs(low), 1.0) * 0.05
        edges = np.linspace(low - margin, high + margin, 26)
        for label, colour in ((False, NORMAL_COLOUR), (True, ANOMALOUS_COLOUR)):
            chosen = values[finite & (labels == label)]
            sns.histplot(x=chosen, bins=edges, color=colour, alpha=0.45, ax=axis, element="step")
    texts = [text for text in (note, f"{lost} clips without a score" if lost else "") if text]
    axis.margins(y=0.08 + 0.12 * len(texts))  # room for them above the bars
    axis.autoscale_view()
    axis.text(
        0.98,
        0.96,
        "\n".join(texts),
        transform=axis.transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )
    axis.set(xlabel="", ylabel="")
    axis.locator_params(axis="x", nbins=5)
    axis.locator_params(axis="y", nbins=4, integer=True)
