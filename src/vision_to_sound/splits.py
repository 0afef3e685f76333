"""Which clips train, which test, and which test clips get an event: published and leakfree."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from vision_to_sound.seeding import identity_order
from vision_to_sound.settings import check_known

SPLITTERS = ("published", "leakfree")
PUBLISHED_TEST_SHARE = 0.3  # of MIMII's abnormal clips


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
    _check_protocol(protocol)
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


def split_recordings(
    index: pd.DataFrame, *, protocol: str, category: str, seed: int, contaminated: bool = False
) -> pd.DataFrame:
    """Split the recordings of one MIMII machine: abnormal ones are tested against as many normal ones.

    index: columns clip, category, recording, label (0 normal, 1 abnormal), in the order of the clip sets.
    published: int(0.3 n) of the n abnormal recordings are tested, the others take no part; contaminated:
    they train, as in one early version of the published code, with no change of the test set.
    leakfree: all abnormal recordings are tested (as the MIMII baseline does). All other normal recordings
    train. Nothing tells which recordings were cut from one session, so neither keeps sessions apart.

    Recordings are ordered by hashes of their own identity, as in `split_clips`. The SNR has no part in it: a
    number stands for the same take of the machine at each SNR, so SNRs are compared on the same takes.

    Returns clip, recording, set_row (row among the normal or among the abnormal clips of the category), role
    ("train", "test"), label; a recording that takes no part has no row.
    Raises ValueError if a side would be empty, and for a contaminated leakfree split.
    """
    _check_protocol(protocol)
    if contaminated and protocol == "leakfree":
        raise ValueError(
            "contaminated: a leakfree split tests on all abnormal recordings, none is left to train on. Set "
            "mimii.contaminated to false or ask for the published protocol only."
        )
    check_known(category, set(index["category"]), what="machine")
    clips = index[index["category"] == category]
    normal, abnormal = (clips[clips["label"] == label].reset_index(drop=True) for label in (0, 1))
    share = PUBLISHED_TEST_SHARE if protocol == "published" else 1.0
    n_test = int(share * len(abnormal))
    if not 0 < n_test < len(normal):
        raise ValueError(
            f"machine {category!r}, protocol {protocol}: {len(abnormal)} abnormal recordings give {n_test} to "
            f"test and as many normal ones, of {len(normal)}; at least one of each is needed, and a normal one "
            "left to train on. Take the machine out of the config, or give it more recordings."
        )
    identity = (protocol, category, seed)
    for recordings, rest in ((normal, "train"), (abnormal, "train" if contaminated else "")):
        order = identity_order(list(recordings["clip"]), "split", *identity)
        recordings["set_row"] = np.arange(len(recordings))
        recordings["role"] = rest
        recordings.loc[order[:n_test], "role"] = "test"
    split = pd.concat([normal, abnormal], ignore_index=True)
    split = split.loc[split["role"] != "", ["clip", "recording", "set_row", "role", "label"]]
    return split.reset_index(drop=True)


def _check_protocol(protocol: str) -> None:
    if protocol not in SPLITTERS:
        raise ValueError(f"protocol {protocol!r}: expected one of {SPLITTERS}")
