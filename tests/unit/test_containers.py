"""Declared and found lengths of every container that is read, followed to the end of the file.

What decoding makes of them is in test_audio.py and monitoring/test_sound_files.py.
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from vision_to_sound.audio import BadClipError, decode
from vision_to_sound.containers import KINDS, Container, read_container

SOUND = b"\1\2" * 500
FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "AU", "W64", "CAF", "FLAC", "OGG", "MP3")
RNG = np.random.default_rng(0)


def encoded(kind: str, subtype=None, *, n_samples=16_001, n_channels=1, endian="FILE") -> bytes:
    """A file as libsndfile writes it."""
    tone = 0.3 * np.sin(np.arange(n_samples) / 9) + 0.05 * RNG.standard_normal(n_samples)
    samples = np.outer(tone, np.linspace(1, 0.5, n_channels))
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, subtype=subtype, format=kind, endian=endian)
    return file.getvalue()


def container(data: bytes) -> Container:
    return read_container(io.BytesIO(data))


def problem(data: bytes) -> str:
    """What is wrong with a file, by its structure or when it is decoded; "" if nothing."""
    try:
        decode(data, clip="x")
    except BadClipError as error:
        return error.problem
    return ""


def with_bytes(data: bytes, place: int, other: bytes) -> bytes:
    assert place >= 0
    return data[:place] + other + data[place + len(other) :]


def all_kinds() -> list[tuple[str, str]]:
    return [(kind, subtype) for kind in FORMATS for subtype in soundfile.available_subtypes(kind)]


@pytest.mark.parametrize(("kind", "subtype"), all_kinds())
def test_all_that_libsndfile_writes_is_taken(kind, subtype):
    """Odd lengths fill up blocks and chunks; not every codec takes every number of channels."""
    n_written = 0
    for n_samples in (1, 999, 5001):
        for n_channels in (1, 2, 5):
            for endian in ("FILE", "BIG", "LITTLE") if n_samples == 999 else ("FILE",):
                try:
                    data = encoded(
                        kind, subtype, n_samples=n_samples, n_channels=n_channels, endian=endian
                    )
                except (soundfile.LibsndfileError, ValueError):
                    continue  # libsndfile does not write this
                n_written += 1
                assert container(data).problem == "", (n_samples, n_channels, endian)
                decoded, _ = decode(data, clip="x")
                assert len(decoded) >= n_samples
    assert n_written or (kind, subtype) in UNWRITTEN


UNWRITTEN = {("AIFF", "DWVW_12"), ("MP3", "MPEG_LAYER_I"), ("MP3", "MPEG_LAYER_II")}
UNWRITTEN |= {("WAV", "MPEG_LAYER_III")}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data[:-100], "cut off"),
        (lambda data: data[: len(data) // 4] + data[len(data) // 2 :], ""),
        (lambda data: data + data, ""),
        (lambda data: data + encoded("WAV"), ""),
        (lambda data: data + encoded("OGG"), ""),
        (lambda data: data + b"other bytes, no sound at all " * 9, ""),
        (lambda data: data + bytes(5000), ""),
    ],
    ids=[
        "half",
        "its end",
        "its middle",
        "twice",
        "a WAV behind",
        "an Ogg behind",
        "text",
        "zeros",
    ],
)
def test_what_is_missing_or_joined_is_said(kind, change, words):
    said = problem(change(encoded(kind)))
    assert said and words in said


def test_half_and_twice_of_every_codec():
    for kind, subtype in all_kinds():
        if (kind, subtype) in UNWRITTEN:
            continue
        data = encoded(kind, subtype)
        assert problem(data[: len(data) // 2]), (kind, subtype)
        assert problem(data + data), (kind, subtype)


def test_other_containers_of_libsndfile_are_not_read():
    for kind in ("VOC", "PAF", "AVR", "IRCAM"):
        assert container(encoded(kind)).kind == ""
        assert problem(encoded(kind)) == f"not readable as audio (it is none of {', '.join(KINDS)})"


@pytest.mark.parametrize("kind", [*FORMATS, "APE"])
def test_damaged_headers_end_in_words(kind):
    """Whatever stands in a header, following it comes to an end, and what is wrong has words."""
    rng = np.random.default_rng(1)
    whole = mp3() + APE if kind == "APE" else encoded(kind, n_samples=2000)
    for _ in range(60):
        data = bytearray(whole)
        first = len(data) - 72 if kind == "APE" else 0
        for place in rng.integers(first, first + 72, 3):
            data[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        assert isinstance(problem(bytes(data)), str)


# --- WAV


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content


def form(kind: int = 1, *, rate: int = 8000, bytes_per_s: int = 16000, frame: int = 2) -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, 1, rate, bytes_per_s, frame, 16))


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_header_that_is_true():
    found = container(riff(chunk(b"JUNK", b"abc\0"), form(), chunk(b"data", SOUND)))
    assert found == Container("WAV", "", 0.0, 8000)


def test_seconds_are_of_the_frames_not_of_what_the_header_says_of_them():
    wrong = form(bytes_per_s=1)
    header = container(riff(wrong, chunk(b"data", SOUND, 2600)))
    assert header.missing_s == pytest.approx(1600 / 16000)
    compressed = form(0x11, bytes_per_s=4000, frame=256)  # ADPCM: a frame is a block of samples
    assert container(riff(compressed, chunk(b"data", SOUND, 1400))).missing_s == 0.1


@pytest.mark.parametrize(
    ("tail", "n_more"),
    [
        (b"", 0),
        (chunk(b"LIST", b"INFO"), 0),
        (b"\3\4" * 80, 160),
        (chunk(b"LIST", b"INFO") + b"\3\4" * 80, 160),
        (chunk(b"LIST", b"INFO", 500), 12),  # it breaks off
        (riff(form(), chunk(b"data", SOUND)), 1044),  # is a chunk by its form
    ],
)
def test_what_stands_behind_the_samples(tail, n_more):
    found = container(riff(form(), chunk(b"data", SOUND), tail))
    assert found.missing_s == pytest.approx(-n_more / 16_000)
    assert bool(found.problem) == bool(n_more)


def test_an_odd_length_may_be_filled_up_or_not():
    for filler in (b"\0", b""):
        data = riff(form(), chunk(b"data", SOUND[:-1]), filler, chunk(b"LIST", b"INFO"))
        assert container(data).problem == ""


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", ""),
        (b"RIFF", ""),
        (riff(), "WAV"),
        (riff(form()), "WAV"),
        (riff(chunk(b"data", SOUND)), "WAV"),
    ],
    ids=["empty", "cut", "no chunk", "no samples", "no format"],
)
def test_no_sound_to_speak_of(data, kind):
    found = container(data)
    assert found.kind == kind and bool(found.problem) == bool(kind)


def test_mp3_inside_a_wav_has_no_length():
    assert "MP3 inside a WAV" in container(riff(form(0x55), chunk(b"data", SOUND))).problem


def test_an_aiff_whose_header_contradicts_itself():
    data = encoded("AIFF")
    place = data.find(b"COMM") + 10
    assert struct.unpack(">I", data[place : place + 4]) == (16_001,)
    assert "has a wrong length" in container(with_bytes(data, place, bytes([0, 0, 99, 0]))).problem


# --- lengths that a program left open since it wrote into a pipe


def left_open(kind: str) -> bytes:
    data = encoded("RF64" if kind == "BW64" else kind)
    if kind == "WAV":
        return with_bytes(data, data.find(b"data") + 4, b"\xff" * 4)
    if kind in ("RF64", "BW64"):
        data = with_bytes(data, data.find(b"ds64") + 16, bytes(8))
        return with_bytes(data, 0, kind.encode())
    if kind == "AIFF":  # as ffmpeg leaves it
        data = with_bytes(data, data.find(b"SSND") + 4, bytes(4))
        return with_bytes(with_bytes(data, data.find(b"COMM") + 10, bytes(4)), 4, bytes(4))
    if kind == "AU":
        return with_bytes(data, 8, b"\xff" * 4)
    if kind == "W64":
        data = with_bytes(data, data.find(b"data\xf3") + 16, b"\xff" * 7 + b"\x7f")
        return with_bytes(data, 16, b"\xff" * 8)
    if kind == "CAF":
        return with_bytes(data, data.find(b"data") + 4, b"\xff" * 8)
    assert kind == "FLAC"
    return with_bytes(data, 21, bytes([data[21] & 0xF0, 0, 0, 0, 0]))


OPEN = ("WAV", "RF64", "BW64", "AIFF", "AU", "W64", "CAF", "FLAC")


@pytest.mark.parametrize("kind", OPEN)
def test_an_open_length_is_that_of_the_file(kind, tmp_path):
    data = left_open(kind)
    assert container(data).problem == ""
    samples, _ = decode(data, clip="x")
    assert len(samples) == 16_001 and samples.std() > 0.1
    assert "joined behind" in problem(data + data)


def test_a_flac_that_breaks_off_in_a_frame_is_told_without_a_length():
    data = left_open("FLAC")
    assert "cut off" in problem(data[: len(data) // 2]) and "cut off" in problem(data[:-1])


def test_a_flac_that_lacks_frames_is_told_with_and_without_a_length():
    """A decoder puts silence in place of whole frames that are missing, without a word."""
    data = encoded("FLAC", n_samples=40_000)
    starts = [found.start() for found in re.finditer(rb"\xff\xf8.\x08[\x03-\x05]", data)]
    cut = data[: starts[0]] + data[starts[2] :]
    for damaged in (cut, with_bytes(cut, 21, bytes([cut[21] & 0xF0, 0, 0, 0, 0]))):
        assert problem(damaged) == "lacks FLAC frames behind sample 12288"


def test_a_bw64_is_read():
    data = b"BW64" + encoded("RF64")[4:]
    assert len(decode(data, clip="x")[0]) == 16_001
    assert "is cut off" in problem(data[:-2000])


# --- Ogg and MP3


def test_an_ogg_cut_between_pages_lacks_its_last():
    data = encoded("OGG", n_samples=80_000)
    last = data.rfind(b"OggS")
    assert container(data[:last]).problem == "is cut off: no page is marked as its last"
    before = data.rfind(b"OggS", 0, last)
    assert "lacks pages before" in container(data[:before] + data[last:]).problem


def mp3(*, counted=True, n_samples=48_000) -> bytes:
    """With its count of frames, or without as programs write it into a pipe."""
    data = encoded("MP3", n_samples=n_samples)
    if counted:
        return data
    length = data.find(data[:2], 2)  # of the first frame, which holds the count
    assert b"Info" in data[:length] or b"Xing" in data[:length]
    return data[length:]


ID3V2 = b"ID3\4\0\0\0\0\1\0" + bytes(128)
ID3V1 = b"TAG" + bytes(125)
APE = struct.pack("<8sIIII8x", b"APETAGEX", 2000, 40, 1, 1 << 31) + b"12345678"
APE += struct.pack("<8sIIII8x", b"APETAGEX", 2000, 40, 1, 1 << 31)


@pytest.mark.parametrize(
    "before", [b"", ID3V2, ID3V2 + ID3V2 + bytes(300)], ids=["", "ID3v2", "filled up"]
)
@pytest.mark.parametrize(
    "behind", [b"", ID3V1, APE, APE + ID3V1], ids=["", "ID3v1", "APE", "APE, ID3v1"]
)
def test_tags_of_mp3_and_flac_are_no_sound(before, behind):
    for data in (mp3(), mp3(counted=False), encoded("FLAC")):
        assert container(before + data + behind).problem == ""
    for data in (mp3(), encoded("FLAC", n_samples=48_000)):
        assert len(decode(before + data + behind, clip="x")[0]) == 48_000
    assert problem(before + mp3()[:-50] + behind)


def test_an_mp3_without_a_count_is_heard_to_its_end():
    """libsndfile guesses the number of frames from the size of the first ones, and stops there."""
    data = mp3(counted=False)
    samples, _ = decode(data, clip="x")
    frames = len(samples) + 529  # the delay of every decoder
    assert frames % 576 == 0 and 48_000 <= frames < 48_000 + 4 * 576
    assert samples[47_000:47_900].std() > 0.1
    assert "cut off" in problem(data[:-10])
    assert "behind the end" in problem(data + b"no sound at all")


def test_an_mp3_that_lacks_its_last_frame():
    data = mp3()
    header = data.rfind(data[:2])
    assert "is cut off: its header says" in problem(data[:header])


def test_an_mp3_with_a_free_bit_rate_is_refused():
    data = mp3()
    assert "free bit rate" in container(with_bytes(data, 2, bytes([data[2] & 0x0F]))).problem


# --- programs of others, where they are installed


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("wav", "pcm_s24le"),
        ("aiff", "pcm_s16be"),
        ("au", "pcm_s16be"),
        ("w64", "pcm_f32le"),
        ("caf", "pcm_s16le"),
        ("flac", "flac"),
        ("ogg", "libvorbis"),
        ("mp3", "libmp3lame"),
    ],
)
def test_what_ffmpeg_writes_to_disk_and_into_a_pipe(tmp_path, suffix, codec):
    source, path = tmp_path / "source.wav", tmp_path / f"a.{suffix}"
    source.write_bytes(encoded("WAV", n_samples=48_001))
    command = ["ffmpeg", "-v", "error", "-i", str(source), "-c:a", codec, "-q:a", "3", "-f", suffix]
    subprocess.run([*command, str(path)], check=True)
    piped = subprocess.run([*command, "-"], check=True, capture_output=True).stdout
    for data in (path.read_bytes(), piped):
        samples, rate_hz = decode(data, clip="x")
        assert rate_hz == 16_000 and 48_001 <= len(samples) < 51_000
        assert suffix in ("w64", "mp3") or len(samples) == 48_001  # which ffmpeg fills up
