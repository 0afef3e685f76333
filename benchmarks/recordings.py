"""Embeddings to measure on: of recordings where there are some, else clusters that look like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

N_CLIPS = 40


def features_of(folder: str, *, quick: bool):
    """(ClipFeatures, what they are): taps of aiSFX of 10 s recordings, or random ones of its shapes."""
    from vision_to_sound.embeddings import ClipFeatures

    files = [] if quick else sorted(Path(folder).rglob("*.wav"))[:N_CLIPS]
    taps, spectrograms_db = _embedded(files) if files else _clusters(4 if quick else N_CLIPS)
    kind = "aiSFX of recordings" if files else "clusters"
    return ClipFeatures.from_arrays(taps=taps, spectrograms_db=spectrograms_db), kind


def patches_of(folder: str, *, quick: bool) -> tuple[np.ndarray, str]:
    """Patches, float16 (n_patches, 896), and what they are."""
    import torch

    from vision_to_sound.detectors.patches import PatchReader

    features, kind = features_of(folder, quick=quick)
    reader = PatchReader(features, layers=[], pool=True, channels=None)
    blocks = reader.blocks(device=torch.device("cpu"), memory_bytes=10**9)
    return np.concatenate([block.half().numpy() for _, block in blocks]), kind


def _embedded(files: list[Path]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    from vision_to_sound.encoders import ENCODERS
    from vision_to_sound.encoders.embed import embed
    from vision_to_sound.encoders.weights import load_encoder
    from vision_to_sound.monitoring.sound_files import SoundFile
    from vision_to_sound.monitoring.weights import find_weights
    from vision_to_sound.spectrogram import log_mel_db, resample

    spec = ENCODERS["aisfx"]
    opened = [SoundFile.open(path) for path in files]
    n_samples = min(file.n_samples for file in opened)
    rate = opened[0].sample_rate_hz
    samples = np.stack([file.read(0, n_samples, channel=0) for file in opened])
    resampled = resample(samples, from_hz=rate, to_hz=spec.front_end.sample_rate_hz)
    spectrograms_db = log_mel_db(resampled, spec.front_end, device="cpu")
    encoder = load_encoder(spec, find_weights(spec))
    batches = embed(encoder, spectrograms_db, device="cpu", batch_size=4, precision="float32")
    names = [tap.name for tap in spec.taps]
    taps = dict(zip(names, map(np.concatenate, zip(*batches, strict=True)), strict=True))
    return taps, spectrograms_db


def _clusters(n_clips: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rectified mixtures of a few directions, drawn anew for each cell, in the shapes of 4 s of aiSFX."""
    rng = np.random.default_rng(0)
    taps = {}
    shapes = {"block2": (43, 24, 128), "block3": (21, 12, 256), "block4": (21, 12, 512)}
    for name, (n_time, n_freq, n_channels) in shapes.items():
        kinds = rng.normal(size=(20, n_channels))
        which = rng.integers(20, size=(n_clips, n_time, n_freq))
        values = kinds[which] + 0.3 * rng.normal(size=(*which.shape, n_channels))
        taps[name] = np.maximum(values, 0.0).astype(np.float16)
    return taps, np.zeros((n_clips, 344, 96), np.float32)
