"""One small file of every kind that a later stage reads, its reader, and what happens to it under flipped bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vision_to_sound.archive_record import ArchiveError, ArchiveRecord
from vision_to_sound.detectors.base import Detector
from vision_to_sound.embeddings import EmbeddingCache, TapShape, write_cache
from vision_to_sound.files import open_array, read_table, save_array, write_table
from vision_to_sound.metrics_table import Draws
from vision_to_sound.monitoring.conformal import Conformal
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.embedding import ClipFiles, EmbeddedClip
from vision_to_sound.monitoring.folders import ScoredClips
from vision_to_sound.monitoring.levels import LEVELS
from vision_to_sound.monitoring.regions import BandScale
from vision_to_sound.scores import AnomalyScores, Truth


class SealedFile(NamedTuple):
    """read: of the path. made_again: a reader that gives None for a damaged file, which is then made again."""

    path: Path
    read: Callable[[], Any]
    made_again: bool = False


class Mean(Detector):
    LEARNED = ("mean_", "names_")


def _table(folder: Path) -> SealedFile:
    path = folder / "metrics.tsv"
    columns = {"clip": ["7", "b\n"], "recording": ["", "=1"], "value": [0.5, np.nan], "row": [1, 2]}
    write_table(pd.DataFrame(columns), path)
    return SealedFile(path, lambda: read_table(path))


def _checksum_of_table(folder: Path) -> SealedFile:
    table = _table(folder)
    return SealedFile(folder / ".metrics.tsv.crc32", table.read)


def _array(folder: Path) -> SealedFile:
    path = folder / "audio.npy"
    save_array(path, np.arange(6, dtype=np.float32).reshape(2, 3))
    return SealedFile(path, lambda: np.array(open_array(path)))


def _cache(folder: Path) -> SealedFile:
    path, description = folder / "cache.npy", folder / "cache.json"
    taps = [TapShape("a", 1, 2, 2), TapShape("b", 1, 1, 3)]
    batch = [np.ones((2, 1, 2, 2)), np.full((2, 1, 1, 3), 0.25)]
    write_cache(path, description, [batch], taps=taps, n_clips=2, encoder="aisfx")

    def read() -> Any:
        cache = EmbeddingCache(path, description)
        return cache.encoder, cache.taps, len(cache), cache.read(np.arange(2))

    return SealedFile(path, read)


def _description_of_cache(folder: Path) -> SealedFile:
    return SealedFile(folder / "cache.json", _cache(folder).read)


def _scores(folder: Path) -> SealedFile:
    path, maps = folder / "scores.npz", np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    AnomalyScores(np.array([0.5, 2.0]), maps, device="cpu", code="abc").save(path)
    return SealedFile(path, lambda: AnomalyScores.load(path))


def _truth(folder: Path) -> SealedFile:
    path, masks = folder / "truth.npz", {"leakfree": np.ones((2, 3, 2), bool)}
    Truth(np.array([True, False]), masks, np.ones((2, 3), bool)).save(path)
    return SealedFile(path, lambda: Truth.load(path))


def _draws(folder: Path) -> SealedFile:
    path = folder / "draws.npz"
    Draws(np.array(["a/roc", "b/f1"]), np.ones((2, 3), np.float32), 0.95).save(path)
    return SealedFile(path, lambda: Draws.load(path))


def _learned(folder: Path) -> SealedFile:
    path, detector = folder / "learned.npz", Mean()
    detector.mean_, detector.names_ = np.asfortranarray(np.ones((2, 3))), np.array(["a"])
    detector.save(path)
    return SealedFile(path, lambda: Mean().load(path).state())


def anomaly_detector(path: Path) -> None:
    """A detector of recordings, as if it had been fitted."""
    detector = AnomalyDetector("band_zscore", encoder="logmel_dcase2020", gpu=False)
    detector.detector.load_state({name: np.ones(2) for name in detector.detector.LEARNED})
    detector.conformal = Conformal(np.array([0.5, 1.0]), 0.05)
    detector.scale = BandScale(np.zeros(2), np.ones(2))
    detector.save(path)


def _anomaly_detector(folder: Path) -> SealedFile:
    path = folder / "detector.npz"
    anomaly_detector(path)

    def read() -> Any:
        read = AnomalyDetector.load(path)
        words = {k: v for k, v in vars(read).items() if isinstance(v, str | int | float | dict)}
        return words, read.spec.name, read.conformal, read.scale, read.detector.state()

    return SealedFile(path, read)


def embedded_clip() -> EmbeddedClip:
    taps = {"a": np.ones((2, 1, 1, 2), np.float16)}
    values = {"starts": np.array([0, 2]), "spectrograms_db": np.zeros((2, 2, 3), np.float32)}
    levels = dict.fromkeys(LEVELS, 0) | {"level_db": -20.5, "content": "a"}
    place = {"start_s": 0.0, "duration_s": 1.5, "n_frames": 4}
    return EmbeddedClip(taps=taps, **values, **place, **levels)


def _embedded_clip(folder: Path) -> SealedFile:
    path = folder / "k-0.npz"
    embedded_clip().save(path)
    return SealedFile(path, lambda: EmbeddedClip.load(path))


def _rows_about_clips(folder: Path) -> SealedFile:
    files = ClipFiles(folder)
    files.add("k", iter([embedded_clip()]))
    return SealedFile(folder / "k.json", lambda: files.finished("k"), made_again=True)


def _scored_clip(folder: Path) -> SealedFile:
    anomaly_detector(folder / "d.npz")
    scored = ScoredClips(folder, folder / "d.npz")
    scored.add("k", 0, 0.75, np.ones((2, 3)))
    return SealedFile(scored.path("k", 0), lambda: scored.load("k", 0), made_again=True)


def _record(folder: Path) -> SealedFile:
    path = folder / "record.json"
    ArchiveRecord("a", "b.zip", 17, "md5:12", "CC0", "network", 1 << 60).save(path)
    return SealedFile(path, lambda: ArchiveRecord.load(path))


def _weights(folder: Path) -> SealedFile:
    import torch

    from vision_to_sound.encoders import ENCODERS
    from vision_to_sound.encoders.weights import _read_extracted, _write

    path, spec = folder / "weights.safetensors", ENCODERS["aisfx"]
    state = {"b": torch.ones(2, 3), "a": torch.zeros(2)}
    _write(state, spec, source="random, seed 7", out=path)

    def read() -> Any:
        found, about = _read_extracted(path, spec)
        return {key: value.numpy() for key, value in found.items()}, about

    return SealedFile(path, read)


KINDS: dict[str, Callable[[Path], SealedFile]] = {
    make.__name__.lstrip("_"): make
    for make in (
        *(_table, _checksum_of_table, _array, _cache, _description_of_cache, _scores, _truth),
        *(_draws, _learned, _anomaly_detector, _embedded_clip, _rows_about_clips, _scored_clip),
        *(_record, _weights),
    )
}


def outcomes(file: SealedFile, bits: Iterable[int]) -> dict[str, int]:
    """How many flips of these bits end in an error that names the file, change nothing, or go by in silence."""
    written, expected = file.path.read_bytes(), plain(file.read())
    named = file.path.name.removeprefix(".").removesuffix(".crc32")
    found = {"error": 0, "unchanged": 0, "silent": 0}
    for bit in bits:
        content = bytearray(written)
        content[bit // 8] ^= 1 << (bit % 8)
        file.path.write_bytes(content)
        try:
            read = plain(file.read())
        except (ValueError, ArchiveError) as error:
            assert named.partition(".")[0] in str(error), error
            found["error"] += 1
            continue
        if read is None and file.made_again:
            found["error"] += 1
        else:
            found["unchanged" if read == expected else "silent"] += 1
    file.path.write_bytes(written)
    assert plain(file.read()) == expected
    return found


def plain(value: Any) -> Any:
    """Something that can be compared, types and bits of arrays included."""
    if isinstance(value, pd.DataFrame):
        return list(value.columns), [plain(value[name].to_numpy()) for name in value]
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, repr(value.tolist())
    if isinstance(value, dict):
        return [(name, plain(value[name])) for name in sorted(value)]
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return plain(vars(value)) if is_dataclass(value) else value
