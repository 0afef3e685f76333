"""Loss over the epochs of training, for the methods that train."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from vision_to_sound.figures.style import STYLE, method_styles, new_figure

_LOG_FROM = 10.0  # highest loss over lowest: from here on a linear axis hides the end


def training_curves(
    losses: Mapping[str, Mapping[str, np.ndarray]], *, title: str, stamp: str, dpi: int
) -> Figure:
    """A panel per method: a thin line per experiment, a bold one for their median at each epoch.

    Under its name stand the median over experiments of last over first loss, and the experiment
    where that is largest. Losses of different methods have no common unit. The axis is logarithmic
    where all losses are positive and the highest is ten times the lowest. Experiments may differ in
    the number of epochs; the median is over those that have the epoch.

    Args:
        losses: method -> label of the experiment -> mean loss of each epoch, float (n_epochs,).
        title: over the figure.
        stamp: banner on the figure, "" for none.
        dpi: resolution of raster formats.

    Raises:
        ValueError: no method, a method without experiments, or losses that are empty, of another
            shape or not finite (names the experiment).
    """
    if not losses:
        raise ValueError("losses: expected those of at least one method, got none")
    for method, curves in losses.items():
        _check_curves(method, curves)
    styles = method_styles(losses)
    n_columns = min(3, len(styles))
    n_rows = -(-len(styles) // n_columns)
    with mpl.rc_context(STYLE):
        figure = new_figure(
            width_in=0.7 + 3.1 * n_columns,
            height_in=0.7 + 2.6 * n_rows,
            dpi=dpi,
            title=title,
            stamp=stamp,
        )
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
        for axis in axes.flat[len(styles) :]:
            axis.remove()
        for axis, (method, style) in zip(axes.flat, styles.items(), strict=False):
            _draw_curves(axis, list(losses[method].values()), colour=style.colour)
            n_curves = len(losses[method])
            name = f"{style.title}: {n_curves} experiment{'s' if n_curves > 1 else ''}"
            lines = [name, *_in_words(losses[method])]
            axis.set_title("\n".join(lines), loc="left", fontsize=8.5)
        for axis in axes[:, 0]:
            axis.set_ylabel("mean loss of an epoch")
        handles = [Line2D([], [], color="0.3", linewidth=2.2, label="median")]
        if max(len(curves) for curves in losses.values()) > 1:
            handles.insert(0, Line2D([], [], color="0.6", linewidth=0.7, label="one experiment"))
            figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_curves(axis: Axes, curves: list[np.ndarray], *, colour: str) -> None:
    n_epochs = max(len(curve) for curve in curves)
    table = np.full((len(curves), n_epochs), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    epochs = np.arange(1, n_epochs + 1)
    marker = "o" if n_epochs == 1 else ""
    if len(curves) > 1:
        alpha = max(0.12, min(0.6, 8.0 / len(curves)))
        thin = {"linewidth": 0.7, "alpha": alpha, "marker": marker, "markersize": 3}
        axis.plot(epochs, table.T, color=colour, **thin)
    axis.plot(epochs, np.nanmedian(table, axis=0), color=colour, linewidth=2.2, marker=marker)
    low, high = np.nanmin(table), np.nanmax(table)
    if low > 0 and high >= _LOG_FROM * low:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set(xlim=(0.5, n_epochs + 0.5), xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def _in_words(curves: Mapping[str, np.ndarray]) -> list[str]:
    """What became of the loss: one line, and one for the experiment where it fell least."""
    ratios = {
        label: float(curve[-1] / curve[0])
        for label, curve in curves.items()
        if len(curve) > 1 and curve[0] > 0
    }
    if len(curves) == 1:
        return [f"loss {_change(ratio)}" for ratio in ratios.values()]
    if not ratios:
        return []
    least = max(ratios, key=ratios.__getitem__)
    return [
        f"median loss {_change(float(np.median(list(ratios.values()))))}",
        *wrap(f"least: {_change(ratios[least])}, {least}", 46),
    ]


def _change(ratio: float) -> str:
    if ratio > 1.0:
        return f"grows to {ratio:.3g} times its start"
    return f"falls to {100.0 * ratio:.2g}% of its start"


def _check_curves(method: str, curves: Mapping[str, np.ndarray]) -> None:
    if not curves:
        raise ValueError(f"losses of {method!r}: expected at least one experiment, got none")
    for label, curve in curves.items():
        if np.ndim(curve) != 1 or not len(curve) or not np.isfinite(curve).all():
            raise ValueError(
                f"losses of {method!r}, {label}: expected finite losses (n_epochs,) of at least one "
                f"epoch, got shape {np.shape(curve)}; was the detector fitted?"
            )
