"""Where an encoder's weights are for somebody who runs no workflow: beside it, in a cache, or on the network."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from vision_to_sound.archive_record import verified_path
from vision_to_sound.archive_table import rows_for
from vision_to_sound.downloads import fetch
from vision_to_sound.encoders import EncoderSpec
from vision_to_sound.encoders.weights import extract_audio_weights
from vision_to_sound.files import replacing

log = logging.getLogger(__name__)

_FORMAT = 2  # of extracted weights; those of an earlier version are passed by
_ARCHIVES = Path(__file__).resolve().parents[3] / "config" / "datasets.tsv"


def cache_folder() -> Path:
    """~/.cache/vision_to_sound, or below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vision_to_sound"


def find_weights(spec: EncoderSpec, *, results: str | Path = "results") -> Path:
    """The extracted weights of an encoder.

    Looked for in `results`/weights (a run of the workflow made them), then in `cache_folder`; else the archive is
    fetched, checked against config/datasets.tsv, and the part that is needed is kept in the cache.

    Raises:
        ValueError: an encoder without weights. OSError, ArchiveError: they cannot be fetched.
    """
    spec.check_has_network()
    cached = cache_folder() / f"{spec.name}-{_FORMAT}.safetensors"
    for path in (Path(results) / "weights" / f"{spec.name}.safetensors", cached):
        if path.is_file():
            return path
    cached.parent.mkdir(parents=True, exist_ok=True)
    row = rows_for(_ARCHIVES, None)[spec.weights]
    log.info("fetching the weights of %s from %s", spec.label, row.url)
    record = fetch(
        row, downloads=cached.parent, mirror=None, attempts=8, backoff_s=2.0, timeout_s=60.0
    )
    with replacing(cached) as path:
        extract_audio_weights(
            verified_path(record), spec, out=path, source_checksum=record.checksum
        )
    return cached
