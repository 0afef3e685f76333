"""An event into a background at an SNR, under both protocols.

**SNR = background over event: +6 dB is the hard case, -6 dB the easy one.** (MIMII's own SNR is machine over
factory noise; there +6 dB is the easy one.)

A mixture is kept as a row of a table (files, onset, length, gains), not as audio: `render` makes the samples
of the mixture or of either stem again, in a few milliseconds, from the extracted clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vision_to_sound.audio import rms, rms_without_mean
from vision_to_sound.seeding import identity_order, identity_rng

STEMS = ("mixture", "background", "event")


@dataclass(frozen=True)
class Gains:
    """Linear gains: mixture = background * background clip + event * placed event clip."""

    background: float
    event: float


def published_gains(background: np.ndarray, placed_event: np.ndarray, snr_db: float) -> Gains:
    """Gains of the published runs: both RMS over the whole clip, the event's padding counted.

    k = 1 / (10^(SNR/20) + 1); mixture = (1 - k) background + k rms(background) / rms(event) event.
    background, placed_event: float32 (n_samples,).
    """
    k = 1.0 / (10.0 ** (snr_db / 20.0) + 1.0)
    return Gains(1.0 - k, k * rms(background) / rms(placed_event))


def published_normal_gain(snr_db: float) -> float:
    """Level of a normal clip in the published runs: 1 - 1 / (10^(SNR/**10**) + 1).

    The exponent differs from the mixtures', so their backgrounds are 4.4 dB louder (SNR -6) or 1.6 dB softer
    (SNR 6) than normal clips: loudness alone gives the answer away.
    """
    return 1.0 - 1.0 / (10.0 ** (snr_db / 10.0) + 1.0)


def leakfree_gains(background: np.ndarray, event: np.ndarray, snr_db: float) -> Gains:
    """Background untouched; event scaled so that background RMS over its own RMS is the SNR.

    A mixture may go beyond full scale: samples are float32 and nothing clips them. Turning only loud
    mixtures down would make level a clue again (their backgrounds 1 to 6 dB softer, on real clips).

    event: float32 (length,), the event alone without padding: its level is taken where it is active. The
    background's level is that of the whole clip, so that a short lull under the event does not mute it. Levels are
    RMS without the mean: a constant offset (DC), most of the power of some recordings, is not heard.
    """
    ratio = 10.0 ** (snr_db / 20.0)
    return Gains(1.0, rms_without_mean(background) / (rms_without_mean(event) * ratio))


def place(event: np.ndarray, onset: int, n_samples: int) -> np.ndarray:
    """The event (length,) at `onset` in n_samples of silence."""
    placed = np.zeros(n_samples, np.float32)
    placed[onset : onset + len(event)] = event
    return placed


def synthesize_mixtures(
    split: pd.DataFrame,
    background_table: pd.DataFrame,
    backgrounds: np.ndarray,
    event_table: pd.DataFrame,
    events: np.ndarray,
    *,
    protocol: str,
    category: str,
    snr_db: int,
    seed: int,
) -> pd.DataFrame:
    """Table of every clip of one experiment, with what is mixed into it and how loud.

    split: from `split_clips`, row i belongs to row i of background_table. backgrounds: float32
    (n_backgrounds, n_samples); events: float32 (n_events, <= n_samples), padded; tables as extracted.
    Each draw depends on (protocol, class, SNR, seed, clip) alone (but the published scale, which is that
    of the whole test set); leakfree never draws an event of the background's own class. Onset: uniform over
    the places where the event fits.

    Returns one row a clip: clip, recording, role, label, set_row (row in its clip set: normal clips count among
    the normal ones, mixtures among the mixtures; leakfree normal clips among all clips of the class),
    background_row, background_gain, event, event_category, event_recording, event_row (-1: none), event_gain,
    onset_samples, length_samples, snr_db, snr_clip_db (over the whole clip), snr_event_db (within the span); both
    are of RMS as it is under published, of RMS without the mean under leakfree.
    """
    n_samples = backgrounds.shape[1]
    pool = event_table
    if protocol == "leakfree":
        pool = event_table[event_table["category"] != category]
    if pool.empty:
        raise ValueError(f"class {category!r}: no event class but its own is left to mix in")
    pool_names = list(pool["clip"])
    rows = []
    peak = 0.0
    normal_gain = published_normal_gain(snr_db) if protocol == "published" else 1.0
    counts = {0: 0, 1: 0}
    for item, source in zip(split.itertuples(), background_table.itertuples(), strict=True):
        if item.clip != source.clip:
            raise ValueError(
                f"split and clips disagree: {item.clip} stands where {source.clip} does"
            )
        background = np.asarray(backgrounds[source.row])
        row = {
            "clip": item.clip,
            "recording": item.recording,
            "role": item.role,
            "label": item.label,
            "set_row": item.set_row
            if not item.label and protocol == "leakfree"
            else counts[item.label],
            "background_row": source.row,
            "background_gain": normal_gain,
            **_NO_EVENT,
        }
        counts[item.label] += 1
        if item.label:
            identity = (protocol, category, snr_db, seed, item.clip)
            # The event of the smallest hash: one event more in the pool changes few mixtures.
            drawn = pool.iloc[identity_order(pool_names, "event", *identity)[0]]
            length = int(drawn["length_samples"])
            onset = int(identity_rng("onset", *identity).integers(n_samples - length + 1))
            row |= _mix(background, events[int(drawn["row"])][:length], onset, protocol, snr_db)
            row |= {
                "event": drawn["clip"],
                "event_category": drawn["category"],
                "event_recording": drawn["recording"],
                "event_row": int(drawn["row"]),
                "snr_db": snr_db,
            }
        if item.role == "test":
            peak = max(peak, float(np.abs(_render(row, backgrounds, events, "mixture")).max()))
        rows.append(row)
    table = pd.DataFrame(rows)
    if protocol == "published":
        # The published scale: everything is divided by the largest sample of the test set.
        table[["background_gain", "event_gain"]] /= peak
    return table


_NO_EVENT = {
    "event": "",
    "event_category": "",
    "event_recording": "",
    "event_row": -1,
    "event_gain": 0.0,
    "onset_samples": 0,
    "length_samples": 0,
    "snr_db": np.nan,
    "snr_clip_db": np.nan,
    "snr_event_db": np.nan,
}


def _mix(
    background: np.ndarray, event: np.ndarray, onset: int, protocol: str, snr_db: float
) -> dict[str, float]:
    placed = place(event, onset, len(background))
    if protocol == "published":
        gains, level = published_gains(background, placed, snr_db), rms
    else:
        gains, level = leakfree_gains(background, event, snr_db), rms_without_mean
    span = slice(onset, onset + len(event))
    return {
        "background_gain": gains.background,
        "event_gain": gains.event,
        "onset_samples": onset,
        "length_samples": len(event),
        "snr_clip_db": _ratio_db(gains.background * level(background), gains.event * level(placed)),
        "snr_event_db": _ratio_db(
            gains.background * level(background[span]), gains.event * level(event)
        ),
    }


def _ratio_db(numerator: float, denominator: float) -> float:
    return float(20.0 * np.log10(max(numerator, 1e-12) / max(denominator, 1e-12)))


def clip_set_rows(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows of an experiment's table that make one clip set, in the order of `set_row`.

    kind: "normal" (label 0) or "mixture"/"event"/"background" (label 1).
    """
    return table[table["label"] == (0 if kind == "normal" else 1)].reset_index(drop=True)


def render(
    rows: pd.DataFrame, backgrounds: np.ndarray, events: np.ndarray | None, stem: str
) -> np.ndarray:
    """Samples of mixtures or of one of their stems: float32 (n_rows, n_samples).

    stem: "mixture", "background" or "event"; the mixture is the sum of the other two to float32 rounding.
    """
    if stem not in STEMS:
        raise ValueError(f"stem {stem!r}: expected one of {STEMS}")
    rendered = [_render(row, backgrounds, events, stem) for row in rows.to_dict("records")]
    return np.stack(rendered) if rendered else np.zeros((0, backgrounds.shape[1]), np.float32)


def _render(row: dict, backgrounds: np.ndarray, events: np.ndarray | None, stem: str) -> np.ndarray:
    samples = np.zeros(backgrounds.shape[1], np.float32)
    if stem != "event":
        samples += np.float32(row["background_gain"]) * backgrounds[int(row["background_row"])]
    if stem != "background" and row["event_row"] >= 0:
        onset, length = int(row["onset_samples"]), int(row["length_samples"])
        event = events[int(row["event_row"])][:length]
        samples[onset : onset + length] += np.float32(row["event_gain"]) * event
    return samples
