"""Synthetic machines in the layout of MIMII: eight microphones, factory noise, faults that can be learnt.

**SNR = machine over factory noise, as in MIMII: +6 dB is the easy case.** (In EnvMix it is background over
event: there +6 dB is the hard one.)

A machine type is a texture, each id a machine of that type with parameters of its own. The fault changes
what is heard, not how loud it is: machine and noise have the same level with and without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from vision_to_sound.seeding import identity_rng
from vision_to_sound.synthetic.parts import (
    burst,
    ring,
    shaped_noise,
    wav_bytes,
    write_whole,
    write_zip,
)

log = logging.getLogger(__name__)

RATE_HZ = 16_000
N_CHANNELS = 8
MACHINE_RMS = 0.03


def write_synthetic_mimii(
    directory: Path,
    *,
    machine_types: Sequence[str],
    snrs_db: Sequence[int],
    ids: Sequence[int],
    normal_per_id: int,
    abnormal_per_id: int,
    clip_s: float,
    seed: int,
) -> dict[str, Path]:
    """Write `{snr}_dB_{type}.zip` into `directory`; returns {data set ("mimii_0_dB_fan"): archive}.

    machine_types: of fan, pump, slider, valve. ids: machines of each type (0: id_00). clip_s: length of a
    clip; 10.0 in the real set. WAV: 8 channels, 16 kHz, 16 bit, 0.26 MB a second.

    The same arguments give the same bytes. A clip depends on the seed, its type, id, label and number and on
    the SNR only. Its machine and its noise are the same at every SNR, the noise at another level. Raises
    ValueError for an unknown or doubled type, id or SNR and for a number below 1.
    """
    for name, values, legal in (
        ("machine_types", machine_types, lambda value: value in MACHINES),
        ("snrs_db", snrs_db, lambda value: int(value) == value),
        ("ids", ids, lambda value: value in range(100)),
    ):
        if not values or len(set(values)) != len(values) or not all(map(legal, values)):
            raise ValueError(
                f"{name}: expected different ones, types out of {', '.join(MACHINES)}, SNRs in whole dB, "
                f"ids from 0 to 99; got {list(values)}"
            )
    if min(normal_per_id, abnormal_per_id) < 1 or clip_s < 1:
        raise ValueError(
            f"expected at least 1 clip of each kind and 1 s, got normal_per_id={normal_per_id}, "
            f"abnormal_per_id={abnormal_per_id}, clip_s={clip_s}"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    counts = {"abnormal": abnormal_per_id, "normal": normal_per_id}
    archives = {}
    for machine_type in machine_types:
        for snr_db in snrs_db:
            path = directory / f"{snr_db}_dB_{machine_type}.zip"
            members = _members(machine_type, snr_db, ids, counts, round(clip_s * RATE_HZ), seed)
            write_whole(path, lambda temporary, members=members: write_zip(temporary, members))
            archives[f"mimii_{path.stem}"] = path
    log.info("synthetic machines in %s: %s", directory, sorted(archives))
    return archives


def _members(
    machine_type: str, snr_db: int, ids: Sequence[int], counts: dict[str, int], n: int, seed: int
) -> Iterator[tuple[str, bytes]]:
    for machine_id in (f"id_{number:02d}" for number in ids):
        for label, count in counts.items():
            for number in range(count):
                samples = _clip(machine_type, machine_id, label, number, snr_db, n, seed)
                name = f"{machine_type}/{machine_id}/{label}/{number:08d}.wav"
                yield name, wav_bytes(samples, RATE_HZ, bits=16)


def _clip(
    machine_type: str, machine_id: str, label: str, number: int, snr_db: int, n: int, seed: int
) -> np.ndarray:
    """One recording, float64 (n, 8), peak below 1."""
    machine = identity_rng("synthetic machine", seed, machine_type, machine_id)
    clip = (seed, machine_type, machine_id, label, number)
    take = identity_rng("synthetic take", *clip)
    sound = MACHINES[machine_type](n, machine, take, label == "abnormal")
    heard = _at_the_microphones(sound, angle=list(MACHINES).index(machine_type) * np.pi / 2)
    noise = _factory_noise(n, identity_rng("synthetic factory", *clip))
    level = MACHINE_RMS * identity_rng("synthetic level", *clip).uniform(0.8, 1.25)
    noise *= level / 10 ** (snr_db / 20) / np.sqrt(np.mean(noise**2))
    samples = heard * level / np.sqrt(np.mean(heard**2)) + noise
    return samples * min(1.0, 0.99 / np.abs(samples).max())


def _at_the_microphones(sound: np.ndarray, *, angle: float) -> np.ndarray:
    """A source at `angle` (radians) of the circle of microphones: the nearer ones hear it louder, (n, 8).

    Without delays: with them the mean of the channels cancels some high tones, and here a whole fault.
    """
    away = 1 - np.cos(np.arange(N_CHANNELS) * 2 * np.pi / N_CHANNELS - angle)  # 0 near to 2 far
    return sound[:, None] / (1 + 0.2 * away)


def _factory_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Rumble and air that all microphones share, a part of their own, and clanks far away: (n, 8)."""
    rumble = shaped_noise(n, RATE_HZ, rng, lambda f: (1 + f / 150) ** -0.8 + _band(f, 1000, 0.3))
    swell = 1 + 0.3 * np.sin(2 * np.pi * (0.2 * np.arange(n) / RATE_HZ + rng.uniform()))
    shared = rumble * swell
    for _ in range(rng.poisson(0.2 * n / RATE_HZ)):
        at, size = int(rng.integers(n)), RATE_HZ // 2
        hit = burst(size, RATE_HZ, rng, decay_s=0.003)
        clank = ring(hit, rng.uniform(500, 2500), rng.uniform(0.02, 0.06), RATE_HZ)
        shared[at : at + size] += rng.uniform(0.1, 0.4) * clank[: n - at]
    white = rng.standard_normal((N_CHANNELS, n), dtype=np.float32)
    own = lfilter([0.6], [1, -0.8], white)  # unit variance, falling from 600 Hz
    return shared[:, None] + 0.4 * own.T


