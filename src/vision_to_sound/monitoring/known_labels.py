"""What is known of recordings beforehand: labels from words in their names, or from a table."""

from __future__ import annotations

import csv
import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from vision_to_sound.file_names import from_text

_ANOMALOUS = r"anomal(?:y|ies|ous)|abnormal|faults?|faulty|broken|defects?|defective"
_NORMAL = r"normal|healthy|good"
_LABEL_WORD = re.compile(
    rf"(?P<negation>(?<![a-z])(?:not?|non|un|without|free)[\W_]*)?(?<![a-z])"
    rf"(?:(?P<anomalous>{_ANOMALOUS})|(?P<normal>{_NORMAL}))(?![a-z])"
    rf"(?P<topic>[\W_]*(?:free|detect(?:ion|or)?)(?![a-z]))?"
)
_LABELS = {"normal": 0, "anomalous": 1}


def known_labels(names: Sequence[str], source: str) -> dict[str, int]:
    """{recording: 0 normal, 1 anomalous} as far as it is known.

    source: "names" (`labels_from_names`), "none", or the path of a csv file (`labels_from_table`).
    """
    if source == "none":
        return {}
    return labels_from_names(names) if source == "names" else labels_from_table(names, source)


def labels_from_names(names: Iterable[str]) -> dict[str, int]:
    """{recording: 0 normal, 1 anomalous} where the name says so.

    The words normal, healthy, good and anomaly, anomalous, abnormal, fault(y), broken, defect(ive) count. The part of
    the path nearest to the file that has one decides: "Broken_mic/normal_004.wav" is normal. Where that part says both,
    or a negation ("not_normal", "fault-free"), the label is unknown; "anomaly_detection" is a topic, not a label.
    """
    found = {name: _label_in(name) for name in names}
    return {name: label for name, label in found.items() if label is not None}


def _label_in(name: str) -> int | None:
    path = Path(name.lower())
    for part in (path.stem, *(folder.name for folder in path.parents)):
        labels = set()
        for word in _LABEL_WORD.finditer(part):
            if word["topic"] and word["topic"].strip("_- .").startswith("detect"):
                continue
            is_negated = word["negation"] or word["topic"]
            labels.add(None if is_negated else int(bool(word["anomalous"])))
        if labels:
            return labels.pop() if len(labels) == 1 else None
    return None


def labels_from_table(names: Sequence[str], table: str | Path) -> dict[str, int]:
    """{recording: 0 normal, 1 anomalous} by a csv file with the columns `recording` and `label`.

    label: normal or anomalous. recording: the path of one of `names`; else a file name that one of them has; else a
    pattern such as bad/*. A path goes before a file name, a file name before a pattern.

    Raises:
        ValueError: no such table; a row that fits no recording, or a file name that several have; two labels of one
            recording that are of the same rank. Names file and line.
    """
    rows = _rows_of(table)
    paths = {_plain(name): name for name in names}
    by_file_name: dict[str, list[str]] = {}
    for path, name in paths.items():
        by_file_name.setdefault(Path(path).name, []).append(name)
    ranked: dict[
        str, tuple[int, int, int]
    ] = {}  # recording: rank (0 is the strongest), label, line
    for line, text, label_text in rows:
        where = f"{table}, line {line}"
        if label_text.lower() not in _LABELS:
            raise ValueError(f"{where}: label {label_text!r}, expected normal or anomalous")
        label = _LABELS[label_text.lower()]
        wanted = _plain(text)
        if wanted in paths:
            rank, matching = 0, [paths[wanted]]
        elif wanted in by_file_name:
            rank, matching = 1, by_file_name[wanted]
            if len(matching) > 1:
                raise ValueError(
                    f"{where}: {text!r} may be {' or '.join(matching[:3])}; write the path"
                )
        else:
            rank = 2
            matching = [name for path, name in paths.items() if fnmatch.fnmatchcase(path, wanted)]
            if not matching:
                raise ValueError(f"{where}: no recording is called {text!r}")
        for name in matching:
            before = ranked.get(name)
            if before and before[0] == rank and before[1] != label:
                raise ValueError(
                    f"{where}: {name} is labelled {label_text} here and otherwise in line {before[2]}"
                )
            if before is None or rank < before[0]:
                ranked[name] = rank, label, line
    return {name: ranked[name][1] for name in names if name in ranked}


def _rows_of(table: str | Path) -> list[tuple[int, str, str]]:
    """(line, recording, label) of every row."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: expected a csv file in UTF-8 ({error})") from error
    if not rows or not {"recording", "label"} <= set(rows[0][1]):
        raise ValueError(f"{table}: expected a csv file with the columns recording and label")
    return [
        (line, (row["recording"] or "").strip(), (row["label"] or "").strip()) for line, row in rows
    ]


def _plain(path: str) -> str:
    """A path as it is compared: as the file is called, "/" between folders, composed Unicode, no "./" in front."""
    path = unicodedata.normalize("NFC", from_text(path)).replace("\\", "/")
    return path.removeprefix("./")
