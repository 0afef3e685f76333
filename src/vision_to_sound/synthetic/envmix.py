"""Synthetic sounds in the layouts of UrbanSound8K and ESC-50: the default that needs no download.

Every later stage runs on these archives as it does on the real ones. The sounds are made to be told
apart and to share what matters with real ones: a background class is a texture, each of its field
recordings has parameters of its own and is cut into several clips (so a split over clips leaks and
one over recordings does not), and an event is short, with digital silence around it.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vision_to_sound import published_data
from vision_to_sound.published_data import ENVMIX_EVENTS
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

URBANSOUND8K_CLASSES = {name: i for i, name in enumerate(published_data.URBANSOUND8K_CLASSES)}
ESC50_CLASSES = {name: published_data.ESC50_CLASSES.index(name) for name in ENVMIX_EVENTS}
ESC10_CLASSES = {"dog", "rooster", "sneezing"}

CLIP_S = 4.0
EVENT_CLIP_S = 5.0
EVENT_RATE_HZ = 44_100
RECORDING_RATES_HZ = (44_100, 22_050, 48_000)
CLIPS_PER_RECORDING = 4
CLIP_HOP_S = 2.0  # clips of one recording overlap, as many do in the real set
SHORT_CLIP_EVERY = 10  # one clip in so many is shorter than 4 s


def write_synthetic_archives(
    directory: Path,
    *,
    backgrounds: Sequence[str],
    clips_per_background: int,
    events: Sequence[str],
    clips_per_event: int,
    seed: int,
) -> dict[str, Path]:
    """Write UrbanSound8K.tar.gz and ESC-50-master.zip into `directory`; returns {data set: archive}.

    backgrounds: UrbanSound8K classes. events: the ESC-50 classes of the benchmark. Of the
    `clips_per_background` clips of a class, one in ten is shorter than 4 s; four come from one
    recording. The same arguments give the same bytes. A clip depends on the seed, its class and its
    number only: asking for more clips or classes leaves the others as they are.
    The WAV data is held in memory until it is written (0.4 MB a clip). Raises ValueError for an
    unknown or doubled class, for no class at all and for a number below 1.
    """
    _check_classes("backgrounds", backgrounds, URBANSOUND8K_CLASSES)
    _check_classes("events", events, ESC50_CLASSES)
    if min(clips_per_background, clips_per_event) < 1:
        raise ValueError(
            f"expected at least 1 clip per class, got clips_per_background={clips_per_background}, "
            f"clips_per_event={clips_per_event}"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tar_path, zip_path = directory / "UrbanSound8K.tar.gz", directory / "ESC-50-master.zip"
    write_whole(tar_path, lambda path: _write_tar(path, backgrounds, clips_per_background, seed))
    write_whole(zip_path, lambda path: _write_zip(path, events, clips_per_event, seed))
    log.info("synthetic archives in %s: %s, %s", directory, list(backgrounds), list(events))
    return {"urbansound8k": tar_path, "esc50": zip_path}


# --- Archives -------------------------------------------------------------------------------------


def _write_tar(path: Path, classes: Sequence[str], clips_per_class: int, seed: int) -> None:
    header = "slice_file_name,fsID,start,end,salience,fold,classID,class".split(",")
    table, members = [], []
    for category in classes:
        for row, data in _background_clips(category, clips_per_class, seed):
            table.append(row)
            members.append((f"UrbanSound8K/audio/fold{row[5]}/{row[0]}", data))
    members.insert(0, ("UrbanSound8K/metadata/UrbanSound8K.csv", _csv([header, *table])))
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 0, 0o644
            tar.addfile(info, io.BytesIO(data))


def _write_zip(path: Path, classes: Sequence[str], clips_per_class: int, seed: int) -> None:
    table = ["filename,fold,target,category,esc10,src_file,take".split(",")]
    members = []
    for category in classes:
        target = ESC50_CLASSES[category]
        for clip in range(clips_per_class):
            fold, source = clip % 5 + 1, str(500_000 + 1000 * target + clip)
            name = f"{fold}-{source}-A-{target}.wav"
            esc10 = str(category in ESC10_CLASSES)
            table.append([name, str(fold), str(target), category, esc10, source, "A"])
            samples = _event_clip(category, clip, seed)
            wav = wav_bytes(samples[:, None], EVENT_RATE_HZ, bits=16)
            members.append((f"ESC-50-master/audio/{name}", wav))
    write_zip(path, [("ESC-50-master/meta/esc50.csv", _csv(table)), *members])


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _check_classes(argument: str, classes: Sequence[str], known: dict[str, int]) -> None:
    unknown = [name for name in classes if name not in known]
    if unknown or not classes or len(set(classes)) != len(classes):
        raise ValueError(
            f"{argument}: expected different classes out of {', '.join(known)}; got {list(classes)}"
        )


# --- Backgrounds ----------------------------------------------------------------------------------


def _background_clips(category: str, n_clips: int, seed: int) -> Iterator[tuple[list[str], bytes]]:
    """(metadata row, WAV bytes) of each clip: recordings made one by one, and cut into clips."""
    class_id = URBANSOUND8K_CLASSES[category]
    for first in range(0, n_clips, CLIPS_PER_RECORDING):
        recording = first // CLIPS_PER_RECORDING
        rate_hz = RECORDING_RATES_HZ[recording % len(RECORDING_RATES_HZ)]
        bits = 24 if recording == 1 else 16
        n_channels = 2 if recording % 4 == 2 else 1
        samples = _recording(category, recording, seed, rate_hz, n_channels)
        source, fold = str(100_000 + 1000 * class_id + recording), str(recording % 10 + 1)
        for number in range(first, min(first + CLIPS_PER_RECORDING, n_clips)):
            take = number - first
            start_s = take * CLIP_HOP_S
            short = number % SHORT_CLIP_EVERY == SHORT_CLIP_EVERY - 1
            end_s = start_s + (CLIP_S if not short else 1.5 + 0.5 * (recording % 4))
            cut = samples[round(start_s * rate_hz) : round(end_s * rate_hz)]
            name = f"{source}-{class_id}-0-{take}.wav"
            row = [name, source, str(start_s), str(end_s), "1", fold, str(class_id), category]
            yield row, wav_bytes(cut, rate_hz, bits=bits)


def _recording(
    category: str, recording: int, seed: int, rate_hz: int, n_channels: int
) -> np.ndarray:
    """One field recording, float64 (n_samples, n_channels), peak below 1."""
    n_samples = round(((CLIPS_PER_RECORDING - 1) * CLIP_HOP_S + CLIP_S) * rate_hz)
    texture = BACKGROUNDS.get(category, _generic_texture)
    channels = []
    for channel in range(n_channels):
        # Both channels hear the same machine (same parameters) through air of their own.
        place = identity_rng("synthetic recording", seed, category, recording)
        air = identity_rng("synthetic air", seed, category, recording, channel)
        channels.append(texture(category, n_samples, rate_hz, place, air))
    samples = np.stack(channels, axis=1)
    level = identity_rng("synthetic level", seed, category, recording).uniform(0.04, 0.12)
    samples *= level / np.sqrt(np.mean(samples**2))
    return samples * min(1.0, 0.99 / np.abs(samples).max())


def _air_conditioner(
    category: str, n: int, rate_hz: int, place: np.random.Generator, air: np.random.Generator
) -> np.ndarray:
    """Low-passed noise over the harmonics of a motor's hum."""
    cutoff_hz, slope = place.uniform(300, 900), place.uniform(2.0, 3.5)
    hum_hz, hum_level = place.uniform(48, 62), place.uniform(0.1, 0.5)
    noise = shaped_noise(n, rate_hz, air, lambda f: (1 + (f / cutoff_hz) ** 2) ** (-slope / 4))
    phases = place.uniform(0, 2 * np.pi, 8)
    t = np.arange(n) / rate_hz
    hum = sum(np.sin(2 * np.pi * hum_hz * k * t + phases[k - 1]) / k for k in range(1, 9))
    return noise + hum_level * hum


