"""The frames of paper.py and comparison.py as what is printed: heading, rows, notes. No markup here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vision_to_sound.labels import (
    PAPER_ENCODER,
    PROTOCOLS,
    is_control,
    method_label,
    method_order,
    own_encoder,
)
from vision_to_sound.tables.means import LEAST_CLIPS, LEAST_SEEDS
from vision_to_sound.tables.paper import MACHINE_TYPES, MIMII_METRICS, PAPER_COLUMNS

METRIC_LABELS = {
    "roc": "ROC",
    "f1": "F1",
    "pro": "PRO",
    "au_pro_published": "PRO",
    "ff_v1": "FF v1",
    "ff_v2": "FF v2",
}
SNR_NOTES = {
    "envmix": "SNR is background over event: +6 dB is the hard case.",
    "mimii": "SNR is MIMII's own, machine over factory noise: +6 dB is the easy case, the opposite of EnvMix.",
}
_PRO_NOTES = {
    "published": "PRO: AU-PRO with both axes min-maxed, as published; chance is about 50.",
    "leakfree": "PRO: AU-PRO up to a false-positive rate of 0.3, divided by 0.3; chance is 15.",
}
_MASK_HEADINGS = {
    "own": "The method's own map",
    "oracle": "Control: the true mask instead",
    "random": "Control: a random mask instead",
}
_DOMAIN_NOTES = {
    "published": "FF v1 scales the spectrogram in dB, as coded for the paper: most cells get louder.",
    "leakfree": "FF v1 scales the spectrogram's power: masked cells get quieter.",
}
_LISTED = 6  # missing experiments that a note names; the TSV names all of them


@dataclass(frozen=True)
class Cell:
    """One printed cell.

    `spread` follows a plus-minus sign, `interval` ("58.1, 72.9") stands in brackets, `gap` marks missing
    experiments.
    """

    text: str
    spread: str = ""
    interval: str = ""
    bold: bool = False
    gap: bool = False


@dataclass(frozen=True)
class Layout:
    """Heading, rows and notes of one table.

    Attributes:
        title: one line.
        groups: heading ("" for none) and number of columns of each column group, left to right.
        header: one name per column.
        align: one letter per column, "l" or "r".
        blocks: heading of a block of rows ("" for none) and its rows, each as long as `header`.
        notes: lines under the table.
    """

    title: str
    groups: Sequence[tuple[str, int]]
    header: Sequence[str]
    align: str
    blocks: Sequence[tuple[str, Sequence[Sequence[Cell]]]]
    notes: Sequence[str]


def layout_of(table: pd.DataFrame) -> Layout:
    """Layout of any finished table."""
    if "verdict" in table.columns:
        return _comparison_layout(table)
    if table.loc[0, "table"] == "faithfulness":
        return _faithfulness_layout(table)
    return _methods_layout(table)


def percent(value: float, *, signed: bool = False) -> str:
    """One decimal; "" for NaN, and no minus sign before a zero."""
    if not np.isfinite(value):
        return ""
    value = round(value, 1) + 0.0
    return f"{value:+.1f}" if signed and value else f"{value:.1f}"


def _methods_layout(table: pd.DataFrame) -> Layout:
    """Tables 1 and 3: a column group per machine type or level; methods, then controls, then quoted rows."""
    is_mimii = table.loc[0, "table"] == "mimii"
    if is_mimii:
        types = [name for name in MACHINE_TYPES if f"{name}_roc_mean" in table.columns]
        columns = dict.fromkeys(types, MIMII_METRICS)
        table = table.assign(block=table["control"] + 2 * table["quoted"])
    else:
        columns = PAPER_COLUMNS
        table = table.assign(block=table["control"].astype(int))
    keys = [f"{group}_{metric}" for group, metrics in columns.items() for metric in metrics]
    by = next((name for name in ("snr_db", "category", "id") if name in table.columns), "")
    blocks = []
    for group, part in table.groupby(by, sort=False) if by else [("", table)]:
        heading = _group_name(by, group)
        titles = (heading, "Controls", "Quoted by the paper, from other data")
        for block, rows in part.groupby("block", sort=True):
            title = f"{heading}, controls" if heading and block == 1 else titles[block]
            blocks.append((title, [_method_cells(row, keys) for row in rows.to_dict("records")]))
    first = table.iloc[0]
    per = {"": "", "snr_db": ", per SNR", "category": ", per background class", "id": ", per id"}
    name = "MIMII, sample level" if is_mimii else "EnvMix"
    return Layout(
        title=f"{name}, protocol {first['protocol']}, encoder {first['encoder']}{per[by]} (percent"
        + (", mean ± standard deviation over seeds)" if table["seeds"].max() > 1 else ")"),
        groups=[("", 1), *((_title(group), len(m)) for group, m in columns.items()), ("", 2)],
        header=["Method", *(METRIC_LABELS[key.split("_")[1]] for key in keys)]
        + ["Experiments", "Seeds"],
        align="l" + "r" * (len(keys) + 2),
        blocks=blocks,
        notes=_notes(table, by=by, keys=keys),
    )


def _method_cells(row: dict, keys: Sequence[str]) -> list[Cell]:
    cells = [Cell(row["label"])]
    for key in keys:
        cells.append(mean_cell(row, key, n_expected=row[f"{key}_of"]))
    if not row["expected"]:
        return [*cells, Cell("–"), Cell("–")]
    done = f"{row['experiments']}/{row['expected']}"
    gap = row["experiments"] < row["expected"]
    return [*cells, Cell(done, gap=gap), Cell(f"n={row['seeds']}")]


def mean_cell(row: dict, key: str, *, n_expected: int) -> Cell:
    return Cell(
        percent(row[f"{key}_mean"]) or "–",
        spread=percent(row[f"{key}_std"]),
        interval=_interval(row, key),
        bold=row[f"{key}_best"],
        gap=0 < row[f"{key}_n"] < n_expected,
    )


def _interval(row: dict, key: str) -> str:
    low, high = (percent(row.get(f"{key}_{end}", float("nan"))) for end in ("low", "high"))
    return f"{low}, {high}" if low and high else ""


def _notes(table: pd.DataFrame, *, by: str, keys: Sequence[str]) -> list[str]:
    table = table[table["expected"] > 0]  # without quoted rows
    first = table.iloc[0]
    is_mimii = first["table"] == "mimii"
    # of one column: a machine type has its own ids
    classes = max(first[f"{key}_of"] for key in keys) // (first["snrs"] * _n_seeds(first))
    parts = [count(classes, "machine id" if is_mimii else "background class")]
    parts += [count(first["snrs"], "SNR"), count(_n_seeds(first), "seed")]
    notes = [f"Means over {' x '.join(parts)}. {SNR_NOTES[first['table']]}"]
    if not is_mimii:
        notes.append(_PRO_NOTES[first["protocol"]])
    notes += uncertainty_notes(table, keys, has_draws=True, has_others=not is_mimii)
    notes += _encoder_notes(table["method"].unique())
    if table["seeds"].max() == 1:
        notes.append("n=1: one seed, so no spread.")
    for row in table.to_dict("records"):
        name = row["label"] + (f" ({_group_name(by, row[by])})" if by else "")
        if row["missing"]:
            notes.append(
                f"† {name}: {row['experiments']} of {row['expected']} experiments are complete, "
                f"so its means are not comparable; missing: {listed(row['missing'])}."
            )
        if row["stale"]:
            notes.append(f"{name}: {row['stale']} experiments come from other code (stale).")
    return notes


def uncertainty_notes(
    table: pd.DataFrame, keys: Sequence[str], *, has_draws: bool, has_others: bool
) -> list[str]:
    """What intervals and bold type mean, and that nothing is bold where nothing is."""
    level = f"{table.iloc[0]['interval_percent']:g} %"
    notes, grounds = [], []
    if has_draws:
        notes.append(
            f"[ ]: {level} bootstrap interval over the source recordings of the test clips "
            f"({table.iloc[0]['recordings']}); the trained detectors are held fixed. None where resampling "
            "changes nothing: few clips, sorted all alike, are no proof of a mean without error."
        )
        grounds.append(f"the {level} bootstrap interval of the paired difference")
    if has_others:
        where = "columns without interval: " if has_draws else ""
        grounds.append(
            f"{where}the {level} t interval of the difference over at least {LEAST_SEEDS} seeds"
        )
    few = f" (never with fewer than {LEAST_CLIPS} test clips)"
    if any(table[f"{key}_best"].any() for key in keys):
        notes.append(f"Bold: ahead of every other complete method by {'; '.join(grounds)}{few}.")
    else:
        notes.append(
            f"Nothing is bold: no complete method is ahead of all others by {'; '.join(grounds)}{few}."
        )
    return notes


def _encoder_notes(methods: Sequence[str]) -> list[str]:
    """Methods that do not work on the table's encoder."""
    return [
        f"{method_label(method)} works on {own_encoder(method)} whatever the encoder is."
        for method in method_order(methods)
        if own_encoder(method)
    ]


