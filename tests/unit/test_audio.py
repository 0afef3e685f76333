"""Recordings of every kind are handled, or refused with the clip's name and what to do."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from vision_to_sound.audio import BadClipError, decode, fit_length, rms, trim_zeros


def encoded(
    samples: np.ndarray, rate: int = 8000, subtype: str = "PCM_16", kind: str = "WAV"
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype=subtype, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("subtype", "tolerance"), [("PCM_16", 4e-5), ("PCM_24", 2e-7), ("FLOAT", 0), ("PCM_U8", 8e-3)]
)
@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000])
def test_widths_and_rates(subtype, tolerance, rate):
    samples = np.linspace(-0.9, 0.9, 50).astype(np.float32)
    decoded, decoded_rate = decode(encoded(samples, rate, subtype), clip="x")
    assert decoded_rate == rate and decoded.dtype == np.float32 and decoded.shape == (50,)
    assert np.abs(decoded - samples).max() <= tolerance


def test_channels_are_averaged_or_chosen():
    samples = np.stack([np.full(9, 0.5), np.full(9, -0.25), np.full(9, 0.125)], axis=1)
    data = encoded(samples, subtype="FLOAT")
    assert np.allclose(decode(data, clip="x")[0], 0.125)
    assert np.allclose(decode(data, clip="x", channel=1)[0], -0.25)
    with pytest.raises(BadClipError, match="has 3 channels, channel 3"):
        decode(data, clip="x", channel=3)


def test_the_mean_of_eight_16_bit_channels_is_exact():
    whole = np.random.default_rng(0).integers(-(2**15), 2**15, (1000, 8))
    decoded, _ = decode(encoded(whole.astype(np.int16)), clip="x")
    assert np.array_equal(decoded, (whole.sum(axis=1) / 8 / 2**15).astype(np.float32))


def test_other_formats_are_read():
    samples = np.sin(np.arange(4000) / 9).astype(np.float32) * 0.5
    decoded, _ = decode(encoded(samples, kind="FLAC"), clip="x")
    assert np.abs(decoded - samples).max() < 1e-4


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 bytes"),
        (b"not audio at all", "not readable"),
        (encoded(np.zeros(0)), "no samples"),
        (encoded(np.array([0.0, np.nan, 0.1]), subtype="FLOAT"), "1 of 3 samples are NaN"),
        (encoded(np.array([0.0, np.inf, 0.1]), subtype="FLOAT"), "NaN or infinite"),
    ],
)
def test_unusable_recordings_are_refused_by_name(data, problem):
    with pytest.raises(BadClipError, match=problem) as caught:
        decode(data, clip="fold1/bad.wav")
    assert "fold1/bad.wav" in str(caught.value) and "on_bad_clip: skip" in str(caught.value)


def test_a_header_that_promises_more_than_there_is():
    whole = encoded(np.linspace(-0.5, 0.5, 1000))
    samples, _ = decode(whole, clip="x")
    assert len(samples) == 1000
    # libsndfile mends the length of a WAV that was cut off; fit_length then finds it too short.
    samples, _ = decode(whole[: len(whole) // 2], clip="cut.wav")
    with pytest.raises(BadClipError, match="cut.wav: has .* samples where 1000 are needed"):
        fit_length(samples, 1000, clip="cut.wav", max_missing=10)


def test_fit_length_cuts_and_pads():
    samples = np.arange(1, 11, dtype=np.float32)
    assert np.array_equal(fit_length(samples, 4, clip="x", max_missing=0), [1, 2, 3, 4])
    assert np.array_equal(fit_length(samples, 12, clip="x", max_missing=2)[8:], [9, 10, 0, 0])


def test_trim_zeros_keeps_inner_zeros():
    assert np.array_equal(trim_zeros(np.array([0, 0, 1, 0, 2, 0.0])), [1, 0, 2])
    assert len(trim_zeros(np.zeros(5))) == 0


def test_rms():
    assert rms(np.array([3.0, -4.0])) == pytest.approx(np.sqrt(12.5))
