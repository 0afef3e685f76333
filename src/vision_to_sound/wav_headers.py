"""What the header of a WAV says about its length, beside what is there.

libsndfile quietly mends a length that is too large and believes one that is too small: a file that broke off
would become a short clip, and the rest of a clip would be lost without a word. Standard library only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Written where a program could not go back to fill in the length: 2^32 - 1, or 2^31 less the header.
_LEFT_OPEN = range(0x7FFF0000, 0x80000000), range(0xFFFF0000, 0x100000000)
_UNCOMPRESSED = (1, 3, 0xFFFE)  # whole numbers, floats, and either in the longer form of the header


@dataclass(frozen=True)
class WavHeader:
    """sample_rate_hz and bytes_per_s as declared; declared_bytes, found_bytes: of samples."""

    sample_rate_hz: int
    bytes_per_s: int
    declared_bytes: int
    found_bytes: int

    @property
    def missing_s(self) -> float:
        """By how much the samples end before the declared end; negative: they go on after it."""
        missing = self.declared_bytes - self.found_bytes
        return missing / self.bytes_per_s if self.bytes_per_s else float(missing)

    def lie(self) -> str:
        """What is wrong with the declared length, "" if nothing."""
        if self.declared_bytes == self.found_bytes:
            return ""
        if any(self.declared_bytes in open_end for open_end in _LEFT_OPEN):
            return ""
        said = f"its header says {self.declared_bytes} bytes of sound"
        if self.missing_s > 0:
            return f"is cut off: {said}, {self.found_bytes} are there ({self.missing_s:.3f} s less)"
        return f"is longer than {said}: {self.found_bytes} are there ({-self.missing_s:.3f} s more)"


def read_header(data: bytes) -> WavHeader | None:
    """The header of a WAV (RIFF); None for any other kind of file and where format or samples are missing.

    Bytes behind the samples that are no further chunk count as samples.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    position, rate_hz, bytes_per_s = 12, None, 0
    while (chunk := _chunk(data, position)) is not None:
        name, size, start = chunk
        if name == b"fmt " and len(data) >= start + 16:
            kind, _, rate_hz, bytes_per_s, frame_bytes = struct.unpack_from("<HHIIH", data, start)
            if kind in _UNCOMPRESSED:
                bytes_per_s = rate_hz * frame_bytes
        elif name == b"data" and rate_hz is not None:
            found = min(size, len(data) - start)
            if found == size:
                found += _stray_bytes(data, start + size)
            return WavHeader(rate_hz, bytes_per_s, size, found)
        position = start + size + size % 2
    return None


def _chunk(data: bytes, position: int) -> tuple[bytes, int, int] | None:
    """(name, declared bytes, where they start) of the chunk at a position; None where none can be."""
    if position + 8 > len(data):
        return None
    name, size = struct.unpack_from("<4sI", data, position)
    is_name = all(0x20 <= byte < 0x7F for byte in name)
    return (name, size, position + 8) if is_name else None


def _stray_bytes(data: bytes, end: int) -> int:
    """How many bytes lie behind the samples and belong to no chunk, nor fill up an odd length."""
    if end % 2 and data[end : end + 1] == b"\0":
        end += 1
    position = end
    while (chunk := _chunk(data, position)) is not None:
        _, size, start = chunk
        if start + size > len(data):
            break
        position = start + size + size % 2
    return len(data) - position if position < len(data) else 0
