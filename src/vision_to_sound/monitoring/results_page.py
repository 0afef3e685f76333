"""From the tables of a scored folder to its page: what stands on top, what to beware of, and the clips."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vision_to_sound.monitoring.folders import ScoredClips, stored_result
from vision_to_sound.monitoring.page import PageClip
from vision_to_sound.monitoring.page_media import MapScale

if TYPE_CHECKING:
    from vision_to_sound.monitoring.detector import AnomalyDetector
    from vision_to_sound.monitoring.result import ClipResult

# The colour begins where a normal cell in a hundred or so lies, well before regions do.
MAP_SCALE = MapScale(
    "anomaly of a cell; 1: one normal cell in a thousand of its band is higher",
    faint=0.7,
    strong=3.0,
)
FEW_NORMAL_CLIPS = 50
LEVELS_DIFFER_DB = 6.0
LENGTHS_DIFFER = 1.5
_N_NAMED = 5


def page_clips(
    clips: pd.DataFrame,
    folder: str | Path,
    detector: AnomalyDetector,
    scored: ScoredClips,
    names: pd.DataFrame | None = None,
) -> Iterator[PageClip]:
    """One clip of the page after the other, from a table with the columns of clips.tsv.

    names: of anomalies in words, columns recording, clip, prompt, probability; None where nothing named them.
    """
    words = best_words(names) if names is not None else {}
    of_recording = clips["recording"].value_counts()
    for row in clips.itertuples():
        result = stored_result(row, folder, detector, scored)
        name = row.recording
        if of_recording[row.recording] > 1:
            name += f" {clock(row.start_s)} to {clock(row.start_s + row.duration_s)}"
        yield page_clip(
            result,
            name=name,
            notes=notes_of(row) + words.get((row.recording, row.clip), []),
            recorded_at=row.recorded_at,
        )


def page_clip(result: ClipResult, *, name: str, notes: list[str], recorded_at: str) -> PageClip:
    """A result as the page takes it, its sound taken apart."""
    rate_hz = result.file.sample_rate_hz
    return PageClip(
        name=name,
        score=result.score,
        verdict="anomalous" if result.is_anomalous else "normal",
        duration_s=result.duration_s,
        spectrogram_db=result.spectrogram_db(),
        anomaly_map=result.anomaly_map,
        p_value=result.p_value,
        recorded_at=datetime.fromisoformat(recorded_at) if recorded_at else None,
        regions=result.regions,
        audio={source: (samples, rate_hz) for source, samples in result.sources().items()},
        notes=notes,
    )


def notes_of(row: object) -> list[str]:
    """What to know about one clip, from its row in clips.tsv."""
    notes = []
    if row.silent:
        notes.append("silent")
    if row.n_clipped > 2:  # a peak may touch full scale
        notes.append(f"clipped: {row.n_clipped} samples at full scale")
    if row.duration_s < row.window_s:
        notes.append(f"repeated to fill the {row.window_s:g} s that the encoder hears at once")
    if row.known_label:
        notes.append(f"labelled {row.known_label}")
    return notes


def best_words(names: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """{(recording, clip): ["sounds most like ..."]}, the phrase that fits best among those asked for."""
    best = names.sort_values("probability", ascending=False).drop_duplicates(["recording", "clip"])
    return {
        (row.recording, row.clip): [
            f"among the phrases asked for it sounds most like {row.prompt!r} ({row.probability:.0%})"
        ]
        for row in best.itertuples()
    }


def clock(seconds: float) -> str:
    """Place in a recording: "1:02:03" or "2:03"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def warnings_of(
    clips: pd.DataFrame,
    normal: pd.DataFrame,
    detector: AnomalyDetector,
    skipped: dict[str, pd.DataFrame],
    *,
    n_shown: int,
    stamp: str = "",
) -> list[str]:
    """What a reader of the page has to know before believing it, a sentence each.

    clips: of the unsorted recordings, normal: of the normal ones. skipped: {"normal": ..., "unsorted": ...}, columns
    recording and problem.
    """
    found = [f"{stamp}."] if stamp else []
    n_held_out = len(detector.conformal.held_out_scores)
    if detector.conformal.stated_rate > detector.false_alarm_rate:
        found.append(
            f"Only {n_held_out} held-out normal clips: the lowest false alarm rate that they can show is "
            f"{detector.conformal.stated_rate:.1%}, not the {detector.false_alarm_rate:.1%} asked for. Add normal "
            "recordings."
        )
    if not detector.about.get("whole_recordings_held_out", True):
        found.append(
            "The threshold comes from parts of the recordings that the detector learned from: false alarms will be "
            "more frequent than stated. Add normal recordings made at other times."
        )
    if len(normal) < FEW_NORMAL_CLIPS:
        found.append(
            f"Only {len(normal)} normal clips: scores and threshold are rough below {FEW_NORMAL_CLIPS}."
        )
    rates = {
        side: sorted(table["sample_rate_hz"].unique()) for side, table in _sides(normal, clips)
    }
    if rates["normal"] != rates["unsorted"]:
        found.append(
            f"Sample rates differ: normal {_listed(rates['normal'])} Hz, unsorted {_listed(rates['unsorted'])} Hz. "
            "What only one of them can hold will look anomalous."
        )
    levels = {side: table["level_db"].median() for side, table in _sides(normal, clips)}
    if abs(levels["unsorted"] - levels["normal"]) > LEVELS_DIFFER_DB:
        found.append(
            f"Levels differ: median {levels['normal']:.1f} dB normal, {levels['unsorted']:.1f} dB unsorted. "
            "Was the gain or the distance another one?"
        )
    lengths = {side: table["duration_s"].median() for side, table in _sides(normal, clips)}
    if lengths["unsorted"] > LENGTHS_DIFFER * lengths["normal"]:
        found.append(
            f"Unsorted clips are longer ({lengths['unsorted']:.1f} s against {lengths['normal']:.1f} s): each has more "
            "chances to look anomalous, so false alarms will be more frequent than stated."
        )
    for side, table in _sides(normal, clips):
        clipped = table[table["n_clipped"] > 2]
        if len(clipped):
            found.append(f"Clipped: {_some(clipped['recording'])} ({side}).")
        silent = table[table["silent"]]
        if len(silent):
            found.append(f"Silent: {_some(silent['recording'])} ({side}).")
    for side, table in skipped.items():
        if len(table):
            problems = table["recording"] + " (" + table["problem"] + ")"
            found.append(f"Not used, of the {side} recordings: {_some(problems)}.")
    if n_shown < len(clips):
        found.append(
            f"Of {len(clips)} clips the {n_shown} most anomalous are shown; clips.tsv lists all."
        )
    return found


