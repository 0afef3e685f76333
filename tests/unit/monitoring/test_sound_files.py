"""Folders and files as people have them: every format, every rate, and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from machine_sounds import hum

from vision_to_sound.audio import BadClipError
from vision_to_sound.monitoring.sound_files import SoundFile, labels_of, sound_files


def test_all_sounds_of_a_folder_and_below_but_nothing_else(tmp_path):
    for name in (
        "b.wav",
        "A.FLAC",
        "sub/c d.ogg",
        ".hidden.wav",
        ".git/x.wav",
        "notes.txt",
        "e{x}.wav",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sound_files(tmp_path) == ["A.FLAC", "b.wav", "e{x}.wav", "sub/c d.ogg"]


def test_a_folder_without_sound_says_what_is_in_it(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        sound_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="only nothing"):
        sound_files(tmp_path)
    (tmp_path / "a.m4a").touch()
    with pytest.raises(ValueError, match=r"only \.m4a"):
        sound_files(tmp_path)


@pytest.mark.parametrize(
    "suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64", "rf64"]
)
@pytest.mark.parametrize("rate_hz", [8000, 44_100])
def test_formats_rates_and_spans(tmp_path, suffix, rate_hz):
    samples = hum(0, 1.5, rate_hz=rate_hz)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([samples, -0.5 * samples], axis=1), rate_hz)
    file = SoundFile.open(path)
    assert (file.sample_rate_hz, file.n_channels) == (rate_hz, 2)
    if suffix != "mp3":  # which adds silence at its ends
        assert file.n_samples == len(samples)
    start, stop = rate_hz // 2, rate_hz
    span = file.read(start, stop, channel=0)
    assert span.dtype == np.float32 and span.shape == (stop - start,)
    if suffix not in ("mp3", "ogg"):
        np.testing.assert_allclose(span, samples[start:stop], atol=2e-4)
        np.testing.assert_allclose(file.read(start, stop), samples[start:stop] / 4, atol=2e-4)


def test_what_cannot_be_read_is_one_clear_error(tmp_path):
    path = tmp_path / "a.wav"
    path.touch()
    with pytest.raises(
        BadClipError, match=r"a\.wav: the file is empty .*take it out of the folder"
    ):
        SoundFile.open(path)
    path.write_bytes(b"no sound at all, only words " * 9)
    with pytest.raises(BadClipError, match="not readable as audio"):
        SoundFile.open(path)
    soundfile.write(path, hum(0), 16_000)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(BadClipError, match="is cut off"):
        SoundFile.open(path)
    soundfile.write(path, hum(0), 16_000)
    with pytest.raises(BadClipError, match="has 1 channels, channel 1 was asked for"):
        SoundFile.open(path).read(0, 100, channel=1)
    bad = hum(0)
    bad[7] = np.nan
    soundfile.write(path, bad, 16_000, subtype="FLOAT")
    with pytest.raises(BadClipError, match="NaN"):
        SoundFile.open(path).read(0, 100)
    soundfile.write(path, hum(0)[:0], 16_000)
    with pytest.raises(BadClipError, match="holds no samples"):
        SoundFile.open(path)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("normal_1.wav", 0),
        ("abnormal/1.wav", 1),
        ("anomaly_id_00.wav", 1),
        ("Faulty pump.wav", 1),
        ("healthy/3.wav", 0),
        ("x.wav", None),
        ("paranormal.wav", None),
    ],
)
def test_words_in_names_are_labels(name, label):
    expected = {} if label is None else {name: label}
    assert labels_of([name], "names") == expected


def test_labels_from_names_need_all_of_them():
    assert labels_of(["normal.wav", "anomaly.wav"], "names") == {"normal.wav": 0, "anomaly.wav": 1}
    assert labels_of(["normal.wav", "x.wav"], "names") == {}
    assert labels_of(["normal.wav"], "none") == {}


def test_labels_from_a_table(tmp_path):
    path = tmp_path / "labels.csv"
    names = ["a/1.wav", "a/2.wav", "b/3.wav"]
    path.write_text("recording,label\na/*,normal\n3.wav,Anomalous\n")
    assert labels_of(names, str(path)) == {"a/1.wav": 0, "a/2.wav": 0, "b/3.wav": 1}
    path.write_text("recording,label\nc.wav,normal\n")
    with pytest.raises(ValueError, match=r"line 2: no recording is called 'c\.wav'"):
        labels_of(names, str(path))
    path.write_text("recording,label\na/1.wav,bad\n")
    with pytest.raises(ValueError, match="line 2: label 'bad', expected normal or anomalous"):
        labels_of(names, str(path))
    path.write_text("file;label\n")
    with pytest.raises(ValueError, match="columns recording and label"):
        labels_of(names, str(path))
