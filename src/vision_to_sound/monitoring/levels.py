"""Level, clipping and constant offset of a clip, and what they say is wrong with how it was recorded."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

LEVELS = "level_db channel_level_db channels_cancel n_clipped dc silent content".split()
SILENT_DB = -100.0  # the least that a 24 bit recorder's own noise gives
CANCELLED_DB = 6.0
MIN_DC = 1e-3  # of full scale
UNHEARD_ABOVE = 1.2  # times the highest frequency that the encoder hears: 44.1 and 48 kHz are alike
MAX_PEAKS = 2  # a peak may touch full scale


def levels_of(
    samples: np.ndarray,
    heard: np.ndarray,
    *,
    sample_rate_hz: int,
    full_scale: float,
    channel: int | None,
) -> dict[str, Any]:
    """What is known of the level of a clip, by the names in LEVELS.

    A channel is heard if it is the chosen one, or goes into the mean of all.

    Args:
        samples: float32 (n_samples, n_channels), as decoded. heard: float32 (n_samples,), the channel or the mean.
        full_scale: the largest positive sample, where clipped sound stays.
        channel: the chosen one; None: the mean.

    Returns:
        level_db: of what is heard: RMS without its mean, dB re full scale.
        channel_level_db: power mean of the same over all channels, heard or not.
        channels_cancel: whether the mean of all channels is far below what averaging unrelated ones costs.
        n_clipped: samples at full scale, in that heard channel that has most.
        dc: largest constant offset of a heard channel; full scale is 1.
        silent: whether nothing but a constant is heard.
        content: digest (32 hex digits) of all samples, their rate and the number of channels; the same for a WAV and
            a FLAC of one sound.
    """
    powers, clipped, offsets = [], [], []
    for i, values in enumerate(samples.T):
        powers.append(np.var(values, dtype=np.float64))
        if channel in (None, i):
            clipped.append(np.count_nonzero(np.abs(values) >= full_scale))
            offsets.append(abs(values.mean(dtype=np.float64)))
    level_db, channel_level_db = (
        _power_db(np.var(heard, dtype=np.float64)),
        _power_db(np.mean(powers)),
    )
    unrelated_db = channel_level_db - 10.0 * math.log10(samples.shape[1])
    digest = hashlib.sha256(f"{sample_rate_hz} {samples.shape[1]} ".encode())
    digest.update(np.ascontiguousarray(samples, dtype="<f4").data)
    return {
        "level_db": level_db,
        "channel_level_db": channel_level_db,
        "channels_cancel": channel is None and level_db < unrelated_db - CANCELLED_DB,
        "n_clipped": int(max(clipped)),
        "dc": float(max(offsets)),
        "silent": level_db <= SILENT_DB,
        "content": digest.hexdigest()[:32],
    }


def _power_db(power: float) -> float:
    return 10.0 * math.log10(max(power, 1e-24))


def has_dc(dc: float, level_db: float) -> bool:
    """Whether a constant offset has as much power as a quarter of the sound."""
    return dc > MIN_DC and 20.0 * math.log10(dc) > level_db - 6.0


def unheard(f_max_hz: float, sample_rate_hz: float) -> str:
    """What recordings of a rate hold and an encoder does not hear, a sentence; "" if it hears nearly all."""
    recorded_hz = sample_rate_hz / 2
    if recorded_hz < f_max_hz * UNHEARD_ABOVE:
        return ""
    return (
        f"Recordings hold sound up to {recorded_hz / 1000:.3g} kHz, the encoder hears up to {f_max_hz / 1000:.3g} kHz: "
        "nothing above that is looked at."
    )


def recording_faults(clip: Any) -> list[str]:
    """What is wrong with how a clip was recorded, a phrase each.

    clip: has the attributes LEVELS, be it an `EmbeddedClip` or a row of a table of clips.
    """
    found = []
    if clip.silent:
        found.append(f"silent, a constant of {clip.dc:.2g}" if clip.dc > MIN_DC else "silent")
    elif has_dc(clip.dc, clip.level_db):
        found.append(f"a constant offset (DC) of {clip.dc:.2g} of full scale")
    if clip.channels_cancel:
        found.append(
            f"its channels cancel each other: level {clip.level_db:.0f} dB, channels {clip.channel_level_db:.0f} dB; "
            "set channel"
        )
    if clip.n_clipped > MAX_PEAKS:
        found.append(f"clipped: {clip.n_clipped} samples at full scale")
    return found