def _engine_idling(
    category: str, n: int, rate_hz: int, place: np.random.Generator, air: np.random.Generator
) -> np.ndarray:
    """Firing pulses, each a little late or early, ringing in the body of the car; some noise."""
    firing_hz, jitter = place.uniform(18, 40), place.uniform(0.01, 0.06)
    n_pulses = int(n / rate_hz * firing_hz)
    times_s = (np.arange(n_pulses) + jitter * place.standard_normal(n_pulses)) / firing_hz
    pulses = np.zeros(n)
    at = np.clip(np.round(times_s * rate_hz).astype(int), 0, n - 1)
    np.add.at(pulses, at, 1 + 0.2 * place.standard_normal(n_pulses))
    sound = np.zeros(n)
    for low, high in ((70, 140), (180, 420), (600, 1500)):
        sound += ring(pulses, place.uniform(low, high), place.uniform(0.006, 0.02), rate_hz)
    noise = shaped_noise(n, rate_hz, air, lambda f: (1 + f / 400) ** -1.2)
    return sound + place.uniform(0.1, 0.3) * np.std(sound) * noise


def _generic_texture(
    category: str, n: int, rate_hz: int, place: np.random.Generator, air: np.random.Generator
) -> np.ndarray:
    """Noise with the spectral tilt, resonances and modulation that belong to the class's name."""
    kind = identity_rng("synthetic class", category)
    tilt, n_resonances = kind.uniform(0.3, 1.2), int(kind.integers(2, 5))
    centres_hz = np.exp(kind.uniform(np.log(150), np.log(7000), n_resonances))
    widths, gains = kind.uniform(0.03, 0.2, n_resonances), kind.uniform(5, 25, n_resonances)
    modulation_hz, depth = np.exp(kind.uniform(np.log(0.5), np.log(16))), kind.uniform(0.2, 0.9)
    # The recording's own variant of the class.
    tilt *= place.uniform(0.85, 1.15)
    centres_hz = centres_hz * np.exp(place.normal(0, 0.12, n_resonances))
    gains = gains * place.uniform(0.6, 1.5, n_resonances)
    modulation_hz *= np.exp(place.normal(0, 0.2))

    def gain(f: np.ndarray) -> np.ndarray:
        peaks = [
            g * np.exp(-0.5 * (np.log((f + 1) / centre) / width) ** 2)
            for g, centre, width in zip(gains, centres_hz, widths, strict=True)
        ]
        return (1 + sum(peaks)) * (1 + f / 100) ** -tilt

    t = np.arange(n) / rate_hz
    wobble = np.sin(2 * np.pi * modulation_hz * t + place.uniform(0, 2 * np.pi))
    return shaped_noise(n, rate_hz, air, gain) * (1 + depth * wobble) / (1 + depth)


