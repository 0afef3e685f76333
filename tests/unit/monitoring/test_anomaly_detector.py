"""The API from paths to results, saved and loaded, and watched folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from machine_sounds import RATE_HZ, WHISTLE_HZ, WHISTLE_S, hum, write_folders

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.encoders.weights import write_random_weights
from vision_to_sound.monitoring.default_settings import DEFAULT_SETTINGS
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.watch import COLUMNS, watch

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    root = tmp_path_factory.mktemp("machine")
    write_folders(root)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "aisfx.safetensors"
    write_random_weights(ENCODERS["aisfx"], seed=0, out=path)
    return path


def fitted(sounds, method="band_zscore", **changes) -> AnomalyDetector:
    settings = {"false_alarm_rate": 0.1, "gpu": False, **changes}
    return AnomalyDetector(method, **settings).fit(sorted((sounds / "normal").iterdir()))


@pytest.fixture(scope="module")
def detector(sounds):
    return fitted(sounds, encoder="logmel_dcase2020")


def test_what_whistles_is_found_where_and_when_it_does(detector, sounds):
    results = {p.name: detector.score(p) for p in sorted((sounds / "unsorted").iterdir())}
    normal = [r for name, r in results.items() if name.startswith("normal")]
    odd = [r for name, r in results.items() if name.startswith("anomaly")]
    assert min(r.score for r in odd) > max(r.score for r in normal)
    for result in odd:
        assert result.is_anomalous and result.p_value <= 0.1
        region = result.regions[0]
        assert region.start_s < WHISTLE_S[0] + 0.1 and region.end_s > WHISTLE_S[1] - 0.1
        assert region.end_s - region.start_s < 0.8
        assert region.low_hz < WHISTLE_HZ < region.high_hz < 2 * region.low_hz
        assert result.anomaly_map.shape == (len(result.times_s), len(result.frequencies_hz))
    assert all(r.regions == () for r in normal if not r.is_anomalous)


def test_sources_add_up_and_the_whistle_is_in_the_isolated_one(detector, sounds):
    result = detector.score(sounds / "unsorted" / "anomaly_200.wav")
    parts = {name: result.audio(name)[0] for name in ("original", "anomaly", "background")}
    assert result.audio()[1] == RATE_HZ
    np.testing.assert_allclose(parts["anomaly"] + parts["background"], parts["original"], atol=1e-6)

    def power_at_whistle(samples):
        spectrum = np.abs(np.fft.rfft(samples)) ** 2
        hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
        return spectrum[np.abs(hz - WHISTLE_HZ) < 20].sum()

    assert power_at_whistle(parts["anomaly"]) > 10 * power_at_whistle(parts["background"])
    with pytest.raises(ValueError, match="did you mean 'anomaly'"):
        result.audio("anomalie")


def test_nothing_is_marked_where_a_recording_holds_nothing(sounds, weights):
    """An encoder that hears up to 22 kHz, recordings that end at 8 kHz."""
    detector = fitted(sounds, "band_padim", weights=weights)
    for path in sorted((sounds / "unsorted").iterdir()):
        result = detector.score(path)
        above = result.frequencies_hz > 1.05 * RATE_HZ / 2
        assert above.any() and not result.anomaly_map[:, above].any()
        assert all(region.low_hz < RATE_HZ / 2 for region in result.regions)


def test_a_span_of_a_recording_is_scored_as_such(detector, sounds):
    path = sounds / "unsorted" / "anomaly_200.wav"
    calm = detector.score(path, start_s=1.3, duration_s=0.7)
    late = detector.score(path, start_s=0.5, duration_s=1.0)
    assert calm.score < 0.5 * late.score and late.is_anomalous
    assert late.regions[0].start_s < WHISTLE_S[0] - 0.5 + 0.1  # from the clip's start
    with pytest.raises(ValueError, match=r"nothing lies at 5.0 s"):
        detector.score(path, start_s=5.0)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("band_padim", {}),
        ("padim", {"n_channels": 8}),
        ("patchcore", {"bank_size": 50}),
        ("band_zscore", {}),
        ("band_nn", {"bank_size": 50}),
        ("cfa", {"epochs": 1}),
        ("fastflow", {"epochs": 1, "n_steps": 2}),
        ("stfpm", {"epochs": 1}),
        ("autoencoder", {"epochs": 1}),
    ],
)
def test_saved_and_loaded_it_says_the_same(method, settings, sounds, weights, tmp_path):
    detector = fitted(sounds, method, settings=settings, weights=weights)
    detector.save(tmp_path / "d.npz")
    loaded = AnomalyDetector.load(tmp_path / "d.npz", weights=weights, gpu=False)
    path = sounds / "unsorted" / "anomaly_200.wav"
    before, after = detector.score(path), loaded.score(path)
    assert (before.score, before.p_value, before.regions) == (
        after.score,
        after.p_value,
        after.regions,
    )
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    assert np.load(tmp_path / "d.npz", allow_pickle=False)["words"].dtype.kind == "U"
    other = hum(0)
    np.savez(tmp_path / "other.npz", other=other)
    with pytest.raises(ValueError, match="other.npz: expected a detector saved by"):
        AnomalyDetector.load(tmp_path / "other.npz")


def test_few_recordings_are_held_out_in_part(tmp_path):
    """Two long ones: the end of each gives the threshold, and that is kept in mind."""
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", hum(i, 20.0), RATE_HZ)
    detector = AnomalyDetector(
        "band_zscore", encoder="logmel_dcase2020", clip_s=2.0, false_alarm_rate=0.1, gpu=False
    ).fit(sorted(tmp_path.iterdir()))
    assert detector.about["n_fitted"] + detector.about["n_held_out"] == 20
    assert detector.about["n_held_out"] >= 8


def test_too_little_to_learn_from_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no normal recordings"):
        AnomalyDetector("band_zscore").fit([])
    soundfile.write(tmp_path / "a.wav", hum(0), RATE_HZ)
    with pytest.raises(
        ValueError, match="1 normal clip: one to learn from and one for the threshold"
    ):
        AnomalyDetector("band_zscore", encoder="logmel_dcase2020").fit([tmp_path / "a.wav"])
    with pytest.raises(RuntimeError, match="call fit or load first"):
        AnomalyDetector("band_zscore", window_s=1.0, encoder="logmel_dcase2020").score(
            tmp_path / "a.wav"
        )


def test_the_defaults_are_those_of_the_config_but_for_the_ones_named_here():
    config = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())["detectors"]
    assert set(DEFAULT_SETTINGS) == {
        name for name, entry in DETECTORS.items() if entry.for_recordings
    }
    config["patchcore"]["bank_size"], config["padim"]["n_channels"] = 10_000, 100
    config["band_padim"]["layers"] = []
    config["band_padim"]["top_share"] = config["band_nn"]["top_share"] = 0.1
    assert {name: config[name] for name in DEFAULT_SETTINGS} == DEFAULT_SETTINGS


@pytest.mark.parametrize("method", ["oracle", "random", "spade", "energy"])
def test_methods_that_recordings_cannot_have_are_refused(method):
    with pytest.raises(ValueError, match="needs more than recordings give"):
        AnomalyDetector(method)


def test_a_plot_shows_time_frequency_and_regions(detector, sounds):
    import matplotlib

    matplotlib.use("Agg")
    result = detector.score(sounds / "unsorted" / "anomaly_200.wav")
    ax = result.plot()
    assert ax.get_xlabel() == "time (s)" and ax.get_ylabel() == "frequency (Hz)"
    assert len(ax.patches) == len(result.regions) > 0
    assert "anomaly_200.wav: anomalous" in ax.get_title()


def test_watching_scores_what_appears_and_goes_on_after_a_bad_file(
    detector, sounds, tmp_path, capsys
):
    folder, table = tmp_path / "in", tmp_path / "out" / "watched.tsv"
    folder.mkdir()
    arrivals = [
        lambda: (folder / "broken.wav").write_bytes(b"x" * 99),
        lambda: soundfile.write(folder / "new.wav", hum(7, whistle=True), RATE_HZ),
        *[lambda: None] * 3,
    ]

    def goes_on() -> bool:
        if not arrivals:
            return False
        arrivals.pop(0)()
        return True

    watch(folder, detector, table, every_s=0.0, goes_on=goes_on)
    printed = capsys.readouterr().out
    assert "NOT READ" in printed and "broken.wav" in printed
    assert "ANOMALOUS  new.wav" in printed
    header, row = table.read_text().splitlines()
    assert header.split("\t") == COLUMNS
    assert row.split("\t")[0] == "new.wav" and row.split("\t")[5] == "anomalous"
