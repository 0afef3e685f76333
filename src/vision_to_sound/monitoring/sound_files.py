"""Sound files as they come, and spans read from them: any rate, any number of channels, any length."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vision_to_sound.wav_headers import read_header

if TYPE_CHECKING:
    import numpy as np

    from vision_to_sound.audio import BadClipError

_REMEDY = "Mend it, or take it out of the folder."


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
