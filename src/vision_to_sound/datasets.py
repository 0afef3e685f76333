"""UrbanSound8K and ESC-50: from an archive to a clip index.

An index is a table of everything in the archive, whatever the config asks for.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from vision_to_sound.archives import Archive

INDEX_COLUMNS = ["clip", "member", "category", "recording", "duration_s"]


def index_urbansound8k(archive: Archive) -> pd.DataFrame:
    """Clip index of UrbanSound8K (Salamon 2014), one row per slice, sorted by clip.

    Columns: clip (file name), member (path in the archive), category, recording (fsID of the field
    recording that the slice was cut from), duration_s (end - start, plain floats, as published code has it).
    """
    metadata, top = _metadata(archive, "metadata/UrbanSound8K.csv")
    _require_columns(metadata, "UrbanSound8K.csv", "slice_file_name fsID start end fold class")
    index = pd.DataFrame(
        {
            "clip": metadata["slice_file_name"],
            "member": [
                f"{top}audio/fold{fold}/{name}"
                for fold, name in zip(metadata["fold"], metadata["slice_file_name"], strict=True)
            ],
            "category": metadata["class"],
            "recording": metadata["fsID"],
            "duration_s": metadata["end"].astype(float) - metadata["start"].astype(float),
        }
    )
    return _checked_index(index, "UrbanSound8K.csv")


def index_esc50(archive: Archive) -> pd.DataFrame:
    """Clip index of ESC-50 (Piczak 2015), columns as for UrbanSound8K; recording is the Freesound id."""
    metadata, top = _metadata(archive, "meta/esc50.csv")
    _require_columns(metadata, "esc50.csv", "filename category src_file")
    index = pd.DataFrame(
        {
            "clip": metadata["filename"],
            "member": [f"{top}audio/{name}" for name in metadata["filename"]],
            "category": metadata["category"],
            "recording": metadata["src_file"],
            "duration_s": 5.0,
        }
    )
    index = _checked_index(index, "esc50.csv")
    # The archive's own bytes are not promised to be stable: what it must hold is checked instead.
    missing = sorted(set(index["member"]) - set(archive.members()))
    if missing:
        raise ValueError(
            f"ESC-50 archive: {len(missing)} files of meta/esc50.csv are not in it, first "
            f"{missing[0]!r}. Delete the archive and fetch it again."
        )
    return index


INDEXERS: dict[str, Callable[[Archive], pd.DataFrame]] = {
    "urbansound8k": index_urbansound8k,
    "esc50": index_esc50,
}


def _metadata(archive: Archive, suffix: str) -> tuple[pd.DataFrame, str]:
    """The archive's csv and the top folder (with slash) that it lies in."""
    for member, data in archive.iterate(lambda name: name.endswith(suffix)):
        top = member[: -len(suffix)]
        return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False), top
    raise ValueError(f"no {suffix} in the archive {archive}: is this the right file?")


def _require_columns(table: pd.DataFrame, name: str, columns: str) -> None:
    missing = [column for column in columns.split() if column not in table]
    if missing:
        raise ValueError(f"{name}: columns {missing} are missing, it has {list(table.columns)}")


def _checked_index(index: pd.DataFrame, name: str) -> pd.DataFrame:
    if index["clip"].duplicated().any():
        twice = index.loc[index["clip"].duplicated(), "clip"].iloc[0]
        raise ValueError(f"{name}: {twice} is listed twice")
    return index.sort_values("clip", ignore_index=True)[INDEX_COLUMNS]


def rows_of_category(index: pd.DataFrame, category: str, *, min_duration_s: float) -> pd.DataFrame:
    """The index rows of one class that last at least `min_duration_s`; an empty class is an error."""
    check_known(category, set(index["category"]), what="sound class")
    rows = index[index["category"] == category]
    long_enough = rows[rows["duration_s"] >= min_duration_s]
    if long_enough.empty:
        raise ValueError(
            f"class {category!r}: none of its {len(rows)} clips lasts {min_duration_s} s. "
            "Take the class out of the config or the minimum down."
        )
    return long_enough.reset_index(drop=True)
