"""What is really anomalous in a test clip: that, when and at which frequencies.

Everything comes from the event alone, as it was scaled into the mixture, never from the mixture.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from vision_to_sound.scores import LEAKFREE, PUBLISHED, Truth

if TYPE_CHECKING:
    import pandas as pd

    from vision_to_sound.front_ends import FrontEnd

LOGGER = logging.getLogger(__name__)

SILENCE_DB = -99.9  # the floor of every log-mel spectrogram is -100 dB; float32 rounds


def truth_of_experiment(
    table: pd.DataFrame,
    event_db: np.ndarray,
    *,
    front_end: FrontEnd,
    clip_rate_hz: int,
    mask_share: float,
) -> Truth:
    """Truth of the test clips of one experiment, in the order of its table.

    table: from `mixing.synthesize_mixtures`; it counts samples at clip_rate_hz, the front end may run
    at another rate. event_db: log-mel dB of the event stems, float32 (n_anomalous, n_frames, n_mels).
    """
    test = table[table["role"] == "test"]
    events = test[test["label"] == 1]
    scale = front_end.sample_rate_hz / clip_rate_hz
    onset = np.floor(events["onset_samples"].to_numpy() * scale).astype(np.int64)
    end = (events["onset_samples"] + events["length_samples"]).to_numpy() * scale
    return event_truth(
        event_db,
        onset_samples=onset,
        length_samples=np.floor(end).astype(np.int64) - onset,
        hop_samples=front_end.hop_samples,
        labels=test["label"].to_numpy() == 1,
        mask_share=mask_share,
        floor_db=SILENCE_DB,
    )


def event_truth(
    event_db: np.ndarray,
    *,
    onset_samples: np.ndarray,
    length_samples: np.ndarray,
    hop_samples: int,
    labels: np.ndarray,
    mask_share: float,
    floor_db: float,
) -> Truth:
    """Both masks and the anomalous frames of clips into which events were mixed.

    event_db: float32 (n_anomalous, n_frames, n_mels), log-mel dB of the scaled event alone, in the
        order of the True labels. Frame t is centred on sample t * hop_samples.
    onset_samples, length_samples: integers (n_anomalous,), place of the event in its clip.
    hop_samples: samples from frame to frame. All three count at the rate of the spectrogram.
    labels: bool (n_clips,).
    mask_share: in (0, 1), 0.4 in the paper: share of the event's dB mass (published) or of the
        cells of its span (leakfree).
    floor_db: the dB value of silence. Cells at or below it are not anomalous in the leakfree mask.

    Source: Section 3.2.2 and 3.2.3 of the paper. "leakfree" and the frames follow its sentences,
    "published" the mask its numbers were most likely made with (see published_mask). The span is
    the frames centred in [onset, onset + length), or the nearest one if there is none.

    A silent event has no anomalous cell or frame, and a warning names its clip; so does an event
    whose span is silent while it sounds elsewhere. Raises ValueError on shapes that disagree,
    values that are not finite, and events that lie outside their clip.
    """
    event_db, onset_samples, length_samples, labels = (
        np.asarray(part) for part in (event_db, onset_samples, length_samples, labels)
    )
    _check_events(event_db, onset_samples, length_samples, hop_samples, labels)
    if not 0.0 < mask_share < 1.0:
        raise ValueError(f"mask_share must lie between 0 and 1, got {mask_share}")

    n_frames, n_mels = event_db.shape[1:]
    shape = (len(labels), n_frames, n_mels)
    published, leakfree = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    frames = np.zeros(shape[:2], dtype=bool)
    silent, silent_span, no_published = [], [], []
    for row, clip in enumerate(np.flatnonzero(labels)):
        cells_db = event_db[row]
        if cells_db.max() <= floor_db:
            silent.append(int(clip))
            continue
        published[clip] = published_mask(cells_db, mask_share=mask_share)
        if not published[clip].any():
            no_published.append(int(clip))
        span = event_span(
            int(onset_samples[row]),
            int(length_samples[row]),
            hop_samples=hop_samples,
            n_frames=n_frames,
        )
        if cells_db[span].max() <= floor_db:
            silent_span.append(int(clip))
            continue
        leakfree[clip, span] = loudest_cells(cells_db[span], share=mask_share, floor_db=floor_db)
        frames[clip, span] = loud_frames(cells_db[span])

    for clips, what in (
        (silent, "the event is silent: no anomalous cell or frame"),
        (silent_span, "the event is silent within its span: no leakfree cell, no anomalous frame"),
        (no_published, "the published mask has no cell (the loudest cells tie)"),
    ):
        if clips:
            LOGGER.warning("truth: %s, in %d clips: %s", what, len(clips), _first(clips))
    return Truth(labels=labels, masks={PUBLISHED: published, LEAKFREE: leakfree}, frames=frames)


def published_mask(cells_db: np.ndarray, *, mask_share: float) -> np.ndarray:
    """Bool mask (n_frames, n_mels) of the cells that together hold mask_share of the dB mass.

    With v the min-maxed dB values (n_frames, n_mels), sorted from loud to soft, and c their
    min-maxed cumulative sum: all v strictly above the v at the first place where c > mask_share.
    Differs from the paper's sentence ("top 40 % most energy-intensive values in the area where the
    sound is injected"): the mass is in dB, and the whole clip counts. That marks about a tenth of
    all cells. Cells of equal loudness are in or out together; no cell is marked if all are equal,
    or if a single one stands out (c is then undefined).
    """
    values = cells_db.astype(np.float64)
    low, high = values.min(), values.max()
    if high == low:
        return np.zeros(cells_db.shape, dtype=bool)
    values = (values - low) / (high - low)
    descending = np.sort(values, axis=None)[::-1]
    mass = np.cumsum(descending)
    if mass[-1] == mass[0]:
        return np.zeros(cells_db.shape, dtype=bool)
    share = (mass - mass[0]) / (mass[-1] - mass[0])
    return values > descending[np.argmax(share > mask_share)]


def event_span(
    onset_samples: int, length_samples: int, *, hop_samples: int, n_frames: int
) -> slice:
    """Frames whose centre t * hop lies in [onset, onset + length); at least the nearest one."""
    first = -(-onset_samples // hop_samples)
    end = -(-(onset_samples + length_samples) // hop_samples)
    first, end = min(first, n_frames), min(end, n_frames)
    if first < end:
        return slice(first, end)
    # nearest to the middle x = onset + length / 2 of the event, in integers: floor(x / hop + 1 / 2)
    twice_middle = 2 * onset_samples + length_samples
    nearest = (twice_middle + hop_samples) // (2 * hop_samples)
    nearest = min(nearest, n_frames - 1)
    return slice(nearest, nearest + 1)


def loudest_cells(span_db: np.ndarray, *, share: float, floor_db: float) -> np.ndarray:
    """Bool mask (n_span_frames, n_mels) of the round(share * cells) loudest cells of a span.

    Halves round to even. Equal cells: the earlier frame first, then the lower mel band. Fewer cells
    only where fewer rise above floor_db: digital silence is nobody's anomaly.
    """
    flat = span_db.ravel()
    n_marked = min(round(share * flat.size), int(np.count_nonzero(flat > floor_db)))
    mask = np.zeros(flat.shape, dtype=bool)
    mask[np.argsort(-flat, kind="stable")[:n_marked]] = True
    return mask.reshape(span_db.shape)


def loud_frames(span_db: np.ndarray) -> np.ndarray:
    """Bool (n_span_frames,): frames whose energy lies strictly above the median of the span.

    E(t) is the sum of power over the mel bins. Where no frame is above the median (a single frame,
    or most frames equal) the frames of largest energy are marked: an event always has one.
    """
    energy = np.sum(10.0 ** (span_db.astype(np.float64) / 10.0), axis=1)
    above = energy > np.median(energy)
    return above if above.any() else energy == energy.max()


def _check_events(
    event_db: np.ndarray,
    onset_samples: np.ndarray,
    length_samples: np.ndarray,
    hop_samples: int,
    labels: np.ndarray,
) -> None:
    if labels.dtype != bool or labels.ndim != 1:
        raise ValueError(f"labels must be bool (n_clips,), got {labels.dtype} {labels.shape}")
    n_anomalous = int(labels.sum())
    if event_db.ndim != 3 or 0 in event_db.shape[1:]:
        raise ValueError(f"event_db must be (n_anomalous, n_frames, n_mels), got {event_db.shape}")
    sizes = {
        "event_db": event_db.shape[:1],
        "onset_samples": onset_samples.shape,
        "length_samples": length_samples.shape,
    }
    for name, size in sizes.items():
        if size != (n_anomalous,):
            raise ValueError(f"{name}: one row per anomalous clip ({n_anomalous}), got {size}")
    if hop_samples < 1:
        raise ValueError(f"hop_samples must be at least 1, got {hop_samples}")
    if n_anomalous == 0:
        return
    for name, values in (("onset_samples", onset_samples), ("length_samples", length_samples)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must be integers, got {values.dtype}")

    clips = np.flatnonzero(labels)
    bad = clips[~np.isfinite(event_db).all(axis=(1, 2))]
    if len(bad):
        raise ValueError(f"event_db: NaN or infinite values in {len(bad)} clips: {_first(bad)}")
    n_samples = event_db.shape[1] * hop_samples
    outside = (onset_samples < 0) | (length_samples < 0)
    outside |= (onset_samples >= n_samples) | (onset_samples + length_samples > n_samples)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"{int(outside.sum())} events outside their clip; first in clip {clips[row]}: onset "
            f"{onset_samples[row]}, length {length_samples[row]}, but {event_db.shape[1]} frames "
            f"of hop {hop_samples} cover {n_samples} samples. Do all count at its sample rate?"
        )


def _first(clips: list[int] | np.ndarray) -> str:
    shown = ", ".join(str(clip) for clip in clips[:10])
    return shown if len(clips) <= 10 else f"{shown}, ..."
