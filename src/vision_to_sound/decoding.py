"""libsndfile as it has to be used for files whose length nobody wrote down."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import soundfile

from vision_to_sound.containers import Container

BLOCK_SAMPLES = 1 << 16  # per channel, that are decoded at a time to pass or count them
_UNKNOWN_LENGTH = 2**63 - 1
# The largest positive sample of 8 bits, plain and logarithmic (ITU-T G.711); of 16 bits it is close to 1.
_FULL_SCALE = {
    "PCM_S8": 127 / 128,
    "PCM_U8": 127 / 128,
    "ULAW": 32_124 / 32_768,
    "ALAW": 32_256 / 32_768,
}
# What a byte can hold at most: a FLAC frame of 65 535 equal samples takes eleven bytes.
_MOST_SAMPLES_PER_BYTE = 8192


class Decoder(soundfile.SoundFile):
    """A sound file that is decoded from front to end.

    soundfile seeks after every read, to where it is already. That fails at the end of a FLAC of unknown length, so it
    is told that it cannot; `can_seek` says whether one can all the same.
    """

    def seekable(self) -> bool:
        return False

    @property
    def can_seek(self) -> bool:
        return super().seekable() and self.declared is not None

    @property
    def declared(self) -> int | None:
        """Samples per channel that the file says it holds; None if it does not say."""
        return None if self.frames in (0, _UNKNOWN_LENGTH) else self.frames

    @property
    def full_scale(self) -> float:
        return _FULL_SCALE.get(self.subtype, 1.0 - 2.0**-15)

    def can_be(self, n_bytes: int) -> bool:
        """Whether so many bytes can hold the declared samples."""
        return self.declared is None or self.declared <= n_bytes * _MOST_SAMPLES_PER_BYTE

    def read_float(self, n_samples: int):
        """The next samples, float32 (at most n_samples, n_channels); fewer only at the end."""
        return self.read(n_samples, dtype="float32", always_2d=True)

    def go(self, position: int, target: int) -> int:
        """Move on from a position to a later one; returns where it is then, earlier if the file ends before."""
        # A decoder of MP3 needs a few frames before it is right again.
        lead = target - self.samplerate
        if self.can_seek and lead > position:
            self.seek(lead)
            position = lead
        while position < target and (
            found := len(self.read_float(min(BLOCK_SAMPLES, target - position)))
        ):
            position += found
        return position

    def count(self) -> int:
        """Samples per channel from here to the end, by decoding them."""
        n_samples = 0
        while found := len(self.read_float(BLOCK_SAMPLES)):
            n_samples += found
        return n_samples


def source_of(file: Path | bytes, container: Container) -> bytes | BinaryIO:
    """What a `Decoder` opens: a path or the bytes of a file, with the container's head where it has one."""
    if isinstance(file, bytes):
        return io.BytesIO(container.head + file[container.n_replaced :])
    if container.head or container.n_replaced:
        return _WithHead(file, container.head, container.n_replaced)
    return os.fsencode(file)  # soundfile takes no text for a name that is no UTF-8


class _WithHead(io.RawIOBase):
    """A file on disk, read with other bytes in place of its first `n_replaced`."""

    def __init__(self, path: Path, head: bytes, n_replaced: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 closed with this
        self._head = head
        self._shift = len(head) - n_replaced
        self._position = 0

    def readinto(self, buffer: memoryview) -> int:
        n = len(buffer)
        data = self._head[self._position : self._position + n]
        if len(data) < n:
            self._file.seek(self._position + len(data) - self._shift)
            data += self._file.read(n - len(data))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset += self._file.seek(0, io.SEEK_END) + self._shift
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
