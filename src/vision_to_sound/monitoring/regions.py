"""Where in a clip the anomaly is: connected cells above what normal clips show in their band, as spans and bands."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vision_to_sound.file_names import from_text

if TYPE_CHECKING:
    import pandas as pd

    from vision_to_sound.front_ends import FrontEnd

# Of the cells of held-out normal clips, per mel band. Blurred maps have no single stray cells, so one in a thousand
# makes few regions.
NORMAL_SHARE_ABOVE = 0.001
MIN_SPREAD = 1e-6  # a band in which a map never moves
LONGEST_NAME = 255  # bytes of a file name, on nearly all file systems


class Region(NamedTuple):
    """A span and a band of a clip; score: its highest cell, 1 being what one normal cell in a thousand exceeds."""

    start_s: float
    end_s: float
    low_hz: float
    high_hz: float
    score: float


class BandScale(NamedTuple):
    """What maps of normal clips look like, per mel band: median and limit, float64 (n_mels,)."""

    median: np.ndarray
    limit: np.ndarray

    @classmethod
    def of_normal(cls, maps: Sequence[np.ndarray]) -> BandScale:
        """From maps (n_frames, n_mels) of held-out normal clips, of any lengths; at least one."""
        cells = np.concatenate(maps).astype(np.float64)
        median = np.median(cells, axis=0)
        limit = np.quantile(cells, 1.0 - NORMAL_SHARE_ABOVE, axis=0)
        return cls(median, np.maximum(limit, median + MIN_SPREAD))

    def excess(self, anomaly_map: np.ndarray) -> np.ndarray:
        """The map on one scale for all bands, float32: 0 at the band's normal median, 1 at its limit."""
        return ((anomaly_map - self.median) / (self.limit - self.median)).astype(np.float32)


def find_regions(
    excess: np.ndarray, front_end: FrontEnd, *, at_most: int = 10, reach_s: float = 0.05
) -> list[Region]:
    """Connected cells above 1, the strongest first; what is closer than `reach_s` in time or one band is one.

    excess: (n_frames, n_mels), see `BandScale.excess`. A region reaches from the start of its first frame's hop to the
    end of its last one's, and from border to border of its bands, inside the clip.
    """
    from scipy import ndimage

    above = excess > 1.0
    if not above.any():
        return []
    n_reach = max(1, round(reach_s / front_end.hop_s))
    joined = ndimage.binary_closing(
        np.pad(above, ((n_reach, n_reach), (1, 1))), np.ones((2 * n_reach + 1, 3), bool)
    )[n_reach:-n_reach, 1:-1]
    labels, n_regions = ndimage.label(joined | above, np.ones((3, 3), bool))
    edges_hz = front_end.mel_band_edges_hz()
    end_s = (len(excess) - 1) * front_end.hop_s
    found = []
    places = ndimage.find_objects(labels)
    scores = ndimage.maximum(excess, labels, np.arange(1, n_regions + 1))
    for (frames, bands), score in zip(places, scores, strict=True):
        # a frame is centred on a multiple of the hop
        start = max(0.0, (frames.start - 0.5) * front_end.hop_s)
        stop = min(end_s, (frames.stop - 0.5) * front_end.hop_s)
        if stop <= start:  # half a hop at an end
            start, stop = max(0.0, stop - front_end.hop_s), start + front_end.hop_s / 2
        found.append(
            Region(
                start, stop, float(edges_hz[bands.start]), float(edges_hz[bands.stop]), float(score)
            )
        )
    return sorted(found, key=lambda region: -region.score)[:at_most]


def audacity_labels(regions: Iterable[Region]) -> str:
    """A label track for Audacity (File, Import, Labels): spans, and bands as its spectral selections."""
    lines = []
    for region in sorted(regions):
        lines.append(f"{region.start_s:.6f}\t{region.end_s:.6f}\tanomaly {region.score:.2f}")
        lines.append(f"\\\t{region.low_hz:.3f}\t{region.high_hz:.3f}")
    return "".join(f"{line}\n" for line in lines)


def label_track_path(recording: str, folders: Collection[str] = ()) -> PurePath:
    """Where a recording's label track goes, relative to the folder of all: its own path with .txt behind it.

    A name that would be too long is cut and gets a digest of the whole, so that no two become the same; so does one
    that is the name of a folder.

    Args:
        recording: relative path of the recording.
        folders: relative paths that are folders.

    Raises:
        ValueError: a path that leads out of the folder.
    """
    path = PurePath(recording)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(
            f"recording {recording!r}: expected a path below the folder of recordings, so that nothing is written "
            "outside of the results"
        )
    track = path.with_name(f"{path.name}.txt")
    if len(os.fsencode(track.name)) <= LONGEST_NAME and str(track) not in folders:
        return track
    ending = f"-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}{path.suffix[:12]}.txt"
    stem = path.stem
    while len(os.fsencode(stem + ending)) > LONGEST_NAME:
        stem = stem[:-1]
    return path.with_name(stem + ending)


def write_label_tracks(regions: pd.DataFrame, folder: str | Path) -> None:
    """A label track for each recording with regions, see `label_track_path`; folders are kept.

    regions: columns recording (`file_names.to_text` of it), start_s, end_s, low_hz, high_hz, score.

    Raises:
        ValueError: the name of a recording leads out of the folder; nothing is written then.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Region]] = {}
    for row in regions[["recording", *Region._fields]].itertuples(index=False):
        found.setdefault(from_text(row.recording), []).append(Region(*row[1:]))
    folders = {str(parent) for recording in found for parent in PurePath(recording).parents}
    tracks = {recording: label_track_path(recording, folders) for recording in found}
    for recording, track in tracks.items():
        path = folder / track
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(audacity_labels(found[recording]), encoding="utf-8")