BACKGROUNDS = {"air_conditioner": _air_conditioner, "engine_idling": _engine_idling}


# --- Events ---------------------------------------------------------------------------------------


def _event_clip(category: str, clip: int, seed: int) -> np.ndarray:
    """5 s at 44.1 kHz, float64: an event with exact zeros around it; one in four starts late."""
    rng = identity_rng("synthetic event", seed, category, clip)
    sound = EVENTS.get(category, _generic_event)(category, EVENT_RATE_HZ, rng)
    fade = np.linspace(0, 1, round(0.003 * EVENT_RATE_HZ) + 1)[1:]  # 3 ms
    sound[: len(fade)] *= fade
    sound[-len(fade) :] *= fade[::-1]
    sound *= rng.uniform(0.3, 0.9) / np.abs(sound).max()
    samples = np.zeros(round(EVENT_CLIP_S * EVENT_RATE_HZ))
    room = len(samples) - len(sound) - 1
    start = int(rng.integers(1, room)) if clip % 4 == 3 else 0
    samples[start : start + len(sound)] = sound
    return samples


def _glass_breaking(category: str, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """A crack, then splinters: decaying partials without harmony, high up."""
    n = round(rng.uniform(0.8, 1.8) * rate_hz)
    sound = burst(n, rate_hz, rng, decay_s=0.015) * 2
    for _ in range(int(rng.integers(25, 45))):
        at = int(rate_hz * min(rng.exponential(0.12), 0.6))
        t = np.arange(n - at) / rate_hz
        tone = np.sin(2 * np.pi * rng.uniform(1800, 11_000) * t + rng.uniform(0, 2 * np.pi))
        sound[at:] += rng.uniform(0.1, 0.5) * tone * np.exp(-t / rng.uniform(0.03, 0.25))
    return sound


def _dog(category: str, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """A few barks: harmonics of a falling pitch with breath, in short bursts."""
    pitch_hz = rng.uniform(350, 700)
    barks = []
    for _ in range(int(rng.integers(1, 5))):
        n, gap = round(rng.uniform(0.12, 0.25) * rate_hz), round(rng.uniform(0.1, 0.4) * rate_hz)
        t = np.linspace(0, 1, n)
        phase = 2 * np.pi * np.cumsum(pitch_hz * (1.15 - 0.4 * t)) / rate_hz
        voice = sum(np.sin(k * phase) / k**0.7 for k in range(1, 12))
        barks += [(voice + 0.3 * rng.standard_normal(n)) * np.sin(np.pi * t) ** 0.7, np.zeros(gap)]
    return np.concatenate(barks[:-1])


def _clock_alarm(category: str, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Groups of four beeps."""
    tone_hz, beep_s = rng.uniform(1500, 3500), rng.uniform(0.05, 0.09)
    t = np.arange(round(beep_s * rate_hz)) / rate_hz
    beep = np.sin(2 * np.pi * tone_hz * t) + 0.4 * np.sin(6 * np.pi * tone_hz * t)
    beep *= np.minimum(1, np.minimum(t, t[::-1]) / 0.004)
    group = np.tile(np.concatenate([beep, np.zeros(len(beep))]), 4)
    pause = np.zeros(round(rng.uniform(0.2, 0.5) * rate_hz))
    groups = int(rng.integers(2, 5))
    return np.concatenate([*[group, pause] * (groups - 1), group[: -len(beep)]])


def _door_wood_knock(category: str, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Dull knocks at a steady pace: a few damped low resonances each."""
    pace_s, modes_hz = rng.uniform(0.15, 0.35), rng.uniform((120, 280, 600), (220, 500, 1100))
    n = round(pace_s * rate_hz)
    knocks = []
    for _ in range(int(rng.integers(3, 7))):
        hit = burst(n, rate_hz, rng, decay_s=0.004)
        knocks.append(sum(ring(hit, mode_hz, 0.03, rate_hz) for mode_hz in modes_hz))
    return np.concatenate(knocks)


def _generic_event(category: str, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Bursts between noise and tone, in the band, number and decay that belong to the class."""
    kind = identity_rng("synthetic class", category)
    centre_hz = np.exp(kind.uniform(np.log(250), np.log(5000))) * np.exp(rng.normal(0, 0.1))
    tonality, glide = kind.uniform(0, 1), kind.uniform(-0.6, 0.6)
    burst_s, decay = kind.uniform(0.1, 0.6) * rng.uniform(0.8, 1.25), kind.uniform(1, 5)
    gap_s, n_bursts = kind.uniform(0.02, 0.3), int(kind.integers(1, 5))
    n, gap = round(burst_s * rate_hz), round(gap_s * rate_hz)
    t = np.linspace(0, 1, n)
    envelope = np.minimum(1, t / 0.05) * np.exp(-decay * t)
    parts = []
    for _ in range(n_bursts):
        phase = 2 * np.pi * np.cumsum(centre_hz * (1 + glide * t)) / rate_hz
        tone = sum(np.sin(k * phase) / k for k in range(1, 6))
        noise = shaped_noise(
            n, rate_hz, rng, lambda f: np.exp(-0.5 * (np.log((f + 1) / centre_hz) / 0.5) ** 2)
        )
        parts += [(tonality * tone + (1 - tonality) * noise) * envelope, np.zeros(gap)]
    return np.concatenate(parts[:-1])


EVENTS = {
    "glass_breaking": _glass_breaking,
    "dog": _dog,
    "clock_alarm": _clock_alarm,
    "door_wood_knock": _door_wood_knock,
}
