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
        assert clip.level_db == pytest.approx(20 * np.log10(samples.std()), abs=1e-3)


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
    assert loud.n_clipped == 10 and not loud.silent
    assert silent.silent and silent.n_clipped == 0


def written(path, *channels, subtype="PCM_16"):
    soundfile.write(path, np.stack(channels, axis=1), RATE_HZ, subtype=subtype)
    return SoundFile.open(path)


def db(level):
    return 20 * np.log10(level)


def test_channels_that_cancel_are_told_by_their_own_level(tmp_path):
    samples = hum(0)
    file = written(tmp_path / "a.wav", samples, -samples)
    (mean,), (one,) = clips_of(file), clips_of(file, CUT._replace(channel=1))
    assert mean.silent and mean.level_db < -100
    assert mean.channel_level_db == pytest.approx(db(samples.std()), abs=0.01)
    assert one.level_db == pytest.approx(db(samples.std()), abs=0.01) and not one.silent
    louder = written(tmp_path / "b.wav", samples, 3 * samples)
    (both,) = clips_of(louder)
    assert both.channel_level_db == pytest.approx(db(samples.std() * np.sqrt(5)), abs=0.01)
    assert both.level_db == pytest.approx(db(2 * samples.std()), abs=0.01)


@pytest.mark.parametrize(
    ("channel", "n_clipped", "dc"), [(None, 20, 0.25), (0, 0, 0.25), (1, 20, 0.0), (2, 9, 0.1)]
)
def test_clipping_and_offset_are_of_the_heard_channels(tmp_path, channel, n_clipped, dc):
    clipped, less = (hum(seed) - hum(seed).mean() for seed in (1, 2))
    clipped[100:120] = [1.0, -1.0] * 10
    less[::4] *= 0.5
    less -= less.mean() + 0.1
    less[:9] = 1.0
    file = written(tmp_path / "a.wav", hum(0) - hum(0).mean() + 0.25, clipped, less)
    (clip,) = clips_of(file, CUT._replace(channel=channel))
    assert clip.n_clipped == n_clipped
    assert clip.dc == pytest.approx(dc, abs=1e-3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "ALAW", "PCM_16", "PCM_24", "FLOAT"])
def test_clipping_is_counted_at_the_full_scale_of_the_format(tmp_path, subtype):
    samples = np.clip(hum(0), -0.5, 0.5)
    samples[100:150] = 1.0
    (clip,) = clips_of(written(tmp_path / "a.wav", samples, subtype=subtype))
    assert clip.n_clipped == 50


def test_an_offset_is_neither_level_nor_sound(tmp_path):
    plain, offset = (
        clips_of(written(tmp_path / f"{dc}.wav", hum(0) + dc, subtype="FLOAT"))[0]
        for dc in (0.0, 0.5)
    )
    assert offset.level_db == pytest.approx(plain.level_db, abs=1e-3)
    (stuck,) = clips_of(written(tmp_path / "stuck.wav", np.full(RATE_HZ, 0.3)))
    assert stuck.silent and stuck.dc == pytest.approx(0.3, abs=1e-4)


def test_the_digest_is_of_the_sound_not_of_the_file(tmp_path):
    samples = (np.stack([hum(0), hum(1)], axis=1) * 2**15).astype(np.int16)

    def content(name, samples=samples, rate_hz=RATE_HZ, subtype="PCM_16", channel=None):
        soundfile.write(tmp_path / name, samples, rate_hz, subtype=subtype)
        (clip,) = clips_of(SoundFile.open(tmp_path / name), CUT._replace(channel=channel))
        return clip.content

    wav = content("a.wav")
    assert len(wav) == 32 and int(wav, 16)
    assert {content(f"a.{suffix}") for suffix in ("flac", "aiff", "w64", "caf", "au")} == {wav}
    assert content("c.wav", channel=1) == content("h.wav", subtype="PCM_24") == wav
    others = {
        content("d.wav", samples[:, ::-1]),
        content("e.wav", samples[:-1]),
        content("f.wav", rate_hz=22_050),
        content("g.wav", samples.reshape(-1, 1), rate_hz=2 * RATE_HZ),
    }
    assert len(others | {wav}) == 5


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "GSM610"), ("flac", "PCM_16")])
def test_what_cannot_be_sought_in_is_read_from_front_to_end(tmp_path, suffix, subtype):
    """GSM 6.10, and a FLAC as programs write it into a pipe, cut into clips."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, hum(0, 9.0), RATE_HZ, subtype=subtype)
    whole = soundfile.SoundFile(path).read(frames=9 * RATE_HZ, dtype="float32")
    if suffix == "flac":
        data = bytearray(path.read_bytes())
        data[21] &= 0xF0
        data[22:26] = bytes(4)
        path.write_bytes(data)
    file = SoundFile.open(path)
    clips = clips_of(file)
    assert len(clips) == 3
    for clip in clips:
        start = round(clip.start_s * RATE_HZ)
        stop = start + round(clip.duration_s * RATE_HZ)
        np.testing.assert_array_equal(file.read(start, stop), whole[start:stop])
        assert clip.level_db == pytest.approx(db(whole[start:stop].std()), abs=1e-3)


def test_files_hold_what_memory_holds_and_damage_is_found(recording, tmp_path):
    files = ClipFiles(tmp_path / "cache")
    assert files.finished("k") is None
    rows = files.add("k", iter(clips_of(recording)))
    assert files.finished("k") == rows and [row["clip"] for row in rows] == [0, 1, 2]
    for i, clip in enumerate(clips_of(recording)):
        loaded = EmbeddedClip.load(files.path("k", i))
        np.testing.assert_array_equal(loaded.spectrograms_db, clip.spectrograms_db)
        np.testing.assert_array_equal(loaded.starts, clip.starts)
        for name in "start_s n_frames level_db channel_level_db n_clipped dc content".split():
            assert getattr(loaded, name) == getattr(clip, name)
            assert rows[i].get(name, clip.n_frames) == getattr(clip, name)
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
