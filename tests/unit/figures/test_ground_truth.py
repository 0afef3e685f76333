"""The ground truth figure says what truth.py does, in numbers and places that can be checked."""

from __future__ import annotations

import numpy as np
import pytest
from figure_texts import all_texts, misplaced_texts

from vision_to_sound.figures.style import figure_bytes
from vision_to_sound.figures.truth import example_event, ground_truth_figure
from vision_to_sound.truth import event_truth, loud_frames

N_FRAMES, N_MELS, HOP_S = 100, 32, 0.04


def make_arguments() -> dict:
    """An event from 1.0 s to 2.2 s (frames 25 to 54) with the truth that `event_truth` gives it."""
    rng = np.random.default_rng(0)
    event_db = np.full((N_FRAMES, N_MELS), -100.0, dtype=np.float32)
    event_db[25:55] = rng.normal(-30, 12, (30, N_MELS))
    truth = event_truth(
        event_db[None],
        onset_samples=np.array([1000]),
        length_samples=np.array([1200]),
        hop_samples=40,
        labels=np.array([True]),
        mask_share=0.4,
        floor_db=-99.9,
    )
    return {
        "mixture_db": rng.normal(-20, 5, (N_FRAMES, N_MELS)).astype(np.float32),
        "event_db": event_db,
        "masks": {name: mask[0] for name, mask in truth.masks.items()},
        "frames_truth": truth.frames[0],
        "span_s": (1.0, 2.2),
        "frame_times_s": np.arange(N_FRAMES) * HOP_S,
        "mel_centres_hz": np.geomspace(60.0, 13000.0, N_MELS),
        "title": "Truth of one clip",
        "stamp": "",
        "dpi": 60,
    }


def panels(figure) -> list:
    return [axis for axis in figure.axes if axis.get_title(loc="left")]


def test_panels_show_the_arrays_over_one_time_axis():
    arguments = make_arguments()
    figure = ground_truth_figure(**arguments)
    axes = panels(figure)
    shown = [axis.images[0].get_array() for axis in axes[:4]]
    wanted = [arguments["mixture_db"], arguments["event_db"], *arguments["masks"].values()]
    for image, values in zip(shown, wanted, strict=True):
        np.testing.assert_array_equal(image, values.T)
    assert axes[0].images[0].get_clim() == axes[1].images[0].get_clim(), "one dB scale"
    assert all(axis.get_xlim() == pytest.approx((-0.02, 3.98)) for axis in axes)
    places = {(round(a.get_position().x0, 4), round(a.get_position().width, 4)) for a in axes}
    assert len(places) == 1, "times line up from top to bottom"
    for axis in axes:
        dashed = [line for line in axis.lines if line.get_linestyle() == "--"]
        assert sorted(line.get_xdata()[0] for line in dashed) == [1.0, 2.2]
    assert axes[-1].get_xlabel() == "time (s)" and axes[-1].get_ylabel() == "energy (dB)"


def test_shares_of_the_masks_are_in_words():
    arguments = make_arguments()
    published, leakfree = arguments["masks"]["published"], arguments["masks"]["leakfree"]
    texts = all_texts(ground_truth_figure(**arguments))
    assert leakfree.sum() == 384, "40 % of 30 frames x 32 bands"
    assert any(
        "leakfree" in t and t.endswith("12% of all cells, 40% of those in the span") for t in texts
    )
    share = (
        f"{published.mean():.0%} of all cells, {published[25:55].mean():.0%} of those in the span"
    )
    assert any("published" in t and t.endswith(share) for t in texts)


def test_median_line_parts_the_frames_that_are_shaded():
    arguments = make_arguments()
    figure = ground_truth_figure(**arguments)
    axis = panels(figure)[-1]
    energy, median = axis.lines[0], axis.lines[1]
    power = np.sum(10.0 ** (arguments["event_db"].astype(np.float64) / 10.0), axis=1)
    np.testing.assert_allclose(energy.get_ydata(), 10 * np.log10(power))
    assert list(median.get_xdata()) == [1.0, 2.2]
    above = energy.get_ydata()[25:55] > median.get_ydata()[0]
    np.testing.assert_array_equal(above, loud_frames(arguments["event_db"][25:55]))
    shaded = np.zeros(N_FRAMES, dtype=bool)
    for patch in axis.patches:
        start_s, end_s = patch.get_x(), patch.get_x() + patch.get_width()
        times_s = arguments["frame_times_s"]
        shaded |= (times_s > start_s) & (times_s < end_s)
    np.testing.assert_array_equal(shaded, arguments["frames_truth"])


def test_texts_are_readable():
    figure = ground_truth_figure(**make_arguments() | {"stamp": "SYNTHETIC SOUNDS"})
    assert misplaced_texts(figure) == []
    assert all_texts(figure).count("SYNTHETIC SOUNDS") == 1


def test_silent_event_and_span_between_frames():
    arguments = make_arguments()
    nothing = np.zeros((N_FRAMES, N_MELS), dtype=bool)
    arguments |= {
        "event_db": np.full((N_FRAMES, N_MELS), -100.0, dtype=np.float32),
        "masks": {"published": nothing, "leakfree": nothing},
        "frames_truth": nothing[:, 0],
        "span_s": (1.01, 1.03),
    }
    assert figure_bytes(ground_truth_figure(**arguments), file_format="png").startswith(b"\x89PNG")


def test_wrong_shapes_and_masks_are_refused_by_name():
    arguments = make_arguments()
    masks = arguments["masks"]
    for name, value, message in (
        ("event_db", arguments["event_db"].T, r"event_db.*\(100, 32\).*\(32, 100\)"),
        ("frames_truth", np.zeros(3, dtype=bool), "frames_truth"),
        (
            "masks",
            {"leakfree": masks["leakfree"]},
            r"\['leakfree', 'published'\], got \['leakfree'\]",
        ),
        ("masks", masks | {"published": masks["published"].T}, "mask published"),
    ):
        with pytest.raises(ValueError, match=message):
            ground_truth_figure(**arguments | {name: value})


def test_same_bytes_twice():
    first, second = (
        figure_bytes(ground_truth_figure(**make_arguments()), file_format="svg") for _ in range(2)
    )
    assert first == second


def test_the_event_to_show_has_a_quarter_below_it():
    assert example_event(np.array([400, 100, 300, 200])) == 3
    assert example_event(np.array([7])) == 0
    assert example_event(np.full(9, 5)) == 2, "ties: the earlier row first"
