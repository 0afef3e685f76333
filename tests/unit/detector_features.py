"""Small made-up features for the tests of detectors: three taps on two odd grids."""

from __future__ import annotations

import numpy as np
import torch

from vision_to_sound.embeddings import ClipFeatures

CPU = torch.device("cpu")
AMPLE = 2**28  # bytes
TIGHT = 1  # everything in the smallest blocks there are
N_TIME, N_FREQ = 9, 5  # of the largest tap
N_FRAMES, N_MELS = 36, 20
TAPS = {"block2": (N_TIME, N_FREQ, 6), "block3": (4, 2, 8), "block4": (4, 2, 10)}
N_CHANNELS = 24


def random_taps(n_clips: int, seed: int) -> dict[str, np.ndarray]:
    """Taps with a pattern that all clips share and some spread, so that neighbours are not all alike."""
    pattern, rng = np.random.default_rng(99), np.random.default_rng(seed)
    return {
        name: (3.0 + pattern.normal(size=shape) + rng.normal(size=(n_clips, *shape))).astype(
            np.float32
        )
        for name, shape in TAPS.items()
    }


def make_features(
    n_clips: int, seed: int, *, taps: dict[str, np.ndarray] | None = None
) -> ClipFeatures:
    rng = np.random.default_rng(seed + 1000)
    spectrograms_db = rng.normal(-40.0, 10.0, size=(n_clips, N_FRAMES, N_MELS))
    return ClipFeatures.from_arrays(
        taps=random_taps(n_clips, seed) if taps is None else taps,
        spectrograms_db=spectrograms_db.astype(np.float32),
    )


def fit_and_score(detector, train, test, *, seed=0, device=CPU, memory_bytes=AMPLE, truth=None):
    rng = np.random.default_rng(seed)
    detector.fit(train, rng=rng, device=device, memory_bytes=memory_bytes)
    return detector.score(test, device=device, memory_bytes=memory_bytes, truth=truth)
