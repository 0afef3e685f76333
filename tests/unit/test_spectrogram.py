"""Front ends against the packages that the networks were trained with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vision_to_sound import spectrogram
from vision_to_sound.front_ends import FRONT_ENDS
from vision_to_sound.spectrogram import log_mel_db, resample

torch.set_num_threads(2)

CNN14_FRONT_ENDS = ("clap_44k1", "panns_32k")


def broadband_signals(sample_rate_hz: int) -> np.ndarray:
    """Noise from loud to under the floor, clicks, silence; float32 (n_signals, n_samples)."""
    rng = np.random.default_rng(5)
    n_samples = int(1.03 * sample_rate_hz)
    levels = [rng.normal(0, 10 ** (db / 20), n_samples) for db in (-6, -30, -60, -90, -120)]
    clicks = (rng.random(n_samples) < 1e-3) * rng.normal(0, 0.3, n_samples)
    return np.stack([*levels, clicks, np.zeros(n_samples)]).astype(np.float32)


def tonal_signals(sample_rate_hz: int) -> np.ndarray:
    """Tones whose bands differ by more than float32 resolves; float32 (n_signals, n_samples)."""
    rng = np.random.default_rng(6)
    time_s = np.arange(int(1.03 * sample_rate_hz)) / sample_rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 1000.3 * time_s)
    sweep = sum(np.sin(2 * np.pi * k * (200 + 80 * time_s) * time_s) / k for k in range(1, 12))
    machine = 0.2 * np.exp(-time_s) * sweep + rng.normal(0, 1e-3, len(time_s))
    return np.stack([tone, tone + rng.normal(0, 1e-4, len(time_s)), machine]).astype(np.float32)


def torchlibrosa_log_mel_db(waveforms: np.ndarray, front_end) -> np.ndarray:
    stft = pytest.importorskip("torchlibrosa.stft")
    spectrum = stft.Spectrogram(
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_samples,
        win_length=front_end.n_fft,
        window="hann",
        center=True,
        pad_mode="reflect",
    )
    log_mel = stft.LogmelFilterBank(
        sr=front_end.sample_rate_hz,
        n_fft=front_end.n_fft,
        n_mels=64,
        fmin=50,
        fmax=14000,
        ref=1.0,
        amin=1e-10,
        top_db=None,
    )
    with torch.no_grad():
        return log_mel(spectrum(torch.from_numpy(waveforms)))[:, 0].numpy()


def float64_log_mel_db(waveforms: np.ndarray, front_end, **mel_options) -> np.ndarray:
    """The same definition in double precision, by librosa."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=waveforms.astype(np.float64),
        sr=front_end.sample_rate_hz,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_samples,
        n_mels=front_end.n_mels,
        fmin=front_end.f_min_hz,
        fmax=front_end.f_max_hz,
        power=2.0,
        dtype=np.float64,
        **mel_options,
    )
    return 10 * np.log10(np.maximum(power, 1e-10)).transpose(0, 2, 1)


@pytest.mark.parametrize("name", CNN14_FRONT_ENDS)
def test_cnn14_front_ends_equal_torchlibrosa(name):
    front_end = FRONT_ENDS[name]
    waveforms = broadband_signals(front_end.sample_rate_hz)
    ours = log_mel_db(waveforms, front_end, device="cpu")
    reference = torchlibrosa_log_mel_db(waveforms, front_end)
    assert ours.dtype == np.float32
    assert ours.shape == reference.shape
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-3)
    assert ours.min() == -100.0 and np.ptp(ours) > 100  # no clipping to a dynamic range


@pytest.mark.parametrize("name", CNN14_FRONT_ENDS)
def test_cnn14_front_ends_equal_torchlibrosa_on_tones(name):
    # float32 resolves about 1e-7 of the strongest bin: cells far below their frame's peak are
    # rounding noise in either implementation
    front_end = FRONT_ENDS[name]
    waveforms = tonal_signals(front_end.sample_rate_hz)
    ours = log_mel_db(waveforms, front_end, device="cpu")
    reference = torchlibrosa_log_mel_db(waveforms, front_end)
    resolved = reference > reference.max(axis=2, keepdims=True) - 60
    assert resolved.mean() > 0.2  # enough is left to compare
    np.testing.assert_allclose(ours[resolved], reference[resolved], rtol=0, atol=1e-3)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1.0)


