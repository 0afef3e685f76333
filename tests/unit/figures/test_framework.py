"""The framework figure: real values in every panel, seconds and hertz on the axes, readable texts."""

from __future__ import annotations

import numpy as np
import pytest
from figure_texts import all_texts, misplaced_texts
from matplotlib.patches import FancyArrowPatch, Rectangle

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.figures.framework import framework_figure
from vision_to_sound.figures.style import figure_bytes

RATE_HZ = 8000
N_FRAMES, N_MELS = 80, 64


def make_arguments() -> dict:
    """A clip of 2 s; a click of one sample in its waveform; frames 20 to 29 and 50 anomalous."""
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.01, 2 * RATE_HZ).astype(np.float32)
    waveform[5003], waveform[9001] = 0.73, -0.61
    frames_truth = np.zeros(N_FRAMES, dtype=bool)
    frames_truth[20:30] = frames_truth[50] = True
    taps = {
        "block2": rng.random((20, 16, 128)).astype(np.float32),
        "block3": rng.random((10, 8, 256)).astype(np.float32),
        "block4": rng.random((5, 4, 512)).astype(np.float32),
    }
    return {
        "waveform": waveform,
        "sample_rate_hz": RATE_HZ,
        "spectrogram_db": rng.normal(-40, 5, (N_FRAMES, N_MELS)).astype(np.float32),
        "taps": taps,
        "anomaly_map": rng.random((N_FRAMES, N_MELS)).astype(np.float32),
        "frame_scores": rng.random(N_FRAMES),
        "frames_truth": frames_truth,
        "clip_score": 3.5,
        "normal_scores": np.array([1.0, 2.0, 3.0, 4.0]),
        "method": "patchcore",
        "encoder_label": "CLAP 2022 (CNN14)",
        "frame_times_s": np.arange(N_FRAMES) * 0.025,
        "mel_centres_hz": np.geomspace(60.0, 13000.0, N_MELS),
        "title": "From a sound to its scores",
        "stamp": "",
        "dpi": 60,
    }


def axis_with(figure, text: str):
    """The axes that a text stands in or over."""
    found = [axis for axis in figure.axes if any(text in t.get_text() for t in axis.texts)]
    found += [axis for axis in figure.axes if text in axis.get_title(loc="left")]
    assert len(found) == 1, text
    return found[0]


def test_every_stage_is_named_and_shapes_are_in_words():
    figure = framework_figure(**make_arguments())
    texts = all_texts(figure)
    for text in (
        "1  Waveform",
        "2  Log-mel spectrogram",
        "3  Embeddings",
        "CLAP 2022 (CNN14): mean over channels",
        "block2: 128 channels, 20 x 16 cells",
        "block3: 256 channels, 10 x 8 cells",
        "block4: 512 channels, 5 x 4 cells",
        "4  Detector",
        "PatchCore",
        "5  Anomaly map",
        "6a  Clip score: is it unusual?",
        "higher than 75% of 4 normal clips",
        "6b  Frame scores: when?",
        "frequency (Hz)",
    ):
        assert text in texts
    arrows = [artist for artist in figure.artists if isinstance(artist, FancyArrowPatch)]
    assert len(arrows) == 6


def test_time_axes_are_the_clips_seconds():
    figure = framework_figure(**make_arguments())
    timed = [axis for axis in figure.axes if axis.get_xlabel() == "time (s)"]
    assert len(timed) == 5
    timed += [axis_with(figure, name) for name in ("block2", "block3")]
    assert all(axis.get_xlim() == (0.0, 2.0) for axis in timed)
    for name in ("2  Log-mel", "5  Anomaly map", "block2"):
        labels = [label.get_text() for label in axis_with(figure, name).get_yticklabels()]
        assert {"100", "10k"} <= set(labels)


def test_panels_show_the_values():
    arguments = make_arguments()
    figure = framework_figure(**arguments)
    spectrogram = axis_with(figure, "2  Log-mel").images[0]
    np.testing.assert_array_equal(spectrogram.get_array(), arguments["spectrogram_db"].T)
    shown_map = axis_with(figure, "5  Anomaly map").images[0]
    np.testing.assert_array_equal(shown_map.get_array(), arguments["anomaly_map"].T)
    for name, values in arguments["taps"].items():
        image = axis_with(figure, f"{name}:").images[0]
        np.testing.assert_allclose(image.get_array(), values.mean(axis=2).T, rtol=1e-5)
        assert image.get_extent() == spectrogram.get_extent(), "spread over the whole clip"
    frames = axis_with(figure, "6b  Frame").lines[0]
    np.testing.assert_array_equal(frames.get_ydata(), arguments["frame_scores"])
    normal, clip = axis_with(figure, "6a  Clip").lines
    np.testing.assert_array_equal(normal.get_xdata(), arguments["normal_scores"])
    assert list(clip.get_xdata()) == [3.5]


