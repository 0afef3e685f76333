"""What people give `AnomalyDetector` by mistake, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import soundfile
import yaml
from machine_sounds import RATE_HZ, hum, write_folders

from vision_to_sound.audio import BadClipError
from vision_to_sound.detectors import DETECTORS
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.encoders.embed import PRECISIONS as ENCODER_PRECISIONS
from vision_to_sound.encoders.weights import write_random_weights
from vision_to_sound.monitoring import detector as detector_module
from vision_to_sound.monitoring.default_settings import DEFAULT_SETTINGS
from vision_to_sound.monitoring.detector import PRECISIONS, AnomalyDetector
from vision_to_sound.monitoring.regions import Region
from vision_to_sound.monitoring.result import ClipResult
from vision_to_sound.monitoring.sound_files import SoundFile

SCHEMA = Path(__file__).resolve().parents[3] / "config" / "schema.yaml"


def new(**changes) -> AnomalyDetector:
    return AnomalyDetector(
        "band_zscore",
        **{"encoder": "logmel_dcase2020", "false_alarm_rate": 0.1, "gpu": False, **changes},
    )


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """20 normal recordings of half a second."""
    root = tmp_path_factory.mktemp("machine")
    write_folders(root, n_normal=20, n_odd=1, duration_s=0.5)
    return root


@pytest.fixture
def normal(sounds, tmp_path):
    return shutil.copytree(sounds / "normal", tmp_path / "normal")


@pytest.fixture(scope="module")
def fitted(sounds):
    return new().fit(sounds / "normal")


# --- the constructor

WRONG = {
    "false_alarm_rate": [5, 0, 1, -0.1, 0.6, 0.00001, float("nan"), "0.05", None, True, [0.1]],
    "held_out_share": [0, 0.51, -1, float("nan"), "a quarter", None],
    "window_s": [0, 0.001, -1, 61, float("nan"), float("inf"), "1 s", False],
    "overlap": [1, -0.1, 0.95, float("nan"), "half", None],
    "clip_s": [0, 0.5, 3601, float("inf"), "60", None],
    "channel": [-1, 1.0, 1024, "0", "left", True],
    "threads": [0, -1, 1.5, "2", None, True],
    "memory_mb": [0, -5, 1.5, "2 GB", None],
    "seed": [-1, 2**32, 0.5, "0", None],
    "precision": ["float16", "float", 32, None],
    "gpu": ["no", 0, 1, None, "cuda"],
    "method": ["patchcor", "", None, 3, ["padim"], "oracle"],
    "encoder": ["aisfxx", "", None, 3],
    "weights": ["nowhere.safetensors", "", 3, Path("nowhere")],
    "settings": ["top_share", [("top_share", 0.1)], {"top_shar": 0.1}, {"top_share": "0.1"}],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_argument_is_named_at_once(name, value):
    arguments = {"method": "band_zscore", "encoder": "logmel_dcase2020", name: value}
    with pytest.raises(ValueError, match=name.removesuffix("s")) as caught:
        AnomalyDetector(**arguments)
    said = str(caught.value)
    assert any(
        word in said for word in ("expected", "llowed", "take one of", "no file", "too short")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_shar": 0.1}, "did you mean 'top_share'"),
        ({"top_share": "0.1"}, "top_share: expected a number"),
        ({"top_share": float("nan")}, "top_share: expected a number"),
        ({"top_share": 2.0}, "top_share must be above 0 and at most 1, got 2.0"),
        ({"layers": "block2"}, "layers: expected a list of names, got 'block2'"),
        ({"layers": [2]}, "layers: expected a list of names"),
        ({"layers": ["block22"]}, "unknown tap in the setting 'layers': 'block22'; did you mean"),
    ],
)
def test_settings_are_checked_against_the_method_and_encoder(settings, message):
    with pytest.raises(ValueError, match=message):
        AnomalyDetector("band_padim", settings=settings)


def test_a_window_that_is_too_short_for_the_encoder():
    with pytest.raises(ValueError, match="window_s: 0.06 s are too short: encoder 'aisfx' needs"):
        AnomalyDetector("band_padim", window_s=0.06)


@pytest.mark.parametrize("method", DEFAULT_SETTINGS)
def test_every_setting_of_every_method_refuses_text_or_numbers_for_the_other(method):
    for name, default in DEFAULT_SETTINGS[method].items():
        wrong = 1.5 if isinstance(default, str | list | int) else "1.5"
        with pytest.raises(ValueError, match=name):
            AnomalyDetector(method, settings={name: wrong})


def test_numbers_of_numpy_are_taken_and_can_be_saved(sounds, tmp_path):
    detector = new(
        false_alarm_rate=np.float32(0.125),
        channel=np.int64(0),
        threads=np.int32(1),
        seed=np.uint8(3),
        gpu=np.bool_(False),
        window_s=np.float64(0.5),
        memory_mb=np.int64(100),
        settings={"top_share": np.float64(0.5)},
    ).fit(sounds / "normal")
    detector.save(tmp_path / "d.npz")
    again = AnomalyDetector.load(tmp_path / "d.npz", gpu=False)
    assert (again.seed, again.channel, again.settings["top_share"]) == (3, 0, 0.5)
    assert json.dumps([detector.threads, detector.memory_bytes]) == f"[1, {100 << 20}]"


def test_ranges_are_those_of_the_config():
    recordings = yaml.safe_load(SCHEMA.read_text())["properties"]["recordings"]["properties"]
    for name in ("overlap", "clip_s", "false_alarm_rate", "held_out_share", "seed"):
        low, high = recordings[name]["minimum"], recordings[name]["maximum"]
        new(**{name: low}), new(**{name: high})
        for outside in (low - 1, high + 1):
            with pytest.raises(ValueError, match=name):
                new(**{name: outside})
    new(window_s=recordings["window_s"]["maximum"], channel=recordings["channel"]["maximum"])
    assert PRECISIONS == ENCODER_PRECISIONS


# --- fit


@pytest.mark.parametrize(
    "given",
    [
        str,
        Path,
        lambda folder: bytes(folder),
        lambda folder: [folder],
        lambda folder: sorted(folder.iterdir()),
        lambda folder: (path for path in folder.iterdir()),
        lambda folder: {str(path) for path in folder.iterdir()},
        lambda folder: np.array([str(path) for path in folder.iterdir()]),
        lambda folder: [sorted(folder.iterdir())[0], *sorted(folder.iterdir())[1:]],
    ],
)
def test_fit_takes_a_folder_files_or_both(given, normal, fitted):
    detector = new().fit(given(normal))
    assert detector.about["n_fitted"] + detector.about["n_held_out"] == 20


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("nowhere", FileNotFoundError, "no such file or folder: 'nowhere'"),
        (["nowhere.wav"], FileNotFoundError, "nowhere.wav"),
        ("", ValueError, "recordings: expected a path, got ''"),
        (None, ValueError, "recordings: expected a folder"),
        (3, ValueError, "recordings: expected a folder"),
        ([3], ValueError, "recordings: expected a path, got 3"),
        ([np.zeros(3)], ValueError, "recordings: expected a path"),
        ([["a.wav"]], ValueError, "recordings: expected a path"),
        ("pipe.wav", ValueError, "pipe.wav is neither a file nor a folder"),
        ("a\0b", ValueError, "recordings: expected a path"),
        ([], ValueError, "no normal recordings"),
        (iter([]), ValueError, "no normal recordings"),
    ],
)
def test_what_is_no_recording_is_said(given, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.wav")
    with pytest.raises(error, match=message):
        new().fit(given)


def test_an_empty_folder_is_said_with_what_else_is_there(normal, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "phone.m4a").write_bytes(b"x")
    for given in (empty, [normal, empty]):
        with pytest.raises(ValueError, match="holds no sound file that can be read.*phone.m4a"):
            new().fit(given)


def test_what_is_there_twice_is_learned_from_once(normal):
    shutil.copy(normal / "normal_0.wav", normal / "copy.wav")
    (normal / "link.wav").symlink_to("normal_1.wav")
    (normal / "loop").symlink_to(normal)
    (normal / "phone.m4a").write_bytes(b"x")
    with pytest.warns(UserWarning) as caught:
        detector = new().fit([normal, normal / "normal_2.wav"])
    said = "\n".join(str(warning.message) for warning in caught)
    assert detector.about["n_fitted"] + detector.about["n_held_out"] == 20
    assert f"{normal}/normal_0.wav is {normal}/copy.wav again" in said
    assert "1 paths were given more than once" in said
    assert "in " + str(normal) + " 3 are not used: link.wav: is the same file" in said
    assert "phone.m4a: .m4a is not read; convert it" in said


def bad_files(folder: Path) -> list[Path]:
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_bytes(b"no sound" * 20)
    nan = hum(0, 0.5)
    nan[100] = np.nan
    soundfile.write(folder / "nan.wav", nan, RATE_HZ, subtype="FLOAT")
    return [folder / name for name in ("empty.wav", "text.wav", "nan.wav")]


def test_bad_files_of_a_folder_are_left_out_with_a_warning(normal):
    bad = bad_files(normal)
    with pytest.warns(UserWarning, match="bad recordings are left out") as caught:
        detector = new().fit(normal)
    said = "\n".join(str(warning.message) for warning in caught)
    assert all(said.count(str(path)) == 1 for path in bad)
    assert detector.about["n_fitted"] + detector.about["n_held_out"] == 20


@pytest.mark.parametrize(
    "given",
    [
        lambda folder, bad: ((folder,), {"on_bad_clip": "stop"}),
        lambda folder, bad: ((sorted(folder.iterdir()),), {}),
        lambda folder, bad: (([folder, *bad],), {}),
    ],
)
def test_bad_files_that_were_named_are_an_error_that_names_them(given, normal):
    bad = bad_files(normal)[:2]
    arguments, settings = given(normal, bad)
    with pytest.raises(BadClipError) as caught:
        new().fit(*arguments, **settings)
    assert all(str(path) in str(caught.value) for path in bad)


def test_named_bad_files_can_be_skipped_too(normal):
    bad_files(normal)
    with pytest.warns(UserWarning, match="left out"):
        new().fit(sorted(normal.iterdir()), on_bad_clip="skip")
    with pytest.raises(ValueError, match="unknown on_bad_clip 'Skip'; did you mean 'skip'"):
        new().fit(normal, on_bad_clip="Skip")


def test_a_folder_of_bad_files_only_names_them_all(tmp_path):
    bad = bad_files(tmp_path)
    with pytest.raises(BadClipError) as caught:
        new().fit(tmp_path)
    assert all(str(path) in str(caught.value) for path in bad[:2])


def test_a_channel_that_some_recordings_do_not_have(normal):
    stereo = np.stack([hum(99, 0.5), hum(98, 0.5)], axis=1)
    for i in range(2):
        soundfile.write(normal / f"stereo_{i}.wav", stereo[i:], RATE_HZ)
    with pytest.warns(UserWarning, match="20 bad recordings are left out.*channel 1 was asked for"):
        new(channel=1).fit(normal)


def test_whatever_one_file_raises_is_said_with_its_name(normal, monkeypatch):
    real = detector_module.embed_recording

    def embed_recording(file, *args, **kwargs):
        if file.path.name == "normal_3.wav":
            raise RuntimeError("a decoder that nobody foresaw")
        return real(file, *args, **kwargs)

    monkeypatch.setattr(detector_module, "embed_recording", embed_recording)
    with pytest.warns(UserWarning, match="normal_3.wav: cannot be used .RuntimeError: a decoder"):
        detector = new().fit(normal)
    with pytest.raises(BadClipError, match="normal_3.wav: cannot be used .RuntimeError: a decoder"):
        detector.score(normal / "normal_3.wav")


def test_two_recordings_cannot_show_a_rate_of_a_twentieth(normal):
    with pytest.warns(
        UserWarning, match="the false alarm rate is 50.0%, not the 5.0% asked"
    ) as all:
        new(false_alarm_rate=0.05).fit(sorted(normal.iterdir())[:2])
    (rate,) = [str(w.message) for w in all if "false alarm rate is" in str(w.message)]
    assert "5.0% needs 19 of them, and so at least 38 normal clips in all; here are 2" in rate
    assert {warning.filename for warning in all} == {__file__} and len(all) == 1


def test_a_threshold_from_parts_of_recordings_that_were_learned_from_is_said(tmp_path):
    soundfile.write(tmp_path / "long.wav", hum(0, 40.0), RATE_HZ)
    with pytest.warns(UserWarning, match="parts of the recordings that the detector learned from"):
        detector = new(clip_s=2.0).fit(tmp_path)
    assert not detector.about["whole_recordings_held_out"]


def test_enough_recordings_give_no_warning(sounds):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new().fit(sounds / "normal")


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_silence_is_nothing_to_learn_from(level, tmp_path):
    for i in range(4):
        samples = np.full(4000 + i, level, np.float32)
        soundfile.write(tmp_path / f"{i}.wav", samples, RATE_HZ, subtype="FLOAT")
    with pytest.raises(ValueError, match="all 4 normal clips are silent"):
        new().fit(tmp_path)


def test_some_silent_clips_are_named(normal):
    soundfile.write(normal / "off.wav", np.zeros(8000, np.float32), RATE_HZ)
    with pytest.warns(UserWarning, match="1 of 21 normal clips are silent, the first in .*off.wav"):
        new().fit(normal)


def test_channels_that_cancel_and_a_constant_offset_are_said(normal, fitted, tmp_path):
    samples, _ = soundfile.read(normal / "normal_0.wav", dtype="float32")
    path = tmp_path / "inverted.wav"
    soundfile.write(path, np.stack([samples, -samples], axis=1), RATE_HZ)
    with pytest.warns(UserWarning, match="inverted.wav: silent; its channels cancel each other"):
        fitted.score(path)
    soundfile.write(normal / "offset.wav", 0.5 + samples, RATE_HZ)
    with pytest.warns(
        UserWarning, match=r"1 normal recordings .*offset\.wav: a constant offset \(DC\)"
    ):
        new().fit(normal)


def test_the_same_sound_in_other_files_is_learned_from_once(normal):
    samples, _ = soundfile.read(normal / "normal_0.wav", dtype="int16")
    for suffix in ("flac", "aiff", "w64"):
        soundfile.write(normal / f"normal_0.{suffix}", samples, RATE_HZ)
    with pytest.warns(
        UserWarning, match=r"are learned from once: .*_0\.\w+ is .*_0\.\w+ again; .*again; "
    ):
        detector = new().fit(normal)
    assert detector.about["n_fitted"] + detector.about["n_held_out"] == 20


def test_a_threshold_from_clips_that_all_score_the_same_is_said(tmp_path):
    soundfile.write(tmp_path / "0.wav", hum(0, 0.5), RATE_HZ)
    detector = new(window_s=0.5)
    detector.ready()
    (clip,) = detector.embed(SoundFile.open(tmp_path / "0.wav"))
    with pytest.warns(UserWarning, match="have the same score"):
        detector.fit_clips([f"{i}.wav" for i in range(20)], [clip.n_windows] * 20, lambda i: clip)
    assert np.isfinite(detector.threshold)
    assert not detector.score(tmp_path / "0.wav").is_anomalous


def test_fitted_again_it_is_as_if_it_were_new(sounds, tmp_path):
    for i in range(20):
        soundfile.write(tmp_path / f"{i}.wav", hum(i, 4.0), RATE_HZ)
    detector = new().fit(tmp_path)
    assert detector.window_s == 4.0
    detector.fit(sounds / "normal")
    fresh = new().fit(sounds / "normal")
    assert (detector.window_s, detector.threshold) == (fresh.window_s, fresh.threshold)
    assert detector.about == fresh.about


def test_after_a_fit_that_failed_it_is_not_fitted(sounds):
    detector = new().fit(sounds / "normal")
    with pytest.raises(ValueError, match="1 normal clip"):
        detector.fit(sounds / "normal" / "normal_0.wav")
    with pytest.raises(RuntimeError, match="call fit or load first"):
        detector.score(sounds / "unsorted" / "normal_100.wav")


# --- score


@pytest.mark.parametrize("window_s", [None, 1.0])
def test_before_fit(window_s, sounds, tmp_path):
    detector = new(window_s=window_s)
    path = sounds / "unsorted" / "normal_100.wav"
    for call in (
        lambda: detector.score(path),
        lambda: detector.score("nowhere.wav"),
        lambda: detector.threshold,
        lambda: detector.save(tmp_path / "d.npz"),
    ):
        with pytest.raises(RuntimeError, match="has not been fitted: call fit or load first"):
            call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_s": 5.0}, "normal_100.wav: nothing lies at 5.0 s; it lasts 0.5 s"),
        ({"start_s": 0.5}, "nothing lies at 0.5 s"),
        ({"duration_s": 1e-9}, "nothing lies at 0.0 s for 1e-09 s"),
        ({"start_s": -1}, "start_s: expected a number from 0"),
        ({"start_s": float("nan")}, "start_s: expected"),
        ({"start_s": "0"}, "start_s: expected"),
        ({"start_s": None}, "start_s: expected"),
        ({"duration_s": 0}, "duration_s: expected a number above 0"),
        ({"duration_s": -0.1}, "duration_s: expected"),
        ({"duration_s": float("nan")}, "duration_s: expected"),
        ({"duration_s": "all"}, "duration_s: expected"),
    ],
)
def test_a_span_that_is_none(arguments, message, fitted, sounds):
    with pytest.raises(ValueError, match=message):
        fitted.score(sounds / "unsorted" / "normal_100.wav", **arguments)


def test_a_span_beyond_the_end_ends_there(fitted, sounds):
    result = fitted.score(sounds / "unsorted" / "normal_100.wav", start_s=0.25, duration_s=9.0)
    assert (result.start_s, result.duration_s) == (0.25, 0.25)


def test_what_cannot_be_scored_is_said(fitted, sounds, tmp_path):
    with pytest.raises(
        ValueError, match=r"is a folder; score takes one recording: \[detector.score"
    ):
        fitted.score(sounds / "unsorted")
    with pytest.raises(FileNotFoundError, match="nowhere.wav"):
        fitted.score("nowhere.wav")
    for wrong in (None, 3, ["a.wav"], np.zeros(10), ""):
        with pytest.raises(ValueError, match="recording: expected a path"):
            fitted.score(wrong)
    for path in bad_files(tmp_path):
        with pytest.raises(BadClipError, match=path.name):
            fitted.score(path)


@pytest.mark.parametrize("how", ["itself", "copy", "link"])
def test_a_recording_that_was_learned_from_is_said(how, fitted, sounds, tmp_path):
    path = sounds / "normal" / "normal_0.wav"
    if how == "copy":
        path = Path(shutil.copy(path, tmp_path / "monday.wav"))
    elif how == "link":
        (tmp_path / "monday.wav").symlink_to(path)
        path = tmp_path / "monday.wav"
    fitted.save(tmp_path / "d.npz")
    for detector in (fitted, AnomalyDetector.load(tmp_path / "d.npz", gpu=False)):
        with pytest.warns(UserWarning, match=f"the detector learned from {path}"):
            detector.score(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.score(sounds / "unsorted" / "normal_100.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("of", ["score", "map"])
def test_a_score_that_is_no_number_is_an_error_not_an_anomaly(
    value, of, fitted, sounds, monkeypatch
):
    def score_and_map(clip):
        return (value if of == "score" else 1.0), np.full((25, 128), value if of == "map" else 0.0)

    with monkeypatch.context() as patched:
        patched.setattr(fitted, "score_and_map", score_and_map)
        with pytest.raises(BadClipError, match="normal_100.wav: .*NaN or infinite"):
            fitted.score(sounds / "unsorted" / "normal_100.wav")
    detector = new()
    monkeypatch.setattr(detector, "score_and_map", score_and_map)
    with pytest.raises(BadClipError, match=r"normal_\d+.wav: .*NaN or infinite"):
        detector.fit(sounds / "normal")


# --- load


def test_weights_of_another_fit_are_refused(normal, tmp_path):
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_random_weights(ENCODERS["aisfx"], seed=seed, out=path)
    settings = {"gpu": False, "false_alarm_rate": 0.5}
    detector = AnomalyDetector("band_padim", weights=paths[0], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(sorted(normal.iterdir())[:3])
    detector.save(tmp_path / "d.npz")
    scored = AnomalyDetector.load(tmp_path / "d.npz", weights=shutil.copy(paths[0], tmp_path / "c"))
    assert np.isfinite(scored.score(normal / "normal_9.wav").score)
    other = AnomalyDetector.load(tmp_path / "d.npz", weights=paths[1])
    with pytest.raises(ValueError, match="are not those that the detector was fitted with"):
        other.score(normal / "normal_9.wav")
    with pytest.raises(ValueError, match="weights: there is no file nowhere"):
        AnomalyDetector.load(tmp_path / "d.npz", weights="nowhere")


def test_clips_that_are_embedded_already_need_no_weights(normal, tmp_path, monkeypatch):
    """As in the workflow, where the job that fits has none: nothing is looked for or fetched."""
    write_random_weights(ENCODERS["aisfx"], seed=0, out=tmp_path / "w.safetensors")
    settings = {"gpu": False, "false_alarm_rate": 0.5, "window_s": 0.5}
    embedding = AnomalyDetector("band_padim", weights=tmp_path / "w.safetensors", **settings)
    paths = sorted(normal.iterdir())[:2]
    clips = [clip for path in paths for clip in embedding.embed(SoundFile.open(path))]
    detector = AnomalyDetector("band_padim", **settings)
    monkeypatch.setattr(detector, "_weights", lambda: pytest.fail("weights were looked for"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit_clips([str(path) for path in paths], [1, 1], clips.__getitem__)
    assert np.isfinite(detector.score_clip(SoundFile.open(paths[0]), clips[0]).score)


# --- what is shown


def test_a_detector_shows_itself_in_a_line(fitted):
    shown = repr(fitted)
    assert "band_zscore" in shown and "logmel_dcase2020" in shown and "\n" not in shown
    assert f"fitted on 11 clips, threshold {fitted.threshold:.4g} from 9 others" in shown
    assert "not fitted" in repr(AnomalyDetector("padim"))
    assert DETECTORS["autoencoder"].own_encoder in repr(AnomalyDetector("autoencoder"))


def test_a_result_shows_itself_in_a_line_and_as_a_picture(fitted, sounds, tmp_path):
    matplotlib.use("Agg")
    name = "$a_{1}$ \\frac $.wav"
    path = Path(shutil.copy(sounds / "unsorted" / "anomaly_200.wav", tmp_path / name))
    result = fitted.score(path)
    shown = repr(result)
    assert len(shown) < 200 and "array" not in shown
    assert "$a_{1}$" in shown and "0.00 to 0.50 s: normal, score" in shown and "0 regions" in shown
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    picture = result._repr_png_()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    assert plt.get_fignums() == before
    path.unlink()
    assert result._repr_png_() is None and repr(result) == shown


@pytest.mark.parametrize("n_samples", [1, 2, 100, 512, 1024])
@pytest.mark.parametrize("whistle", [False, True])
def test_a_clip_of_milliseconds_can_be_looked_at_and_listened_to(
    n_samples, whistle, fitted, tmp_path
):
    samples = hum(3, 0.5, whistle=whistle)[-n_samples:]
    soundfile.write(tmp_path / "short.wav", samples, RATE_HZ)
    result = fitted.score(tmp_path / "short.wav")
    assert result.spectrogram_db().shape == result.anomaly_map.shape
    parts = result.sources()
    np.testing.assert_allclose(parts["anomaly"] + parts["background"], parts["original"], atol=1e-6)
    assert len(parts["original"]) == n_samples and result._repr_png_()


def test_results_can_be_compared_and_kept_in_sets(fitted, sounds):
    one, other = (fitted.score(sounds / "unsorted" / "normal_100.wav") for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2 and one in [other, one]


def test_one_region_is_one(fitted, sounds):
    result = fitted.score(sounds / "unsorted" / "normal_100.wav")
    fields = {name: getattr(result, name) for name in ClipResult.__dataclass_fields__}
    fields |= {"is_anomalous": True, "regions": (Region(0.1, 0.2, 10.0, 20.0, 2.0),)}
    assert "anomalous" in repr(ClipResult(**fields)) and "1 region>" in repr(ClipResult(**fields))
