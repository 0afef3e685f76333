"""Recordings of MIMII from their archive, a block of clips at a time: none is unpacked, none kept as audio."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vision_to_sound.audio import BadClipError, decode, fit_length, is_silence
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from vision_to_sound.archives import Archive

log = logging.getLogger(__name__)

_N_EXCLUDED = 10  # that a message writes out


def recordings_of(index: pd.DataFrame, category: str, *, label: int) -> pd.DataFrame:
    """The clip set of one machine: index rows of its normal (label 0) or abnormal (1) clips, in index order.

    Row i is set_row i of the splits. Raises ValueError for an unknown machine and for an empty set.
    """
    check_known(category, set(index["category"]), what="machine")
    rows = index[(index["category"] == category) & (index["label"] == label)]
    if rows.empty:
        raise ValueError(
            f"machine {category!r} has no {('normal', 'abnormal')[label]} clips. Take it out of the config."
        )
    return rows.reset_index(drop=True)


def recording_reader(
    archive: Archive,
    rows: pd.DataFrame,
    *,
    sample_rate_hz: int,
    clip_s: float,
    max_missing_s: float,
    channel: int | None,
    threads: int,
) -> Callable[[slice], np.ndarray]:
    """`read_clips` for `write_spectrograms`: the clips of a slice of `rows`, float32 (n, n_samples).

    archive: a zip. rows: columns category, clip, member. Clips are cut to `clip_s`; one that lacks up to
    `max_missing_s` is padded with zeros. channel: index of the microphone; None: the mean of all. threads: a
    recording is inflated and decoded on each; the clips do not depend on it.

    There is no skipping: splits name clips by their rows, so a bad clip has to leave the index. Raises
    BadClipError, after a look at all later clips of the set, so that one run names them all.
    """
    n_samples = round(clip_s * sample_rate_hz)
    max_missing = round(max_missing_s * sample_rate_hz)
    members = list(rows["member"])
    names = list(rows["category"] + "/" + rows["clip"])

    def prepare(row: int) -> np.ndarray:
        member = members[row]
        samples, rate_hz = decode(
            archive.read(member), clip=member, channel=channel, max_missing_s=max_missing_s
        )
        if rate_hz != sample_rate_hz:
            raise BadClipError(member, f"has a rate of {rate_hz} Hz, expected {sample_rate_hz} Hz")
        if is_silence(samples[:n_samples]):
            raise BadClipError(member, "is silent")
        return fit_length(samples, n_samples, clip=member, max_missing=max_missing)

    def problem_of(row: int) -> BadClipError | None:
        try:
            prepare(row)
        except BadClipError as error:
            return error
        return None

    def read_clips(block: slice) -> np.ndarray:
        wanted = range(len(rows))[block]
        with ThreadPoolExecutor(threads) as pool:
            try:
                return np.stack(list(pool.map(prepare, wanted)))
            except BadClipError:
                rest = range(wanted.start, len(rows))
                found = zip(rest, pool.map(problem_of, rest), strict=True)
                problems = {names[row]: bad for row, bad in found if bad}
                raise _unusable(problems, archive) from None

    return read_clips


def _unusable(problems: dict[str, BadClipError], archive: Archive) -> BadClipError:
    """One error for all bad clips of a set, {"fan_id_00/abnormal_00000003.wav": what is wrong with it}."""
    for error in problems.values():
        log.warning("bad clip: %s: %s", error.clip, error.problem)
    first, *others = problems.values()
    named = list(problems)[:_N_EXCLUDED]
    if len(problems) > len(named):
        named.append("...")
    return BadClipError(
        first.clip,
        first.problem,
        [f"{error.clip}: {error.problem}" for error in others],
        remedy=f"Check mimii.sample_rate_hz and mimii.clip_s, or leave such clips out: "
        f"mimii.exclude: [{', '.join(named)}].",
        archive=archive.path,
    )
