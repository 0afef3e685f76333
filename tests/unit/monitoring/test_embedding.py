"""Clips as detectors read them: one way of cutting or another, in memory or from files."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile
from machine_sounds import RATE_HZ, hum

from vision_to_sound.encoders import ENCODERS
from vision_to_sound.encoders.weights import random_weights
from vision_to_sound.front_ends import FRONT_ENDS
from vision_to_sound.monitoring.embedding import (
    ClipFiles,
    Cut,
    EmbeddedClip,
    WindowFeatures,
    embed_recording,
)
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.spectrogram import log_mel_db

FRONT_END = FRONT_ENDS["dcase2020_16k"]
CUT = Cut(channel=None, window_s=1.0, overlap=0.5, clip_s=4.0)


@pytest.fixture
def recording(tmp_path):
    """9 s: three clips of 3 s."""
    path = tmp_path / "long.wav"
    soundfile.write(path, hum(0, 9.0), RATE_HZ)
    return SoundFile.open(path)


def clips_of(file, cut=CUT, *, encoder=None, front_end=FRONT_END):
    arguments = {"encoder": encoder, "device": "cpu", "memory_bytes": 2**28}
    return list(embed_recording(file, cut, front_end, **arguments))


def test_windows_are_parts_of_the_clips_own_spectrogram(recording):
    clips = clips_of(recording)
    assert [round(clip.start_s, 6) for clip in clips] == [0.0, 3.0, 6.0]
    for clip in clips:
        start = round(clip.start_s * RATE_HZ)
        samples = recording.read(start, start + 3 * RATE_HZ)
        whole = log_mel_db(samples[None], FRONT_END, device="cpu")[0]
        assert clip.n_frames == len(whole)
        np.testing.assert_array_equal(clip.stitch(clip.spectrograms_db).shape, whole.shape)
        np.testing.assert_allclose(clip.stitch(clip.spectrograms_db), whole, atol=1e-4)
        assert clip.level_db == pytest.approx(20 * np.log10(np.sqrt(np.mean(samples**2))), abs=1e-3)


def test_taps_are_those_of_the_windows(recording):
    spec = ENCODERS["aisfx"]
    encoder = random_weights(spec, seed=0).eval()
    (clip, *_) = clips_of(recording, encoder=encoder, front_end=spec.front_end)
    import torch

    with torch.inference_mode():
        expected = encoder(torch.from_numpy(clip.spectrograms_db[1:2]))
    assert list(clip.taps) == [tap.name for tap in spec.taps]
    for values, tap in zip(clip.taps.values(), expected, strict=True):
        np.testing.assert_allclose(values[1:2], tap.numpy(), rtol=2e-3, atol=2e-3)


def test_a_short_recording_is_repeated_to_fill_a_window(tmp_path):
    soundfile.write(tmp_path / "short.wav", hum(0, 0.3), RATE_HZ)
    (clip,) = clips_of(SoundFile.open(tmp_path / "short.wav"))
    assert clip.n_windows == 1 and clip.n_frames == FRONT_END.n_frames(round(0.3 * RATE_HZ))
    assert clip.stitch(clip.spectrograms_db).shape == (clip.n_frames, FRONT_END.n_mels)
    assert np.ptp(clip.spectrograms_db.mean(axis=2)) < 6  # dB: no silence behind it


def test_full_scale_and_silence_are_counted(tmp_path):
    samples = hum(0)
    samples[100:110] = 1.0
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ)
    soundfile.write(tmp_path / "b.wav", np.zeros(RATE_HZ), RATE_HZ)
    (loud,), (silent,) = (clips_of(SoundFile.open(tmp_path / name)) for name in ("a.wav", "b.wav"))
    assert loud.n_clipped == 10 and not loud.is_silent
    assert silent.is_silent and silent.n_clipped == 0


def test_files_hold_what_memory_holds_and_damage_is_found(recording, tmp_path):
    files = ClipFiles(tmp_path / "cache")
    assert files.finished("k") is None
    rows = files.add("k", iter(clips_of(recording)))
    assert files.finished("k") == rows and [row["clip"] for row in rows] == [0, 1, 2]
    for i, clip in enumerate(clips_of(recording)):
        loaded = EmbeddedClip.load(files.path("k", i))
        np.testing.assert_array_equal(loaded.spectrograms_db, clip.spectrograms_db)
        np.testing.assert_array_equal(loaded.starts, clip.starts)
        assert (loaded.start_s, loaded.n_frames) == (clip.start_s, clip.n_frames)
    data = bytearray(files.path("k", 1).read_bytes())
    data[len(data) // 2] ^= 1
    files.path("k", 1).write_bytes(data)
    with pytest.raises(ValueError, match=r"k-1\.npz is damaged"):
        EmbeddedClip.load(files.path("k", 1))
    files.path("k", 2).unlink()
    assert files.finished("k") is None
    files.keep_only(set())
    assert list(files.folder.iterdir()) == []


def test_a_recording_that_breaks_off_is_not_there(recording, tmp_path):
    def broken():
        yield clips_of(recording)[0]
        raise RuntimeError("killed")

    files = ClipFiles(tmp_path / "cache")
    with pytest.raises(RuntimeError):
        files.add("k", broken())
    assert files.finished("k") is None


def test_features_read_windows_of_many_clips_in_any_order(recording):
    clips = clips_of(recording)
    features = WindowFeatures.of(clips)
    every = np.concatenate([clip.spectrograms_db for clip in clips])
    assert features.n_clips == len(every) and features.n_mels == FRONT_END.n_mels
    rows = np.array([len(every) - 1, 0, 3])
    np.testing.assert_array_equal(features.read_spectrograms(rows), every[rows])


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """Two minutes take no more than twelve seconds do."""
    peaks = []
    for seconds in (12, 120):
        path = tmp_path / f"{seconds}.wav"
        soundfile.write(path, hum(0, float(seconds)), RATE_HZ)
        file = SoundFile.open(path)
        tracemalloc.start()
        arguments = {"encoder": None, "device": "cpu", "memory_bytes": 2**28}
        for _ in embed_recording(file, CUT, FRONT_END, **arguments):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
