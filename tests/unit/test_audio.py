"""Recordings of every kind are handled, or refused with the clip's name and what to do."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_to_sound import audio
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
    ids=["empty", "no audio", "no samples", "NaN", "infinite"],  # those files hold the time of day
)
def test_unusable_recordings_are_refused_by_name(data, problem):
    with pytest.raises(BadClipError, match=problem) as caught:
        decode(data, clip="fold1/bad.wav")
    assert "fold1/bad.wav" in str(caught.value) and "on_bad_clip: skip" in str(caught.value)


def wav(declared: int | None = None, *, riff: int | None = None, rate=8000, channels=1, tail=b""):
    """A WAV of 4000 samples, 16 bits, whose header says what it is told to."""
    sound = (np.sin(np.arange(4000) / 9) * 9000).astype("<i2").tobytes()
    frame = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * frame % 2**32, frame % 2**16, 16)
    size = len(sound) if declared is None else declared
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", size) + sound + tail
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) if riff is None else riff) + b"WAVE" + chunks


@pytest.mark.parametrize(
    "data",
    [
        wav(),
        wav(0xFFFFFFFF, riff=0xFFFFFFFF),  # ffmpeg into a pipe
        wav(0x7FFFF000, riff=0x7FFFF024),  # sox into a pipe
        wav(riff=0),
        wav(tail=b"LIST" + struct.pack("<I", 4) + b"INFO"),
        wav(tail=b"id3 " + struct.pack("<I", 3) + b"abc\0"),
    ],
    ids=["plain", "left open", "left open 31 bits", "no RIFF length", "LIST", "odd chunk"],
)
def test_a_length_that_was_left_open_and_further_chunks_are_fine(data, caplog):
    samples, rate = decode(data, clip="x")
    assert (len(samples), rate) == (4000, 8000) and not caplog.text


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (wav(80_000), "is cut off: its header says 80000 bytes of sound, 8000 are there (4.500 s"),
        (wav()[:-2000], "is cut off: its header says 8000 bytes of sound, 6000 are there (0.125 s"),
        (wav(6000), "is longer than its header says 6000 bytes of sound: 8000 are there (0.125 s"),
        (wav(0), "is longer than its header says 0 bytes of sound: 8000 are there (0.500 s more)"),
        (wav()[:44], "is cut off: its header says 8000 bytes of sound, 0 are there"),
        (wav()[:30], "not readable as audio"),
        (wav()[:36], "not readable as audio"),  # no samples and no word of them
        (wav(channels=0), "not readable as audio"),
        (wav(channels=5000), "not readable as audio"),
        (wav(rate=0), "has a sample rate of 0 Hz, which is outside 1000 to 768000 Hz"),
        (wav(rate=1), "has a sample rate of 1 Hz"),
        (wav(rate=4_294_967_295), "has a sample rate of 4294967295 Hz"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:24],
)
def test_a_header_that_cannot_be_true_is_refused(data, problem):
    with pytest.raises(BadClipError) as caught:
        decode(data, clip="bad.wav", max_missing_s=0.1)
    assert f"bad.wav: {problem}" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "n_samples", "words"),
    [(wav()[:-200], 3900, "is cut off"), (wav(7800), 3900, "is longer than")],
)
def test_a_small_lie_is_tolerated_with_a_word_in_the_log(data, n_samples, words, caplog):
    samples, _ = decode(data, clip="odd.wav", max_missing_s=0.1)
    assert len(samples) == n_samples and f"odd.wav: {words}" in caplog.text
    with pytest.raises(BadClipError, match=words):
        decode(data, clip="odd.wav")


def test_memory_is_not_taken_for_what_a_header_claims(monkeypatch):
    monkeypatch.setattr(audio, "_MAX_SAMPLES", 3999)
    with pytest.raises(BadClipError, match="claims 4000 samples in 1 channels, more than 3999"):
        decode(wav(), clip="x")
    flac = bytearray(encoded(np.zeros(4000), kind="FLAC"))
    flac[21:26] = bytes([flac[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # 2^36 samples
    with pytest.raises(BadClipError, match="its header says 68719476735 samples, 4000 are there"):
        decode(bytes(flac), clip="x")
    flac[21:26] = bytes([flac[21] & 0xF0, 0, 0, 0, 0])  # not told
    with pytest.raises(BadClipError, match="holds more than 3999 samples"):
        decode(bytes(flac), clip="x")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 8044),
)
def test_damaged_bytes_are_a_bad_clip_or_a_clip(changes, end):
    data = bytearray(wav())
    for position, value in changes:
        data[position] = value
    try:
        samples, _ = decode(bytes(data[: max(end, 100)]), clip="x", max_missing_s=0.1)
    except BadClipError:
        return
    assert np.isfinite(samples).all() and len(samples) <= 8000


def test_many_bad_clips_fit_on_a_screen():
    message = str(
        BadClipError("a", "is bad", [f"{n}: is bad" for n in range(500)], archive="x.zip")
    )
    assert message.startswith("x.zip: a: is bad. 500 more bad clips: 0: is bad; 1: is bad;")
    assert "the log names them all" in message and len(message) < 500


def test_a_clip_that_is_too_short():
    samples, _ = decode(encoded(np.linspace(-0.5, 0.5, 900)), clip="cut.wav")
    with pytest.raises(BadClipError, match="cut.wav: has 900 samples where 1000 are needed"):
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