def _faithfulness_layout(table: pd.DataFrame) -> Layout:
    """Table 2: a row per version, a column per method; other masks below."""
    methods = [name.removesuffix("_mean") for name in table.columns if name.endswith("_mean")]
    blocks = []
    for mask, rows in table.groupby("mask", sort=False):
        lines = []
        for row in rows.to_dict("records"):
            cells = [mean_cell(row, method, n_expected=row["expected"]) for method in methods]
            lines.append([Cell(METRIC_LABELS[row["metric"]]), *cells])
        blocks.append((_MASK_HEADINGS[mask], lines))
    first = table.iloc[0]
    parts = [count(first["classes"], "background class"), count(first["snrs"], "SNR")]
    parts.append(count(_n_seeds(first), "seed"))
    own = table[~table["control"]]
    notes = [
        f"Means over {' x '.join(parts)}. Faithfulness: how far the clip score falls when what the map points "
        "at is masked, in percent of the range of scores before and after; higher is better.",
        _DOMAIN_NOTES[first["protocol"]] + " FF v2 puts the background in the place of the event.",
        "The values of the paper's Table 2 are lost in the text that was at hand: not recoverable.",
        *uncertainty_notes(own, methods, has_draws=False, has_others=True),
        *_encoder_notes(methods),
    ]
    for row in table.to_dict("records"):
        name = f"{METRIC_LABELS[row['metric']]} ({row['mask']} mask)"
        notes += [f"† {name}, missing: {listed(gaps)}." for gaps in _split(row["missing"], " | ")]
        if row["stale"]:
            notes.append(f"{name}: values of {row['stale']} come from other code (stale).")
    controls = [is_control(method) for method in methods]
    return Layout(
        title=f"Faithfulness on EnvMix, protocol {first['protocol']}, encoder {first['encoder']} (percent"
        + (", mean ± standard deviation over seeds)" if table["seeds"].max() > 1 else ")"),
        groups=[("", 1), ("Methods", controls.count(False))]
        + ([("Controls", controls.count(True))] if any(controls) else []),
        header=["Metric", *(method_label(method) for method in methods)],
        align="l" + "r" * len(methods),
        blocks=blocks,
        notes=notes,
    )


