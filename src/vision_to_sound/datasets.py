"""UrbanSound8K and ESC-50: from an archive to a clip index, and from an index to an audio array.

An index is a table of everything in the archive, whatever the config asks for; extracted clips are one
array per class. Archives are read in place: nothing is unpacked.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vision_to_sound.audio import BadClipError, decode, fit_length, trim_zeros
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from vision_to_sound.archives import Archive

log = logging.getLogger(__name__)

INDEX_COLUMNS = ["clip", "member", "category", "recording", "duration_s"]


# --- Index ---------------------------------------------------------------------------------------------


def index_urbansound8k(archive: Archive) -> pd.DataFrame:
    """Clip index of UrbanSound8K (Salamon 2014), one row per slice, sorted by clip.

    Columns: clip (file name), member (path in the archive), category, recording (fsID of the field
    recording that the slice was cut from), duration_s (end - start, plain floats, as published code has it).
    """
    metadata, top = _metadata(archive, "metadata/UrbanSound8K.csv")
    _require_columns(metadata, "UrbanSound8K.csv", "slice_file_name fsID start end fold class")
    index = pd.DataFrame(
        {
            "clip": metadata["slice_file_name"],
            "member": [
                f"{top}audio/fold{fold}/{name}"
                for fold, name in zip(metadata["fold"], metadata["slice_file_name"], strict=True)
            ],
            "category": metadata["class"],
            "recording": metadata["fsID"],
            "duration_s": metadata["end"].astype(float) - metadata["start"].astype(float),
        }
    )
    return _checked_index(index, "UrbanSound8K.csv")


def index_esc50(archive: Archive) -> pd.DataFrame:
    """Clip index of ESC-50 (Piczak 2015), columns as for UrbanSound8K; recording is the Freesound id."""
    metadata, top = _metadata(archive, "meta/esc50.csv")
    _require_columns(metadata, "esc50.csv", "filename category src_file")
    index = pd.DataFrame(
        {
            "clip": metadata["filename"],
            "member": [f"{top}audio/{name}" for name in metadata["filename"]],
            "category": metadata["category"],
            "recording": metadata["src_file"],
            "duration_s": 5.0,
        }
    )
    index = _checked_index(index, "esc50.csv")
    # The archive's own bytes are not promised to be stable: what it must hold is checked instead.
    missing = sorted(set(index["member"]) - set(archive.members()))
    if missing:
        raise ValueError(
            f"ESC-50 archive: {len(missing)} files of meta/esc50.csv are not in it, first "
            f"{missing[0]!r}. Delete the archive and fetch it again."
        )
    return index


INDEXERS: dict[str, Callable[[Archive], pd.DataFrame]] = {
    "urbansound8k": index_urbansound8k,
    "esc50": index_esc50,
}


def _metadata(archive: Archive, suffix: str) -> tuple[pd.DataFrame, str]:
    """The archive's csv and the top folder (with slash) that it lies in."""
    for member, data in archive.iterate(lambda name: name.endswith(suffix)):
        top = member[: -len(suffix)]
        return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False), top
    raise ValueError(f"no {suffix} in the archive {archive}: is this the right file?")


def _require_columns(table: pd.DataFrame, name: str, columns: str) -> None:
    missing = [column for column in columns.split() if column not in table]
    if missing:
        raise ValueError(f"{name}: columns {missing} are missing, it has {list(table.columns)}")


def _checked_index(index: pd.DataFrame, name: str) -> pd.DataFrame:
    if index["clip"].duplicated().any():
        twice = index.loc[index["clip"].duplicated(), "clip"].iloc[0]
        raise ValueError(f"{name}: {twice} is listed twice")
    return index.sort_values("clip", ignore_index=True)[INDEX_COLUMNS]


def rows_of_category(index: pd.DataFrame, category: str, *, min_duration_s: float) -> pd.DataFrame:
    """The index rows of one class that last at least `min_duration_s`; an empty class is an error."""
    check_known(category, set(index["category"]), what="sound class")
    rows = index[index["category"] == category]
    long_enough = rows[rows["duration_s"] >= min_duration_s]
    if long_enough.empty:
        raise ValueError(
            f"class {category!r}: none of its {len(rows)} clips lasts {min_duration_s} s. "
            "Take the class out of the config or the minimum down."
        )
    return long_enough.reset_index(drop=True)


# --- Extraction ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExtractedClips:
    """Audio of a set of clips.

    audio: float32 (n_clips, n_samples), padded with zeros at the end. table: clip, category, recording, row
    (into audio), length_samples. skipped: clip, problem.
    """

    audio: np.ndarray
    table: pd.DataFrame
    skipped: pd.DataFrame

    def save(self, audio_path: Path, table_path: Path, skipped_path: Path) -> None:
        np.save(audio_path, self.audio)
        self.table.to_csv(table_path, sep="\t", index=False, lineterminator="\n")
        self.skipped.to_csv(skipped_path, sep="\t", index=False, lineterminator="\n")


def extract_backgrounds(
    archive: Archive,
    rows: pd.DataFrame,
    *,
    sample_rate_hz: int,
    clip_s: float,
    max_missing_s: float,
    on_bad_clip: str,
    advance: Callable[[int], None],
) -> ExtractedClips:
    """Background clips: mono by channel mean, resampled, exactly `clip_s` long (protocol, EnvMix)."""
    n_samples = round(clip_s * sample_rate_hz)

    def prepare(samples: np.ndarray, rate: int, clip: str) -> np.ndarray:
        samples = resample_clip(samples, rate, sample_rate_hz)
        samples = fit_length(
            samples, n_samples, clip=clip, max_missing=round(max_missing_s * sample_rate_hz)
        )
        if not samples.any():
            raise BadClipError(clip, "is silent: a signal-to-noise ratio is not defined for it")
        return samples

    return _extract(archive, rows, prepare, n_samples, on_bad_clip, advance)


def extract_events(
    archive: Archive,
    rows: pd.DataFrame,
    *,
    sample_rate_hz: int,
    clip_s: float,
    on_bad_clip: str,
    advance: Callable[[int], None],
) -> ExtractedClips:
    """Event clips: mono, exact zeros trimmed at both ends, cut to at most `clip_s` (protocol, EnvMix)."""
    n_samples = round(clip_s * sample_rate_hz)

    def prepare(samples: np.ndarray, rate: int, clip: str) -> np.ndarray:
        # Trimming comes first: it looks for exact zeros, which resampling would blur.
        event = resample_clip(trim_zeros(samples), rate, sample_rate_hz)[:n_samples]
        if not event.any():
            raise BadClipError(clip, "is silent")
        return event

    return _extract(archive, rows, prepare, n_samples, on_bad_clip, advance)


def _extract(
    archive: Archive,
    rows: pd.DataFrame,
    prepare: Callable[[np.ndarray, int, str], np.ndarray],
    n_samples: int,
    on_bad_clip: str,
    advance: Callable[[int], None],
) -> ExtractedClips:
    """One pass through the archive; a clip's row depends on the index, not on the archive's order."""
    row_of = {member: row for row, member in enumerate(rows["member"])}
    audio = np.zeros((len(rows), n_samples), np.float32)
    lengths = np.zeros(len(rows), np.int64)
    problems: dict[int, str] = {}
    missing = set(row_of)
    for member, data in archive.iterate(row_of.__contains__):
        row = row_of[member]
        missing.discard(member)
        try:
            samples, rate = decode(data, clip=member)
            clip = prepare(samples, rate, member)
        except BadClipError as error:
            if on_bad_clip == "stop":
                raise
            log.warning("skipped: %s: %s", error.clip, error.problem)
            problems[row] = error.problem
            continue
        audio[row, : len(clip)] = clip
        lengths[row] = len(clip)
        advance(1)
    for member in sorted(missing):
        problem = "is named by the metadata but is not in the archive"
        if on_bad_clip == "stop":
            raise BadClipError(member, problem)
        problems[row_of[member]] = problem
    good = [row for row in range(len(rows)) if row not in problems]
    if not good:
        raise ValueError(
            f"all {len(rows)} clips were skipped; first: {next(iter(problems.values()))}"
        )
    table = rows.loc[good, ["clip", "category", "recording"]].reset_index(drop=True)
    table["row"] = good
    table["length_samples"] = lengths[good]
    skipped = pd.DataFrame(
        [(rows["member"][row], problem) for row, problem in sorted(problems.items())],
        columns=["clip", "problem"],
    )
    return ExtractedClips(audio, table, skipped)


def resample_clip(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """One clip (n_samples,) at another rate; the same array if the rates agree."""
    if from_hz == to_hz or not len(samples):
        return samples
    from vision_to_sound.spectrogram import resample

    return resample(samples[None], from_hz=from_hz, to_hz=to_hz)[0]
