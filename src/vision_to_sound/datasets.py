"""UrbanSound8K, ESC-50 and MIMII: from an archive to a clip index.

An index is a table of everything in the archive, whatever the config asks for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pandas as pd

from vision_to_sound.published_data import MIMII_CLIP_S, MIMII_TYPES
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    from vision_to_sound.archives import Archive

INDEX_COLUMNS = ["clip", "member", "category", "recording", "duration_s"]
_MIMII_MEMBER = re.compile(
    rf"(?:.*/)?({'|'.join(MIMII_TYPES)})/(id_\d\d)/(normal|abnormal)/(\d+\.wav)"
)
_MIMII_CLIP = re.compile(rf"(?:{'|'.join(MIMII_TYPES)})_id_\d\d/(?:normal|abnormal)_\d+\.wav")


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


def index_mimii(archive: Archive, *, exclude: Collection[str] = ()) -> pd.DataFrame:
    """Clip index of one MIMII archive (Purohit 2019): one machine type at one SNR, its ids as categories.

    exclude: recordings to leave out, as "fan_id_00/abnormal_00000003.wav"; those of machine types that are
    not in this archive are passed over, so one list serves all archives.

    Columns: clip ("abnormal_00000003.wav", unique within its category only), member, category
    ("fan_id_00"), recording (nothing says which clips belong together: the clip itself), duration_s (nominal,
    10.0), label (0 normal, 1 abnormal). Sorted by category, label, clip. The folders may lie under others.
    Raises ValueError for an archive of another layout, an id without normal clips, a recording that is
    there twice, an exclusion that matches nothing.
    """
    rows = []
    for member in archive.members():
        if found := _MIMII_MEMBER.fullmatch(member):
            machine_type, machine_id, kind, name = found.groups()
            clip = f"{kind}_{name}"
            label = int(kind == "abnormal")
            rows.append([clip, member, f"{machine_type}_{machine_id}", clip, MIMII_CLIP_S, label])
    if not rows:
        raise ValueError(
            f"{archive}: no recording lies under a path like fan/id_00/normal/00000000.wav (machine types: "
            f"{', '.join(MIMII_TYPES)}). Is this an archive of MIMII?"
        )
    index = pd.DataFrame(rows, columns=[*INDEX_COLUMNS, "label"])
    index = index[~_excluded(index, exclude)]
    twice = index[index.duplicated(["category", "clip"])]
    if len(twice):
        raise ValueError(
            f"{archive}: {twice['category'].iloc[0]}/{twice['clip'].iloc[0]} is there twice, once as "
            f"{twice['member'].iloc[0]!r}. Take one of the two out of the archive."
        )
    without_normal = set(index["category"]) - set(index.loc[index["label"] == 0, "category"])
    if without_normal:
        raise ValueError(
            f"{archive}: {', '.join(sorted(without_normal))} without normal clips; there is nothing to train "
            "on. Fetch the archive again or look at mimii.exclude."
        )
    return index.sort_values(["category", "label", "clip"], ignore_index=True)


def _excluded(index: pd.DataFrame, exclude: Collection[str]) -> pd.Series:
    """Which rows (bool) the exclusions name; one that can name no recording of the archive is an error."""
    names = index["category"] + "/" + index["clip"]
    types_here = {name.split("_")[0] for name in index["category"]}
    for entry in exclude:
        if not _MIMII_CLIP.fullmatch(entry):
            raise ValueError(
                f"mimii.exclude: {entry!r} names no recording; expected one like "
                "fan_id_00/abnormal_00000003.wav"
            )
        if entry.split("_")[0] in types_here and entry not in set(names):
            raise ValueError(
                f"mimii.exclude: there is no {entry} in the archive, whose {len(names)} recordings go from "
                f"{names.min()} to {names.max()}. Take it off the list."
            )
    return names.isin(list(exclude))


INDEXERS: dict[str, Callable[..., pd.DataFrame]] = {
    "urbansound8k": index_urbansound8k,
    "esc50": index_esc50,
    "mimii": index_mimii,
}


def index_dataset(archive: Archive, *, source: str, exclude: Collection[str] = ()) -> pd.DataFrame:
    """Clip index of an archive by its name in datasets.tsv; MIMII's go on after that: mimii_0_dB_fan.

    exclude: recordings of MIMII to leave out.
    """
    data_set = source.partition("_")[0]
    options = {"exclude": exclude} if data_set == "mimii" else {}
    return INDEXERS[data_set](archive, **options)


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