# --- Machines: (n_samples, the machine's parameters, what differs from take to take, broken?) -> (n,) ----


def _fan(
    n: int, machine: np.random.Generator, take: np.random.Generator, broken: bool
) -> np.ndarray:
    """Air, and the tone of the blades. Broken: a bearing hisses once a turn."""
    blade_hz, cutoff_hz = machine.uniform(70, 160), machine.uniform(500, 1500)
    tone_level, bearing_hz = machine.uniform(0.3, 0.8), machine.uniform(2200, 4000)
    overtone_phases = machine.uniform(0, 2 * np.pi, 5)
    t = np.arange(n) / RATE_HZ
    drift = 0.004 * np.sin(2 * np.pi * (0.3 * t + take.uniform()))
    turns = np.cumsum(blade_hz * (1 + 0.01 * take.standard_normal() + drift)) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * k * turns + p) / k for k, p in enumerate(overtone_phases, 1))
    sound = shaped_noise(n, RATE_HZ, take, lambda f: 1 / (1 + (f / cutoff_hz) ** 2))
    sound += tone_level * tone
    if broken:
        hiss = shaped_noise(n, RATE_HZ, take, lambda f: _band(f, bearing_hz, 0.15))
        sound += take.uniform(0.04, 0.16) * hiss * (1 + np.sin(2 * np.pi * turns / 5))
    return sound


def _pump(
    n: int, machine: np.random.Generator, take: np.random.Generator, broken: bool
) -> np.ndarray:
    """Strokes that ring in the housing, and the flow. Broken: each third stroke is weak, a leak hisses."""
    stroke_hz, flow_hz = machine.uniform(3, 7), machine.uniform(500, 1200)
    modes_hz = machine.uniform((90, 350, 900), (180, 600, 1500))
    strength = 1 + 0.1 * take.standard_normal(n)
    times = _regular_times(n, stroke_hz, take)
    strokes = np.zeros(n)
    strokes[times] = strength[: len(times)]
    if broken:
        strokes[times[int(take.integers(3)) :: 3]] *= take.uniform(0.2, 0.6)
    sound = sum(ring(strokes, mode_hz, 0.03, RATE_HZ) for mode_hz in modes_hz)
    sound += 0.5 * shaped_noise(n, RATE_HZ, take, lambda f: _band(f, flow_hz, 0.5))
    if broken:
        leak = shaped_noise(n, RATE_HZ, take, lambda f: _band(f, 5500, 0.15))
        sound += take.uniform(0.03, 0.12) * sound.std() * leak
    return sound


