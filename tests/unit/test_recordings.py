"""Recordings of MIMII: eight channels from a zip, the same samples as `decode`, and bad ones by name."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from vision_to_sound.archives import Archive
from vision_to_sound.audio import BadClipError, decode
from vision_to_sound.datasets import index_mimii
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.recordings import recording_reader, recordings_of
from vision_to_sound.spectrogram import write_spectrograms

RATE = 16_000
CLIP_S = 0.5
N_SAMPLES = 8000
FRONT_END = FrontEnd("test", 44_100, 1024, 320, 64, 50.0, 14_000.0, "slaney", "slaney", "reflect")


def noise(number: int, n_samples: int = N_SAMPLES) -> np.ndarray:
    return np.random.default_rng(number).uniform(-0.5, 0.5, (n_samples, 8))


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


def archive_of(path: Path, replaced: dict[int, bytes] | None = None) -> Archive:
    """Seven normal and two abnormal recordings of one fan; numbers count through both."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for i in (8, 3, 7, *range(3), *range(4, 7)):
            name = f"normal/{i:08d}" if i < 7 else f"abnormal/{i - 7:08d}"
            file.writestr(f"fan/id_00/{name}.wav", (replaced or {}).get(i) or wav(noise(i)))
    return Archive(path, max_member_bytes=1 << 24)


def reader(archive: Archive, label: int = 0, **changes):
    rows = recordings_of(index_mimii(archive), "fan_id_00", label=label)
    arguments = dict(
        sample_rate_hz=RATE, clip_s=CLIP_S, max_missing_s=0.01, channel=None, threads=2
    )
    return recording_reader(archive, rows, **(arguments | changes))


@pytest.mark.parametrize("channel", [None, 0])
def test_clips_are_those_of_decode_in_the_order_of_the_index(tmp_path, channel):
    archive = archive_of(tmp_path / "m.zip")
    clips = reader(archive, channel=channel)(slice(0, 64))
    assert clips.shape == (7, N_SAMPLES) and clips.dtype == np.float32
    for i, clip in enumerate(clips):
        decoded, _ = decode(wav(noise(i)), clip="x", channel=channel)
        assert np.array_equal(clip, decoded)
        chosen = noise(i).mean(axis=1) if channel is None else noise(i)[:, 0]
        assert np.abs(clip - chosen).max() < 4e-5
    abnormal = reader(archive, label=1, channel=channel)(slice(1, 2))
    assert np.array_equal(abnormal[0], decode(wav(noise(8)), clip="x", channel=channel)[0])


def test_neither_blocks_nor_threads_matter(tmp_path):
    archive = archive_of(tmp_path / "m.zip")
    whole = reader(archive)(slice(0, 7))
    for threads in (1, 3):
        read_clips = reader(archive, threads=threads)
        blocks = [read_clips(slice(start, start + 3)) for start in range(0, 7, 3)]
        assert np.array_equal(np.concatenate(blocks), whole)


def test_clips_are_cut_or_padded(tmp_path):
    replaced = {0: wav(noise(0, N_SAMPLES + 99)), 2: wav(noise(2, N_SAMPLES - 160))}
    clips = reader(archive_of(tmp_path / "m.zip", replaced))(slice(0, 7))
    assert np.array_equal(clips[0], decode(replaced[0], clip="x")[0][:N_SAMPLES])
    assert clips[2, :-160].any() and not clips[2, -160:].any()


def test_one_run_names_all_bad_clips_and_how_to_leave_them_out(tmp_path):
    replaced = {
        1: wav(noise(1), 8000),
        3: b"RIFFjunk",
        4: wav(np.zeros((N_SAMPLES, 8))),
        5: wav(np.full((N_SAMPLES - 100, 8), 0.25)),  # stuck, and padded it would have an edge
        6: wav(noise(6, N_SAMPLES - 161)),
        7: b"RIFFjunk",  # of the other set
    }
    archive = archive_of(tmp_path / "m.zip", replaced)
    read_clips = reader(archive)
    assert len(read_clips(slice(0, 1))) == 1
    with pytest.raises(BadClipError) as caught:
        read_clips(slice(0, 3))
    message = str(caught.value)
    for part in (
        "fan/id_00/normal/00000001.wav: has a rate of 8000 Hz, expected 16000 Hz",
        "4 more bad clips",
        "00000003.wav: not readable",
        "00000004.wav: is silent",
        "00000005.wav: is silent",
        "00000006.wav: has 7839 samples where 8000 are needed",
    ):
        assert part in message
    excluded = message.partition("mimii.exclude: [")[2].rstrip("].").split(", ")
    assert excluded[0] == "fan_id_00/normal_00000001.wav" and len(excluded) == 5
    rows = recordings_of(index_mimii(archive, exclude=excluded), "fan_id_00", label=0)
    settings = dict(sample_rate_hz=RATE, clip_s=CLIP_S, max_missing_s=0.0, channel=0, threads=1)
    assert len(recording_reader(archive, rows, **settings)(slice(0, 64))) == 2


def test_a_channel_that_is_not_there(tmp_path):
    with pytest.raises(BadClipError, match="has 8 channels, channel 8"):
        reader(archive_of(tmp_path / "m.zip"), channel=8)(slice(0, 1))


def test_sets_that_are_not_there():
    index = pd.DataFrame({"category": ["fan_id_00"], "label": [0]})
    with pytest.raises(ValueError, match="machine 'fan_id_00' has no abnormal clips"):
        recordings_of(index, "fan_id_00", label=1)
    with pytest.raises(ValueError, match="unknown machine 'fan_id_0'; did you mean 'fan_id_00'"):
        recordings_of(index, "fan_id_0", label=0)


def test_real_recordings_to_spectrograms(shared_data, tmp_path):
    with Archive(shared_data / "0_dB_fan.zip", max_member_bytes=1 << 24) as archive:
        index = index_mimii(archive)
        samples, rate = soundfile.read(io.BytesIO(archive.read(index["member"][0])))
        assert samples.shape == (160_000, 8) and rate == RATE
        for label, n_clips in ((0, 12), (1, 8)):
            rows = recordings_of(index, "fan_id_00", label=label)
            read_clips = recording_reader(
                archive,
                rows,
                sample_rate_hz=RATE,
                clip_s=10.0,
                max_missing_s=0.1,
                channel=None if label else 0,
                threads=2,
            )
            path = tmp_path / f"{label}.npy"
            write_spectrograms(
                path,
                read_clips,
                n_clips=n_clips,
                from_hz=RATE,
                front_end=FRONT_END,
                advance=lambda n: None,
            )
            spectrograms = np.load(path)
            assert spectrograms.shape == (n_clips, 1379, 64)
            assert np.isfinite(spectrograms).all() and spectrograms.std() > 5
