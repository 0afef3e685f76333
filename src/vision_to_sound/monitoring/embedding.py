"""Recordings as detectors read them: each clip's windows, as spectrograms and taps of an encoder.

An `EmbeddedClip` is made once per clip, in memory that does not grow with the recording; the workflow keeps each in a
file. `WindowFeatures` shows the windows of many of them as the `ClipFeatures` that every detector takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vision_to_sound.embeddings import ClipFeatures, ClipSet, TapShape
from vision_to_sound.files import load_arrays, save_arrays
from vision_to_sound.monitoring.levels import LEVELS, levels_of
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.monitoring.windows import clip_bounds, repeated_to, stitch, window_starts
from vision_to_sound.seals import contents_of, read_json, write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vision_to_sound.front_ends import FrontEnd

_CACHED_CLIPS = 8


class Cut(NamedTuple):
    """How recordings are read and cut.

    channel: counted from 0; None: the mean of all. window_s: length that the encoder sees at once. overlap: of
    neighbouring windows, share of a window. clip_s: a longer recording is cut into clips, each with its own score.
    """

    channel: int | None
    window_s: float
    overlap: float
    clip_s: float


@dataclass(frozen=True)
class EmbeddedClip:
    """A clip of a recording, cut into windows.

    n_frames: of the clip's own spectrogram. starts: int64 (n_windows,), first frame of each window.
    taps: {name: float16 (n_windows, n_time, n_freq, n_channels)}, {} for a front end without a network.
    spectrograms_db: float32 (n_windows, n_window_frames, n_mels).
    The rest: see `levels.levels_of`.
    """

    start_s: float
    duration_s: float
    n_frames: int
    starts: np.ndarray
    taps: dict[str, np.ndarray]
    spectrograms_db: np.ndarray
    level_db: float
    channel_level_db: float
    channels_cancel: bool
    n_clipped: int
    dc: float
    silent: bool
    content: str

    @property
    def n_windows(self) -> int:
        return len(self.starts)

    def stitch(self, maps: np.ndarray) -> np.ndarray:
        """The clip's map, float32 (n_frames, n_mels), from those of its windows."""
        return stitch(maps, self.starts, self.n_frames)

    def save(self, path: str | Path) -> None:
        """As .npz without pickle; every array of it has a checksum."""
        numbers = {name: np.array(getattr(self, name)) for name in _NUMBERS}
        taps = {f"tap_{i}_{name}": values for i, (name, values) in enumerate(self.taps.items())}
        save_arrays(path, {**numbers, **taps, **{name: getattr(self, name) for name in _ARRAYS}})

    @classmethod
    def load(cls, path: str | Path) -> EmbeddedClip:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: another kind of file, or a damaged one; names it.
        """
        arrays = load_arrays(
            path,
            expected="an embedded clip (.npz)",
            names=_NUMBERS + _ARRAYS,
            remedy="delete it, then run once more with --forcerun embed_recordings",
        )
        with contents_of(path, expected="an embedded clip (.npz)"):
            names = sorted(
                (n for n in arrays if n.startswith("tap_")), key=lambda n: int(n.split("_")[1])
            )
            return cls(
                **{name: arrays[name].item() for name in _NUMBERS},
                **{name: arrays[name] for name in _ARRAYS},
                taps={name.split("_", 2)[2]: arrays[name] for name in names},
            )


_NUMBERS = ("start_s", "duration_s", "n_frames", *LEVELS)
_ARRAYS = ("starts", "spectrograms_db")


def embed_recording(
    file: SoundFile,
    cut: Cut,
    front_end: FrontEnd,
    *,
    encoder: nn.Module | None,
    device: torch.device | str,
    memory_bytes: int,
    precision: str = "float32",
    bounds: Sequence[tuple[int, int]] | None = None,
) -> Iterator[EmbeddedClip]:
    """The clips of one recording, one after the other.

    encoder: None where only spectrograms are read. bounds: [(start, stop)] in samples instead of the clips that
    `cut.clip_s` gives.
    """
    from vision_to_sound.audio import to_mono
    from vision_to_sound.spectrogram import log_mel_db, resample

    n_window = front_end.n_frames(round(cut.window_s * front_end.sample_rate_hz))
    if bounds is None:
        bounds = clip_bounds(file.n_samples, max(1, round(cut.clip_s * file.sample_rate_hz)))
    spans = file.spans(bounds, channel=cut.channel)
    for (start, stop), channels in zip(bounds, spans, strict=True):
        samples = to_mono(channels, cut.channel)
        resampled = resample(
            samples[None], from_hz=file.sample_rate_hz, to_hz=front_end.sample_rate_hz
        )[0]
        n_frames = front_end.n_frames(len(resampled))
        filled = repeated_to(resampled, (n_window - 1) * front_end.hop_samples)
        spectrogram_db = log_mel_db(filled[None], front_end, device="cpu")[0]
        starts = window_starts(len(spectrogram_db), n_window, cut.overlap)
        windows = np.stack([spectrogram_db[first : first + n_window] for first in starts])
        yield EmbeddedClip(
            start_s=start / file.sample_rate_hz,
            duration_s=(stop - start) / file.sample_rate_hz,
            n_frames=n_frames,
            starts=starts,
            taps=_taps(encoder, windows, device, memory_bytes, precision),
            spectrograms_db=windows,
            **levels_of(
                channels,
                samples,
                sample_rate_hz=file.sample_rate_hz,
                full_scale=file.full_scale,
                channel=cut.channel,
            ),
        )


def _taps(
    encoder: nn.Module | None,
    windows: np.ndarray,
    device: torch.device | str,
    memory_bytes: int,
    precision: str,
) -> dict[str, np.ndarray]:
    if encoder is None:
        return {}
    from vision_to_sound.encoders.embed import batch_size_for, embed

    batches = embed(
        encoder,
        windows,
        device=device,
        batch_size=batch_size_for(memory_bytes, encoder.spec, windows.shape[1]),
        precision=precision,
    )
    names = [tap.name for tap in encoder.spec.taps]
    return dict(zip(names, map(np.concatenate, zip(*batches, strict=True)), strict=True))


class WindowFeatures:
    """Windows of many clips behind the interface of a clip set; clips are loaded when they are read."""

    def __init__(self, n_windows: Sequence[int], load: Callable[[int], EmbeddedClip]) -> None:
        """n_windows: of each clip; load: gives clip i."""
        self._first = np.concatenate([[0], np.cumsum(n_windows)]).astype(np.int64)
        self._load = lru_cache(maxsize=_CACHED_CLIPS)(load)
        one = self._load(0)
        self.shape = (int(self._first[-1]), *one.spectrograms_db.shape[1:])
        self.taps = tuple(TapShape(name, *values.shape[1:]) for name, values in one.taps.items())

    @classmethod
    def of(cls, clips: Sequence[EmbeddedClip]) -> ClipFeatures:
        """Features of clips in memory."""
        return cls([clip.n_windows for clip in clips], clips.__getitem__).as_features()

    def as_features(self) -> ClipFeatures:
        embeddings = self if self.taps else None
        n = self.shape[0]
        return ClipFeatures([ClipSet(embeddings, self)], np.zeros(n, int), np.arange(n))  # type: ignore[arg-type]

    def _parts(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, EmbeddedClip, np.ndarray]]:
        """(places among rows, clip, rows within the clip)."""
        rows = np.asarray(rows)
        clips = np.searchsorted(self._first, rows, side="right") - 1
        for clip in np.unique(clips):
            places = np.flatnonzero(clips == clip)
            yield places, self._load(int(clip)), rows[places] - self._first[clip]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Spectrograms, float32 (n, n_frames, n_mels)."""
        out = np.empty((len(rows), *self.shape[1:]), np.float32)
        for places, clip, own in self._parts(rows):
            out[places] = clip.spectrograms_db[own]
        return out

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """Taps, float32 (n, n_time, n_freq, n_channels) each."""
        out = [
            np.empty((len(rows), t.n_time, t.n_freq, t.n_channels), np.float32) for t in self.taps
        ]
        for places, clip, own in self._parts(rows):
            for target, values in zip(out, clip.taps.values(), strict=True):
                target[places] = values[own]
        return out


