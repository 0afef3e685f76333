"""Folders of sound files, and spans read from them: any rate, any number of channels, any length.

Standard library only at import: the Snakefile lists folders.
"""

from __future__ import annotations

import csv
import fnmatch
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vision_to_sound.wav_headers import read_header

if TYPE_CHECKING:
    import numpy as np

    from vision_to_sound.audio import BadClipError

# What libsndfile reads.
SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .avr .caf .flac .htk .mat .mp3 .nist .oga .ogg .opus .paf .pvf .rf64 .sd2 .sf .snd .svx "
    ".voc .w64 .wav .wave .wavex .wve .xi".split()
)
OTHER_SOUND = frozenset(
    ".aac .amr .m4a .mka .mp4 .webm .wma".split()
)  # sound, but not for libsndfile
_REMEDY = "Mend it, or take it out of the folder."
_ANOMALOUS = re.compile(r"(?<![a-z])(anomal(y|ous)|abnormal|faulty?|broken|defect(ive)?)(?![a-z])")
_NORMAL = re.compile(r"(?<![a-z])(normal|healthy|good)(?![a-z])")


def sound_files(folder: str | Path) -> list[str]:
    """Sound files in a folder and the folders below it, relative, in order; hidden ones do not count.

    Raises:
        ValueError: no such folder, or no sound in it; says what else is there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    files = [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, folders, names in os.walk(folder, followlinks=True)
        if not _is_hidden(os.path.relpath(parent, folder))
        for name in names
        if not name.startswith(".")
    ]
    found = sorted(name for name in files if Path(name).suffix.lower() in SUFFIXES)
    if not found:
        others = sorted({Path(name).suffix.lower() or "without suffix" for name in files})
        raise ValueError(
            f"the folder {folder} holds no sound file that can be read (wav, flac, ogg, mp3, aiff ...), only "
            f"{', '.join(others) or 'nothing'}"
        )
    return found


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") and part != "." for part in Path(relative).parts)


@dataclass(frozen=True)
class SoundFile:
    """What a file says of itself.

    n_samples: per channel. recorded_at: when it was last written, UTC; a copy that keeps times keeps it.
    """

    path: Path
    sample_rate_hz: int
    n_samples: int
    n_channels: int
    recorded_at: datetime

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sample_rate_hz

    @classmethod
    def open(cls, path: str | Path) -> SoundFile:
        """Raises BadClipError for a file that is empty or unreadable, or whose header cannot be true."""
        import soundfile

        from vision_to_sound.audio import RATES_HZ

        path = Path(path)
        stat = path.stat()
        if not stat.st_size:
            raise _bad(path, "the file is empty (0 bytes)")
        if lie := _lie_about_length(path):
            raise _bad(path, lie)
        try:
            with soundfile.SoundFile(path) as file:
                found = cls(
                    path,
                    file.samplerate,
                    file.frames,
                    file.channels,
                    datetime.fromtimestamp(stat.st_mtime, UTC),
                )
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = getattr(error, "error_string", error)
            problem = f"not readable as audio ({reason})"
            raise _bad(path, problem) from error
        if not RATES_HZ[0] <= found.sample_rate_hz <= RATES_HZ[1]:
            problem = f"has a sample rate of {found.sample_rate_hz} Hz, outside {RATES_HZ[0]} to {RATES_HZ[1]} Hz"
            raise _bad(path, problem)
        if not found.n_samples:
            raise _bad(path, "holds no samples")
        return found

    def read(self, start: int, stop: int, *, channel: int | None = None) -> np.ndarray:
        """Samples start to stop of one channel, or of the mean of all: float32 (stop - start,), full scale +-1.

        Raises BadClipError for a channel that is not there, a file that ends early, and NaN.
        """
        import numpy as np
        import soundfile

        if channel is not None and channel >= self.n_channels:
            problem = (
                f"has {self.n_channels} channels, channel {channel} was asked for (counting from 0)"
            )
            raise _bad(self.path, problem)
        try:
            samples, _ = soundfile.read(
                self.path, start=start, stop=stop, dtype="float32", always_2d=True
            )
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = getattr(error, "error_string", error)
            problem = f"not readable as audio at {start / self.sample_rate_hz:.1f} s ({reason})"
            raise _bad(self.path, problem) from error
        if len(samples) < stop - start:
            problem = f"is cut off: {start + len(samples)} of {self.n_samples} samples"
            raise _bad(self.path, problem)
        if not np.isfinite(samples).all():
            raise _bad(self.path, "holds samples that are NaN or infinite")
        if channel is not None:
            return np.ascontiguousarray(samples[:, channel])
        return samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def _bad(path: Path, problem: str) -> BadClipError:
    from vision_to_sound.audio import BadClipError

    return BadClipError(str(path), problem, remedy=_REMEDY)


def _lie_about_length(path: Path) -> str:
    """What is wrong with the length in a WAV's header, "" if nothing; reads no samples."""
    import mmap

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = read_header(data)
    return header.lie() if header is not None else ""


def labels_of(names: list[str], source: str) -> dict[str, int]:
    """{recording: 0 normal, 1 anomalous} as far as it is known; {} where it is not.

    Args:
        names: relative paths of the unsorted recordings.
        source: "names": words such as normal, anomaly, faulty in file or folder names, if every name has one of
            them; "none"; or a csv file with the columns `recording` (a relative path, a file name or a pattern such
            as bad/*) and `label` (normal or anomalous).

    Raises:
        ValueError: a csv that cannot be read so, or whose rows match no recording.
    """
    if source == "none":
        return {}
    if source == "names":
        found = {name: _label_in(name) for name in names}
        return found if None not in found.values() else {}
    with open(source, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"recording", "label"} <= set(rows[0]):
        raise ValueError(f"{source}: expected a csv file with the columns recording and label")
    found = {}
    for number, row in enumerate(rows, start=2):
        label = {"normal": 0, "anomalous": 1}.get((row["label"] or "").strip().lower())
        if label is None:
            raise ValueError(
                f"{source}, line {number}: label {row['label']!r}, expected normal or anomalous"
            )
        pattern = (row["recording"] or "").strip()
        matching = [n for n in names if fnmatch.fnmatchcase(n, pattern) or Path(n).name == pattern]
        if not matching:
            raise ValueError(f"{source}, line {number}: no recording is called {pattern!r}")
        found |= dict.fromkeys(matching, label)
    return found


def _label_in(name: str) -> int | None:
    text = name.lower()
    if _ANOMALOUS.search(text):  # first: "normal" stands in "abnormal" too, but not as a word
        return 1
    return 0 if _NORMAL.search(text) else None