def _slider(
    n: int, machine: np.random.Generator, take: np.random.Generator, broken: bool
) -> np.ndarray:
    """Back and forth: two bands of noise in turn. Broken: it squeaks on some of the ways forth."""
    period_s = machine.uniform(0.5, 0.9) * (1 + 0.02 * take.standard_normal())
    forth_hz, back_hz = machine.uniform(500, 900), machine.uniform(1100, 2000)
    squeak_hz = machine.uniform(2300, 4200)
    t = np.arange(n) / RATE_HZ
    cycles = t / period_s + take.uniform()
    forth, back = (np.maximum(0, sign * np.sin(2 * np.pi * cycles)) for sign in (1, -1))
    sound = forth * shaped_noise(n, RATE_HZ, take, lambda f: _band(f, forth_hz, 0.4))
    sound += back * shaped_noise(n, RATE_HZ, take, lambda f: _band(f, back_hz, 0.3))
    sound += 0.15 * shaped_noise(n, RATE_HZ, take, lambda f: (1 + f / 200) ** -1)
    if broken:
        squeaks = take.uniform(size=n // RATE_HZ * 3 + 4) < 0.8
        vibrato = 1 + 0.03 * np.sin(2 * np.pi * 23 * t)
        tone = np.sin(2 * np.pi * np.cumsum(squeak_hz * vibrato) / RATE_HZ)
        sound += take.uniform(0.08, 0.25) * tone * forth * squeaks[cycles.astype(int)]
    return sound


def _valve(
    n: int, machine: np.random.Generator, take: np.random.Generator, broken: bool
) -> np.ndarray:
    """It opens with a click and closes with a duller one. Broken: some do not open, others bounce."""
    rate_hz, open_s = machine.uniform(1.5, 3), machine.uniform(0.06, 0.15)
    open_modes_hz = machine.uniform((1200, 2800), (2000, 4500))
    close_modes_hz = machine.uniform((400, 1000), (700, 1600))
    opening, closing = np.zeros(n), np.zeros(n)
    for at in _regular_times(n, rate_hz, take):
        if broken and take.uniform() < 0.3:
            continue
        opening[at] = 1 + 0.1 * take.standard_normal()
        shut = at + round(open_s * RATE_HZ)
        bounces = int(take.integers(2, 6)) if broken and take.uniform() < 0.6 else 0
        for bounce in range(bounces + 1):
            if (when := shut + round(bounce * 0.021 * RATE_HZ)) < n:
                closing[when] = 0.8**bounce
    hiss = shaped_noise(n, RATE_HZ, take, lambda f: (1 + f / 2000) ** -1)
    clicks = sum(
        ring(excitation, mode_hz, 0.008, RATE_HZ)
        for excitation, modes_hz in ((opening, open_modes_hz), (closing, close_modes_hz))
        if excitation.any()
        for mode_hz in modes_hz
    )
    return clicks + 0.1 * hiss


MACHINES: dict[str, Callable[[int, np.random.Generator, np.random.Generator, bool], np.ndarray]] = {
    "fan": _fan,
    "pump": _pump,
    "slider": _slider,
    "valve": _valve,
}


def _band(f: np.ndarray, centre_hz: float, width: float) -> np.ndarray:
    """A bell over the logarithm of frequency; width: its standard deviation in nepers."""
    return np.exp(-0.5 * (np.log((f + 1) / centre_hz) / width) ** 2)


def _regular_times(n: int, rate_hz: float, take: np.random.Generator) -> np.ndarray:
    """Sample numbers of strokes at a steady pace, each a little early or late; at least one."""
    count = int(n / RATE_HZ * rate_hz)
    times_s = (np.arange(count) + take.uniform() + 0.03 * take.standard_normal(count)) / rate_hz
    return np.clip(np.round(times_s * RATE_HZ).astype(int), 0, n - 1)
