"""Pictures of a clip with many maps: rows of three that can be read at page width."""

from __future__ import annotations

import numpy as np
import pytest
from figure_texts import all_texts, misplaced_texts

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.figures.cells import cell_scales, frequency_ticks, shade_frames, value_range
from vision_to_sound.figures.maps import anomaly_example

MAPS = ("patchcore", "padim", "cfa", "stfpm", "spade", "energy", "band_zscore")
NOTE = "clip score above 100% of normal clips"


def make_arguments(n_maps: int) -> dict:
    rng = np.random.default_rng(0)
    shape = (50, 64)
    mask = np.zeros(shape, dtype=bool)
    mask[10:20, 8:20] = True
    return {
        "mixture_db": rng.normal(-40, 5, shape).astype(np.float32),
        "event_db": np.where(mask, -10.0, -100.0).astype(np.float32),
        "mask": mask,
        # each method has a unit of its own
        "maps": {m: rng.random(shape) * 10.0 ** (4 - 2 * i) for i, m in enumerate(MAPS[:n_maps])},
        "frame_times_s": np.arange(50) * 0.08,
        "mel_centres_hz": np.geomspace(60.0, 13000.0, 64),
        "title": "Door wood creaks in children playing, 0 dB, leakfree (typical: 180937-7-3-28.wav)",
        "span_s": (0.8, 1.6),
        "frames_truth": mask.any(axis=1),
        "clip_scores": dict.fromkeys(MAPS[:n_maps], NOTE),
        "stamp": "SYNTHETIC SOUNDS",
        "dpi": 60,
    }


def panels(figure) -> list:
    return [axis for axis in figure.axes if axis.get_title(loc="left")]


@pytest.mark.parametrize("n_maps", [2, 6, 7])
def test_texts_are_readable_at_page_width(n_maps):
    figure = anomaly_example(**make_arguments(n_maps))
    assert misplaced_texts(figure) == []
    assert figure.get_size_inches()[0] < 10.0, "letters of 9 points stay above 6 on a page"


def test_clip_and_truth_make_the_first_row():
    figure = anomaly_example(**make_arguments(7))
    figure.draw_without_rendering()
    axes = panels(figure)
    rows = [round(axis.get_position().y0, 3) for axis in axes]
    columns = [round(axis.get_position().x0, 3) for axis in axes]
    assert len(set(rows[:3])) == 1 and len(set(rows)) == 4
    assert columns == [*columns[:3], *columns[:3], *columns[:3], columns[0]]
    names = [axis.get_title(loc="left").splitlines() for axis in axes[3:]]
    assert names[0] == [DETECTORS["cfa"].label, NOTE]
    # times stand below the last panel of each column
    assert [axis.get_xlabel() for axis in axes] == [""] * 7 + ["time (s)"] * 3
    assert len({axis.get_xlim() for axis in axes}) == 1


def test_an_empty_place_explains_the_lines():
    assert "outline of the truth" in all_texts(anomaly_example(**make_arguments(7)))
    assert "outline of the truth" not in all_texts(anomaly_example(**make_arguments(6)))
    unknown = make_arguments(7) | {"mask": None, "frames_truth": None, "span_s": None}
    assert "outline of the truth" not in all_texts(anomaly_example(**unknown))


def test_scales_put_frames_on_their_centres():
    centres_hz = np.geomspace(60.0, 13000.0, 64)
    scales = cell_scales(
        np.arange(5) * 0.1, n_mels=64, ticks=frequency_ticks(centres_hz, spacing=0.1)
    )
    assert scales.extent == pytest.approx((-0.05, 0.45, -0.5, 63.5))
    assert scales.span_s is None


def test_value_range_of_poor_values():
    assert value_range(np.array([1.0, np.nan, 3.0])) == (1.0, 3.0)
    assert value_range(np.array([2.0, 2.0])) == (2.0, 3.0)
    assert value_range(np.array([np.nan])) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("frames", "spans"),
    [
        ([0, 0, 0, 0], []),
        ([1, 1, 1, 1], [(-0.05, 0.35)]),
        ([1, 0, 1, 1], [(-0.05, 0.05), (0.15, 0.35)]),
    ],
)
def test_shading_covers_whole_frames(frames, spans):
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    shade_frames(axis, np.array(frames, dtype=bool), np.arange(4) * 0.1)
    drawn = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axis.patches]
    assert drawn == [pytest.approx(span) for span in spans]
