"""Sound files as they come, and spans read from them: any rate, any number of channels, any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from vision_to_sound.containers import Container
from vision_to_sound.file_names import to_text

if TYPE_CHECKING:
    import numpy as np

_REMEDY = "Mend it, or take it out of the folder."


@dataclass(frozen=True)
class SoundFile:
    """What a file says of itself.

    n_samples: per channel. recorded_at: when it was last written, UTC; a copy that keeps times keeps it.
    full_scale: the largest positive sample, where clipped sound stays.
    """

    path: Path
    sample_rate_hz: int
    n_samples: int
    n_channels: int
    recorded_at: datetime
    full_scale: float
    container: Container = field(repr=False, compare=False)

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sample_rate_hz

    @classmethod
    def open(cls, path: str | Path) -> SoundFile:
        """Raises BadClipError for a file that is empty, unreadable, cut off, or whose header cannot be true.

        Where a program that wrote into a pipe left the length open, the file is decoded once to count its samples.
        """
        from vision_to_sound.audio import SoundProblem, check_rate, checked_container, named

        path = Path(path)
        with named(to_text(str(path)), remedy=_REMEDY):
            stat = path.stat()
            if not S_ISREG(stat.st_mode):
                raise SoundProblem("is not a file")
            with open(path, "rb") as raw:
                container = checked_container(raw)
            if container.problem:
                raise SoundProblem(container.problem)
            from vision_to_sound.decoding import Decoder, source_of

            with Decoder(source_of(path, container)) as file:
                check_rate(file.samplerate)
                if not file.can_be(stat.st_size):
                    raise SoundProblem(
                        f"claims {file.declared} samples, more than its {stat.st_size} bytes can hold"
                    )
                n_samples = file.count() if file.declared is None else file.declared
                if not n_samples:
                    raise SoundProblem("holds no samples")
                return cls(
                    path,
                    file.samplerate,
                    n_samples,
                    file.channels,
                    datetime.fromtimestamp(stat.st_mtime, UTC),
                    file.full_scale,
                    container,
                )

    def read(self, start: int, stop: int, *, channel: int | None = None) -> np.ndarray:
        """Samples start to stop of one channel, or of the mean of all: float32 (stop - start,), full scale +-1.

        Raises BadClipError for a channel that is not there, a file that ends early, and NaN.
        """
        from vision_to_sound.audio import to_mono

        (samples,) = self.spans([(start, stop)], channel=channel)
        return to_mono(samples, channel)

    def spans(
        self, bounds: Iterable[tuple[int, int]], *, channel: int | None = None
    ) -> Iterator[np.ndarray]:
        """All channels of spans [(start, stop)], one behind the other: float32 (stop - start, n_channels) each.

        The file is decoded once, from front to end. channel: one that has to be there. Raises BadClipError as `read`
        does, and where more samples follow than the file declares.
        """
        from vision_to_sound.audio import SoundProblem, check_channel, check_samples, named
        from vision_to_sound.decoding import Decoder, source_of

        with named(to_text(str(self.path)), remedy=_REMEDY):
            check_channel(channel, self.n_channels)
            with Decoder(source_of(self.path, self.container)) as file:
                position = 0
                for start, stop in bounds:
                    position = file.go(position, start)
                    samples = file.read_float(stop - start)
                    position += len(samples)
                    if position < stop:
                        raise SoundProblem(f"is cut off: {position} of {self.n_samples} samples")
                    check_samples(samples)
                    yield samples
                if position == self.n_samples and len(file.read_float(1)):
                    raise SoundProblem(f"goes on behind its {self.n_samples} samples")
