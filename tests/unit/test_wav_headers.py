"""Declared and found lengths of a WAV, chunk by chunk; what decoding makes of them is in test_audio.py."""

from __future__ import annotations

import struct

import pytest

from vision_to_sound.wav_headers import read_header

SOUND = b"\1\2" * 500


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content


def form(kind: int = 1, *, rate: int = 8000, bytes_per_s: int = 16000, frame: int = 2) -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, 1, rate, bytes_per_s, frame, 16))


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_header_that_is_true():
    header = read_header(riff(chunk(b"JUNK", b"abc\0"), form(), chunk(b"data", SOUND)))
    assert (header.sample_rate_hz, header.bytes_per_s) == (8000, 16000)
    assert (header.declared_bytes, header.found_bytes, header.missing_s) == (1000, 1000, 0.0)
    assert header.lie() == ""


def test_seconds_are_of_the_frames_not_of_what_the_header_says_of_them():
    lying = form(bytes_per_s=1)
    header = read_header(riff(lying, chunk(b"data", SOUND, 2600)))
    assert header.missing_s == pytest.approx(1600 / 16000)
    compressed = form(0x11, bytes_per_s=4000, frame=256)  # ADPCM: a frame is a block of samples
    assert read_header(riff(compressed, chunk(b"data", SOUND, 1400))).missing_s == 0.1


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (b"", 1000),
        (chunk(b"LIST", b"INFO"), 1000),
        (b"\3\4" * 80, 1160),
        (chunk(b"LIST", b"INFO") + b"\3\4" * 80, 1160),
        (chunk(b"LIST", b"INFO", 500), 1012),  # it breaks off
    ],
)
def test_what_stands_behind_the_samples(tail, found):
    header = read_header(riff(form(), chunk(b"data", SOUND), tail))
    assert header.found_bytes == found and bool(header.lie()) == (found != 1000)


def test_an_odd_length_may_be_filled_up_or_not():
    for filler in (b"\0", b""):
        data = riff(form(), chunk(b"data", SOUND[:-1]), filler, chunk(b"LIST", b"INFO"))
        assert read_header(data).lie() == ""


@pytest.mark.parametrize(
    "data",
    [b"", b"RIFF", b"fLaC" + bytes(60), riff(), riff(form()), riff(chunk(b"data", SOUND))],
    ids=["empty", "cut", "FLAC", "no chunk", "no samples", "no format"],
)
def test_no_header_to_speak_of(data):
    assert read_header(data) is None