@pytest.mark.parametrize(
    ("name", "mel_options"),
    [
        ("clap_44k1", {"pad_mode": "reflect"}),
        ("panns_32k", {"pad_mode": "reflect"}),
        # the options of the aisfx package's own librosa call
        ("aisfx_44k1", {"htk": True, "norm": 1.0}),
        ("image_44k1", {"pad_mode": "reflect"}),
        ("dcase2020_16k", {"pad_mode": "reflect"}),
    ],
)
def test_front_ends_equal_librosa_in_double_precision(name, mel_options):
    front_end = FRONT_ENDS[name]
    broadband = broadband_signals(front_end.sample_rate_hz)
    np.testing.assert_allclose(
        log_mel_db(broadband, front_end, device="cpu"),
        float64_log_mel_db(broadband, front_end, **mel_options),
        rtol=0,
        atol=1e-3,
    )
    tonal = tonal_signals(front_end.sample_rate_hz)
    exact = float64_log_mel_db(tonal, front_end, **mel_options)
    resolved = exact > exact.max(axis=2, keepdims=True) - 60
    ours = log_mel_db(tonal, front_end, device="cpu")
    np.testing.assert_allclose(ours[resolved], exact[resolved], rtol=0, atol=1e-3)


def test_dcase2020_front_end_equals_the_baselines_formula_above_the_floor():
    import librosa

    waveforms = broadband_signals(16_000)
    mel_power = librosa.feature.melspectrogram(
        y=waveforms.astype(np.float64),
        sr=16_000,
        n_fft=1024,
        hop_length=512,
        n_mels=128,
        power=2.0,
        pad_mode="reflect",  # the default of the librosa of 2020
        dtype=np.float64,
    )
    baseline = 20.0 / 2.0 * np.log10(mel_power + np.finfo(float).eps).transpose(0, 2, 1)
    ours = log_mel_db(waveforms, FRONT_ENDS["dcase2020_16k"], device="cpu")
    audible = baseline > -99.9
    assert 0.3 < audible.mean() < 1
    np.testing.assert_allclose(ours[audible], baseline[audible], rtol=0, atol=1e-3)
    assert (ours[~audible] < -99.8).all()
    # the noise of rounding to 16 bits lies well above the floor
    rounding = np.random.default_rng(1).uniform(-0.5, 0.5, (1, 16_000)).astype(np.float32) / 32_768
    assert log_mel_db(rounding, FRONT_ENDS["dcase2020_16k"], device="cpu").mean() > -90


def test_frames_and_their_times():
    clap = FRONT_ENDS["clap_44k1"]
    assert clap.n_frames(4 * 44_100) == 552
    assert clap.n_frames(10 * 44_100) == 1379
    aisfx = FRONT_ENDS["aisfx_44k1"]
    assert aisfx.n_frames(4 * 44_100) == 173
    image = FRONT_ENDS["image_44k1"]
    assert (image.n_frames(4 * 44_100), image.n_frames(10 * 44_100)) == (276, 690)
    assert FRONT_ENDS["dcase2020_16k"].n_frames(10 * 16_000) == 313
    # a click at a frame's own time is loudest in that frame
    times_s = clap.frame_times_s(552)
    waveforms = np.zeros((1, 4 * 44_100), np.float32)
    waveforms[0, round(times_s[300] * 44_100)] = 1.0
    loudness = log_mel_db(waveforms, clap, device="cpu")[0].sum(axis=1)
    assert len(loudness) == len(times_s)
    assert loudness.argmax() == 300


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_mel_axis(front_end):
    edges_hz = front_end.mel_band_edges_hz()
    centres_hz = front_end.mel_band_centres_hz()
    assert edges_hz.shape == (front_end.n_mels + 1,)
    assert centres_hz.shape == (front_end.n_mels,)
    assert (np.diff(edges_hz) > 0).all()
    assert ((edges_hz[:-1] < centres_hz) & (centres_hz < edges_hz[1:])).all()
    assert front_end.f_min_hz <= edges_hz[0] and edges_hz[-1] <= front_end.f_max_hz
    n_bands = front_end.n_bands_below(4000.0)
    assert edges_hz[n_bands - 1] < 4000.0 <= edges_hz[n_bands]
    assert front_end.n_bands_below(96_000.0) == front_end.n_mels
    # a tone at a band's centre is loudest in that band
    band = front_end.n_mels // 2
    time_s = np.arange(front_end.sample_rate_hz // 2) / front_end.sample_rate_hz
    tone = np.sin(2 * np.pi * centres_hz[band] * time_s)[None].astype(np.float32)
    assert log_mel_db(tone, front_end, device="cpu")[0, 10].argmax() == band


def test_blocks_of_clips_do_not_change_the_result(monkeypatch):
    front_end = FRONT_ENDS["aisfx_44k1"]
    waveforms = np.random.default_rng(0).normal(0, 0.1, (7, 8000)).astype(np.float32)
    at_once = log_mel_db(waveforms, front_end, device="cpu")
    monkeypatch.setattr(spectrogram, "_BLOCK_BYTES", 2 * 8 * 1025 * 16)  # two clips
    np.testing.assert_allclose(log_mel_db(waveforms, front_end, device="cpu"), at_once, atol=1e-4)


def test_no_clips_give_no_spectrograms():
    empty = np.empty((0, 4410), np.float32)
    assert log_mel_db(empty, FRONT_ENDS["clap_44k1"], device="cpu").shape == (0, 14, 64)


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        (np.zeros(4410, np.float32), r"\(n_clips, n_samples\).*\(4410,\)"),
        (np.zeros((2, 4410), np.int16), "float32.*int16"),
        (np.zeros((2, 512), np.float32), "more than that, got 512"),
        (np.full((2, 4410), np.nan, np.float32), r"NaN.*rows \[0, 1\]"),
    ],
)
def test_bad_waveforms(waveforms, message):
    with pytest.raises(ValueError, match=message):
        log_mel_db(waveforms, FRONT_ENDS["clap_44k1"], device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mel_scale": "bark"}, "bark.*slaney, htk"),
        ({"band_norm": "unit_tri"}, "unit_tri.*unit_sum"),
        ({"pad_mode": "wrap"}, "wrap.*reflect"),
        ({"triangle_axis": "bark"}, "bark.*hz, mel"),
        ({"window_samples": 1025}, "2 to n_fft = 1024, got 1025"),
        ({"pre_emphasis": 1.0}, r"\[0, 1\), got 1"),
        ({"f_max_hz": 30_000.0}, "22050 Hz"),
    ],
)
def test_impossible_front_ends(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FRONT_ENDS["clap_44k1"], **changes)


