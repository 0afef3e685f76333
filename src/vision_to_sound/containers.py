"""What a sound file says about its own length, beside what is there.

libsndfile quietly mends a length that is too large and believes one that is too small: a file that broke off would
become a short clip, and whatever is joined behind a clip would be lost without a word. Here the structure of every
container that is read is followed to the end of the file; no sample is decoded. Standard library only.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from vision_to_sound import flac_frames, mpeg_frames

# Written where a program could not go back to fill in the length: 2^32 - 1, or 2^31 less the header.
_LEFT_OPEN = (
    range(0x7F000000, 0x7F010000),
    range(0x7FFF0000, 0x80000000),
    range(0xFFFF0000, 1 << 32),
)
_LEFT_OPEN_64 = (-1, 0, 2**63 - 1)
_UNCOMPRESSED = (1, 3, 0xFFFE)  # whole numbers, floats, and either in the longer form of the header
_MPEG_IN_WAV = (0x50, 0x55)
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # encoding: bytes of a sample
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_WAVE = bytes.fromhex("77617665f3acd3118cd100c04f8edb8a")
KINDS = ("WAV", "AIFF", "AU", "W64", "CAF", "FLAC", "Ogg", "MP3")
_NO_SOUND = "not readable as audio (the part with the sound is not there: the file may be cut off)"
_JOINED = "has a second sound joined behind the first"
_SEARCHED = 1 << 20  # bytes at a time
_FIRST_BYTES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", _W64_RIFF)


@dataclass(frozen=True)
class Container:
    """What the structure of a file tells.

    kind: "WAV", "FLAC" ...; "" for what is none of those that are read.
    problem: what is wrong with the declared length, "" if nothing.
    missing_s: by how much the sound ends before its declared end; negative: it goes on after it; infinite: not known.
    sample_rate_hz: as declared; None where it is left to the decoder.
    head: bytes that belong in place of the first n_replaced of the file, so that a decoder finds the length that a
        program left open, and no tags before the sound.
    """

    kind: str
    problem: str = ""
    missing_s: float = math.inf
    sample_rate_hz: int | None = None
    head: bytes = b""
    n_replaced: int = 0


class Content:
    """The bytes of a file by their place. A map of the file into memory would end the program where a disk is
    unplugged or a file gets shorter while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)

    def at(self, position: int, n: int) -> bytes:
        """n bytes from a position; fewer where the file begins or ends."""
        if position < 0:
            return b""
        self._file.seek(position)
        return self._file.read(n)


class _Chunks(NamedTuple):
    """How a format writes its chunks. header: struct of name and size; counts_header: the size includes both."""

    header: str
    align: int
    counts_header: bool = False


_LITTLE, _BIG = _Chunks("<4sI", 2), _Chunks(">4sI", 2)
_CAF, _W64 = _Chunks(">4sq", 1), _Chunks("<16sq", 8, counts_header=True)


class _Chunk(NamedTuple):
    name: bytes
    size: int
    start: int
    end: int  # where the next one begins


