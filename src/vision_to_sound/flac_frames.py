"""Where the samples of a FLAC begin and end by its own count: format as in RFC 9639. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vision_to_sound.containers import Content

STREAM_START = rb"fLaC[\x00\x80]\x00\x00\x22"  # with the block that has to come first
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_LONGEST_HEADER = 16
_SEARCHED = 1 << 20  # bytes at a time
_TRIED = 8  # places that look like the start of the last frame; hardly ever is it not the first
_LARGEST_FRAME = 1 << 21


class _Frame(NamedTuple):
    """Samples that a frame holds, per channel, counted from the start of the stream."""

    first: int
    stop: int


def problem(content: Content, start: int, end: int) -> str:
    """What is wrong with the declared length of a FLAC from start to end, "" if nothing.

    Without a declared length (a program wrote into a pipe) only that the last frame is whole can be told.
    """
    info = content.at(start + 8, 34)
    if content.at(start + 4, 1)[:1] not in (b"\x00", b"\x80") or len(info) < 34:
        return ""  # the decoder finds the words
    block_samples = int.from_bytes(info[2:4])
    largest = int.from_bytes(info[7:10])
    declared = int.from_bytes(info[13:18]) & 0xFFFFFFFFF
    audio = _after_metadata(content, start + 4)
    if audio >= end:
        return f"is cut off: its header says {declared} samples, none are there" if declared else ""
    first = _frame(content.at(audio, _LONGEST_HEADER), block_samples)
    window = min(largest or _LARGEST_FRAME, end - audio)
    last = _last_frame(content.at(end - window, window), block_samples)
    if first is None or last is None:
        return "is cut off, or other bytes follow: it does not end with a whole FLAC frame"
    found = last.stop - first.first
    if declared and found != declared:
        what = "is cut off" if found < declared else "is longer than declared"
        return f"{what}: its header says {declared} samples, {found} are there"
    stop = first.first
    for frame in _frames(content, audio, end, block_samples):
        if frame.first == stop:
            stop = frame.stop
    # A decoder puts silence in their place and says nothing.
    return "" if stop == last.stop else f"lacks FLAC frames behind sample {stop - first.first}"


def _after_metadata(content: Content, position: int) -> int:
    while len(header := content.at(position, 4)) == 4:
        position += 4 + int.from_bytes(header[1:])
        if header[0] & 0x80:
            break
    return position


def _frames(content: Content, start: int, end: int, block_samples: int) -> Iterator[_Frame]:
    """All that looks like the start of a frame, in the order of the file."""
    for position in range(start, end, _SEARCHED):
        part = content.at(position, _SEARCHED + _LONGEST_HEADER)
        for found in _SYNC.finditer(part):
            frame = _frame(part[found.start() : found.start() + _LONGEST_HEADER], block_samples)
            if frame is not None and found.start() < _SEARCHED:
                yield frame


def _last_frame(tail: bytes, block_samples: int) -> _Frame | None:
    """The frame that ends where these bytes end, None if none does."""
    position, tried = len(tail), 0
    while tried < _TRIED and (position := tail.rfind(b"\xff", 0, position)) >= 0:
        frame = _frame(tail[position : position + _LONGEST_HEADER], block_samples)
        if frame is not None:
            tried += 1
            if _crc(tail[position:], _CRC16, 16) == 0:
                return frame
    return None


def _frame(header: bytes, block_samples: int) -> _Frame | None:
    """The frame that begins with these bytes; None if its header does not hold together."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8:
        return None
    n_ones = 8 - (~header[4] & 0xFF).bit_length()  # the number is written as in UTF-8
    n_bytes = max(1, n_ones)
    if n_ones == 1 or n_ones == 8:
        return None
    number = header[4] & (0x7F >> n_ones)
    for byte in header[5 : 4 + n_bytes]:
        number = number << 6 | byte & 0x3F
    size_code, rate_code = header[2] >> 4, header[2] & 15
    n_size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    end = 4 + n_bytes + n_size_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if not size_code or end >= len(header) or _crc(header[: end + 1], _CRC8, 8):
        return None
    if n_size_bytes:
        size = int.from_bytes(header[4 + n_bytes : 4 + n_bytes + n_size_bytes]) + 1
    else:
        size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 1 << size_code
    first = number if header[1] & 1 else number * block_samples
    return _Frame(first, first + size)


def _crc_table(polynomial: int, n_bits: int) -> list[int]:
    table = []
    for value in range(256):
        value <<= n_bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> n_bits - 1 else 0)
            value &= (1 << n_bits) - 1
        table.append(value)
    return table


_CRC8, _CRC16 = _crc_table(0x07, 8), _crc_table(0x8005, 16)


def _crc(data: bytes, table: list[int], n_bits: int) -> int:
    """Check value of bytes; 0 where their own check value stands at their end."""
    crc, mask = 0, (1 << n_bits) - 1
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> n_bits - 8 ^ byte]
    return crc
