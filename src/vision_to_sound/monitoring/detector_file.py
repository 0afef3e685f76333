"""A fitted `AnomalyDetector` as one .npz: words about it, its calibration, and what its method learned."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision_to_sound.files import load_arrays, save_arrays
from vision_to_sound.seals import contents_of

_FORMAT = "vision_to_sound detector 1"
_EXPECTED = "a detector saved by AnomalyDetector.save (.npz)"
_CALIBRATION = ("held_out_scores", "band_median", "band_limit")

Arrays = dict[str, np.ndarray]


def save_detector(
    path: str | Path,
    words: Mapping[str, Any],
    calibration: Mapping[str, np.ndarray],
    learned: Mapping[str, np.ndarray],
) -> None:
    """words: what JSON can hold. calibration: the arrays of `_CALIBRATION`. learned: state of the method."""
    text = json.dumps({**words, "format": _FORMAT}, sort_keys=True)
    own = {f"learned_{name}": values for name, values in learned.items()}
    save_arrays(path, {"words": np.array(text), **calibration, **own})


@contextlib.contextmanager
def loaded_detector(path: str | Path) -> Iterator[tuple[dict[str, Any], Arrays, Arrays]]:
    """(words, calibration, learned) of a file; what does not fit them inside the block is an error of the file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: another kind of file, or a damaged one; names it.
    """
    arrays = load_arrays(
        path,
        expected=_EXPECTED,
        names=("words", *_CALIBRATION),
        remedy="fit and save it again (the workflow does with --forcerun fit_recordings)",
    )
    with contents_of(path, expected=_EXPECTED):
        words = json.loads(str(arrays.pop("words")))
        calibration = {name: arrays.pop(name) for name in _CALIBRATION}
        if (found := words.pop("format")) != _FORMAT:
            raise ValueError(f"it says that it is {found!r}, this version reads {_FORMAT!r}")
        yield words, calibration, {n.removeprefix("learned_"): v for n, v in arrays.items()}
