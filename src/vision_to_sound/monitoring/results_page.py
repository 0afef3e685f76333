"""From the tables of a scored folder to its page: what stands on top, what to beware of, and the clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vision_to_sound.monitoring.folders import ScoredClips, stored_result
from vision_to_sound.monitoring.known_labels import labels_from_names
from vision_to_sound.monitoring.levels import MAX_PEAKS, has_dc, recording_faults, unheard
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
    *,
    n_bands: int | None = None,
) -> Iterator[PageClip]:
    """One clip of the page after the other, from a table with the columns of clips.tsv.

    names: of anomalies in words, columns recording, clip, prompt, probability; None where nothing named them.
    n_bands: the page shows so many, from the lowest; None: all.
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
            n_bands=n_bands,
        )


def page_clip(
    result: ClipResult,
    *,
    name: str,
    notes: list[str],
    recorded_at: str,
    n_bands: int | None = None,
) -> PageClip:
    """A result as the page takes it, its sound taken apart."""
    rate_hz = result.file.sample_rate_hz
    return PageClip(
        name=name,
        score=result.score,
        verdict="anomalous" if result.is_anomalous else "normal",
        duration_s=result.duration_s,
        spectrogram_db=result.spectrogram_db()[:, :n_bands],
        anomaly_map=result.anomaly_map[:, :n_bands],
        p_value=result.p_value,
        recorded_at=datetime.fromisoformat(recorded_at) if recorded_at else None,
        regions=result.regions,
        audio={source: (samples, rate_hz) for source, samples in result.sources().items()},
        notes=notes,
    )


def notes_of(row: object) -> list[str]:
    """What to know about one clip, from its row in clips.tsv."""
    notes = recording_faults(row)
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
        found += _warnings_about_recording(table, side)
    highest_rate_hz = max(clips["sample_rate_hz"].max(), normal["sample_rate_hz"].max())
    if said := unheard(detector.spec.front_end.f_max_hz, highest_rate_hz):
        found.append(said)
    both = sorted(set(clips.loc[clips["content"].isin(normal["content"]), "recording"]))
    if both:
        found.append(
            f"In the normal folder too: {_some(both)}. The detector learned from them, so it cannot judge them."
        )
    named_anomalous = [
        name for name, label in labels_from_names(normal["recording"].unique()).items() if label
    ]
    if named_anomalous:
        found.append(
            f"Among the normal recordings, but anomalous by their names: {_some(named_anomalous)}. The detector "
            "learned from them as normal."
        )
    for side, table in skipped.items():
        for problem, rows in table.groupby("problem", sort=False):
            found.append(
                f"Not used, of the {side} recordings: {_some(rows['recording'])}: {problem}."
            )
    if n_shown < len(clips):
        found.append(
            f"Of {len(clips)} clips the {n_shown} most anomalous are shown; clips.tsv lists all."
        )
    return found


def _warnings_about_recording(table: pd.DataFrame, side: str) -> list[str]:
    """What went wrong when the clips of a side were recorded: clipping, silence, DC, channels that cancel."""
    found = []
    clipped = table[table["n_clipped"] > MAX_PEAKS]
    if len(clipped):
        found.append(f"Clipped: {_some(clipped['recording'])} ({side}).")
    silent = table[table["silent"]]
    if len(silent):
        found.append(f"Silent: {_some(silent['recording'])} ({side}).")
    offset = table[list(map(has_dc, table["dc"], table["level_db"]))]
    if len(offset):
        found.append(
            f"A constant offset (DC) of up to {offset['dc'].max():.2g} of full scale: {_some(offset['recording'])} "
            f"({side}). Levels are given without it; is the input of the microphone in order?"
        )
    cancelling = table[table["channels_cancel"]]
    if len(cancelling):
        found.append(
            f"Channels cancel each other: {_some(cancelling['recording'])} ({side}): level "
            f"{cancelling['level_db'].median():.0f} dB, channels {cancelling['channel_level_db'].median():.0f} dB. One "
            "of them is inverted; set channel to hear one alone (make recordings ... CHANNEL=0)."
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
        "Heard": _heard(clips, detector),
        "Normal clips": f"{detector.about['n_fitted']} learned from, {detector.about['n_held_out']} for the threshold",
        "Unsorted": f"{clips['recording'].nunique()} recordings, {clock(clips['duration_s'].sum())}",
    }
    if times:
        first, last = times[0][:10], times[-1][:10]
        header["Data"] = first if first == last else f"{first} to {last}"
    values = dict(zip(metrics["metric"], metrics["value"], strict=True))
    of = f"{clips.loc[clips['known_label'] != '', 'recording'].nunique()} of {clips['recording'].nunique()}"
    if values:
        said = [f"{of} recordings have one"]
        for metric, words in _LABEL_METRICS.items():
            if metric in values:
                said.append(words.format(values[metric]))
        header["By the labels"] = ", ".join(said)
    return header


_LABEL_METRICS = {
    "sample_roc": "sample ROC {:.1f}",
    "found_share": "found {:.0f} % of the anomalous",
    "false_alarm_share": "false alarms {:.0f} % of the normal",
}


def _heard(clips: pd.DataFrame, detector: AnomalyDetector) -> str:
    front_end = detector.spec.front_end
    high_hz = min(front_end.f_max_hz, clips["sample_rate_hz"].max() / 2)
    return f"{front_end.f_min_hz:.0f} Hz to {high_hz / 1000:.3g} kHz"


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


def _some(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return ", ".join(names[:_N_NAMED]) + more