def _comparison_layout(table: pd.DataFrame) -> Layout:
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(str(row["table"])), Cell(row["dataset"]), Cell(row["category"])]
        cells += [Cell(row["label"]), Cell(row["level"]), Cell(METRIC_LABELS[row["metric"]])]
        cells.append(Cell(percent(row["paper"]) or "–"))
        for protocol in PROTOCOLS:
            cells.append(Cell(percent(row[protocol]) or "–", interval=_interval(row, protocol)))
            cells.append(Cell(percent(row[f"{protocol}_minus_paper"], signed=True) or "–"))
            done, wanted = row[f"conditions_{protocol}"], row["conditions_paper"]
            cells.append(Cell(f"{done}/{wanted}", gap=0 < done < wanted))
        rows.append([*cells, Cell(row["verdict"]), Cell(row["comparable"])])
    first = table.iloc[0]
    seeds = [f"{int(table[f'seeds_{protocol}'].max())} {protocol}" for protocol in PROTOCOLS]
    return Layout(
        title=f"The paper's numbers and ours, encoder {first['encoder']} (percent)",
        groups=[("", 7), *((_title(protocol), 3) for protocol in PROTOCOLS), ("", 2)],
        header=["Table", "Data", "Class", "Method", "Level", "Metric", "Paper"]
        + ["ours", "− paper", "conditions"] * len(PROTOCOLS)
        + ["Verdict (published)", "Comparable"],
        align="l" * 6 + "r" * 7 + "l" * 2,
        blocks=[("", rows)],
        notes=[
            f"The paper's encoder is {PAPER_ENCODER}; ours here is {first['encoder']}.",
            *_encoder_notes(table["method"].unique()),
            "Conditions: background classes x SNRs (EnvMix) or machine ids x SNRs (MIMII) behind "
            f"our mean, out of the paper's († fewer). Seeds: {', '.join(seeds)}.",
            f"[ ]: {first['interval_percent']:g} % bootstrap interval of our mean (sample level). Within the "
            "interval: further than 2 points from ours, but inside it. The paper's own uncertainty is unknown.",
            "The values of the paper's Table 2 are lost in the text that was at hand: not recoverable.",
            "PRO is min-maxed as in the paper under both protocols. The leakfree protocol splits "
            "and mixes differently: its distance to the paper is no failed reproduction.",
        ],
    )


def _n_seeds(row: pd.Series) -> int:
    return int(row["expected"] // (row["classes"] * row["snrs"]))


def count(n: int, name: str) -> str:
    plural = name if n == 1 else name + ("es" if name.endswith("s") else "s")
    return f"{n} {plural}"


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if text else []


def listed(missing: str) -> str:
    """The first of the missing experiments and how many more there are."""
    gaps = missing.split("; ")
    rest = f" and {len(gaps) - _LISTED} more" if len(gaps) > _LISTED else ""
    return ", ".join(gaps[:_LISTED]) + rest


def _group_name(by: str, group: object) -> str:
    if by == "snr_db":
        return f"SNR {group:+d} dB" if group else "SNR 0 dB"
    return f"Machine id {group}" if by == "id" else _title(group)


def _title(name: object) -> str:
    text = str(name).replace("_", " ")
    return text[:1].upper() + text[1:]
