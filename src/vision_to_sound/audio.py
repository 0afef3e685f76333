"""Decode recordings as they come: any rate, width and channel count, to float32 mono at one rate."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vision_to_sound.containers import KINDS, Container, read_container

if TYPE_CHECKING:
    from vision_to_sound.decoding import Decoder

log = logging.getLogger(__name__)

SKIP_OR_REPLACE = (
    "Replace or remove the file, or set on_bad_clip: skip to go on without such clips (they are listed in the "
    "report)."
)
# What recorders and microphones make; a header that says otherwise is wrong, and resampling would go by it.
RATES_HZ = (1_000, 768_000)
_MAX_SAMPLES = 1 << 26  # of all channels: 256 MiB in memory, 25 minutes at 44.1 kHz
_BLOCK_SAMPLES = 1 << 18  # per channel, that are decoded at a time where the length is not known
_LARGEST = 1e10  # floats that count in whole numbers of 32 bits reach 2^31
_N_NAMED = 10  # bad clips that a message spells out


class BadClipError(ValueError):
    """A recording that cannot be used; the message names archive and clip and says what to do."""

    def __init__(
        self,
        clip: str,
        problem: str,
        others: Sequence[str] = (),
        *,
        archive: object = "",
        remedy: str = SKIP_OR_REPLACE,
    ) -> None:
        where = f"{archive}: " if archive else ""
        named = "; ".join(others[: _N_NAMED - 1])
        rest = "; the log names them all" if len(others) >= _N_NAMED else ""
        more = f" {len(others)} more bad clips: {named}{rest}." if others else ""
        super().__init__(f"{where}{clip}: {problem}.{more} {remedy}")
        self.clip = clip
        self.problem = problem


class SoundProblem(ValueError):
    """What is wrong with a recording, in words that follow its name; `named` puts the name before them."""


@contextmanager
def named(
    clip: object, *, remedy: str = SKIP_OR_REPLACE, failed: str = "not readable as audio"
) -> Iterator[None]:
    """Whatever the block raises about one recording becomes a BadClipError with its name.

    failed: what that means, for an error that has no words for people.
    """
    try:
        yield
    except BadClipError:
        raise
    except SoundProblem as problem:
        raise BadClipError(str(clip), str(problem), remedy=remedy) from None
    except Exception as error:  # whatever it is, it is of this file alone
        reason = (
            getattr(error, "error_string", "")  # soundfile's
            or getattr(error, "strerror", "")  # of files that cannot be opened
            or f"{type(error).__name__}: {error}".removesuffix(": ")
        )
        problem = f"{failed} ({reason.rstrip('.')})"
        raise BadClipError(str(clip), problem, remedy=remedy) from error


def decode(
    data: bytes, *, clip: str, channel: int | None = None, max_missing_s: float = 0.0
) -> tuple[np.ndarray, int]:
    """Samples of one recording and its sample rate.

    data: the bytes of a WAV or any other file that is read (see `containers`). clip: its name, for messages.
    channel: index of the channel to take; None: the mean of all. max_missing_s: by so many seconds a file may be
    longer or shorter than its header says, with a warning in the log, where bytes tell the time (not FLAC, Ogg); a
    length that a program left open (it wrote into a pipe) is nothing wrong. Returns (float32 (n_samples,), Hz), full
    scale +-1. Raises BadClipError for an empty, truncated, joined, unreadable or non-finite recording, and for a
    header that cannot be true.
    """
    with named(clip):
        container = checked_container(io.BytesIO(data))
        if container.problem:
            if abs(container.missing_s) > max_missing_s:
                raise SoundProblem(container.problem)
            log.warning("%s: %s", clip, container.problem)
        from vision_to_sound.decoding import Decoder, source_of

        with Decoder(source_of(data, container)) as file:
            sample_rate_hz = file.samplerate
            samples = _all_samples(file)
        return to_mono(samples, channel), sample_rate_hz


def checked_container(file: BinaryIO) -> Container:
    """Raises SoundProblem for an empty file, one of a kind that is not read, and a rate that cannot be true."""
    container = read_container(file)
    if not container.kind:
        if not file.seek(0, io.SEEK_END):
            raise SoundProblem("the file is empty (0 bytes)")
        raise SoundProblem(f"not readable as audio (it is none of {', '.join(KINDS)})")
    if container.sample_rate_hz is not None:
        check_rate(container.sample_rate_hz)
    return container


def _all_samples(file: Decoder) -> np.ndarray:
    """float32 (n_samples, n_channels); raises SoundProblem for fewer or more than declared, and for too many."""
    check_rate(file.samplerate)
    most = _MAX_SAMPLES // file.channels
    if file.declared is not None and file.declared > most:
        raise SoundProblem(
            f"claims {file.declared} samples in {file.channels} channels, more than {_MAX_SAMPLES} in all"
        )
    block, n_samples = file.read_float(file.declared or _BLOCK_SAMPLES), 0
    blocks = []
    while len(block):
        blocks.append(block)
        n_samples += len(block)
        if n_samples > most:
            raise SoundProblem(f"holds more than {_MAX_SAMPLES} samples in all channels")
        block = file.read_float(_BLOCK_SAMPLES)
    if not n_samples:
        raise SoundProblem("holds no samples")
    if file.declared is not None and n_samples != file.declared:
        what = "is cut off" if n_samples < file.declared else "is longer than declared"
        raise SoundProblem(f"{what}: {n_samples} of {file.declared} samples")
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    check_samples(samples)
    return samples


def check_samples(samples: np.ndarray) -> None:
    """Raises SoundProblem for NaN, and for values of which no spectrum can be made in float32."""
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).sum())
        raise SoundProblem(f"{bad} of {len(samples)} samples are NaN or infinite")
    largest = float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))
    if largest > _LARGEST:
        raise SoundProblem(f"holds samples of up to {largest:.3g}, where full scale is 1")


def to_mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """One channel, or the mean of all (None), of (n_samples, n_channels): float32 (n_samples,)."""
    if channel is None:
        return samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    check_channel(channel, samples.shape[1])
    return np.ascontiguousarray(samples[:, channel])


def check_channel(channel: int | None, n_channels: int) -> None:
    if channel is not None and channel >= n_channels:
        raise SoundProblem(
            f"has {n_channels} channels, channel {channel} was asked for (counting from 0)"
        )


def check_rate(rate_hz: int) -> None:
    low, high = RATES_HZ
    if not low <= rate_hz <= high:
        raise SoundProblem(
            f"has a sample rate of {rate_hz} Hz, which is outside {low} to {high} Hz"
        )


def fit_length(samples: np.ndarray, n_samples: int, *, clip: str, max_missing: int) -> np.ndarray:
    """Cut to the first `n_samples`, or pad at the end with zeros if at most `max_missing` are missing."""
    missing = n_samples - len(samples)
    if missing > max_missing:
        raise BadClipError(
            clip,
            f"has {len(samples)} samples where {n_samples} are needed; its metadata says longer",
        )
    if missing > 0:
        log.warning("%s: %d samples short, padded with silence", clip, missing)
        return np.pad(samples, (0, missing))
    return samples[:n_samples]


def trim_zeros(samples: np.ndarray) -> np.ndarray:
    """Without leading and trailing samples that are exactly zero; empty if there is nothing else."""
    nonzero = np.flatnonzero(samples)
    return samples[nonzero[0] : nonzero[-1] + 1] if len(nonzero) else samples[:0]


def is_silence(samples: np.ndarray) -> bool:
    """Whether nothing is to be heard: no samples, or all of one value, be it 0 or a constant offset (DC)."""
    return not len(samples) or samples.min() == samples.max()


def rms_without_mean(samples: np.ndarray) -> float:
    """Root mean square of what can be heard, in float64: a constant offset (DC) does not count. samples: (n,)."""
    return float(np.std(samples, dtype=np.float64))


def rms(samples: np.ndarray) -> float:
    """Root mean square over the last axis, in float64."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
