"""The embedding cache, and the features of an experiment's clips read from it.

One file per clip set and encoder: `.npy`, float16 (n_clips, values per clip), each row all taps of one clip,
flat, one after the other; beside it a `.json` with a checksum of its own that describes the taps and holds a CRC-32
per clip. A damaged row is an error at the first read, never a number in a table.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vision_to_sound.files import create_array, map_array, open_array
from vision_to_sound.seals import contents_of, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TapShape:
    """One tap of one clip: (n_time, n_freq, n_channels)."""

    name: str
    n_time: int
    n_freq: int
    n_channels: int

    @property
    def size(self) -> int:
        return self.n_time * self.n_freq * self.n_channels


def write_cache(
    path: Path,
    description_path: Path,
    batches: Iterable[Sequence[np.ndarray]],
    *,
    taps: Sequence[TapShape],
    n_clips: int,
    encoder: str,
    advance: Callable[[int], None] = lambda n: None,
) -> None:
    """Write a cache from batches of taps, each a list of (n, n_time, n_freq, n_channels), in clip order.

    Streams to a memory map: memory is one batch. The caller gives temporary names and renames.
    Raises ValueError if the batches do not add up to n_clips or hold NaN or infinity.
    """
    width = sum(tap.size for tap in taps)
    cache = create_array(path, np.float16, (n_clips, width))
    checksums: list[int] = []
    for batch in batches:
        rows = np.concatenate([np.asarray(tap).reshape(len(tap), -1) for tap in batch], axis=1)
        rows = rows.astype(np.float16, copy=False)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise ValueError(
                f"the encoder {encoder} gives NaN or values beyond float16 for clip row "
                f"{len(checksums) + int(bad[0])}; check that clip and the weights"
            )
        if rows.shape[1] != width or len(checksums) + len(rows) > n_clips:
            raise ValueError(f"embeddings of shape {rows.shape} do not fit ({n_clips}, {width})")
        cache[len(checksums) : len(checksums) + len(rows)] = rows
        checksums.extend(zlib.crc32(row.tobytes()) for row in rows)
        advance(len(rows))
    if len(checksums) != n_clips:
        raise ValueError(f"{len(checksums)} clips were embedded, {n_clips} were expected")
    cache.flush()
    description = {
        "encoder": encoder,
        "n_clips": n_clips,
        "taps": [asdict(tap) for tap in taps],
        "crc32": checksums,
    }
    write_json(description_path, description)


class EmbeddingCache:
    """A cache on disk, opened as a memory map; rows are checked against their CRC when first read."""

    def __init__(self, path: str | Path, description_path: str | Path) -> None:
        """Raises ValueError that names the file that is of another kind, or damaged."""
        kind = "the description of an embedding cache (.json)"
        description = read_json(description_path, expected=kind)
        with contents_of(description_path, expected=kind):
            self.taps = tuple(TapShape(**tap) for tap in description["taps"])
            self.encoder: str = description["encoder"]
            self._checksums = description["crc32"]
            expected = (description["n_clips"], sum(tap.size for tap in self.taps))
        self.path = Path(path)
        self._rows = map_array(path)
        if self._rows.shape != expected or self._rows.dtype != np.float16:
            raise ValueError(
                f"{self._damaged()}: expected float16 {expected}, got {self._rows.dtype} "
                f"{self._rows.shape}"
            )
        self._checked = np.zeros(expected[0], bool)

    def _damaged(self) -> str:
        return f"embedding cache {self.path} is damaged; delete it, the next run makes it again"

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """Taps of the given rows: float32 (n, n_time, n_freq, n_channels) each."""
        block = np.asarray(self._rows[rows])
        for row, values in zip(rows, block, strict=True):
            if not self._checked[row]:
                if zlib.crc32(values.tobytes()) != self._checksums[row]:
                    raise ValueError(f"{self._damaged()} (checksum of clip row {row})")
                self._checked[row] = True
        return split_taps(block, self.taps)


def split_taps(block: np.ndarray, taps: Sequence[TapShape]) -> list[np.ndarray]:
    """(n, values per clip) -> float32 (n, n_time, n_freq, n_channels) per tap."""
    arrays, start = [], 0
    for tap in taps:
        part = block[:, start : start + tap.size].astype(np.float32)
        arrays.append(part.reshape(-1, tap.n_time, tap.n_freq, tap.n_channels))
        start += tap.size
    return arrays


@dataclass(frozen=True)
class ClipSet:
    """Features of one clip set: its embedding cache, its spectrograms, or both."""

    embeddings: EmbeddingCache | None
    spectrograms_db: np.ndarray | None  # float32 (n_clips, n_frames, n_mels), may be a memory map

    @classmethod
    def open(
        cls, *, embeddings: Sequence[str | Path] = (), spectrograms: str | Path | None = None
    ) -> ClipSet:
        """embeddings: (.npy, .json); spectrograms: a sealed .npy. Either may be left out."""
        return cls(
            EmbeddingCache(*embeddings) if embeddings else None,
            open_array(spectrograms) if spectrograms else None,
        )


class ClipFeatures:
    """Features of n clips in a given order, read on demand from one or several clip sets."""

    def __init__(self, sets: Sequence[ClipSet], set_index: np.ndarray, rows: np.ndarray) -> None:
        """set_index, rows: (n_clips,): clip i is row rows[i] of sets[set_index[i]]."""
        self._sets = list(sets)
        self._set_index = np.asarray(set_index, dtype=np.int64)
        self._rows = np.asarray(rows, dtype=np.int64)
        self.n_clips = len(self._rows)

    @property
    def taps(self) -> tuple[TapShape, ...]:
        """Taps from shallow to deep."""
        return self._embeddings(self._sets[0]).taps

    @property
    def n_frames(self) -> int:
        return self._spectrograms(self._sets[0]).shape[1]

    @property
    def n_mels(self) -> int:
        return self._spectrograms(self._sets[0]).shape[2]

    def read_taps(self, rows: slice | np.ndarray) -> list[np.ndarray]:
        """float32 (n, n_time, n_freq, n_channels) per tap; a copy."""
        wanted = self._wanted(rows)
        out = [
            np.empty((len(wanted), t.n_time, t.n_freq, t.n_channels), np.float32) for t in self.taps
        ]
        for where, clip_set, set_rows in self._by_set(wanted):
            for target, values in zip(out, self._embeddings(clip_set).read(set_rows), strict=True):
                target[where] = values
        return out

    def read_spectrograms(self, rows: slice | np.ndarray) -> np.ndarray:
        """Log-mel dB, float32 (n, n_frames, n_mels); a copy."""
        wanted = self._wanted(rows)
        out = np.empty((len(wanted), self.n_frames, self.n_mels), np.float32)
        for where, clip_set, set_rows in self._by_set(wanted):
            out[where] = self._spectrograms(clip_set)[set_rows]
        return out

    def subset(self, rows: np.ndarray) -> ClipFeatures:
        """Features of some of the clips, in the order of rows; nothing is copied."""
        wanted = self._wanted(rows)
        return ClipFeatures(self._sets, self._set_index[wanted], self._rows[wanted])

    @classmethod
    def from_arrays(
        cls, *, taps: Mapping[str, np.ndarray] | None, spectrograms_db: np.ndarray
    ) -> ClipFeatures:
        """Features held in memory; taps: {name: (n_clips, n_time, n_freq, n_channels)} or None."""
        n_clips = len(spectrograms_db)
        embeddings = _ArrayEmbeddings(taps) if taps is not None else None
        clip_set = ClipSet(embeddings, np.asarray(spectrograms_db, np.float32))  # type: ignore[arg-type]
        return cls([clip_set], np.zeros(n_clips, int), np.arange(n_clips))

    def _wanted(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            return np.arange(self.n_clips)[rows]
        wanted = np.asarray(rows)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.n_clips):
            raise IndexError(f"clip rows {wanted} are outside 0 to {self.n_clips - 1}")
        return wanted

    def _by_set(self, wanted: np.ndarray) -> Iterable[tuple[np.ndarray, ClipSet, np.ndarray]]:
        for i, clip_set in enumerate(self._sets):
            where = np.flatnonzero(self._set_index[wanted] == i)
            if len(where):
                yield where, clip_set, self._rows[wanted[where]]

    @staticmethod
    def _embeddings(clip_set: ClipSet) -> EmbeddingCache:
        if clip_set.embeddings is None:
            raise ValueError(
                "these features hold no embeddings; the registry says what a method needs"
            )
        return clip_set.embeddings

    @staticmethod
    def _spectrograms(clip_set: ClipSet) -> np.ndarray:
        if clip_set.spectrograms_db is None:
            raise ValueError("these features hold no spectrograms")
        return clip_set.spectrograms_db


def train_features(
    table: pd.DataFrame, normal: ClipSet, abnormal: ClipSet | None = None
) -> ClipFeatures:
    """Features of the training clips. table: columns role, label, set_row (a split or an experiment's table).

    abnormal: the set of clips with label 1, needed where such clips train (a contaminated split).
    Raises ValueError if they do and the set is not given.
    """
    train = table[table["role"] == "train"]
    if abnormal is None:
        n_abnormal = int((train["label"] != 0).sum())
        if n_abnormal:
            raise ValueError(
                f"{n_abnormal} of {len(train)} training clips are abnormal (a contaminated split), and their "
                "clip set was not given"
            )
        return ClipFeatures([normal], np.zeros(len(train), int), train["set_row"].to_numpy())
    return ClipFeatures([normal, abnormal], train["label"].to_numpy(), train["set_row"].to_numpy())


def test_features(table: pd.DataFrame, normal: ClipSet, mixture: ClipSet) -> ClipFeatures:
    """Features of the test clips, normal ones and mixtures, in the order of the table's test rows."""
    test = table[table["role"] == "test"]
    return ClipFeatures([normal, mixture], test["label"].to_numpy(), test["set_row"].to_numpy())


class _ArrayEmbeddings:
    """Taps in memory behind the interface of a cache."""

    def __init__(self, taps: Mapping[str, np.ndarray]) -> None:
        self._arrays = {name: np.asarray(values, np.float32) for name, values in taps.items()}
        self.taps = tuple(TapShape(name, *a.shape[1:]) for name, a in self._arrays.items())

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        return [array[rows].copy() for array in self._arrays.values()]
