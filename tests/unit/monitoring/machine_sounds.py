"""Recordings of a made-up machine: a hum in noise; the odd ones whistle at a known place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000
WHISTLE_S, WHISTLE_HZ = (0.8, 1.2), 3000.0


def hum(
    seed: int, duration_s: float = 2.0, *, whistle: bool = False, rate_hz: int = RATE_HZ
) -> np.ndarray:
    """float32 (n_samples,)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    samples = 0.01 * rng.standard_normal(len(t)) + 0.05 * np.sin(2 * np.pi * 120 * t)
    if whistle:
        sounds = (t > WHISTLE_S[0]) & (t < WHISTLE_S[1])
        samples += 0.1 * np.sin(2 * np.pi * WHISTLE_HZ * t) * sounds
    return samples.astype(np.float32)


def write_folders(
    root: Path, *, n_normal: int = 24, n_odd: int = 2, duration_s: float = 2.0
) -> None:
    """root/normal and root/unsorted: of the latter two are normal and n_odd whistle."""
    for folder, seeds, whistle in (
        ("normal", range(n_normal), False),
        ("unsorted", range(100, 102), False),
        ("unsorted", range(200, 200 + n_odd), True),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            name = f"{'anomaly' if whistle else 'normal'}_{seed}.wav"
            soundfile.write(root / folder / name, hum(seed, duration_s, whistle=whistle), RATE_HZ)
