"""Whole folders: embed what is new, score what is new, and the tables about it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vision_to_sound.audio import BadClipError, named
from vision_to_sound.file_names import from_text, to_text
from vision_to_sound.files import load_arrays, save_arrays
from vision_to_sound.metrics import roc_auc
from vision_to_sound.monitoring.embedding import ClipFiles, Cut, EmbeddedClip, embed_recording
from vision_to_sound.monitoring.levels import LEVELS
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.monitoring.windows import usual_window_s

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vision_to_sound.front_ends import FrontEnd
    from vision_to_sound.monitoring.detector import AnomalyDetector
    from vision_to_sound.monitoring.result import ClipResult

log = logging.getLogger(__name__)

CLIP_COLUMNS = [
    *("recording", "clip", "start_s", "duration_s", "n_windows", *LEVELS),
    *("sample_rate_hz", "n_channels", "recorded_at", "window_s", "key"),
]
SKIPPED_COLUMNS = ["recording", "problem"]
REGION_COLUMNS = "recording clip start_s end_s low_hz high_hz score".split()


def file_digest(path: str | Path) -> str:
    """sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_one_bad_clip(name: str, clips: Iterator[EmbeddedClip]) -> Iterator[EmbeddedClip]:
    """The clips; whatever making them raises is a BadClipError of this recording, so that others go on.

    What the caller raises, a full disk for one, stays what it is.
    """
    with named(name, failed="cannot be embedded"):
        yield from clips


