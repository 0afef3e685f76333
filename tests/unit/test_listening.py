"""Clips taken apart into anomaly and background: exact sums, and events that end up where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from scipy.signal import istft, stft

from vision_to_sound.front_ends import FRONT_ENDS, hz_to_mel
from vision_to_sound.listening import (
    _on_spectrum,
    event_over_background_db,
    export_example,
    level_db,
    separate,
    soft_mask,
    write_wavs,
)
from vision_to_sound.spectrogram import log_mel_db, resample

CLAP, PANNS, AISFX = (FRONT_ENDS[name] for name in ("clap_44k1", "panns_32k", "aisfx_44k1"))
FRONT = pytest.mark.parametrize("front_end", [CLAP, PANNS, AISFX], ids=lambda f: f.name)
RATE_HZ, N_SAMPLES = 44_100, 44_100
ONSET, LENGTH = 15_000, 9_000


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return (0.02 * np.random.default_rng(0).standard_normal(N_SAMPLES)).astype(np.float32)


def event(kind: str) -> np.ndarray:
    time_s = np.arange(LENGTH) / RATE_HZ
    sounds = {
        "tone": np.sin(2 * np.pi * 3000 * time_s) * np.hanning(LENGTH),
        "click": np.random.default_rng(1).standard_normal(LENGTH) * np.exp(-80 * time_s),
    }
    placed = np.zeros(N_SAMPLES, np.float32)
    placed[ONSET : ONSET + LENGTH] = 0.1 * sounds[kind] / np.abs(sounds[kind]).max()
    return placed


def map_of(waveform: np.ndarray, front_end) -> np.ndarray:
    """Cells as loud as they are: dB of the event alone, cut 40 dB below its loudest."""
    at_rate = resample(waveform[None], from_hz=RATE_HZ, to_hz=front_end.sample_rate_hz)
    cells_db = log_mel_db(at_rate, front_end, device="cpu")[0]
    return np.maximum(cells_db, cells_db.max() - 40)


def shape_of(front_end, n_samples: int = N_SAMPLES, rate_hz: int = RATE_HZ) -> tuple[int, int]:
    n_at_rate = -(-n_samples * front_end.sample_rate_hz // rate_hz)
    return front_end.n_frames(n_at_rate), front_end.n_mels


@FRONT
@pytest.mark.parametrize(("rate_hz", "n_samples"), [(44_100, 44_100), (16_000, 20_001)])
def test_the_parts_add_up_to_the_clip(front_end, rate_hz, n_samples):
    rng = np.random.default_rng(3)
    clip = rng.uniform(-1, 1, n_samples).astype(np.float32)
    anomaly_map = rng.random(shape_of(front_end, n_samples, rate_hz))
    parts = separate(clip, anomaly_map, front_end=front_end, sample_rate_hz=rate_hz)
    assert [(p.dtype, p.shape) for p in parts] == [(np.float32, clip.shape)] * 2
    assert all(level_db(part) > level_db(clip) - 20 for part in parts)  # neither is empty
    np.testing.assert_allclose(parts[0] + parts[1], clip, atol=1e-6)


def test_both_parts_are_masked_spectra():
    """Against the textbook: mask and one minus mask on the spectrum, each transformed back."""
    rng = np.random.default_rng(4)
    clip = rng.uniform(-0.5, 0.5, N_SAMPLES).astype(np.float32)
    anomaly_map = rng.random(shape_of(CLAP)) ** 2
    settings = {"fs": RATE_HZ, "window": "hann", "nperseg": 1024, "noverlap": 768}
    bins_hz, times_s, spectrum = stft(clip.astype(float), **settings)
    mask = np.empty((len(times_s), len(bins_hz)))
    low = hz_to_mel(50.0, "slaney")
    step = (hz_to_mel(14_000.0, "slaney") - low) / 65
    cells = np.maximum(anomaly_map - np.median(anomaly_map), 0)
    cells /= cells.max()
    for i, time_s in enumerate(times_s):
        frame = np.clip(time_s * RATE_HZ / 320, 0, len(cells) - 1)
        before = min(int(frame), len(cells) - 2)
        row = cells[before] + (frame - before) * (cells[before + 1] - cells[before])
        for j, hz in enumerate(bins_hz):
            band = np.clip((hz_to_mel(hz, "slaney") - low) / step - 1, 0, 63)
            below = min(int(band), 62)
            mask[i, j] = row[below] + (band - below) * (row[below + 1] - row[below])
    expected = [istft(m.T * spectrum, **settings)[1][:N_SAMPLES] for m in (mask, 1 - mask)]
    parts = separate(clip, anomaly_map, front_end=CLAP, sample_rate_hz=RATE_HZ)
    for part, reference in zip(parts, expected, strict=True):
        inner = slice(1024, -1024)  # at the ends the two transforms pad differently
        np.testing.assert_allclose(part[inner], reference[inner], atol=1e-3)
        assert level_db(part - reference) < level_db(reference) - 50


def test_a_mask_is_held_beyond_bands_and_frames():
    mask = np.random.default_rng(0).random((10, CLAP.n_mels))
    centres_hz = CLAP.mel_band_centres_hz()
    frequencies_hz = np.array([0.0, *centres_hz, 22_050.0])
    times_s = np.array([-1.0, *CLAP.frame_times_s(10), 5.0])
    on_spectrum = _on_spectrum(mask, CLAP, times_s=times_s, frequencies_hz=frequencies_hz)
    np.testing.assert_allclose(on_spectrum, np.pad(mask, 1, mode="edge"), atol=1e-9)
    # halfway between two bands on the mel scale, and between two frames
    mels = [hz_to_mel(hz, CLAP.mel_scale) for hz in centres_hz[20:22]]
    halfway_hz = 700.0  # any start: bisect for the frequency whose mel lies in the middle
    low_hz, high_hz = centres_hz[20:22]
    for _ in range(60):
        halfway_hz = (low_hz + high_hz) / 2
        if hz_to_mel(halfway_hz, CLAP.mel_scale) < sum(mels) / 2:
            low_hz = halfway_hz
        else:
            high_hz = halfway_hz
    middle = _on_spectrum(
        mask,
        CLAP,
        times_s=np.array([2.5 * CLAP.hop_s]),
        frequencies_hz=np.array([halfway_hz]),
    )
    assert middle.item() == pytest.approx(mask[2:4, 20:22].mean(), rel=1e-6)


def test_soft_mask_starts_at_the_median():
    anomaly_map = np.array([[0.0, 1.0, 1.0], [1.0, 3.0, 5.0]])
    np.testing.assert_allclose(soft_mask(anomaly_map), [[0, 0, 0], [0, 0.5, 1]])
    np.testing.assert_array_equal(soft_mask(np.full((2, 3), 7.0)), 0.0)
    for share in (0.2, 0.8):  # a mask stays as it is
        truth = np.random.default_rng(0).random((20, 30)) < share
        np.testing.assert_array_equal(soft_mask(truth), truth)


@FRONT
@pytest.mark.parametrize("kind", ["tone", "click"])
def test_a_right_map_isolates_the_event(noise, kind, front_end):
    placed = event(kind)
    where = {"front_end": front_end, "sample_rate_hz": RATE_HZ}
    anomaly_map = map_of(placed, front_end)
    before = level_db(placed) - level_db(noise)
    ratios_db = event_over_background_db(noise, placed, anomaly_map, **where)
    assert ratios_db["isolated"] > before + 8
    assert ratios_db["cleaned"] < before - 3
    # and the ear gets those very signals: mixture's parts are the sums of the stems' parts
    for part, of_noise, of_event in zip(
        separate(noise + placed, anomaly_map, **where),
        separate(noise, anomaly_map, **where),
        separate(placed, anomaly_map, **where),
        strict=True,
    ):
        np.testing.assert_allclose(part, of_noise + of_event, atol=1e-6)


def test_the_isolated_tone_is_where_and_what_it_was(noise):
    placed = event("tone")
    isolated, cleaned = separate(
        noise + placed, map_of(placed, CLAP), front_end=CLAP, sample_rate_hz=RATE_HZ
    )
    spectrum = np.abs(np.fft.rfft(isolated.astype(float)))
    assert np.fft.rfftfreq(N_SAMPLES, 1 / RATE_HZ)[spectrum.argmax()] == pytest.approx(3000, abs=5)
    outside = np.r_[isolated[: ONSET - 2000], isolated[ONSET + LENGTH + 2000 :]]
    assert level_db(outside) < level_db(noise) - 40
    middle = slice(ONSET + 3000, ONSET + 6000)
    assert level_db(isolated[middle] - placed[middle]) < level_db(placed[middle]) - 15
    assert level_db(cleaned) == pytest.approx(level_db(noise), abs=1.0)


def test_the_whole_band_is_kept(noise):
    """A front end that hears up to 16 kHz cuts nothing off a clip of 44.1 kHz."""
    time_s = np.arange(N_SAMPLES) / RATE_HZ
    high = (0.1 * np.sin(2 * np.pi * 19_000 * time_s)).astype(np.float32)
    anomaly_map = np.zeros(shape_of(PANNS))
    anomaly_map[:, -1] = 1.0  # the highest band is held
    isolated, _ = separate(high, anomaly_map, front_end=PANNS, sample_rate_hz=RATE_HZ)
    assert level_db(isolated) == pytest.approx(level_db(high), abs=0.1)


def test_wrong_maps_and_silence(noise):
    with pytest.raises(ValueError, match=r"expected \(138, 64\) for 44100 samples at 44100 Hz"):
        separate(noise, np.zeros((139, 64)), front_end=CLAP, sample_rate_hz=RATE_HZ)
    constant = np.ones(shape_of(CLAP))
    isolated, cleaned = separate(noise, constant, front_end=CLAP, sample_rate_hz=RATE_HZ)
    assert not isolated.any()
    np.testing.assert_array_equal(cleaned, noise)
    ratios_db = event_over_background_db(
        noise, event("tone"), constant, front_end=CLAP, sample_rate_hz=RATE_HZ
    )
    assert np.isnan(ratios_db["isolated"])
    assert level_db(np.zeros(10, np.float32)) == -240.0
    assert level_db(np.full(10, 0.5, np.float32)) == -240.0  # a constant is not heard


def test_exported_files_add_up_and_are_measured(noise, tmp_path):
    placed = 40 * event("tone")  # far beyond full scale
    stems = {"mixture": noise + placed, "background": noise, "event": placed}
    maps = {"good": map_of(placed, CLAP), "bad": -map_of(placed, AISFX)}
    columns = export_example(
        tmp_path,
        3,
        stems,
        maps,
        front_ends={"good": CLAP, "bad": AISFX},
        sample_rate_hz=RATE_HZ,
    )
    assert columns["wav_gain"] == pytest.approx(1 / np.abs(stems["mixture"]).max(), rel=1e-3)
    assert columns["wav_gain"] < 0.3
    read = {}
    for path in tmp_path.iterdir():
        samples, rate_hz = soundfile.read(path)
        assert rate_hz == RATE_HZ and samples.shape == (N_SAMPLES,)
        assert soundfile.info(path).subtype == "PCM_16"
        read[path.stem] = samples
    names = [*stems, "good_isolated", "good_cleaned", "bad_isolated", "bad_cleaned"]
    assert set(read) == {f"3_{name}" for name in names}
    for pair in (
        ("background", "event"),
        ("good_isolated", "good_cleaned"),
        ("bad_isolated", "bad_cleaned"),
    ):
        total = sum(read[f"3_{name}"] for name in pair)
        np.testing.assert_allclose(total, read["3_mixture"], atol=3 / 2**15)
    before = columns["mixture_event_over_background_db"]
    assert before == pytest.approx(level_db(placed) - level_db(noise))
    assert columns["good_isolated_event_over_background_db"] > before + 8
    assert columns["bad_isolated_event_over_background_db"] < before
    assert columns["good_isolated_level_db"] == pytest.approx(
        level_db(read["3_good_isolated"]) - level_db(read["3_mixture"]), abs=0.01
    )


def test_a_recording_without_stems_is_exported_too(noise, tmp_path):
    columns = export_example(
        tmp_path,
        0,
        {"recording": noise},
        {"energy": map_of(noise, CLAP)},
        front_ends={"energy": CLAP},
        sample_rate_hz=RATE_HZ,
    )
    assert set(columns) == {"wav_gain", "energy_isolated_level_db"}
    assert columns["wav_gain"] == 1.0 and -40 < columns["energy_isolated_level_db"] < 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"0_recording.wav", "0_energy_isolated.wav", "0_energy_cleaned.wav"}


def test_wavs_share_one_gain_and_are_never_turned_up(tmp_path):
    quiet = np.full(8, 0.25, np.float32)
    assert write_wavs(tmp_path, 0, {"a": quiet}, sample_rate_hz=8000) == 1.0
    gain = write_wavs(tmp_path, 1, {"a": quiet, "b": -8 * quiet}, sample_rate_hz=8000)
    assert gain == 0.5
    np.testing.assert_allclose(soundfile.read(tmp_path / "1_a.wav")[0], 0.125, atol=1e-4)
    np.testing.assert_allclose(soundfile.read(tmp_path / "1_b.wav")[0], -1.0, atol=1e-4)
