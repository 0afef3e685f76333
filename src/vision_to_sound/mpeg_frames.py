"""The frames of an MP3, counted, beside the count in its first one. Standard library only.

Frame header: ISO 11172-3 and 13818-3; count of frames (Xing, Info): as LAME writes it and mpg123 reads it.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vision_to_sound.containers import Content

_KBIT_PER_S = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_FREE = 0  # a bit rate of the encoder's own choice


class MpegFrame(NamedTuple):
    """n_bytes: 0 for a free bit rate. version: 3 for MPEG-1, 2 for MPEG-2, 0 for MPEG-2.5."""

    n_bytes: int
    version: int
    rate_hz: int
    is_mono: bool

    @property
    def n_samples(self) -> int:
        return 1152 if self.version == 3 else 576


def frame_at(content: Content, position: int) -> MpegFrame | None:
    """The frame of layer III whose header stands there, None if none does."""
    return _frame(content.at(position, 4))


@lru_cache(maxsize=4096)
def _frame(header: bytes) -> MpegFrame | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, rate_code, bit_rate_code = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate_code == 3 or bit_rate_code == 15:
        return None
    rate_hz = _RATES_HZ[version][rate_code]
    n_bytes = 0
    if bit_rate_code != _FREE:
        kbit_per_s = _KBIT_PER_S[1 if version == 3 else 2][bit_rate_code - 1]
        n_bytes = (144_000 if version == 3 else 72_000) * kbit_per_s // rate_hz
        n_bytes += header[2] >> 1 & 1
    return MpegFrame(n_bytes, version, rate_hz, header[3] >> 6 == 3)


def check(content: Content, first: MpegFrame, start: int, end: int) -> tuple[str, float, bytes]:
    """(problem, missing_s, head) of the frames from start to end.

    head: a first frame that tells how many follow, for files without; the decoder would guess their number from
    the size of the first frames and stop there.
    """
    if not first.n_bytes:
        return "has a free bit rate, so its length cannot be told", math.inf, b""
    declared, declared_bytes, n_before = _declared(content.at(start, first.n_bytes))
    n_frames, stop = _count(content, first, start, end)
    found = n_frames - n_before
    frame_s = first.n_samples / first.rate_hz
    missing_s = (declared - found) * frame_s if declared else math.inf
    counted = f"its header says {declared} frames, {found} are there"
    if stop < end:
        rest = end - stop
        frame = frame_at(content, stop)
        if _goes_on(frame, first):
            return "is cut off: its last frame is not all there", missing_s, b""
        if not declared or found >= declared:
            return f"has {rest} bytes behind the end of its sound", -math.inf, b""
        return f"is cut off: {counted}; {rest} bytes behind them are no frames", missing_s, b""
    # Some encoders count the frame that holds the count; then at least the bytes are all there.
    least = declared if declared_bytes > end - start else declared - 1
    if declared and found < least:
        return f"is cut off: {counted}", missing_s, b""
    if declared and found > declared + 1:
        return f"is longer than declared: {counted}", missing_s, b""
    return "", 0.0, b"" if declared else _head(content.at(start, 4), first, found, end - start)


def _count(content: Content, first: MpegFrame, start: int, end: int) -> tuple[int, int]:
    """(how many whole frames follow each other, where they stop)."""
    n_frames, position = 0, start
    while position < end:
        frame = frame_at(content, position)
        if not _goes_on(frame, first) or position + frame.n_bytes > end:
            break
        n_frames += 1
        position += frame.n_bytes
    return n_frames, position


def _goes_on(frame: MpegFrame | None, first: MpegFrame) -> bool:
    """Whether a frame can follow the first."""
    return frame is not None and frame.n_bytes > 0 and frame[1:3] == first[1:3]


def _count_at(first: MpegFrame) -> int:
    """Where a frame holds the count of frames: behind the place for what its sound would need."""
    if first.version == 3:
        return 4 + (17 if first.is_mono else 32)
    return 4 + (9 if first.is_mono else 17)


def _declared(frame: bytes) -> tuple[int, int, int]:
    """(frames, bytes, frames that hold no sound) as the first frame tells; 0 for what it does not."""
    at = max(frame.find(b"Xing", 4, 46), frame.find(b"Info", 4, 46))
    if at < 0 or len(frame) < at + 16:
        return 0, 0, 0
    flags, *numbers = struct.unpack(">3I", frame[at + 4 : at + 16])
    n_frames = numbers.pop(0) if flags & 1 else 0
    n_bytes = numbers.pop(0) if flags & 2 else 0
    return n_frames, n_bytes, 1


def _head(header: bytes, first: MpegFrame, n_frames: int, n_bytes: int) -> bytes:
    """A frame without sound that tells how many frames follow."""
    byte = header[2] & 0x0C | 14 << 4  # of the largest bit rate, so that there is room
    header = bytes([0xFF, header[1] | 1, byte, header[3]])
    frame = header.ljust(_count_at(first), b"\0")
    frame += b"Xing" + struct.pack(">3I", 3, n_frames, n_bytes + _frame(header).n_bytes)
    return frame.ljust(_frame(header).n_bytes, b"\0")