class ClipFiles:
    """Embedded clips in a folder, by the digest of all that they depend on; what is there is not made again.

    No output of a rule: Snakemake deletes the outputs of a job that runs again, and a recording more in a folder
    shall not cost the embeddings of all others.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str, i: int) -> Path:
        return self.folder / f"{key}-{i}.npz"

    def finished(self, key: str) -> list[dict] | None:
        """Rows about the clips of a recording; None if it is not there, or not whole."""
        try:
            rows = read_json(self.folder / f"{key}.json", expected="rows about clips (.json)")
        except (FileNotFoundError, ValueError):
            return None
        return rows if all(self.path(key, i).is_file() for i in range(len(rows))) else None

    def add(self, key: str, clips: Iterator[EmbeddedClip]) -> list[dict]:
        """Write the clips, then the rows about them: a recording is there when the last of it is."""
        rows = []
        for i, clip in enumerate(clips):
            clip.save(self.path(key, i))
            rows.append(
                {
                    "clip": i,
                    "start_s": clip.start_s,
                    "duration_s": clip.duration_s,
                    "n_windows": clip.n_windows,
                    **{name: getattr(clip, name) for name in LEVELS},
                }
            )
        write_json(self.folder / f"{key}.json", rows)
        return rows

    def keep_only(self, keys: set[str]) -> None:
        """Delete what belongs to none of these recordings."""
        for path in self.folder.iterdir():
            if path.stem.split("-")[0] not in keys:
                path.unlink(missing_ok=True)
