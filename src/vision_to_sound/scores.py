"""What a detector says of a set of test clips, and what is true of them: the two sides of a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vision_to_sound.files import load_arrays, save_arrays
from vision_to_sound.seals import OtherFileError, contents_of

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = "published"
LEAKFREE = "leakfree"

FRAME_TOP_CELLS = 5  # a frame scores as the mean of its largest cells (paper, section 3.2.3)


@dataclass(frozen=True)
class AnomalyScores:
    """Scores of test clips. Higher means more anomalous; raw values, never scaled by other clips.

    clips:  float64 (n_clips,).
    maps:   float32 (n_clips, n_frames, n_mels), on the cells of the log-mel spectrogram.
    frames: float64 (n_clips, n_frames), or None where they follow from the maps.
    device: what computed them, "cpu, torch 2.13.0"; code: digest of the code that did. Both go into the
        metrics table.

    Raises ValueError if shapes or types do not fit, or a score is not finite (names the clip's row).
    """

    clips: np.ndarray
    maps: np.ndarray
    frames: np.ndarray | None = None
    device: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        _check_array("clips", self.clips, np.float64, self.clips.shape[:1])
        _check_array("maps", self.maps, np.float32, (len(self.clips), *self.maps.shape[1:3]))
        if self.maps.ndim != 3:
            raise ValueError(f"maps must be (n_clips, n_frames, n_mels), got {self.maps.shape}")
        if self.frames is not None:
            _check_array("frames", self.frames, np.float64, self.maps.shape[:2])

    def frame_scores(self) -> np.ndarray:
        """float64 (n_clips, n_frames): `frames`, or the mean of the five largest cells of each frame."""
        if self.frames is not None:
            return self.frames
        result = np.empty(self.maps.shape[:2], dtype=np.float64)
        for i, anomaly_map in enumerate(self.maps):  # clip by clip: no sorted copy of all maps
            result[i] = mean_of_highest(anomaly_map, FRAME_TOP_CELLS, axis=1)
        return result

    def save(self, path: str | Path) -> None:
        """Uncompressed .npz; the same scores give the same bytes."""
        arrays = {"clips": self.clips, "maps": self.maps}
        arrays |= {"device": np.array(self.device), "code": np.array(self.code)}
        save_arrays(path, arrays | ({} if self.frames is None else {"frames": self.frames}))

    @classmethod
    def load(cls, path: str | Path) -> AnomalyScores:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: another kind of file, or a damaged one; names it.
        """
        expected = "anomaly scores (.npz)"
        arrays = load_arrays(path, expected=expected, names=("clips", "maps"))
        if unknown := set(arrays) - {"clips", "maps", "frames", "device", "code"}:
            raise OtherFileError(path, expected=expected, got=f"arrays {sorted(unknown)} too")
        words = {name: str(arrays.get(name, "")) for name in ("device", "code")}
        with contents_of(path, expected=expected):
            return cls(**{**arrays, **words})


@dataclass(frozen=True)
class Truth:
    """Ground truth of a set of test clips.

    labels: bool (n_clips,), True where the clip is anomalous.
    masks:  {"published": ..., "leakfree": ...}, bool (n_clips, n_frames, n_mels), all False for
            normal clips; empty where only the labels are known (recordings without stems).
    frames: bool (n_clips, n_frames); (n_clips, 0) where only the labels are known.

    Raises ValueError if the parts disagree in dtype or shape.
    """

    labels: np.ndarray
    masks: dict[str, np.ndarray]
    frames: np.ndarray

    def __post_init__(self) -> None:
        parts = {"labels": (self.labels, 1), "frames": (self.frames, 2)}
        parts |= {f"masks[{name!r}]": (mask, 3) for name, mask in self.masks.items()}
        for name, (part, n_axes) in parts.items():
            if part.dtype != bool or part.ndim != n_axes:
                raise ValueError(
                    f"truth: {name} must be bool with {n_axes} axes, got {part.dtype} {part.shape}"
                )
            if part.shape[0] != self.labels.shape[0]:
                raise ValueError(
                    f"truth: {name} has {part.shape[0]} clips, labels have {self.labels.shape[0]}"
                )
        for name, mask in self.masks.items():
            if mask.shape[:2] != self.frames.shape:
                raise ValueError(
                    f"truth: masks[{name!r}] has shape {mask.shape}, frames {self.frames.shape}; "
                    "clips and frames must agree"
                )

    @classmethod
    def of_clips(cls, labels: np.ndarray) -> Truth:
        """Truth of recordings without stems: bool labels (n_clips,) and nothing finer."""
        labels = np.asarray(labels)
        return cls(labels=labels, masks={}, frames=np.zeros((*labels.shape[:1], 0), dtype=bool))

    @classmethod
    def of_test_clips(cls, file: str | Path, table: pd.DataFrame) -> Truth:
        """The truth in a file; of recordings, which have none (""), the labels of the table's test clips."""
        if file:
            return cls.load(file)
        return cls.of_clips(table.loc[table["role"] == "test", "label"].to_numpy() == 1)

    def save(self, path: str | Path) -> None:
        """Masks are packed eight cells to a byte."""
        packed = {f"mask_{name}": np.packbits(mask) for name, mask in self.masks.items()}
        shapes = {f"shape_{name}": np.array(mask.shape) for name, mask in self.masks.items()}
        save_arrays(path, {"labels": self.labels, "frames": self.frames, **packed, **shapes})

    @classmethod
    def load(cls, path: str | Path) -> Truth:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: another kind of file, or a damaged one; names it.
        """
        expected = "ground truth (.npz)"
        arrays = load_arrays(path, expected=expected, names=("labels", "frames"))
        masks = {}
        with contents_of(path, expected=expected):
            for name in [key.removeprefix("mask_") for key in arrays if key.startswith("mask_")]:
                packed, shape = arrays[f"mask_{name}"], arrays[f"shape_{name}"].tolist()
                n_cells = math.prod(shape)
                if packed.shape != (-(-n_cells // 8),):
                    raise ValueError(f"mask {name} of {shape} cells has {packed.shape} bytes")
                cells = np.unpackbits(packed, count=n_cells)
                masks[name] = cells.reshape(shape).astype(bool)
            return cls(labels=arrays["labels"], masks=masks, frames=arrays["frames"])


def n_highest(share: float, n_values: int) -> int:
    """How many of n_values a share of them is: at least one."""
    return max(1, round(share * n_values))


def mean_of_highest(values: np.ndarray, count: int, *, axis: int) -> np.ndarray:
    """Mean of the count highest values along an axis, or of all where there are fewer; float64 without that axis."""
    n = values.shape[axis]
    highest = np.take(np.partition(values, -min(count, n), axis), np.arange(n)[-count:], axis)
    # in order: a partition's order of the same values is not promised
    return np.sort(highest, axis).mean(axis, dtype=np.float64)


def source_recordings(clips: pd.DataFrame) -> pd.Series:
    """The recording that each clip was cut from, or the clip's own name where that is not known.

    clips: table of clips with columns clip and recording.
    """
    return clips["recording"].where(clips["recording"] != "", clips["clip"])


def identified_rows(
    rows: pd.DataFrame,
    scores: AnomalyScores,
    truth: Truth,
    *,
    recordings: pd.Series,
    experiment: Mapping[str, str],
    code: str,
) -> pd.DataFrame:
    """Rows of one experiment (level, truth, metric, value, headline) with its identity before and what made
    them after: the columns of the long metrics table.

    recordings: that the test clips were cut from. experiment: protocol, dataset, category, snr, encoder, method,
    seed as they stand in paths. code: digest of the code that made the rows.
    """
    identity = {
        "protocol": experiment["protocol"],
        "dataset": experiment["dataset"],
        "category": experiment["category"],
        "snr_db": int(experiment["snr"]),
        "encoder": experiment["encoder"],
        "method": experiment["method"],
        "seed": int(experiment["seed"]),
    }
    rows = rows.copy()
    for position, (name, value) in enumerate(identity.items()):
        rows.insert(position, name, value)
    return rows.assign(
        n_clips=len(truth.labels),
        n_recordings=recordings.nunique(),
        n_anomalous=int(truth.labels.sum()),
        device=scores.device,
        score_code=scores.code,
        code=code,
    )


def _check_array(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"anomaly scores: {name} must be {np.dtype(dtype).name} of shape {shape}, "
            f"got {array.dtype} of shape {array.shape}"
        )
    for row, values in enumerate(array):
        if not np.isfinite(values).all():
            raise ValueError(f"anomaly scores: {name} of clip row {row} is not finite")
