"""Quality against cost: where points, bars and names stand, and what cannot be drawn is named."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.figures.leaderboard import quality_against_cost
from vision_to_sound.figures.style import figure_bytes, method_styles


def entry(method: str, mean: float, clip_s: float, **changes) -> dict:
    row = {"method": method, "label": method.title(), "encoder": "aisfx", "encoder_label": "aiSFX"}
    row |= {"control": False, "complete": True, "clip_s": clip_s}
    for key in ("sample_roc", "spectrogram_leakfree_roc", "temporal_roc"):
        row |= {f"{key}_mean": mean, f"{key}_std": 1.5}
        has_draws = key == "sample_roc"
        row |= {f"{key}_low": mean - 8.0 if has_draws else np.nan}
        row |= {f"{key}_high": mean + 4.0 if has_draws else np.nan}
    return row | changes


def control(method: str, mean: float) -> dict:
    return entry(method, mean, 0.001, control=True)


def drawn(rows: list[dict], *, level="sample", stamp=""):
    return quality_against_cost(pd.DataFrame(rows), level=level, stamp=stamp, dpi=60)


def points(axis) -> list[tuple[float, float]]:
    lines = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def names(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_points_stand_at_cost_and_quality_on_a_logarithmic_axis():
    axis = drawn([entry("padim", 70.0, 0.02), entry("cfa", 80.0, 0.5)]).axes[0]
    assert axis.get_xscale() == "log" and points(axis) == [(0.02, 70.0), (0.5, 80.0)]
    assert names(axis) == ["Padim", "Cfa"], "one encoder: its name would say nothing"
    assert "seconds a clip" in axis.get_xlabel() and axis.get_ylabel() == "sample ROC AUC, %"


@pytest.mark.parametrize(("level", "bar"), [("sample", (62, 74)), ("temporal", (68.5, 71.5))])
def test_bars_are_intervals_where_there_are_draws_and_else_the_spread(level, bar):
    axis = drawn([entry("padim", 70.0, 0.02)], level=level).axes[0]
    bars = [line.get_ydata() for line in axis.lines if line.get_linewidth() == 1.2]
    assert [tuple(ys) for ys in bars] == [bar]


def test_one_seed_has_no_bar_where_there_are_no_draws():
    row = entry("padim", 70.0, 0.02, temporal_roc_std=np.nan)
    axis = drawn([row], level="temporal").axes[0]
    [bar] = [line.get_ydata() for line in axis.lines if line.get_linewidth() == 1.2]
    assert tuple(bar) == (70.0, 70.0)


def test_with_several_encoders_each_label_names_its_own():
    other = {"encoder": "panns_cnn14", "encoder_label": "PANNs (CNN14)"}
    axis = drawn([entry("padim", 70.0, 0.02), entry("padim", 60.0, 0.05, **other)]).axes[0]
    assert names(axis) == ["Padim, aiSFX", "Padim, PANNs"]


def test_an_encoder_of_its_own_alone_is_no_reason_to_name_them():
    own = {"encoder": "logmel_dcase2020", "encoder_label": "DCASE 2020 log-mel"}
    axis = drawn([entry("padim", 70.0, 0.02), entry("autoencoder", 60.0, 0.001, **own)]).axes[0]
    assert names(axis) == ["Padim", "Autoencoder"]


def test_a_label_keeps_off_the_bars_of_others():
    """To the right of the first point stands the bar of the second, to its left is room."""
    figure = drawn([entry("padim", 70.0, 0.05), entry("cfa", 76.0, 0.057), entry("spade", 60, 1)])
    axis = figure.axes[0]
    figure.draw_without_rendering()
    box = axis.texts[0].get_window_extent()
    point, bar = (axis.transData.transform((x, 70.0))[0] for x in (0.05, 0.057))
    assert bar - point < box.width and box.x1 < point


def test_controls_are_lines_with_a_name_and_no_points():
    rows = [entry("padim", 70.0, 0.02), control("oracle", 100.0), control("random", 50.0)]
    rows.append(control("random", 52.0) | {"encoder": "panns_cnn14"})
    axis = drawn(rows).axes[0]
    heights = [line.get_ydata()[0] for line in axis.lines if line.get_linewidth() == 0.9]
    assert heights == [51.0, 100.0], "the mean over encoders"
    assert points(axis) == [(0.02, 70.0)]
    assert {"Oracle", "Random"} <= set(names(axis))


def test_controls_whose_names_would_touch_share_a_line():
    axis = drawn([entry("padim", 70.0, 0.02), control("energy", 80.0), control("random", 80.5)])
    assert "Energy, Random" in names(axis.axes[0])


def test_what_lacks_experiments_is_hollow():
    axis = drawn([entry("padim", 70.0, 0.02, complete=False), entry("cfa", 80.0, 0.5)]).axes[0]
    faces = [line.get_markerfacecolor() for line in axis.lines if line.get_marker() != "None"]
    assert faces[0] == "white" != faces[1]


def test_what_was_not_measured_is_named_and_not_drawn():
    axis = drawn([entry("padim", 70.0, 0.02), entry("cfa", 80.0, np.nan)]).axes[0]
    assert points(axis) == [(0.02, 70.0)]
    assert axis.get_xlabel().endswith("not measured: Cfa, aiSFX")
    nothing = drawn([entry("cfa", 80.0, np.nan)])
    assert points(nothing.axes[0]) == []
    assert figure_bytes(nothing, file_format="png").startswith(b"\x89PNG")


def test_labels_cover_neither_each_other_nor_points():
    """Twenty detectors within a factor of three of cost and fifteen points of quality."""
    rng = np.random.default_rng(0)
    rows = [
        entry(f"method {i:02d}", float(rng.uniform(65, 80)), float(0.05 * 3 ** rng.random()))
        for i in range(20)
    ]
    figure = drawn(rows)
    axis = figure.axes[0]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts]
    assert len(boxes) == 20
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    centres = axis.transData.transform(points(axis))
    for box in boxes:
        assert not any(box.contains(*centre) for centre in centres)


def test_the_same_table_gives_the_same_bytes_and_the_stamp_is_there():
    rows = [entry("padim", 70.0, 0.02), entry("cfa", 71.0, 0.021), control("oracle", 100.0)]
    pictures = {figure_bytes(drawn(rows, stamp="MADE UP"), file_format="svg") for _ in range(2)}
    assert len(pictures) == 1
    assert re.search("MADE UP", pictures.pop().decode())


def test_every_detector_looks_like_no_other():
    looks = [(style.colour, style.marker) for style in method_styles(DETECTORS).values()]
    assert len(set(looks)) == len(DETECTORS)
    assert len({marker for _, marker in looks}) == len(DETECTORS)
