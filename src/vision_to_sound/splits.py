"""Which clips train, which test, and which test clips get an event: published and leakfree."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from vision_to_sound.seeding import identity_order

SPLITTERS = ("published", "leakfree")


def split_clips(
    clips: pd.DataFrame,
    *,
    protocol: str,
    category: str,
    seed: int,
    test_share: float,
    anomalous_share: float,
) -> pd.DataFrame:
    """Split the clips of one class; half (`anomalous_share`) of the test clips are to get an event.

    clips: columns clip, recording, in the order of the clip set. published: at random over clips, so clips
    cut from one field recording land on both sides. leakfree: over recordings; none is on both sides.
    Test takes the share rounded up, anomalous clips the share rounded down (EnvMix sizes of the paper:
    187 clips -> 140 train, 47 test, 23 anomalous). Independent of the SNR.

    Clips and recordings are ordered by hashes of their own identity, so that one clip more or less moves
    at most the clips at the borders.

    Returns clip, recording, set_row (row in the clip set), role ("train", "test"), label (1: gets an event).
    Raises ValueError if a side would be empty.
    """
    if protocol not in SPLITTERS:
        raise ValueError(f"protocol {protocol!r}: expected one of {SPLITTERS}")
    identity = (protocol, category, seed)
    if protocol == "published":
        order = identity_order(list(clips["clip"]), "split", *identity)
        is_test = np.zeros(len(clips), bool)
        is_test[order[: math.ceil(test_share * len(clips))]] = True
    else:
        recordings = sorted(clips["recording"].astype(str).unique())
        order = identity_order(recordings, "split", *identity)
        n_test = math.ceil(test_share * len(recordings))
        test_recordings = [recordings[i] for i in order[:n_test]]
        is_test = clips["recording"].astype(str).isin(test_recordings).to_numpy()
    test_rows = np.flatnonzero(is_test)
    n_anomalous = math.floor(anomalous_share * len(test_rows))
    if is_test.all() or n_anomalous == 0 or n_anomalous == len(test_rows):
        raise ValueError(
            f"class {category!r}, protocol {protocol}: {len(clips)} clips of "
            f"{clips['recording'].nunique()} recordings give {int((~is_test).sum())} train and "
            f"{len(test_rows)} test clips, {n_anomalous} of them anomalous; each side needs at least one. "
            "Take the class out of the config or give it more clips."
        )
    label = np.zeros(len(clips), int)
    order = identity_order(list(clips["clip"].iloc[test_rows]), "label", *identity)
    label[test_rows[order[:n_anomalous]]] = 1
    return pd.DataFrame(
        {
            "clip": clips["clip"],
            "recording": clips["recording"],
            "set_row": np.arange(len(clips)),
            "role": np.where(is_test, "test", "train"),
            "label": label,
        }
    )