def test_waveform_keeps_single_clicks_without_drawing_every_sample():
    figure = framework_figure(**make_arguments())
    outline = axis_with(figure, "1  Waveform").collections[0].get_paths()[0].vertices
    assert outline[:, 1].max() == pytest.approx(0.73) and outline[:, 1].min() == pytest.approx(
        -0.61
    )
    at_s = outline[np.argmax(outline[:, 1]), 0]
    assert at_s == pytest.approx(5003 / RATE_HZ, abs=0.005)
    assert len(outline) < 1300


def test_true_frames_are_shaded_where_they_are():
    arguments = make_arguments()
    axis = axis_with(framework_figure(**arguments), "6b  Frame")
    shaded = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in shaded]
    assert spans == [pytest.approx((19.5 * 0.025, 29.5 * 0.025)), pytest.approx((1.2375, 1.2625))]
    unknown = framework_figure(**arguments | {"frames_truth": None})
    assert not axis_with(unknown, "6b  Frame").patches
    assert not any("orange" in text for text in all_texts(unknown))


@pytest.mark.parametrize("method", ["cfa", "autoencoder", "unheard_of"])  # most words, longest name
def test_texts_are_readable_for_every_method(method):
    arguments = make_arguments() | {"method": method, "stamp": "SYNTHETIC SOUNDS"}
    # awkward numbers: a tiny unit, scores far apart
    arguments["anomaly_map"] = arguments["anomaly_map"] * 1e-6
    arguments["frame_scores"] = arguments["frame_scores"] * 1e-3
    arguments["normal_scores"] = np.geomspace(1e-4, 2e4, 250)
    figure = framework_figure(**arguments)
    assert misplaced_texts(figure) == []
    words = " ".join(all_texts(figure))
    assert (DETECTORS[method].label if method in DETECTORS else method) in words


@pytest.mark.parametrize("n_taps", [1, 2, 4])
def test_any_number_of_depths(n_taps):
    tap = make_arguments()["taps"]["block2"]
    taps = {f"stage{i}": tap for i in range(n_taps)}
    figure = framework_figure(**make_arguments() | {"taps": taps})
    assert sum("128 channels" in text for text in all_texts(figure)) == n_taps
    assert misplaced_texts(figure) == []


def test_poor_values_do_not_break_the_picture():
    arguments = make_arguments()
    arguments |= {
        "waveform": np.zeros(100, dtype=np.float32),
        "anomaly_map": np.full((N_FRAMES, N_MELS), 2.0, dtype=np.float32),
        "frame_scores": np.full(N_FRAMES, 2.0),
        "normal_scores": np.array([3.5]),
    }
    figure = framework_figure(**arguments)
    assert figure_bytes(figure, file_format="png").startswith(b"\x89PNG")
    assert "higher than 0% of 1 normal clips" in all_texts(figure)


def test_wrong_shapes_are_refused_by_name():
    arguments = make_arguments()
    for name, value, message in (
        (
            "spectrogram_db",
            arguments["spectrogram_db"].T,
            r"spectrogram_db.*\(80, 64\).*\(64, 80\)",
        ),
        ("anomaly_map", np.zeros((3, 3)), "anomaly_map"),
        ("frame_scores", np.zeros(3), r"frame_scores.*\(80,\).*\(3,\)"),
        ("frames_truth", np.zeros(3, dtype=bool), "frames_truth"),
        ("waveform", np.zeros((2, 100)), r"waveform.*\(2, 100\)"),
        ("taps", {}, "at least one depth"),
        ("taps", {"block2": np.zeros((4, 4))}, r"block2.*\(4, 4\)"),
        ("normal_scores", np.zeros(0), "normal_scores"),
    ):
        with pytest.raises(ValueError, match=message):
            framework_figure(**arguments | {name: value})


@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_same_bytes_twice(file_format):
    first, second = (
        figure_bytes(framework_figure(**make_arguments()), file_format=file_format)
        for _ in range(2)
    )
    assert first == second
