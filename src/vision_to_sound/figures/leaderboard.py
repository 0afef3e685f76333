"""Quality against cost: the leaderboard as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from vision_to_sound.figures.style import STYLE, method_styles, new_figure
from vision_to_sound.labels import own_encoder

LEVELS = {
    "sample": ("sample_roc", "sample ROC AUC"),
    "spectrogram": ("spectrogram_leakfree_roc", "spectrogram ROC AUC (leakfree truth)"),
    "temporal": ("temporal_roc", "temporal ROC AUC"),
}
_LEAST_S = 1e-6  # what took no time that a clock shows stands at the left end of the axis
_FONT_POINTS = 7.5


def quality_against_cost(table: pd.DataFrame, *, level: str, stamp: str, dpi: int) -> Figure:
    """ROC AUC (up) against the seconds that a clip takes (to the right, logarithmic), a point per detector and encoder.

    Bars are bootstrap intervals (sample level) or the standard deviation over seeds, where there are several. Hollow
    points lack experiments. A control is a grey line at its mean over encoders, for it is no rival in cost. Detectors
    whose cost was not measured are named below the axis.

    Args:
        table: as `tables.leaderboard.leaderboard_table` writes it to a TSV.
        level: "sample", "spectrogram" or "temporal".
        stamp: banner on the figure, "" for none.
        dpi: resolution of raster formats.
    """
    key, name = LEVELS[level]
    table = table[np.isfinite(table[f"{key}_mean"])]
    clip_s = pd.to_numeric(table["clip_s"], errors="coerce").clip(lower=_LEAST_S)
    table = table.assign(clip_s=clip_s)
    methods = table[~table["control"] & clip_s.notna()]
    absent = table[~table["control"] & clip_s.isna()]
    styles = method_styles(table["method"])
    shared = methods[methods["method"].map(own_encoder) == ""]
    several = shared["encoder"].nunique() > 1
    with mpl.rc_context(STYLE):
        figure = new_figure(
            width_in=8.4,
            height_in=5.2,
            dpi=dpi,
            title=f"Leaderboard, EnvMix without leakage: {name} against cost",
            stamp=stamp,
        )
        axis = figure.subplots()
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("seconds a clip: embedding and scoring, one after the other (log scale)")
        axis.set_ylabel(f"{name}, %")
        axis.grid(color="0.92", linewidth=0.6)
        axis.set_axisbelow(True)
        labels, bars = [], []
        for row in methods.to_dict("records"):
            style = styles[row["method"]]
            x, y = row["clip_s"], row[f"{key}_mean"]
            look = style.marker_settings(size_points=7.0)
            if not row["complete"]:
                look |= {"markerfacecolor": "white", "markeredgecolor": style.colour}
            bars.append((x, *_bar(row, key)))
            axis.plot([x, x], bars[-1][1:], color=style.colour, linewidth=1.2, alpha=0.6)
            axis.plot(x, y, zorder=3, **look)
            labels.append((x, y, _label(row, with_encoder=several), style.colour))
        _draw_controls(axis, table[table["control"]], key=key)
        axis.margins(x=0.12, y=0.06)
        if len(absent):
            names = ", ".join(_label(row, with_encoder=True) for row in absent.to_dict("records"))
            axis.set_xlabel(f"{axis.get_xlabel()}\nnot measured: {names}")
        _place_labels(figure, axis, labels, bars)
    return figure


def _bar(row: dict, key: str) -> tuple[float, float]:
    """From where to where, in percent: the interval, else the spread over seeds, else no bar."""
    low, high = row.get(f"{key}_low", np.nan), row.get(f"{key}_high", np.nan)
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    spread = np.nan_to_num(row[f"{key}_std"])
    return row[f"{key}_mean"] - spread, row[f"{key}_mean"] + spread


def _label(row: dict, *, with_encoder: bool) -> str:
    label, encoder = (row[name].partition(" (")[0] for name in ("label", "encoder_label"))
    return f"{label}, {encoder}" if with_encoder else label


def _draw_controls(axis: Axes, controls: pd.DataFrame, *, key: str) -> None:
    """A grey line per control with its name at the right end; names that would touch share a line."""
    means = controls.groupby("label")[f"{key}_mean"].mean().sort_values()
    ends: list[tuple[float, str]] = []
    for label, mean in means.items():
        axis.axhline(mean, color="0.6", linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        if ends and mean - ends[-1][0] < 2.0:
            ends[-1] = (ends[-1][0], f"{ends[-1][1]}, {label}")
        else:
            ends.append((mean, str(label)))
    for mean, names in ends:
        axis.annotate(
            names,
            (1.0, mean),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=_FONT_POINTS,
            color="0.35",
        )


def _place_labels(
    figure: Figure,
    axis: Axes,
    labels: Sequence[tuple[float, float, str, str]],
    bars: Sequence[tuple[float, float, float]],
) -> None:
    """Each label at the nearest place beside its point where it covers no point, label or bar; a thin line leads to one
    that had to go further. Where bars leave no room near by, it may cover them.

    Places are tried in a fixed order, so that the same points give the same picture.

    Args:
        labels: x, y, text and colour of each point.
        bars: x, lower and upper end of each.
    """
    figure.draw_without_rendering()  # the layout settles where points are
    scale = figure.dpi / 72.0
    points = axis.transData.transform([(x, y) for x, y, _, _ in labels]) if labels else []
    taken = [_box(x, y, 9 * scale, 9 * scale) for x, y in points]
    inside = axis.get_window_extent()
    ends = [axis.transData.transform([(x, low), (x, high)]) for x, low, high in bars]
    covered = [Bbox.from_extents(*low, *high).padded(scale) for low, high in ends]
    for (x, y, text, colour), (x_px, y_px) in zip(labels, points, strict=True):
        artist = axis.annotate(
            text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=_FONT_POINTS
        )
        artist.set(color=colour, ha="center", va="center", zorder=4)
        artist.set_path_effects([withStroke(linewidth=2.0, foreground="white")])  # over bars
        size = artist.get_window_extent()
        width, height = size.width, size.height
        for distance, (right, up), avoided in _places(taken, [*taken, *covered]):
            dx = right * (width / 2 + distance * scale)
            dy = up * (height / 2 + distance * scale)
            box = _box(x_px + dx, y_px + dy, width, height)
            is_inside = inside.x0 <= box.x0 and box.x1 <= inside.x1
            is_inside = is_inside and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if is_inside and not any(box.overlaps(other) for other in avoided):
                break
        taken.append(box)
        artist.xyann = (dx / scale, dy / scale)
        end = np.clip((x_px, y_px), box.p0, box.p1)  # the label's nearest place
        if np.hypot(*(end - (x_px, y_px))) > 12 * scale:
            line = axis.transData.inverted().transform([(x_px, y_px), end])
            axis.plot(*line.T, color=colour, linewidth=0.5, zorder=2)


def _places(
    taken: list[Bbox], taken_or_covered: list[Bbox]
) -> list[tuple[float, tuple[float, float], list[Bbox]]]:
    """Distance in points, direction, and what to avoid there; the nearest first, right and left before up and down."""
    sides = [(1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1)]
    sides += [(1, 2), (-1, 2), (1, -2), (-1, -2)]
    near = [(distance, side, taken_or_covered) for distance in (6, 10, 16, 24) for side in sides]
    return near + [(d, side, taken) for d in (6, 10, 16, 24, 34, 46, 60) for side in sides]


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    """In pixels, around its middle."""
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
