"""Training curves: every experiment is drawn, the median is right, words and axes fit the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from figure_texts import all_texts, misplaced_texts

from vision_to_sound.figures.style import figure_bytes
from vision_to_sound.figures.training import training_curves


def curves(losses, *, stamp=""):
    return training_curves(losses, title="Training", stamp=stamp, dpi=60)


def bold(axis):
    return next(line for line in axis.lines if line.get_linewidth() > 2)


def many(n: int, n_epochs: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    falls = np.exp(-np.linspace(0, 3, n_epochs))
    return {
        f"leakfree, envmix, children_playing, snr-6, aisfx, stfpm, seed{i}": falls * rng.lognormal()
        for i in range(n)
    }


def test_epochs_from_one_and_the_median_by_hand():
    losses = {
        "a": np.array([4.0, 2.0, 1.0]),
        "b": np.array([8.0, 6.0]),
        "c": np.array([6.0, 1.0, 3.0]),
    }
    figure = curves({"cfa": losses})
    axis = figure.axes[0]
    assert len(axis.lines) == 4
    assert list(bold(axis).get_xdata()) == [1, 2, 3]
    assert list(bold(axis).get_ydata()) == [6.0, 2.0, 2.0], "the third epoch has two experiments"
    assert axis.get_xlabel() == "epoch" and axis.get_xlim() == (0.5, 3.5)
    title = axis.get_title(loc="left").splitlines()
    # last over first: 1/4, 6/8, 3/6
    assert title == [
        "CFA: 3 experiments",
        "median loss falls to 50% of its start",
        "least: falls to 75% of its start, b",
    ]


def test_a_loss_that_rises_is_said_to():
    losses = {"down": np.array([1.0, 0.001]), "up": np.array([2.0, 5.0])}
    title = curves({"stfpm": losses}).axes[0].get_title(loc="left")
    assert "least: grows to 2.5 times its start, up" in title


def test_one_experiment_has_one_bold_line_and_no_key():
    figure = curves({"autoencoder": {"siren": np.array([10.0, 5.0, 0.41])}})
    assert len(figure.axes[0].lines) == 1 and not figure.legends
    title = figure.axes[0].get_title(loc="left")
    assert title.endswith(": 1 experiment\nloss falls to 4.1% of its start")


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([100.0, 1.0], "log"),
        ([2.0, 1.0], "linear"),
        ([100.0, -1.0], "linear"),
        ([5.0, 0.0], "linear"),
    ],
)
def test_log_axis_where_it_helps_and_can_be(values, scale):
    assert curves({"cfa": {"a": np.array(values)}}).axes[0].get_yscale() == scale


def test_no_ratio_where_there_is_none():
    for losses in ({"a": np.array([3.0])}, {"a": np.array([0.0, 1.0]), "b": np.array([-1.0, 1.0])}):
        figure = curves({"cfa": losses})
        assert "\n" not in figure.axes[0].get_title(loc="left")
        assert figure_bytes(figure, file_format="png").startswith(b"\x89PNG")


def test_three_hundred_experiments_of_three_methods_are_readable():
    figure = curves(
        {"stfpm": many(300, 100), "cfa": many(300, 1), "autoencoder": many(2, 30)},
        stamp="SYNTHETIC",
    )
    assert [len(axis.lines) for axis in figure.axes] == [3, 301, 301], "in table order"
    assert misplaced_texts(figure) == []
    assert "SYNTHETIC" in all_texts(figure)
    texts = all_texts(figure)
    assert {"one experiment", "median"} <= set(texts)
    ticks = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert all(float(tick).is_integer() for tick in ticks if tick)


def test_losses_that_cannot_be_drawn_are_refused_by_name():
    good = np.array([1.0, 0.5])
    with pytest.raises(ValueError, match="at least one method"):
        curves({})
    with pytest.raises(ValueError, match="'cfa'.*at least one experiment"):
        curves({"cfa": {}})
    for bad in (np.array([]), np.array([1.0, np.nan]), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="'stfpm', siren"):
            curves({"cfa": {"siren": good}, "stfpm": {"siren": bad}})


def test_same_bytes_twice():
    first, second = (figure_bytes(curves({"cfa": many(5, 4)}), file_format="svg") for _ in range(2))
    assert first == second
