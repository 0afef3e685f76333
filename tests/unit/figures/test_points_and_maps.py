"""Figures: what the axes say, where points stand, and that poor data do not break a picture."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.figures.cells import frequency_ticks, robust_range_db
from vision_to_sound.figures.maps import anomaly_example, score_histogram
from vision_to_sound.figures.points import metric_points, protocol_gap
from vision_to_sound.figures.style import figure_bytes, method_styles

STAMP = "SYNTHETIC SOUNDS"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def make_metrics(
    *,
    methods=("padim", "patchcore", "oracle"),
    classes=("car_horn", "siren"),
    snrs=(0, 6),
    seeds=(0, 1),
    protocols=("published", "leakfree"),
) -> pd.DataFrame:
    base = {"padim": 0.8, "patchcore": 0.9, "oracle": 1.0}
    rows = []
    for protocol, category, snr_db, seed, method in itertools.product(
        protocols, classes, snrs, seeds, methods
    ):
        drop = 0.25 if protocol == "leakfree" and method != "oracle" else 0.0
        row = {
            "protocol": protocol,
            "dataset": "envmix",
            "category": category,
            "snr_db": snr_db,
            "encoder": "aisfx",
            "method": method,
            "seed": seed,
            "value": base[method] - drop - 0.02 * seed * (method != "oracle"),
            "headline": True,
            "n_clips": 40,
            "n_recordings": 20,
            "n_anomalous": 20,
            "stale": False,
        }
        rows.append(row | {"level": "sample", "truth": "", "metric": "roc"})
        rows.append(row | {"level": "sample", "truth": "", "metric": "f1"})
        for truth, metric in itertools.product(protocols, ("au_pro_published", "au_pro_standard")):
            rows.append(row | {"level": "spectrogram", "truth": truth, "metric": metric})
    return pd.DataFrame(rows)


def make_clip(n_frames: int = 40, n_mels: int = 32) -> dict:
    rng = np.random.default_rng(0)
    mask = np.zeros((n_frames, n_mels), dtype=bool)
    mask[10:20, 8:20] = True
    frames = mask.any(axis=1)
    return {
        "mixture_db": rng.normal(-40, 5, (n_frames, n_mels)).astype(np.float32),
        "event_db": np.where(mask, -10.0, -100.0).astype(np.float32),
        "mask": mask,
        "maps": {"padim": mask + rng.random(mask.shape), "energy": rng.random(mask.shape)},
        "frame_times_s": (np.arange(n_frames) + 0.5) * 0.1,
        "mel_centres_hz": np.geomspace(60.0, 13000.0, n_mels),
        "title": "Dog in siren",
        "span_s": (1.0, 2.0),
        "frames_truth": frames,
        "clip_scores": {"padim": "score 3.2"},
        "stamp": "",
        "dpi": 60,
    }


def points(metrics: pd.DataFrame, *, level="sample", metric="roc", dataset="envmix", stamp=""):
    shown = {"encoder": "aisfx", "level": level, "metric": metric, "dataset": dataset}
    return metric_points(metrics, **shown, stamp=stamp, dpi=60)


def gap(metrics: pd.DataFrame, *, metric="roc", stamp=""):
    shown = {"encoder": "aisfx", "level": "sample", "metric": metric, "dataset": "envmix"}
    return protocol_gap(metrics, **shown, stamp=stamp, dpi=60)


def histogram(scores, labels, *, stamp=""):
    return score_histogram(scores, labels, clip_notes={}, title="Siren", stamp=stamp, dpi=60)


def all_texts(figure) -> list[str]:
    texts = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return [text for text in texts if text]


def chance_lines(axis) -> list[float]:
    return [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() not in ("-", "None")]


def markers(axis) -> list[tuple[float, float]]:
    drawn = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in drawn]


def test_points_have_facets_axes_and_values_by_hand():
    figure = points(make_metrics())
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [
        "published, SNR 0 dB",
        "leakfree, SNR 0 dB",
        "published, SNR +6 dB",
        "leakfree, SNR +6 dB",
    ]
    assert all(axis.get_xlabel() == "ROC AUC (%)" for axis in figure.axes)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["Car horn", "Siren", "Mean"]
    # PaDiM: seeds 80 and 78 percent; PatchCore 90 and 88; the oracle 100 in each of the three lines
    values = sorted(round(x, 6) for x, _ in markers(figure.axes[0]))
    assert values == [79.0] * 3 + [89.0] * 3 + [100.0] * 3
    assert chance_lines(figure.axes[0]) == [50.0]


def test_points_are_of_one_encoder_and_of_methods_with_their_own():
    metrics = make_metrics(methods=("padim",))
    other = metrics.assign(encoder="panns_cnn14", value=0.1)
    own = metrics.assign(encoder="logmel_dcase2020", method="autoencoder", value=0.6)
    figure = points(pd.concat([metrics, other, own]))
    values = sorted(round(x, 6) for x, _ in markers(figure.axes[0]))
    assert values == [60.0] * 3 + [79.0] * 3


@pytest.mark.parametrize(
    ("dataset", "meaning"),
    [
        ("envmix", "background over event, +6 dB is hard"),
        ("mimii", "machine over noise, +6 dB is easy"),
    ],
)
def test_points_say_what_the_snr_is(dataset, meaning):
    texts = all_texts(points(make_metrics().assign(dataset=dataset), dataset=dataset))
    assert sum(f"SNR: {meaning}" in text for text in texts) == 1


def bars(axis) -> list[tuple[float, float]]:
    lines = [line.get_xydata() for line in axis.lines if line.get_linewidth() == 1.1]
    return sorted({(round(line[0, 0], 6), round(line[1, 0], 6)) for line in lines})


def test_bars_are_the_interval_of_a_single_seed_and_else_the_seeds():
    metrics = make_metrics(methods=("padim",)).assign(ci_low=0.7, ci_high=0.85)
    assert bars(points(metrics).axes[0]) == [(78.0, 80.0)]
    single = metrics[metrics["seed"] == 0]
    # the mean over classes has no interval in the long table
    assert bars(points(single).axes[0]) == [(70.0, 85.0), (80.0, 80.0)]
    assert bars(points(single.drop(columns="ci_low")).axes[0]) == [(80.0, 80.0)]


def test_a_missing_class_is_marked_in_the_mean():
    metrics = make_metrics()
    gone = (metrics["method"] == "padim") & (metrics["category"] == "siren")
    texts = all_texts(points(metrics[~gone]))
    assert texts.count("1/2") == 4, "one in each facet"
    assert "1/2" not in all_texts(points(metrics))


@pytest.mark.parametrize(
    ("level", "metric", "chance"),
    [
        ("sample", "f1", 200.0 / 3.0),
        ("spectrogram", "au_pro_published", 50.0),
        ("spectrogram", "au_pro_standard", 15.0),
    ],
)
def test_chance_lines(level, metric, chance):
    figure = points(make_metrics(), level=level, metric=metric)
    assert chance_lines(figure.axes[0]) == [pytest.approx(chance)]


def test_spectrogram_points_use_the_protocols_own_truth():
    metrics = make_metrics(protocols=("published", "leakfree"))
    metrics.loc[metrics["truth"] == "leakfree", "value"] = 0.1
    figure = points(metrics, level="spectrogram", metric="au_pro_published")
    published, leakfree = figure.axes[0], figure.axes[1]
    assert min(x for x, _ in markers(published)) > 50
    assert {round(x, 6) for x, _ in markers(leakfree)} == {10.0}


def test_controls_look_different_and_colours_stay_with_their_method():
    alone, together = method_styles(["padim"]), method_styles(["padim", "oracle", "spade", "zebra"])
    assert alone["padim"] == together["padim"]
    assert together["oracle"].hollow and not together["padim"].hollow
    red, green, blue = (int(to_hex(together["oracle"].colour)[i : i + 2], 16) for i in (1, 3, 5))
    assert red == green == blue, "controls are grey"
    assert together["zebra"].label == "zebra"
    assert together["padim"].label == DETECTORS["padim"].label
    assert len({style.colour for style in together.values()}) == 4


def test_gap_means_are_over_experiments_of_both_protocols():
    metrics = make_metrics(methods=("padim", "oracle"))
    gone = (metrics["protocol"] == "leakfree") & (metrics["category"] == "siren")
    metrics = metrics[~(gone & (metrics["method"] == "padim"))]
    metrics.loc[metrics["category"] == "siren", "value"] = 0.1  # must not count for PaDiM
    figure = gap(metrics)
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["PaDiM, n = 4", f"{DETECTORS['oracle'].label} (control), n = 8"]
    padim = sorted(round(x, 6) for x, y in markers(axis) if y == 0)
    assert padim == [54.0, 79.0]
    assert "−25.0 points" in all_texts(figure)
    assert "%" in axis.get_xlabel()


def test_gap_with_one_protocol_keeps_its_point():
    figure = gap(make_metrics(methods=("padim",), protocols=("leakfree",)))
    assert [round(x, 6) for x, _ in markers(figure.axes[0])] == [54.0]


def test_one_of_everything_and_undefined_values():
    metrics = make_metrics(
        methods=("padim", "patchcore"), classes=("siren",), snrs=(0,), seeds=(0,)
    )
    metrics.loc[metrics["method"] == "patchcore", "value"] = np.nan
    for figure in (points(metrics), gap(metrics)):
        assert figure_bytes(figure, file_format="png").startswith(PNG_MAGIC)
    with pytest.raises(ValueError, match="no finite 'roc'"):
        points(metrics[metrics["method"] == "patchcore"])
    with pytest.raises(ValueError, match="no finite 'auroc'.* has .*f1, roc"):
        points(metrics, metric="auroc")


def test_frequency_ticks_stand_at_their_bands():
    centres_hz = np.geomspace(60.0, 13000.0, 65)
    bands, labels = frequency_ticks(centres_hz, spacing=0.05)
    assert labels == ["100", "200", "500", "1k", "2k", "5k", "10k"]
    assert (np.diff(bands) > 0).all()
    at_1k = bands[labels.index("1k")]
    assert centres_hz[int(np.floor(at_1k))] <= 1000.0 <= centres_hz[int(np.ceil(at_1k))]
    _, few = frequency_ticks(centres_hz, spacing=0.3)
    assert few == ["100", "1k", "10k"], "the roundest stay"


def test_example_has_units_ticks_and_every_panel():
    clip = make_clip()
    figure = anomaly_example(**clip)
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    energy = f"{DETECTORS['energy'].label} (control)"
    assert [axis.get_title(loc="left") for axis in panels] == [
        "Mixture: what the methods hear",
        "Event alone, as mixed in",
        "Truth: cells, and frames (strip)",
        "PaDiM: score 3.2",
        energy,
    ]
    assert panels[-1].get_xlabel() == "time (s)"
    assert all(axis.get_ylabel() == "frequency (Hz)" for axis in panels)
    assert panels[0].get_xlim() == pytest.approx((0.0, 4.0))
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert {"100", "1k", "10k"} <= set(labels)
    for axis in panels:
        assert {1.0, 2.0} <= {line.get_xdata()[0] for line in axis.lines}, "span is marked"


def test_example_draws_time_to_the_right_and_frequency_up():
    clip = make_clip()
    figure = anomaly_example(**clip)
    image = figure.axes[0].images[0]
    assert image.get_array().shape == (32, 40) and image.origin == "lower"
    np.testing.assert_array_equal(image.get_array(), clip["mixture_db"].T)
    assert figure.axes[1].images[0].get_clim() == image.get_clim(), "one scale for both"


@pytest.mark.parametrize("n_maps", [1, 3, 4, 7])
def test_example_has_a_panel_for_each_map(n_maps):
    clip = make_clip()
    clip["maps"] = {f"method{i}": clip["maps"]["padim"] for i in range(n_maps)}
    figure = anomaly_example(**clip)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert sum(title.startswith("method") for title in titles) == n_maps
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    places = {(round(box.x0, 3), round(box.y0, 3)) for box in (a.get_position() for a in panels)}
    assert len(places) == n_maps + 3, "no panel lies on another"


def test_example_of_a_clip_without_event_or_truth():
    clip = make_clip() | {"event_db": None, "mask": None, "span_s": None, "frames_truth": None}
    figure = anomaly_example(**clip)
    titles = [title for axis in figure.axes if (title := axis.get_title(loc="left"))]
    assert titles[0] == "Clip" and len(titles) == 3


def test_example_survives_odd_maps():
    clip = make_clip()
    shape = clip["mask"].shape
    half = np.where(np.arange(shape[0])[:, None] < 20, np.nan, 1.0) * np.ones(shape)
    clip["maps"] = {"padim": np.zeros(shape), "cfa": np.full(shape, np.nan), "stfpm": half}
    clip["mask"] = np.zeros(shape, dtype=bool)
    assert figure_bytes(anomaly_example(**clip), file_format="png").startswith(PNG_MAGIC)


def test_example_refuses_wrong_shapes():
    clip = make_clip()
    with pytest.raises(ValueError, match=r"map of padim: expected shape \(40, 32\).*\(32, 40\)"):
        anomaly_example(**clip | {"maps": {"padim": clip["maps"]["padim"].T}})
    with pytest.raises(ValueError, match="frames_truth"):
        anomaly_example(**clip | {"frames_truth": np.zeros(3, dtype=bool)})
    with pytest.raises(ValueError, match="at least one"):
        anomaly_example(**clip | {"maps": {}})


def test_robust_range_ignores_a_click_and_a_silent_band():
    values = np.full((100, 100), -40.0)
    values[:50] = -20.0
    values[0, 0], values[0, 1], values[0, 2] = 300.0, -100.0, np.nan
    assert robust_range_db(values) == (-40.0, -20.0)
    values[50:] = -100.0
    low, high = robust_range_db(values)
    assert (low, high) == (-90.0, -20.0), "at most the dynamic range"
    low, high = robust_range_db(np.zeros((4, 4)))
    assert low < high == 0.0


def test_histogram_counts_every_finite_score_once():
    labels = np.array([False] * 6 + [True] * 4)
    scores = {"padim": np.array([0.0, 1, 1, 2, 2, np.nan, 3, 4, 4, 5])}
    figure = histogram(scores, labels)
    axis = figure.axes[0]
    heights = [collection.get_paths()[0].vertices[:, 1].max() for collection in axis.collections]
    assert heights == [2.0, 2.0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("clip score", "clips")
    assert "1 clips without a score" in all_texts(figure)


@pytest.mark.parametrize(
    "values",
    [np.full(8, 2.5), np.full(8, np.nan), np.arange(8.0)],
    ids=["flat", "nan", "one-class"],
)
def test_histogram_survives_poor_scores(values):
    figure = histogram({"padim": values, "oracle": values}, np.zeros(8, dtype=bool))
    assert figure_bytes(figure, file_format="png").startswith(PNG_MAGIC)


def test_histogram_refuses_scores_of_other_clips():
    with pytest.raises(ValueError, match=r"'padim'.*\(8,\).*\(7,\)"):
        histogram({"padim": np.zeros(7)}, np.zeros(8, dtype=bool))


def test_stamp_is_in_every_figure():
    labels = np.array([True, False])
    stamped = [
        points(make_metrics(), stamp=STAMP),
        gap(make_metrics(), stamp=STAMP),
        histogram({"padim": np.array([1.0, 2.0])}, labels, stamp=STAMP),
        anomaly_example(**make_clip() | {"stamp": STAMP}),
    ]
    assert all(all_texts(figure).count(STAMP) == 1 for figure in stamped)
    assert STAMP not in all_texts(points(make_metrics()))


@pytest.mark.parametrize("file_format", ["png", "svg", "pdf"])
def test_same_figure_same_bytes(file_format):
    first, second = (figure_bytes(gap(make_metrics()), file_format=file_format) for _ in range(2))
    assert first == second and len(first) > 1000
    with pytest.raises(ValueError, match="figure format"):
        figure_bytes(gap(make_metrics()), file_format="bmp")


def test_figures_leave_global_state_alone():
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    points(make_metrics())
    anomaly_example(**make_clip())
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == []
