"""From an index to an audio array: the clips of one class, decoded, at one rate and length.

An archive is read in place, in one pass per job: nothing is unpacked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vision_to_sound.audio import BadClipError, decode, fit_length, is_silence, trim_zeros
from vision_to_sound.files import replacing, save_array, write_table

if TYPE_CHECKING:
    from vision_to_sound.archives import Archive

log = logging.getLogger(__name__)


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
        """Each file appears whole or not at all, and has a checksum."""
        with replacing(audio_path) as path:
            save_array(path, self.audio)
        write_table(self.table, table_path)
        write_table(self.skipped, skipped_path)


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
        # Before resampling and padding, which give a constant its edges.
        if is_silence(samples[: round(clip_s * rate)]):
            raise BadClipError(clip, "is silent: a signal-to-noise ratio is not defined for it")
        samples = resample_clip(samples, rate, sample_rate_hz)
        return fit_length(
            samples, n_samples, clip=clip, max_missing=round(max_missing_s * sample_rate_hz)
        )

    return _extract(archive, rows, prepare, n_samples, max_missing_s, on_bad_clip, advance)


def extract_events(
    archive: Archive,
    rows: pd.DataFrame,
    *,
    sample_rate_hz: int,
    clip_s: float,
    max_missing_s: float,
    on_bad_clip: str,
    advance: Callable[[int], None],
) -> ExtractedClips:
    """Event clips: mono, exact zeros trimmed at both ends, cut to at most `clip_s` (protocol, EnvMix)."""
    n_samples = round(clip_s * sample_rate_hz)

    def prepare(samples: np.ndarray, rate: int, clip: str) -> np.ndarray:
        # Trimming comes first: it looks for exact zeros, which resampling would blur.
        event = trim_zeros(samples)
        if is_silence(event[: round(clip_s * rate)]):
            raise BadClipError(clip, "is silent")
        return resample_clip(event, rate, sample_rate_hz)[:n_samples]

    return _extract(archive, rows, prepare, n_samples, max_missing_s, on_bad_clip, advance)


def _extract(
    archive: Archive,
    rows: pd.DataFrame,
    prepare: Callable[[np.ndarray, int, str], np.ndarray],
    n_samples: int,
    max_missing_s: float,
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
            samples, rate = decode(data, clip=member, max_missing_s=max_missing_s)
            clip = prepare(samples, rate, member)
        except BadClipError as error:
            log.warning("bad clip: %s: %s", error.clip, error.problem)
            problems[row] = error.problem
            continue
        audio[row, : len(clip)] = clip
        lengths[row] = len(clip)
        advance(1)
    for member in sorted(missing):
        problems[row_of[member]] = "is named by the metadata but is not in the archive"
    if problems and on_bad_clip == "stop":  # after the pass: one run names all bad clips
        listed = [f"{rows['member'][row]}: {problem}" for row, problem in sorted(problems.items())]
        raise BadClipError(*listed[0].split(": ", 1), others=listed[1:], archive=archive.path)
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
