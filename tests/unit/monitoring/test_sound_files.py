"""Sound files as people have them: every format, every rate, and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from machine_sounds import hum

from vision_to_sound.audio import BadClipError
from vision_to_sound.monitoring.sound_files import SoundFile


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


def cut_flac_header(data: bytes) -> bytes:
    """A FLAC as a program writes it into a pipe: its length is not told."""
    return data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:]


def test_a_length_that_is_not_told_is_counted(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, hum(0, 5.0), 16_000)
    whole = SoundFile.open(path).read(0, 80_000)
    path.write_bytes(cut_flac_header(path.read_bytes()))
    file = SoundFile.open(path)
    assert file.n_samples == 80_000
    np.testing.assert_array_equal(file.read(0, 80_000), whole)
    np.testing.assert_array_equal(file.read(70_001, 80_000), whole[70_001:])


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "GSM610"), ("wav", "IMA_ADPCM"), ("mp3", None), ("ogg", None)]
)
def test_spans_are_those_of_the_whole_file(tmp_path, suffix, subtype):
    """Whether one can seek in a file or not; more than a minute, where GSM 6.10 used to end in an error."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([hum(0, 70.0, rate_hz=8000)] * 1, axis=1), 8000, subtype=subtype)
    file = SoundFile.open(path)
    (whole,) = file.spans([(0, file.n_samples)])
    bounds = [(7, 40_000), (40_000, 41_000), (500_000, file.n_samples)]
    for (start, stop), span in zip(bounds, file.spans(bounds), strict=True):
        np.testing.assert_allclose(span, whole[start:stop], atol=1e-6)
        np.testing.assert_allclose(file.read(start, stop), whole[start:stop, 0], atol=1e-6)


@pytest.mark.parametrize(
    "suffix", ["aiff", "w64", "au", "caf", "flac", "ogg", "mp3", "rf64", "wav"]
)
def test_half_a_file_and_two_in_one_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, hum(0), 16_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadClipError, match=rf"a\.{suffix}: is cut off"):
        SoundFile.open(path)
    path.write_bytes(data + data)
    with pytest.raises(
        BadClipError, match=rf"a\.{suffix}: (has a second sound|is longer|has \d+ bytes)"
    ):
        SoundFile.open(path)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        OverflowError(),
        MemoryError(),
        OSError(5, "Input/output error"),
        KeyError(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_one_file_raises_bears_its_name(tmp_path, monkeypatch, error):
    path = tmp_path / "a.wav"
    soundfile.write(path, hum(0), 16_000)
    file = SoundFile.open(path)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    with pytest.raises(BadClipError, match=r"a\.wav: not readable as audio \(\w"):
        file.read(0, 10)
    monkeypatch.setattr(soundfile.SoundFile, "__init__", fail)
    with pytest.raises(BadClipError, match=r"a\.wav: not readable as audio \(\w"):
        SoundFile.open(path)


def test_a_file_that_is_gone_or_none_or_has_a_name_of_its_own(tmp_path):
    with pytest.raises(BadClipError, match=r"gone\.wav: not readable as audio \(No such file"):
        SoundFile.open(tmp_path / "gone.wav")
    with pytest.raises(BadClipError, match="is not a file"):
        SoundFile.open(tmp_path)
    path = tmp_path / "a\udcff.wav"
    soundfile.write(tmp_path / "a.wav", hum(0), 16_000)
    (tmp_path / "a.wav").rename(path)
    assert SoundFile.open(path).read(0, 10).shape == (10,)
    path.write_bytes(b"")
    with pytest.raises(BadClipError, match="udcff"):
        SoundFile.open(path)


def test_samples_beyond_all_sense(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.0, 3e38]), 16_000, subtype="FLOAT")
    with pytest.raises(BadClipError, match=r"samples of up to 3e\+38, where full scale is 1"):
        SoundFile.open(path).read(0, 2)
    soundfile.write(path, np.array([0.0, 2.0**31]), 16_000, subtype="FLOAT")
    assert SoundFile.open(path).read(0, 2)[1] == 2.0**31


def test_noise_under_a_suffix_of_sound_is_no_sound(tmp_path):
    """libsndfile takes whatever is called .au or .snd for samples without a header."""
    path = tmp_path / "a.snd"
    path.write_bytes(b"no sound at all, only words " * 900)
    with pytest.raises(BadClipError, match="it is none of WAV, AIFF"):
        SoundFile.open(path)