def test_bands_narrower_than_a_bin_are_refused():
    crowded = dataclasses.replace(FRONT_ENDS["clap_44k1"], n_mels=300)
    with pytest.raises(ValueError, match="fall between the bins"):
        crowded.mel_weights()


@pytest.mark.parametrize(("from_hz", "to_hz"), [(16_000, 44_100), (48_000, 32_000)])
def test_resampling_keeps_a_tone(from_hz, to_hz):
    frequency_hz, duration_s = 1000.0, 0.5
    tone = np.sin(2 * np.pi * frequency_hz * np.arange(int(duration_s * from_hz)) / from_hz)
    resampled = resample(tone[None].astype(np.float32), from_hz=from_hz, to_hz=to_hz)
    expected = np.sin(2 * np.pi * frequency_hz * np.arange(resampled.shape[1]) / to_hz)
    assert resampled.dtype == np.float32
    assert resampled.shape == (1, int(duration_s * to_hz))
    inner = slice(200, -200)
    np.testing.assert_allclose(resampled[0, inner], expected[inner], atol=5e-3)


def test_resampling_length_and_identity():
    waveforms = np.zeros((2, 1001), np.float32)
    assert resample(waveforms, from_hz=44_100, to_hz=44_100) is waveforms
    assert resample(waveforms, from_hz=16_000, to_hz=44_100).shape == (2, 2760)
    spectrogram._cached_resampler.cache_clear()
    for _ in range(3):
        resample(waveforms, from_hz=22_050, to_hz=44_100)
    assert spectrogram._cached_resampler.cache_info().misses == 1
    with pytest.raises(ValueError, match="to_hz.*0"):
        resample(waveforms, from_hz=44_100, to_hz=0)


@pytest.mark.gpu
def test_the_card_computes_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for front_end in FRONT_ENDS.values():
        waveforms = broadband_signals(front_end.sample_rate_hz)
        np.testing.assert_allclose(
            log_mel_db(waveforms, front_end, device="cuda"),
            log_mel_db(waveforms, front_end, device="cpu"),
            rtol=0,
            atol=1e-3,
        )


@pytest.mark.parametrize("from_hz", [44101, 11024, 96000, 8000])
def test_rates_without_a_common_divisor_stay_small_and_keep_the_tone(from_hz):
    import tracemalloc

    seconds = np.arange(from_hz) / from_hz
    tone = np.sin(2 * np.pi * 440.0 * seconds).astype(np.float32)[None]
    tracemalloc.start()
    resampled = resample(tone, from_hz=from_hz, to_hz=44_100)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert resampled.shape == (1, 44_100) and resampled.dtype == np.float32
    expected = np.sin(2 * np.pi * 440.0 * np.arange(44_100) / 44_100)
    assert np.abs(resampled[0] - expected)[500:-500].max() < 5e-3
    assert peak_bytes < 200e6