def read_container(file: BinaryIO) -> Container:
    """Follow the structure of a sound file, at any place of which it may stand, to its end."""
    content = Content(file)
    first = content.at(0, 40)
    if first[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and first[8:12] == b"WAVE":
        return _wav(content)
    if first[:4] == b"FORM" and first[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(content)
    if first[:16] == _W64_RIFF and first[24:40] == _W64_WAVE:
        return _w64(content)
    if first[:4] == b"caff":
        return _caf(content)
    if first[:4] in (b".snd", b"dns."):
        return _au(content)
    if first[:4] == b"OggS":
        return Container("Ogg", _ogg_problem(content))
    return _flac_or_mp3(content)


# --- formats of chunks


def _wav(content: Content) -> Container:
    magic = content.at(0, 4)
    layout = _BIG if magic == b"RIFX" else _LITTLE
    rate_hz, bytes_per_s, kind = None, 0, 0
    declared_64, declared_64_at = None, 0
    for chunk in _chunks(content, 12, layout):
        if chunk.name == b"ds64" and chunk.size >= 24:
            declared_64_at = chunk.start + 8
            (declared_64,) = struct.unpack("<q", content.at(declared_64_at, 8))
        elif chunk.name == b"fmt " and content.size >= chunk.start + 16:
            fields = layout.header[0] + "HHIIH"
            kind, _, rate_hz, bytes_per_s, frame_bytes = struct.unpack(
                fields, content.at(chunk.start, 14)
            )
            if kind in _UNCOMPRESSED:
                bytes_per_s = rate_hz * frame_bytes
        elif chunk.name == b"data" and rate_hz is not None:
            break
    else:
        return Container("WAV", _NO_SOUND)
    if kind in _MPEG_IN_WAV:
        return Container("WAV", "holds MP3 inside a WAV, whose length cannot be told")
    is_open = any(chunk.size in values for values in _LEFT_OPEN)
    if is_open and declared_64 is not None:
        is_open = declared_64 in _LEFT_OPEN_64
        chunk = chunk._replace(size=declared_64, end=chunk.start + declared_64 + declared_64 % 2)
    wrong = _compared(content, chunk, layout, bytes_per_s, is_open=is_open)
    if declared_64 is None:
        return Container("WAV", *wrong, rate_hz)
    head = bytearray(content.at(0, chunk.start))
    head[:4] = b"RF64"  # the decoder does not know the newer name BW64 of the same format
    if is_open:
        head[declared_64_at : declared_64_at + 8] = struct.pack("<q", content.size - chunk.start)
    return Container("WAV", *wrong, rate_hz, bytes(head), len(head))


def _w64(content: Content) -> Container:
    rate_hz, bytes_per_s = None, 0
    for chunk in _chunks(content, 40, _W64):
        if chunk.name[:4] == b"fmt " and content.size >= chunk.start + 16:
            kind, _, rate_hz, bytes_per_s, frame_bytes = struct.unpack(
                "<HHIIH", content.at(chunk.start, 14)
            )
            if kind in _UNCOMPRESSED:
                bytes_per_s = rate_hz * frame_bytes
        elif chunk.name[:4] == b"data":
            is_open = chunk.size + 24 in _LEFT_OPEN_64
            wrong = _compared(content, chunk, _W64, bytes_per_s, is_open=is_open)
            head = bytearray(content.at(0, chunk.start) if is_open else b"")
            if is_open:
                struct.pack_into("<q", head, 16, content.size)
                struct.pack_into("<q", head, len(head) - 8, content.size - chunk.start + 24)
            return Container("W64", *wrong, rate_hz, bytes(head), len(head))
    return Container("W64", _NO_SOUND)


def _aiff(content: Content) -> Container:
    common, sound = None, None
    for chunk in _chunks(content, 12, _BIG):
        if chunk.name == b"COMM" and content.size >= chunk.start + chunk.size >= chunk.start + 18:
            common = content.at(chunk.start, min(22, chunk.size))
        elif chunk.name == b"SSND":
            sound = chunk
        if common and sound:
            break
    else:
        return Container("AIFF", _NO_SOUND)
    (offset,) = struct.unpack(">I", content.at(sound.start, 4).ljust(4, b"\0"))
    n_channels, n_frames, bits = struct.unpack(">HIH", common[:8])
    is_open = not (sound.size or n_frames) or any(sound.size in values for values in _LEFT_OPEN)
    declared = sound.size - 8 - offset  # where the samples begin stands before them
    bytes_per_s = declared * _extended_to_float(common[8:18]) / n_frames if n_frames else 0.0
    wrong = _compared(content, sound, _BIG, bytes_per_s, is_open=is_open)
    codec = common[18:]  # none in the older form, which knows one
    sample_bytes = {b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1}.get(codec, 0)
    if codec in (b"", b"NONE", b"twos", b"sowt"):
        sample_bytes = -(-bits // 8)
    counted = n_frames * n_channels * sample_bytes
    # Some programs count the byte that fills up an odd length.
    if not (wrong[0] or is_open) and counted and declared - counted not in (0, 1):
        said = f"its header says {n_frames} samples, which are {counted} bytes"
        return Container("AIFF", f"has a wrong length: {said}, and {declared} bytes are there")
    return Container("AIFF", *wrong)


def _caf(content: Content) -> Container:
    bytes_per_s = 0.0
    for chunk in _chunks(content, 8, _CAF):
        if chunk.name == b"desc" and len(fields := content.at(chunk.start, 24)) == 24:
            rate_hz, packet_bytes, packet_frames = struct.unpack(">d8xII", fields)
            bytes_per_s = rate_hz * packet_bytes / packet_frames if packet_frames else 0.0
        elif chunk.name == b"data":
            is_open = chunk.size == -1
            wrong = _compared(content, chunk, _CAF, bytes_per_s, is_open=is_open)
            length = struct.pack(">q", content.size - chunk.start)
            head = content.at(0, chunk.start - 8) + length if is_open else b""
            return Container("CAF", *wrong, head=head, n_replaced=len(head))
    return Container("CAF", _NO_SOUND)


def _au(content: Content) -> Container:
    header = content.at(0, 24)
    if len(header) < 24:
        return Container("AU", _NO_SOUND)
    order = ">" if header[:4] == b".snd" else "<"
    start, declared, encoding, rate_hz, n_channels = struct.unpack(f"{order}4x5I", header)
    if declared == 0xFFFFFFFF:
        return Container("AU", _begins_again(content, start))
    bytes_per_s = rate_hz * n_channels * _AU_BYTES.get(encoding, 0)
    found = max(0, content.size - start)
    return Container("AU", *_length_problem(declared, found, bytes_per_s))


def _chunks(content: Content, position: int, layout: _Chunks) -> Iterator[_Chunk]:
    """The chunks from a position on, until what is there can be none."""
    n_header = struct.calcsize(layout.header)
    while len(header := content.at(position, n_header)) == n_header:
        name, size = struct.unpack(layout.header, header)
        size -= n_header if layout.counts_header else 0
        start = position + n_header
        end = -(-(start + size) // layout.align) * layout.align
        is_name = layout is _W64 or all(0x20 <= byte < 0x7F for byte in name)
        if not is_name or name in _FIRST_BYTES:
            return
        yield _Chunk(name, size, start, end)
        if size < 0:
            return
        position = end


def _compared(
    content: Content, chunk: _Chunk, layout: _Chunks, bytes_per_s: float, *, is_open: bool
) -> tuple[str, float]:
    """(problem, missing_s): whether the chunk of the samples is all there, and what stands behind it.

    Bytes behind the samples that are no further chunk count as samples.
    """
    if is_open:
        return _begins_again(content, chunk.start), math.inf
    there = min(chunk.size, content.size - chunk.start)
    if there == chunk.size:
        there += _n_stray_bytes(content, chunk, layout)
    return _length_problem(chunk.size, there, bytes_per_s)


def _begins_again(content: Content, start: int) -> str:
    """What is wrong if the first bytes of the file stand in it once more; "" if they do not."""
    return _JOINED if _found_again(content, re.escape(content.at(0, 12)), start) else ""


def _found_again(content: Content, pattern: bytes, start: int) -> bool:
    """Whether something of at most 12 bytes stands anywhere behind a position."""
    overlap = 11  # what may begin in one part of the file and end in the next
    return any(
        re.search(pattern, content.at(position, _SEARCHED + overlap))
        for position in range(start, content.size, _SEARCHED)
    )


def _n_stray_bytes(content: Content, chunk: _Chunk, layout: _Chunks) -> int:
    """How many bytes behind a chunk belong to no other, nor fill it up to where the next begins."""
    position = chunk.start + chunk.size
    filler = content.at(position, -position % max(2, layout.align))
    if not filler.strip(
        b"\0"
    ):  # some programs do not fill up, or do where the format knows no filling
        position += len(filler)
    for other in _chunks(content, position, layout):
        if other.size < 0 or other.start + other.size > content.size:
            break
        position = min(other.end, content.size)
    return content.size - position


def _length_problem(declared: int, found: int, bytes_per_s: float) -> tuple[str, float]:
    """(problem, missing_s) of samples that take so many bytes."""
    if declared == found:
        return "", 0.0
    missing_s = (declared - found) / bytes_per_s if bytes_per_s else math.inf
    said = f"its header says {declared} bytes of sound"
    by = (
        f" ({abs(missing_s):.3f} s {'less' if declared > found else 'more'})" if bytes_per_s else ""
    )
    if declared > found:
        return f"is cut off: {said}, {found} are there{by}", missing_s
    return f"is longer than {said}: {found} are there{by}", missing_s


def _extended_to_float(data: bytes) -> float:
    """The 80 bit number that AIFF writes its sample rate as."""
    exponent, mantissa = struct.unpack(">HQ", data)
    return math.ldexp(mantissa, (exponent & 0x7FFF) - 16383 - 63)


# --- formats of pages and frames


def _ogg_problem(content: Content) -> str:
    """Page by page: each stream has its first and its last page and all between, and nothing comes behind."""
    position, n_pages = 0, 0
    next_number: dict[int, int] = {}
    is_open: dict[int, bool] = {}
    while position < content.size:
        page = content.at(position, 27 + 255)
        if page[:4] != b"OggS":
            if any(is_open.values()) or not n_pages:
                return f"holds bytes at {position} that are no page of an Ogg stream"
            return f"has {content.size - position} bytes behind the end of its sound"
        size = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) >= 27 else math.inf
        if position + size > content.size:
            return "is cut off: its last page is not all there"
        flags, stream, number = struct.unpack("<5xB8xII", page[:22])
        if flags & 2:  # the first page of a stream; those of streams side by side all come first
            if n_pages > len(is_open):
                return _JOINED
        elif next_number.get(stream) != number:
            return f"lacks pages before page {number}"
        is_open[stream], next_number[stream] = not flags & 4, number + 1
        position += size
        n_pages += 1
    return "is cut off: no page is marked as its last" if any(is_open.values()) else ""


def _flac_or_mp3(content: Content) -> Container:
    start, end = _without_tags(content)
    if content.at(start, 4) == b"fLaC":
        if _found_again(content, flac_frames.STREAM_START, start + 4):
            return Container("FLAC", _JOINED)
        return Container("FLAC", flac_frames.problem(content, start, end), n_replaced=start)
    if (first := mpeg_frames.frame_at(content, start)) is not None:
        problem, missing_s, head = mpeg_frames.check(content, first, start, end)
        return Container("MP3", problem, missing_s, head=head, n_replaced=start)
    return Container("")


def _without_tags(content: Content) -> tuple[int, int]:
    """(start, end) of a file without ID3 tags before it and ID3 and APE tags behind."""
    start, end = 0, content.size
    while (tag := content.at(start, 10))[:3] == b"ID3" and len(tag) == 10:
        size = sum(
            (byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)
        )
        start += 10 + size + (10 if tag[5] & 0x10 else 0)
    if start:  # some programs fill up behind the tag
        padding = re.match(rb"\0*", content.at(start, 1 << 16))
        start += padding.end()
    while True:
        footer = content.at(end - 32, 32)
        if content.at(end - 128, 3) == b"TAG":
            end -= 128
        elif footer[:8] == b"APETAGEX" and len(footer) == 32:
            size, _, flags = struct.unpack("<III", footer[12:24])
            end -= max(32, size) + (32 if flags >> 31 else 0)
        else:
            return start, max(start, end)