def header_of(
    clips: pd.DataFrame,
    normal: pd.DataFrame,
    detector: AnomalyDetector,
    metrics: pd.DataFrame,
    *,
    method_label: str,
    encoder_label: str,
) -> dict[str, object]:
    """What stands on top of the page."""
    times = sorted(time for time in clips["recorded_at"] if time)
    n_anomalous = int((clips["verdict"] == "anomalous").sum())
    header: dict[str, object] = {
        "Anomalous": f"{n_anomalous} of {len(clips)} clips",
        "False alarm rate": f"{detector.conformal.stated_rate:.1%} of normal clips",
        "Detector": method_label,
        "Encoder": encoder_label,
        "Normal clips": f"{detector.about['n_fitted']} learned from, {detector.about['n_held_out']} for the threshold",
        "Unsorted": f"{clips['recording'].nunique()} recordings, {clock(clips['duration_s'].sum())}",
    }
    if times:
        first, last = times[0][:10], times[-1][:10]
        header["Data"] = first if first == last else f"{first} to {last}"
    values = dict(zip(metrics["metric"], metrics["value"], strict=True))
    if "sample_roc" in values:
        header["By the labels"] = (
            f"sample ROC {values['sample_roc']:.1f}, found {values['found_share']:.0f} % of the anomalous, "
            f"false alarms {values['false_alarm_share']:.0f} % of the normal"
        )
    return header


def settings_of(detector: AnomalyDetector) -> dict[str, object]:
    """What is folded away under the header."""
    settings = {f"{detector.method}.{name}": value for name, value in detector.settings.items()}
    return {
        "Window": f"{detector.window_s:g} s, overlap {detector.overlap:.0%}",
        "Clips": f"at most {detector.clip_s:g} s",
        "Channel": "mean of all" if detector.channel is None else detector.channel,
        "Seed": detector.seed,
        **settings,
    }


def _sides(normal: pd.DataFrame, clips: pd.DataFrame) -> tuple[tuple[str, pd.DataFrame], ...]:
    return ("normal", normal), ("unsorted", clips)


def _listed(values: list) -> str:
    return " and ".join(map(str, values))


def _some(names: pd.Series) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return ", ".join(names[:_N_NAMED]) + more
