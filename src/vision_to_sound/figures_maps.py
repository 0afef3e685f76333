"""Pictures of one experiment: a clip with its truth and anomaly maps, and all clip scores.

Arrays in, matplotlib `Figure` out. Orange is the truth in every panel of a clip's picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.lib.stride_tricks import sliding_window_view

from vision_to_sound.figures import (
    ANOMALOUS_COLOUR,
    NORMAL_COLOUR,
    STYLE,
    method_styles,
    new_figure,
)

FREQUENCY_TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
DYNAMIC_RANGE_DB = 70.0  # a spectrogram's colours cover at most this much below its loudest cells
_SPECTROGRAM_COLOURS = "magma"
_MAP_COLOURS = sns.color_palette("mako", as_cmap=True)
_TRUTH_COLOUR = "#FF9A2E"
_MASK_COLOURS = ListedColormap(["#0B0405", _TRUTH_COLOUR])  # the ground is mako's darkest
_FRAME_COLOURS = ListedColormap(["#DDDDDD", _TRUTH_COLOUR])


@dataclass(frozen=True)
class _Scales:
    """Time and frequency of the cells that all panels of a figure share."""

    extent: tuple[float, float, float, float]  # time from, to in seconds; mel band from, to
    tick_bands: np.ndarray
    tick_labels: list[str]
    span_s: tuple[float, float] | None


def frequency_ticks(mel_centres_hz: np.ndarray, *, spacing: float) -> tuple[np.ndarray, list[str]]:
    """Round frequencies on an axis whose unit is the mel band.

    Args:
        mel_centres_hz: float (n_mels,), increasing.
        spacing: ticks closer than this share of the axis to a rounder one are left out.

    Returns:
        Positions in bands, float (n_ticks,), and labels such as "500", "2k". Increasing.
    """
    n_mels = len(mel_centres_hz)
    # decades first, then the fives, then the twos: the roundest frequency of a crowd stays
    ordered = sorted(FREQUENCY_TICKS_HZ, key=lambda hz: ("152".index(str(hz)[0]), hz))
    kept: list[tuple[float, int]] = []
    for hz in ordered:
        if not mel_centres_hz[0] <= hz <= mel_centres_hz[-1]:
            continue
        band = float(np.interp(hz, mel_centres_hz, np.arange(n_mels)))
        if all(abs(band - other) >= spacing * n_mels for other, _ in kept):
            kept.append((band, hz))
    kept.sort()
    labels = [f"{hz // 1000}k" if hz >= 1000 else str(hz) for _, hz in kept]
    return np.array([band for band, _ in kept]), labels


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
    value, because scores of different methods have no common unit.

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
    _check_shapes(arrays, (len(frame_times_s), len(mel_centres_hz)))
    _check_shapes({"frames_truth": frames_truth}, (len(frame_times_s),))
    if not maps:
        raise ValueError("maps: expected the anomaly map of at least one method, got none")
    n_inputs = 1 + (event_db is not None) + (mask is not None)
    columns = _arrange(n_inputs, len(maps))
    tick_bands, tick_labels = frequency_ticks(mel_centres_hz, spacing=0.085)
    step_s = float(np.mean(np.diff(frame_times_s))) if len(frame_times_s) > 1 else 1.0
    scales = _Scales(
        extent=(
            float(frame_times_s[0]) - step_s / 2,
            float(frame_times_s[-1]) + step_s / 2,
            -0.5,
            len(mel_centres_hz) - 0.5,
        ),
        tick_bands=tick_bands,
        tick_labels=tick_labels,
        span_s=span_s,
    )
    with mpl.rc_context(STYLE):
        figure = new_figure(
            width_in=7.2 if len(columns) == 1 else 1.0 + 4.1 * len(columns),
            height_in=0.8 + 1.62 * max(columns),
            dpi=dpi,
            title=title,
            stamp=stamp,
        )
        axes = _add_axes(figure, columns)
        _draw_inputs(axes[:n_inputs], mixture_db, event_db, mask, frames_truth, scales)
        for axis, (method, style) in zip(axes[n_inputs:], method_styles(maps).items(), strict=True):
            note = clip_scores.get(method, "")
            title = f"{style.title}: {note}" if note else style.title
            _draw_map(axis, maps[method], scales, title=title)
            _outline_truth(axis, mask, scales)
    return figure


def _arrange(n_inputs: int, n_maps: int) -> list[int]:
    """Number of panels in each column: the clip and its truth on the left, maps to the right.

    Few panels stand in one column, where times line up from top to bottom.
    """
    if n_inputs + n_maps <= 5:
        return [n_inputs + n_maps]
    n_columns = 1 if n_maps <= 4 else -(-n_maps // 3)
    return [n_inputs, *(len(part) for part in np.array_split(np.arange(n_maps), n_columns))]


def _add_axes(figure: Figure, columns: list[int]) -> list[Axes]:
    """Axes column by column, each column filled from top to bottom; labels where rows end."""
    axes: list[Axes] = []
    grid = figure.add_gridspec(1, len(columns))
    for column, n_rows in enumerate(columns):
        rows = grid[column].subgridspec(n_rows, 1)
        for row in range(n_rows):
            first = axes[0] if axes else None
            axis = figure.add_subplot(rows[row], sharex=first, sharey=first)
            axis.spines[:].set_visible(False)
            if column == 0:
                axis.set_ylabel("frequency (Hz)")
            if row == n_rows - 1:
                axis.set_xlabel("time (s)")
            axis.tick_params(labelbottom=row == n_rows - 1)
            axes.append(axis)
    return axes


def _draw_inputs(
    axes: list[Axes],
    mixture_db: np.ndarray,
    event_db: np.ndarray | None,
    mask: np.ndarray | None,
    frames_truth: np.ndarray | None,
    scales: _Scales,
) -> None:
    low, high = robust_range_db(mixture_db)
    panels = [("Mixture: what the methods hear" if event_db is not None else "Clip", mixture_db)]
    panels += [("Event alone, as mixed in", event_db)] if event_db is not None else []
    for axis, (title, values) in zip(axes, panels, strict=False):
        image = _image(axis, values, scales, cmap=_SPECTROGRAM_COLOURS, vmin=low, vmax=high)
        _colour_bar(axis, image, label="dB")
        axis.set_title(title, loc="left")
        _mark_span(axis, scales)
    if mask is None:
        return
    axis = axes[len(panels)]
    image = _image(axis, mask.astype(np.float32), scales, cmap=_MASK_COLOURS, vmin=0, vmax=1)
    bar = _colour_bar(axis, image, label="")
    bar.set_ticks([0.25, 0.75], labels=["normal", "anomalous"], rotation=90, va="center")
    bar.ax.tick_params(length=0)
    axis.set_title("Truth: cells", loc="left")
    _mark_span(axis, scales)
    if frames_truth is not None:
        _draw_frame_strip(axis, frames_truth, scales)


def _draw_frame_strip(axis: Axes, frames_truth: np.ndarray, scales: _Scales) -> None:
    """Anomalous frames as a strip along the head of the truth panel."""
    strip = axis.inset_axes((0.0, 1.025, 1.0, 0.06))
    strip.imshow(
        frames_truth[np.newaxis].astype(np.float32),
        extent=(scales.extent[0], scales.extent[1], 0, 1),
        aspect="auto",
        cmap=_FRAME_COLOURS,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    strip.set(xlim=axis.get_xlim(), xticks=[], yticks=[])
    strip.spines[:].set_visible(False)
    axis.set_title("Truth: cells, and frames (strip)", loc="left", pad=10)


def _draw_map(axis: Axes, values: np.ndarray, scales: _Scales, *, title: str) -> None:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if high <= low:
        high = low + 1.0
    image = _image(axis, values, scales, cmap=_MAP_COLOURS, vmin=low, vmax=high)
    _colour_bar(axis, image, label="score")
    axis.set_title(title, loc="left")
    _mark_span(axis, scales)


def _outline_truth(axis: Axes, mask: np.ndarray | None, scales: _Scales) -> None:
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
        colors=_TRUTH_COLOUR,
        linewidths=0.7,
    )


def robust_range_db(values_db: np.ndarray) -> tuple[float, float]:
    """Colour limits that one click or one silent band cannot spoil: quantiles 0.02 and 0.998.

    Not further apart than `DYNAMIC_RANGE_DB`; not finite cells do not count.
    """
    finite = values_db[np.isfinite(values_db)]
    if not finite.size:
        return -DYNAMIC_RANGE_DB, 0.0
    low, high = (float(value) for value in np.quantile(finite, [0.02, 0.998]))
    low = max(low, high - DYNAMIC_RANGE_DB)
    return (low, high) if high > low else (high - DYNAMIC_RANGE_DB, high)


def _image(axis: Axes, values: np.ndarray, scales: _Scales, *, cmap, vmin: float, vmax: float):
    """Cells with time to the right and frequency up; light grey where a value is not finite."""
    axis.set_facecolor("0.85")
    image = axis.imshow(
        np.ma.masked_invalid(np.asarray(values, dtype=np.float32).T),
        extent=scales.extent,
        origin="lower",
        aspect="auto",
        cmap=cmap,
        vmin=vmin,
        vmax=vmax,
        interpolation="nearest",
    )
    axis.set_yticks(scales.tick_bands, scales.tick_labels)
    return image


def _colour_bar(axis: Axes, image, *, label: str):
    bar = axis.figure.colorbar(image, ax=axis, pad=0.012, fraction=0.05, aspect=16)
    bar.locator = MaxNLocator(nbins=4)
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.set_label(label, fontsize=8)
    return bar


def _mark_span(axis: Axes, scales: _Scales) -> None:
    for time_s in scales.span_s or ():
        axis.axvline(time_s, color="white", linewidth=1.0, linestyle=(0, (4, 3)))


def _check_shapes(arrays: Mapping[str, np.ndarray | None], shape: tuple[int, ...]) -> None:
    for name, values in arrays.items():
        if values is not None and values.shape != shape:
            raise ValueError(
                f"{name}: expected shape {shape} from the lengths of frame_times_s and "
                f"mel_centres_hz, got {values.shape}"
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