def without_repeats(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """(a table of clips with every sound once, {recording left out: why}).

    Two recordings repeat each other if all their clips have the same `content`. The first by name stays.
    """
    first_with: dict[tuple[str, ...], str] = {}
    same: dict[str, str] = {}
    for name, contents in table.groupby("recording", sort=False)["content"]:
        first = first_with.setdefault(tuple(contents), name)
        if first != name:
            same[name] = f"holds the same sound as {first}"
    return table[~table["recording"].isin(same)].reset_index(drop=True), same


@dataclasses.dataclass(frozen=True)
class OpenedFolder:
    """Recordings that can be read, by their relative names, and {name: problem} of the others."""

    files: dict[str, SoundFile]
    problems: dict[str, str]

    @classmethod
    def of(cls, folder: str | Path, names: Sequence[str], *, on_bad_clip: str) -> OpenedFolder:
        """Raises BadClipError that names all bad files if on_bad_clip is "stop", ValueError if all are bad."""
        files, problems = {}, {}
        for name in names:
            try:
                files[name] = SoundFile.open(Path(folder, name))
            except BadClipError as error:
                problems[name] = error.problem
        opened = cls(files, problems)
        opened.check(on_bad_clip)
        return opened

    def check(self, on_bad_clip: str) -> None:
        listed = [f"{name}: {problem}" for name, problem in self.problems.items()]
        if listed and (on_bad_clip == "stop" or not self.files):
            name, problem = next(iter(self.problems.items()))
            raise BadClipError(name, problem, others=listed[1:])


def embed_folder(
    opened: OpenedFolder,
    cut: Cut,
    front_end: FrontEnd,
    clip_files: ClipFiles,
    *,
    made_by: str,
    load_encoder: Callable[[], nn.Module | None],
    device: torch.device | str,
    memory_bytes: int,
    precision: str,
    advance: Callable[[int], None],
) -> pd.DataFrame:
    """Clips of all recordings, embedded where they are not yet: a row each, in the order of names.

    A recording that cannot be read to its end goes from opened.files to opened.problems.

    made_by: digest of everything but the recording that an embedding depends on: code, settings, weights.
    load_encoder: called when the first recording has to be embedded.
    """
    rows: list[dict[str, Any]] = []
    encoder, is_loaded = None, False
    for name, file in list(opened.files.items()):
        key = hashlib.sha256(f"{made_by} {cut} {file_digest(file.path)}".encode()).hexdigest()[:32]
        about = clip_files.finished(key)
        if about is None:
            if not is_loaded:
                encoder, is_loaded = load_encoder(), True
            clips = embed_recording(
                file,
                cut,
                front_end,
                encoder=encoder,
                device=device,
                memory_bytes=memory_bytes,
                precision=precision,
            )
            try:
                about = clip_files.add(key, as_one_bad_clip(name, clips))
            except BadClipError as error:
                del opened.files[name]
                opened.problems[name] = error.problem
                continue
        of_file = {
            "recording": to_text(name),
            "sample_rate_hz": file.sample_rate_hz,
            "n_channels": file.n_channels,
            "recorded_at": file.recorded_at.isoformat(timespec="seconds"),
            "window_s": cut.window_s,
            "key": key,
        }
        rows += [{**row, **of_file} for row in about]
        advance(1)
    return pd.DataFrame(rows, columns=CLIP_COLUMNS)


def window_of(durations_s: Sequence[float], wanted_s: float) -> float:
    """The window length asked for; where 0 is, the one that follows from the normal recordings."""
    return wanted_s or usual_window_s(durations_s)


def clip_loader(table: pd.DataFrame, clip_files: ClipFiles) -> Callable[[int], EmbeddedClip]:
    """`load(i)` of the i-th clip of a table."""
    places = list(zip(table["key"], table["clip"], strict=True))

    def load(i: int) -> EmbeddedClip:
        path = clip_files.path(*places[i])
        try:
            return EmbeddedClip.load(path)
        except FileNotFoundError:
            raise ValueError(
                f"{path} is gone; run once more with --forcerun embed_recordings, which makes what is missing"
            ) from None

    return load


class ScoredClips:
    """Scores and maps of clips in a folder, by clip and detector."""

    def __init__(self, folder: str | Path, detector_file: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._detector = file_digest(detector_file)[:16]

    def path(self, key: str, clip: int) -> Path:
        return self.folder / f"{key}-{clip}-{self._detector}.npz"

    def load(self, key: str, clip: int) -> tuple[float, np.ndarray] | None:
        """(score, map float32 (n_frames, n_mels)); None if there is none, or it is damaged."""
        try:
            arrays = load_arrays(
                self.path(key, clip), names=("score", "map"), remedy="the clip is scored again"
            )
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s", error)
            return None
        return float(arrays["score"]), arrays["map"]

    def add(self, key: str, clip: int, score: float, anomaly_map: np.ndarray) -> None:
        save_arrays(
            self.path(key, clip), {"score": np.array(score), "map": anomaly_map.astype(np.float32)}
        )

    def keep_only(self, table: pd.DataFrame) -> None:
        """Delete all but the clips of a table."""
        wanted = {self.path(*row).name for row in zip(table["key"], table["clip"], strict=True)}
        for path in self.folder.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)


def score_folder(
    table: pd.DataFrame,
    folder: str | Path,
    detector: AnomalyDetector,
    load: Callable[[int], EmbeddedClip],
    scored: ScoredClips,
    *,
    advance: Callable[[int], None],
) -> Iterator[ClipResult]:
    """Results of the clips of a table, in its order; clips that this detector has scored before are not again."""
    files = {
        name: SoundFile.open(Path(folder, from_text(name))) for name in table["recording"].unique()
    }
    for i, row in enumerate(table.itertuples()):
        found = scored.load(row.key, row.clip)
        if found is None:
            found = detector.score_and_map(load(i))
            scored.add(row.key, row.clip, *found)
        yield detector.result(files[row.recording], row.start_s, row.duration_s, *found)
        advance(1)


def stored_result(
    row: Any, folder: str | Path, detector: AnomalyDetector, scored: ScoredClips
) -> ClipResult:
    """Result of a clip that has been scored, from its row in clips.tsv.

    Raises ValueError if its map is gone.
    """
    found = scored.load(row.key, row.clip)
    if found is None:
        raise ValueError(
            f"the map of {row.recording} is gone from {scored.folder}; run again with --forcerun score_recordings"
        )
    file = SoundFile.open(Path(folder, from_text(row.recording)))
    return detector.result(file, row.start_s, row.duration_s, *found)


def result_tables(
    table: pd.DataFrame, results: Sequence[ClipResult], labels: Mapping[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(clips, the most anomalous first; regions). Regions are in seconds from the start of the recording."""
    clips = table.drop(columns="n_windows").assign(
        score=[result.score for result in results],
        p_value=[result.p_value for result in results],
        verdict=["anomalous" if result.is_anomalous else "normal" for result in results],
        known_label=[
            {0: "normal", 1: "anomalous"}.get(labels.get(name), "") for name in table["recording"]
        ],
    )
    clips = clips.sort_values(["score", "recording", "start_s"], ascending=[False, True, True])
    regions = [
        (
            row.recording,
            row.clip,
            region.start_s + row.start_s,
            region.end_s + row.start_s,
            *region[2:],
        )
        for row, result in zip(table.itertuples(), results, strict=True)
        for region in result.regions
    ]
    return clips.reset_index(drop=True), pd.DataFrame(regions, columns=REGION_COLUMNS)


def metrics_of(clips: pd.DataFrame) -> pd.DataFrame:
    """What labels say of scores and verdicts: columns metric, value, n. Without labels a table of no rows."""
    known = clips[clips["known_label"] != ""]
    is_anomalous = (known["known_label"] == "anomalous").to_numpy()
    called = (known["verdict"] == "anomalous").to_numpy()
    rows = []
    if is_anomalous.any() and not is_anomalous.all():
        rows.append(
            ("sample_roc", 100 * roc_auc(known["score"].to_numpy(), is_anomalous), len(known))
        )
    for metric, of in (("found_share", is_anomalous), ("false_alarm_share", ~is_anomalous)):
        if of.any():
            rows.append((metric, 100 * float(called[of].mean()), int(of.sum())))
    return pd.DataFrame(rows, columns=["metric", "value", "n"])
