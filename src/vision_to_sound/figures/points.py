"""Figures of the metrics: points per class and SNR, and the gap between the protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vision_to_sound.figures.style import STYLE, MethodStyle, method_styles, new_figure
from vision_to_sound.labels import PROTOCOLS
from vision_to_sound.tables.means import metric_rows, seed_statistics

METRIC_NAMES = {
    "roc": "ROC AUC",
    "f1": "best F1",
    "au_pro_published": "AU-PRO, min-maxed",
    "au_pro_standard": "AU-PRO, standard",
}
# What an SNR is, because the two data sets count in opposite directions.
_SNR_MEANING = {
    "envmix": "SNR: background over event, +6 dB is hard",
    "mimii": "SNR: machine over noise, +6 dB is easy",
}
_CHANCE = {"roc": 50.0, "au_pro_published": 50.0, "au_pro_standard": 15.0}


def metric_points(
    metrics: pd.DataFrame,
    *,
    encoder: str,
    level: str,
    metric: str,
    dataset: str,
    stamp: str,
    dpi: int,
) -> Figure:
    """One metric per class or machine (lines) and SNR (facets), published and leakfree side by side.

    A point per method is its mean over seeds, its bar goes from the lowest to the highest seed; of a single
    seed the bar is the bootstrap interval (sample level; none on the line of means).
    "Mean" is over the classes that a method has, with 7/8 beside it where it has seven of eight.
    Spectrogram rows use the protocol's own truth. The dotted line is chance; for sample F1 it is
    calling every clip anomalous.

    Args:
        metrics: long metrics table.
        encoder: whose rows are drawn; methods with an encoder of their own are in every figure.
        level: "sample", "spectrogram" or "temporal".
        metric: "roc", "f1", "au_pro_published" or "au_pro_standard".
        dataset: "envmix" or "mimii".
        stamp: banner on the figure, "" for none.
        dpi: resolution of raster formats.
    """
    rows = metric_rows(metrics, encoder=encoder, level=level, metric=metric, dataset=dataset)
    styles = method_styles(rows["method"])
    snrs, classes = sorted(rows["snr_db"].unique()), sorted(rows["category"].unique())
    protocols = [protocol for protocol in PROTOCOLS if protocol in set(rows["protocol"])]
    facets = [(snr_db, protocol) for snr_db in snrs for protocol in protocols]
    lines = [*classes, "mean"] if len(classes) > 1 else classes
    with mpl.rc_context(STYLE):
        figure = new_figure(
            width_in=1.6 + max(4.8, len(facets) * (3.0 if len(facets) < 3 else 2.1)),
            height_in=1.35 + (0.18 + 0.05 * len(styles)) * len(lines),
            dpi=dpi,
            title=f"{_title(level)} level: {METRIC_NAMES[metric]} ({_SNR_MEANING[dataset]})",
            stamp=stamp,
        )
        axes = figure.subplots(1, len(facets), sharex=True, sharey=True, squeeze=False)[0]
        chance: list[Line2D] = []
        for axis, (snr_db, protocol) in zip(axes, facets, strict=True):
            part = rows[(rows["snr_db"] == snr_db) & (rows["protocol"] == protocol)]
            _draw_points(axis, part, styles=styles, lines=lines)
            axis.set_title(f"{protocol}, SNR {_snr(snr_db)}", loc="left")
            axis.set_xlabel(f"{METRIC_NAMES[metric]} (%)")
            chance = _draw_chance(axis, part, level=level, metric=metric) or chance
        axes[0].locator_params(axis="x", nbins=5)
        axes[0].set_yticks(range(len(lines)), [_title(line) for line in lines])
        axes[0].set_ylim(len(lines) - 0.5, -0.5)
        handles = [_handle(style) for style in styles.values()] + chance
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(handles), 4 if len(facets) < 3 else 10),
            frameon=False,
            handletextpad=0.3,
            columnspacing=1.2,
        )
    return figure


def _draw_points(
    axis: Axes, part: pd.DataFrame, *, styles: Mapping[str, MethodStyle], lines: Sequence[str]
) -> None:
    """Points of one facet: class i at y = i, methods side by side within 0.7 of a line's height."""
    n_classes = part["category"].nunique()
    offsets = np.linspace(-0.35, 0.35, len(styles)) if len(styles) > 1 else np.zeros(1)
    for i, line in enumerate(lines):
        if i % 2 == 0:
            axis.axhspan(i - 0.5, i + 0.5, color="0.955", linewidth=0, zorder=0)
        for (method, style), offset in zip(styles.items(), offsets, strict=True):
            own = part[part["method"] == method]
            cell = own if line == "mean" else own[own["category"] == line]
            mean, _, _, _ = seed_statistics(cell)
            if not np.isfinite(mean):
                continue
            y = i + offset
            axis.plot(_bar(cell), [y, y], color=style.colour, linewidth=1.1)
            axis.plot(mean, y, **style.marker_settings(size_points=5.5), zorder=3)
            n_own = cell["category"].nunique()
            if line == "mean" and n_own < n_classes:
                axis.annotate(
                    f"{n_own}/{n_classes}",
                    (mean, y),
                    xytext=(5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    color="0.25",
                )
    if lines[-1] == "mean":
        axis.axhline(len(lines) - 1.5, color="0.4", linewidth=0.8)
    axis.grid(axis="x", color="0.88", linewidth=0.6)
    axis.set_axisbelow(True)


def _bar(cell: pd.DataFrame) -> tuple[float, float]:
    """From the lowest to the highest seed in percent; of one experiment its interval, where it has one."""
    if len(cell) == 1 and {"ci_low", "ci_high"} <= set(cell.columns):
        return 100.0 * cell["ci_low"].iloc[0], 100.0 * cell["ci_high"].iloc[0]
    per_seed = 100.0 * cell.groupby("seed")["value"].mean()
    return per_seed.min(), per_seed.max()


def _draw_chance(axis: Axes, rows: pd.DataFrame, *, level: str, metric: str) -> list[Line2D]:
    """A dotted line at the level of guessing; its legend entry, [] where there is no such level."""
    chance, label = _CHANCE.get(metric), "chance"
    if metric == "f1" and level == "sample" and {"n_clips", "n_anomalous"} <= set(rows.columns):
        share = float((rows["n_anomalous"] / rows["n_clips"]).mean())
        chance, label = 100.0 * 2.0 * share / (1.0 + share), "every clip called anomalous"
    if chance is None or not np.isfinite(chance):
        return []
    look = {"color": "black", "linestyle": (0, (1, 2)), "linewidth": 1.0}
    axis.axvline(chance, zorder=1, **look)
    return [Line2D([], [], label=label, **look)]


def protocol_gap(
    metrics: pd.DataFrame,
    *,
    encoder: str,
    level: str,
    metric: str,
    dataset: str,
    stamp: str,
    dpi: int,
) -> Figure:
    """A line per method from its `published` to its `leakfree` mean, with the difference in points.

    Means are over the experiments (class, SNR, seed) that a method has under both protocols; their
    number n stands beside the name. A method with one protocol only keeps its one point.
    """
    rows = metric_rows(metrics, encoder=encoder, level=level, metric=metric, dataset=dataset)
    styles = method_styles(rows["method"])
    with mpl.rc_context(STYLE):
        figure = new_figure(
            width_in=6.8,
            height_in=1.35 + 0.34 * len(styles),
            dpi=dpi,
            title=f"{_title(level)} level, {METRIC_NAMES[metric]}: published against leakfree",
            stamp=stamp,
        )
        axis = figure.subplots()
        labels = []
        for y, (method, style) in enumerate(styles.items()):
            means, n = _both_means(rows[rows["method"] == method])
            labels.append(f"{style.title}, n = {n}")
            _draw_dumbbell(axis, means, y=y, style=style)
        n_methods = sum(not style.hollow for style in styles.values())
        if 0 < n_methods < len(styles):
            axis.axhline(n_methods - 0.5, color="0.4", linewidth=0.8)
        chance = _draw_chance(axis, rows, level=level, metric=metric)
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.5, -0.8)
        axis.margins(x=0.12)
        axis.set_xlabel(f"{METRIC_NAMES[metric]} (%), mean over classes, SNRs and seeds")
        axis.grid(axis="x", color="0.88", linewidth=0.6)
        axis.set_axisbelow(True)
        grey = {"color": "0.25", "linestyle": "none", "markersize": 7}
        handles = [
            Line2D([], [], marker="o", markerfacecolor="white", label="published", **grey),
            Line2D([], [], marker="o", label="leakfree", **grey),
        ]
        handles += chance
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _both_means(own: pd.DataFrame) -> tuple[dict[str, float], int]:
    """Percent per protocol over the experiments of both; of the one protocol there is otherwise."""
    wide = own.pivot_table(
        index=["category", "snr_db", "seed"], columns="protocol", values="value", aggfunc="mean"
    )
    if len(wide.columns) > 1 and len(wide.dropna()):
        wide = wide.dropna()
    else:
        wide = wide[wide.count().nlargest(1).index]
    means = {
        protocol: seed_statistics(wide[protocol].rename("value").reset_index())[0]
        for protocol in wide.columns
    }
    return means, len(wide)


def _draw_dumbbell(axis: Axes, means: dict[str, float], *, y: int, style: MethodStyle) -> None:
    if len(means) == 2:
        before, after = means["published"], means["leakfree"]
        axis.plot([before, after], [y, y], color=style.colour, linewidth=2.4, alpha=0.55)
        change = round(after - before, 1)
        axis.annotate(
            f"{change:+.1f} points".replace("-", "−") if change else "0.0 points",
            ((before + after) / 2, y),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color="0.2",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    for protocol, mean in means.items():
        face = "white" if protocol == "published" else style.colour
        axis.plot(
            mean,
            y,
            marker="o",
            markersize=7.5,
            markerfacecolor=face,
            markeredgecolor=style.colour,
            markeredgewidth=1.6,
            zorder=3,
        )


def _handle(style: MethodStyle) -> Line2D:
    return Line2D([], [], label=style.title, **style.marker_settings(size_points=6.5))


def _snr(snr_db: float) -> str:
    return f"{snr_db:+d} dB".replace("-", "−") if snr_db else "0 dB"


def _title(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
