"""What the synthetic archives are made of: noise, bursts and resonances, and files with the same bytes again."""

from __future__ import annotations

import hashlib
import io
import wave
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from vision_to_sound.files import replacing

LICENCE = "synthetic sounds, CC0"
ZIP_DATE = (2020, 1, 1, 0, 0, 0)

# --- Sounds ---------------------------------------------------------------------------------------


def shaped_noise(
    n: int, rate_hz: int, rng: np.random.Generator, gain: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Noise (n,) of unit variance whose amplitude spectrum follows `gain` (of hertz)."""
    size = 1 << (n - 1).bit_length()  # a power of two: the transform's time does not depend on n
    spectrum = np.fft.rfft(rng.standard_normal(size)) * gain(np.fft.rfftfreq(size, 1 / rate_hz))
    noise = np.fft.irfft(spectrum, size)[:n]
    return noise / noise.std()


def burst(n: int, rate_hz: int, rng: np.random.Generator, *, decay_s: float) -> np.ndarray:
    return rng.standard_normal(n) * np.exp(-np.arange(n) / (decay_s * rate_hz))


def ring(excitation: np.ndarray, mode_hz: float, decay_s: float, rate_hz: int) -> np.ndarray:
    """A damped resonance (two poles) driven by `excitation`, of unit variance."""
    radius = np.exp(-1 / (decay_s * rate_hz))
    poles = [1, -2 * radius * np.cos(2 * np.pi * mode_hz / rate_hz), radius**2]
    sound = lfilter([1], poles, excitation)
    return sound / sound.std()


# --- Files ----------------------------------------------------------------------------------------


def wav_bytes(samples: np.ndarray, rate_hz: int, *, bits: int) -> bytes:
    """PCM WAV of float samples (n_samples, n_channels) in [-1, 1]."""
    n_bytes = bits // 8
    whole = np.round(samples * (2 ** (bits - 1) - 1)).astype("<i4")
    data = whole[:, :, None].view(np.uint8).reshape(-1, 4)[:, :n_bytes].tobytes()
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(samples.shape[1])
        wav.setsampwidth(n_bytes)
        wav.setframerate(rate_hz)
        wav.writeframes(data)
    return file.getvalue()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` gets a temporary path, which takes the real name when it has ended well."""
    with replacing(path) as temporary:
        write(temporary)


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A zip of (name, bytes), in that order; members may be made one by one while it is written."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system, info.external_attr = 3, 0o100644 << 16
            archive.writestr(info, data)


def write_archive_table(path: Path, archives: Mapping[str, Path]) -> None:
    """The datasets.tsv of synthetic archives, {name of the data set: archive}, for the download stage."""
    rows = [["name", "file", "bytes", "checksum", "url", "licence", "doi"]]
    for name, archive in archives.items():
        with archive.open("rb") as file:
            checksum = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        rows.append([name, archive.name, str(archive.stat().st_size), checksum, "", LICENCE, ""])
    table = "".join("\t".join(row) + "\n" for row in rows).encode()
    write_whole(path, lambda temporary: temporary.write_bytes(table))
