"""Clips for tests of the page: a hum in noise with tones, clicks and chirps at known places."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from scipy.signal import chirp

from vision_to_sound.front_ends import FRONT_ENDS
from vision_to_sound.listening import separate
from vision_to_sound.monitoring.page import MapScale, PageClip, Region, write_page
from vision_to_sound.monitoring.page_media import encode_audio

FRONT_END = FRONT_ENDS["dcase2020_16k"]
RATE_HZ = FRONT_END.sample_rate_hz
THRESHOLD = 4.0
START = datetime(2025, 3, 10, 6, 30)
SCALE = MapScale("anomaly score of a cell in standard deviations", faint=3.0, strong=12.0)
HEADER = {
    "Encoder": "CLAP 2022 (HTSAT)",
    "Detector": "PaDiM, 100 dimensions",
    "Normal clips": 24,
    "Data": "10 to 12 March 2025",
}
WARNINGS = (
    "Only 24 normal clips: with fewer than 50 the threshold is rough.",
    "Sample rates differ: normal clips at 16000 Hz, unsorted clips at 44100 Hz.",
)
SETTINGS = {"Threshold": "false alarm rate 1 %", "Clip length": "4 s", "Seed": 0, "Front end": "x"}


def signal(seed: int, duration_s: float, event: str) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    """(float32 samples, [(start_s, end_s, low_hz, high_hz)] of the event) of one recording."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    samples = 0.02 * rng.standard_normal(len(t))
    for harmonic in range(1, 6):
        samples += 0.05 / harmonic * np.sin(2 * np.pi * 118 * harmonic * t + rng.uniform(0, 6))
    places = []
    begin = rng.uniform(0.15, 0.6) * duration_s
    if event == "tone":
        hz = rng.uniform(900, 3000)
        places = [(begin, begin + 0.6, 0.93 * hz, 1.07 * hz)]
        samples += 0.1 * np.sin(2 * np.pi * hz * t) * ((t > begin) & (t < begin + 0.6))
    elif event == "clicks":
        for shift in (0.0, 0.35, 0.7):
            at = round((begin + shift) * RATE_HZ)
            n = min(160, len(t) - at)
            samples[at : at + n] += 0.35 * rng.standard_normal(n) * np.exp(-np.arange(n) / 30)
            places.append((begin + shift - 0.03, begin + shift + 0.06, 500.0, 7800.0))
    elif event == "chirp":
        sweep = chirp(t - begin, 600, 0.8, 4500)
        samples += 0.12 * sweep * ((t > begin) & (t < begin + 0.8))
        places = [(begin, begin + 0.8, 600.0, 4500.0)]
    return samples.astype(np.float32), places


def log_mel(samples: np.ndarray) -> np.ndarray:
    """float32 (n_frames, n_mels) in dB, as the front end of the project, in numpy alone."""
    n = FRONT_END.n_fft
    padded = np.pad(samples, n // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n)[:: FRONT_END.hop_samples]
    power = np.abs(np.fft.rfft(frames * np.hanning(n + 1)[:-1])) ** 2
    return (10 * np.log10(np.maximum(power @ FRONT_END.mel_weights(), 1e-10))).astype(np.float32)


def z_map(spectrogram_db: np.ndarray) -> np.ndarray:
    """Each cell against its band's median over time, in its robust standard deviations."""
    middle = np.median(spectrogram_db, axis=0)
    spread = 1.4826 * np.median(np.abs(spectrogram_db - middle), axis=0)
    z = (spectrogram_db - middle) / np.maximum(spread, 0.5)
    kernel = np.ones(3) / 3
    for axis in (0, 1):
        z = np.apply_along_axis(np.convolve, axis, z, kernel, mode="same")
    return (3 * z).astype(np.float32)


@cache
def _parts(seed: int, duration_s: float, event: str) -> tuple:
    samples, places = signal(seed, duration_s, event)
    spectrogram_db = log_mel(samples)
    anomaly_map = z_map(spectrogram_db)
    isolated, cleaned = separate(samples, anomaly_map, front_end=FRONT_END, sample_rate_hz=RATE_HZ)
    sources = {"original": samples, "anomaly": isolated, "background": cleaned}
    audio = encode_audio({name: (data, RATE_HZ) for name, data in sources.items()}, "mp3")
    return spectrogram_db, anomaly_map, places, audio


def clips(n: int, *, n_recordings: int = 16) -> Iterator[PageClip]:
    """n clips, one after another; of more than n_recordings the sounds repeat under other names and scores."""
    rng = np.random.default_rng(7)
    for i in range(n):
        seed = i % n_recordings
        event = ("none", "none", "tone", "none", "clicks", "none", "none", "chirp")[seed % 8]
        duration_s = 4.0 + (seed % 3)
        spectrogram_db, anomaly_map, places, audio = _parts(seed, duration_s, event)
        score = float(rng.gamma(9, 0.27) + (3 if places else 0))
        yield PageClip(
            name=f"pump_{i + 1}.wav",
            score=score,
            p_value=float(np.exp(-1.3 * score)),
            verdict="anomalous" if score > THRESHOLD else "normal",
            duration_s=duration_s,
            recorded_at=START + timedelta(minutes=3 * i + float(rng.uniform(0, 2))),
            spectrogram_db=spectrogram_db,
            anomaly_map=anomaly_map,
            regions=[Region(*place, score=score + k) for k, place in enumerate(places)],
            audio=audio,
            notes=["clipped: 12 samples at full scale"] if i % 8 == 4 else [],
        )


def write(path: Path, page_clips, **changes) -> int:
    """A page of these clips with settings of a typical run; its size in bytes."""
    arguments = {
        "title": "Pump 3, unsorted recordings",
        "header": HEADER,
        "warnings": WARNINGS,
        "settings": SETTINGS,
        "threshold": THRESHOLD,
        "threshold_label": "exceeded by 1 % of normal clips",
        "map_scale": SCALE,
        "band_centres_hz": FRONT_END.mel_band_centres_hz(),
        "hop_s": FRONT_END.hop_s,
    }
    return write_page(path, page_clips, **(arguments | changes))
