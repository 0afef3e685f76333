"""Decode recordings as they come: any rate, width and channel count, to float32 mono at one rate."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

import numpy as np

log = logging.getLogger(__name__)

SKIP_OR_REPLACE = (
    "Replace or remove the file, or set on_bad_clip: skip to go on without such clips (they are listed in the "
    "report)."
)


class BadClipError(ValueError):
    """A recording that cannot be used; the message names the clip and says what to do."""

    def __init__(
        self, clip: str, problem: str, others: Sequence[str] = (), *, remedy: str = SKIP_OR_REPLACE
    ) -> None:
        more = f" {len(others)} more bad clips: {'; '.join(others)}." if others else ""
        super().__init__(f"{clip}: {problem}.{more} {remedy}")
        self.clip = clip
        self.problem = problem


def decode(data: bytes, *, clip: str, channel: int | None = None) -> tuple[np.ndarray, int]:
    """Samples of one recording and its sample rate.

    data: the bytes of a WAV or any other file that libsndfile reads. clip: its name, for messages.
    channel: index of the channel to take; None: the mean of all. Returns (float32 (n_samples,), Hz), full
    scale +-1. Raises BadClipError for an empty, truncated, unreadable or non-finite recording.
    """
    import soundfile

    if not data:
        raise BadClipError(clip, "the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            declared = file.frames
            samples = file.read(dtype="float32", always_2d=True)  # (n_samples, n_channels)
            sample_rate_hz = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = getattr(error, "error_string", error)
        raise BadClipError(clip, f"not readable as audio ({reason})") from error
    if len(samples) == 0:
        raise BadClipError(clip, "holds no samples")
    if len(samples) < declared:
        raise BadClipError(clip, f"is cut off: {len(samples)} of {declared} samples")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).sum())
        raise BadClipError(clip, f"{bad} of {len(samples)} samples are NaN or infinite")
    if channel is None:
        mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    elif channel < samples.shape[1]:
        mono = samples[:, channel]
    else:
        raise BadClipError(
            clip,
            f"has {samples.shape[1]} channels, channel {channel} was asked for (counting from 0)",
        )
    return np.ascontiguousarray(mono), sample_rate_hz


def fit_length(samples: np.ndarray, n_samples: int, *, clip: str, max_missing: int) -> np.ndarray:
    """Cut to the first `n_samples`, or pad at the end with zeros if at most `max_missing` are missing."""
    missing = n_samples - len(samples)
    if missing > max_missing:
        raise BadClipError(
            clip,
            f"has {len(samples)} samples where {n_samples} are needed; its metadata says longer",
        )
    if missing > 0:
        log.warning("%s: %d samples short, padded with silence", clip, missing)
        return np.pad(samples, (0, missing))
    return samples[:n_samples]


def trim_zeros(samples: np.ndarray) -> np.ndarray:
    """Without leading and trailing samples that are exactly zero; empty if there is nothing else."""
    nonzero = np.flatnonzero(samples)
    return samples[nonzero[0] : nonzero[-1] + 1] if len(nonzero) else samples[:0]


def rms(samples: np.ndarray) -> float:
    """Root mean square over the last axis, in float64."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
