"""The frames of tables.py as Markdown, LaTeX or TSV; what is printed goes through a `Layout`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from vision_to_sound.files import replacing
from vision_to_sound.tables import PAPER_COLUMNS, PAPER_ENCODER, PROTOCOLS

METRIC_LABELS = {"roc": "ROC", "f1": "F1", "pro": "PRO", "au_pro_published": "PRO"}
_PRO_NOTES = {
    "published": "PRO: AU-PRO with both axes min-maxed, as published; chance is about 50.",
    "leakfree": "PRO: AU-PRO up to a false-positive rate of 0.3, divided by 0.3; chance is 15.",
}
_LISTED = 6  # missing experiments that a note names; the TSV names all of them

_LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "†": r"$^\dagger$",
        "–": "--",
        "−": "$-$",
    }
)


@dataclass(frozen=True)
class Cell:
    """One printed cell; `spread` follows a plus-minus sign, `gap` marks missing experiments."""

    text: str
    spread: str = ""
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


def to_markdown(table: pd.DataFrame, *, stamp: str) -> str:
    """GitHub Markdown; `stamp` ("" for none) stands above the table in bold."""
    return _markdown(_layout(table), stamp=stamp)


def to_latex(table: pd.DataFrame, *, stamp: str) -> str:
    """A LaTeX table (package booktabs); `stamp` ("" for none) is its first row, in bold."""
    return _latex(_layout(table), stamp=stamp)


def to_html(table: pd.DataFrame, *, stamp: str) -> str:
    """One self-contained page for a browser; `stamp` ("" for none) is a banner over the table."""
    return _html(_layout(table), stamp=stamp)


def to_tsv(table: pd.DataFrame, *, stamp: str) -> str:
    """Every column of the frame, one decimal, for machines; a `stamp` becomes the first column."""
    frame = table.copy()
    if stamp:
        frame.insert(0, "stamp", stamp)
    for column in frame.select_dtypes("floating"):
        frame[column] = [_percent(value) for value in frame[column]]
    return frame.to_csv(sep="\t", index=False, lineterminator="\n")


def write_formats(table: pd.DataFrame, paths: Iterable[str | Path], *, stamp: str) -> None:
    """Write a table to each path in the format of its ending: .tsv, .md, .tex or .html."""
    formats = {".tsv": to_tsv, ".md": to_markdown, ".tex": to_latex, ".html": to_html}
    for path in paths:
        with replacing(path) as temporary:
            text = formats[Path(path).suffix](table, stamp=stamp)
            temporary.write_text(text, encoding="utf-8")


def _layout(table: pd.DataFrame) -> Layout:
    return _comparison_layout(table) if "verdict" in table.columns else _methods_layout(table)


def _methods_layout(table: pd.DataFrame) -> Layout:
    """The paper's shape: a column group per level; methods (the best in bold), then controls."""
    by = next((name for name in ("snr_db", "category") if name in table.columns), "")
    keys = [f"{level}_{metric}" for level, names in PAPER_COLUMNS.items() for metric in names]
    blocks = []
    for group, part in table.groupby(by, sort=False) if by else [("", table)]:
        best = {}
        for key in keys:
            full = part[~part["control"] & (part[f"{key}_n"] == part["expected"])]
            best[key] = _percent(full[f"{key}_mean"].max())
        heading = _group_name(by, group)
        for control, rows in part.groupby("control", sort=True):
            lines = [_method_cells(row, keys, best) for row in rows.to_dict("records")]
            title = f"{heading}, controls" if heading else "Controls"
            blocks.append((title if control else heading, lines))
    first = table.iloc[0]
    per = {"": "", "snr_db": ", per SNR", "category": ", per background class"}[by]
    levels = [(_title(level), len(names)) for level, names in PAPER_COLUMNS.items()]
    metrics = [METRIC_LABELS[key.split("_")[1]] for key in keys]
    return Layout(
        title=f"EnvMix, protocol {first['protocol']}, encoder {first['encoder']}{per} (percent"
        + (", mean ± standard deviation over seeds)" if table["seeds"].max() > 1 else ")"),
        groups=[("", 1), *levels, ("", 2)],
        header=["Method", *metrics, "Experiments", "Seeds"],
        align="l" + "r" * (len(keys) + 2),
        blocks=blocks,
        notes=_notes(table, by=by),
    )


def _method_cells(row: dict, keys: Sequence[str], best: dict[str, str]) -> list[Cell]:
    cells = [Cell(row["label"])]
    for key in keys:
        mean, n = _percent(row[f"{key}_mean"]), row[f"{key}_n"]
        complete = n == row["expected"]
        bold = bool(mean) and complete and not row["control"] and mean == best[key]
        spread = _percent(row[f"{key}_std"])
        cells.append(Cell(mean or "–", spread=spread, bold=bold, gap=n > 0 and not complete))
    done = f"{row['experiments']}/{row['expected']}"
    gap = row["experiments"] < row["expected"]
    return [*cells, Cell(done, gap=gap), Cell(f"n={row['seeds']}")]


def _notes(table: pd.DataFrame, *, by: str) -> list[str]:
    first = table.iloc[0]
    counts = {
        "background class": first["classes"],
        "SNR": first["snrs"],
        "seed": first["expected"] // (first["classes"] * first["snrs"]),
    }
    over = " x ".join(f"{n} {_plural(name, n)}" for name, n in counts.items())
    notes = [
        f"Means over {over}. SNR is background over event: +6 dB is the hard case.",
        _PRO_NOTES[first["protocol"]],
    ]
    if table["seeds"].max() == 1:
        notes.append("n=1: one seed, so no spread.")
    for row in table.to_dict("records"):
        name = row["label"] + (f" ({_group_name(by, row[by])})" if by else "")
        if row["missing"]:
            gaps = row["missing"].split("; ")
            rest = f" and {len(gaps) - _LISTED} more" if len(gaps) > _LISTED else ""
            notes.append(
                f"† {name}: {row['experiments']} of {row['expected']} experiments are complete, "
                f"so its means are not comparable; missing: {', '.join(gaps[:_LISTED])}{rest}."
            )
        if row["stale"]:
            notes.append(f"{name}: {row['stale']} experiments come from other code (stale).")
    return notes


def _comparison_layout(table: pd.DataFrame) -> Layout:
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(str(row["table"])), Cell(row["dataset"]), Cell(row["category"])]
        cells += [Cell(row["label"]), Cell(row["level"]), Cell(METRIC_LABELS[row["metric"]])]
        cells.append(Cell(_percent(row["paper"])))
        for protocol in PROTOCOLS:
            cells.append(Cell(_percent(row[protocol]) or "–"))
            cells.append(Cell(_percent(row[f"{protocol}_minus_paper"], signed=True) or "–"))
            done, wanted = row[f"conditions_{protocol}"], row["conditions_paper"]
            cells.append(Cell(f"{done}/{wanted}", gap=0 < done < wanted))
        rows.append([*cells, Cell(row["verdict"]), Cell(row["comparable"])])
    encoder = table.iloc[0]["encoder"]
    seeds = [f"{int(table[f'seeds_{protocol}'].max())} {protocol}" for protocol in PROTOCOLS]
    return Layout(
        title=f"The paper's numbers and ours, encoder {encoder} (percent)",
        groups=[("", 7), *((_title(protocol), 3) for protocol in PROTOCOLS), ("", 2)],
        header=["Table", "Data", "Class", "Method", "Level", "Metric", "Paper"]
        + ["ours", "− paper", "conditions"] * len(PROTOCOLS)
        + ["Verdict (published)", "Comparable"],
        align="l" * 6 + "r" * 7 + "l" * 2,
        blocks=[("", rows)],
        notes=[
            f"The paper's encoder is {PAPER_ENCODER}; ours here is {encoder}.",
            "Conditions: background classes x SNRs (EnvMix) or machine ids x SNRs (MIMII) behind "
            f"our mean, out of the paper's († fewer). Seeds: {', '.join(seeds)}.",
            "PRO is min-maxed as in the paper under both protocols. The leakfree protocol splits "
            "and mixes differently: its distance to the paper is no failed reproduction.",
        ],
    )


def _percent(value: float, *, signed: bool = False) -> str:
    """One decimal; "" for NaN, and no minus sign before a zero."""
    if not np.isfinite(value):
        return ""
    value = round(value, 1) + 0.0
    return f"{value:+.1f}" if signed and value else f"{value:.1f}"


def _plural(name: str, n: int) -> str:
    return name if n == 1 else name + ("es" if name.endswith("s") else "s")


def _group_name(by: str, group: object) -> str:
    if by == "snr_db":
        return f"SNR {group:+d} dB" if group else "SNR 0 dB"
    return _title(group)


def _title(name: object) -> str:
    text = str(name).replace("_", " ")
    return text[:1].upper() + text[1:]


def _markdown(layout: Layout, *, stamp: str) -> str:
    """Markdown has no column groups: their heading is put before each column's name."""
    groups = [heading for heading, width in layout.groups for _ in range(width)]
    names = [f"{group} {name}".strip() for group, name in zip(groups, layout.header, strict=True)]
    rules = [":--" if letter == "l" else "--:" for letter in layout.align]
    lines = [f"> **{stamp}**", ""] if stamp else []
    lines += [layout.title, "", _markdown_row(names), _markdown_row(rules)]
    for heading, rows in layout.blocks:
        if heading:
            lines.append(_markdown_row([f"*{_markdown_text(heading)}*"] + [""] * (len(names) - 1)))
        lines += [_markdown_row([_markdown_cell(cell) for cell in row]) for row in rows]
    lines += ["", *(f"- {note}" for note in layout.notes)] if layout.notes else []
    return "\n".join(lines) + "\n"


def _latex(layout: Layout, *, stamp: str) -> str:
    """A `table` environment for the package booktabs, column groups with rules under them."""
    n_columns = len(layout.header)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex_text(layout.title)}.}}"]
    lines += [rf"\begin{{tabular}}{{{layout.align}}}", r"\toprule"]
    if stamp:
        lines += [
            rf"\multicolumn{{{n_columns}}}{{c}}{{\textbf{{{_latex_text(stamp)}}}}} \\",
            r"\midrule",
        ]
    headings, rules, start = [], [], 1
    for heading, width in layout.groups:
        headings.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex_text(heading)}}}")
        if heading:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    lines += [" & ".join(headings) + r" \\", " ".join(rules)]
    lines.append(" & ".join(_latex_text(name) for name in layout.header) + r" \\")
    for heading, rows in layout.blocks:
        lines.append(r"\midrule")
        if heading:
            text = rf"\emph{{{_latex_text(heading)}}}"
            lines.append(rf"\multicolumn{{{n_columns}}}{{l}}{{{text}}} \\")
        lines += [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if layout.notes:
        notes = r" \\ ".join(_latex_text(note) for note in layout.notes)
        lines.append(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize\raggedright {notes}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


_HTML_STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; background: #fff; margin: 1.5em; max-width: 75em; }
.stamp { background: #a00000; color: #fff; font-weight: bold; padding: .4em .8em; }
table { border-collapse: collapse; border-top: 2px solid #222; border-bottom: 2px solid #222; }
th, td { padding: .25em .7em; text-align: right; white-space: nowrap; }
.l { text-align: left; } th[colspan] { text-align: center; border-bottom: 1px solid #888; }
tbody { border-top: 1px solid #222; } td.heading { text-align: left; font-style: italic; }
.spread { color: #555; font-size: 85%; } ul { color: #444; }
"""


def _html(layout: Layout, *, stamp: str) -> str:
    groups = "".join(
        f'<th colspan="{width}">{escape(heading)}</th>' if heading else "<th></th>" * width
        for heading, width in layout.groups
    )
    names = "".join(
        f'<th scope="col" class="{letter}">{escape(name)}</th>'
        for name, letter in zip(layout.header, layout.align, strict=True)
    )
    body = []
    for heading, rows in layout.blocks:
        lines = [
            f'<tr><td class="heading" colspan="{len(layout.header)}">{escape(heading)}</td></tr>'
        ]
        for row in rows:
            cells = zip(row, layout.align, strict=True)
            lines.append(f"<tr>{''.join(_html_cell(cell, letter) for cell, letter in cells)}</tr>")
        body.append("<tbody>" + "\n".join(lines[not heading :]) + "</tbody>")
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(layout.title)}</title><style>{_HTML_STYLE}</style></head><body>",
        f'<p class="stamp">{escape(stamp)}</p>' if stamp else "",
        f"<h1>{escape(layout.title)}</h1><table><thead><tr>{groups}</tr><tr>{names}</tr></thead>",
        *body,
        "</table><ul>",
        *(f"<li>{escape(note)}</li>" for note in layout.notes),
        "</ul></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _html_cell(cell: Cell, letter: str) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    spread = f' <span class="spread">± {escape(cell.spread)}</span>' if cell.spread else ""
    return f'<td class="{letter}">{text}{spread}{"†" if cell.gap else ""}</td>'


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_text(text: str) -> str:
    return text.replace("|", r"\|")


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_text(cell.text)
    text = f"**{text}**" if cell.bold else text
    return text + (f" ± {cell.spread}" if cell.spread else "") + ("†" if cell.gap else "")


def _latex_text(text: str) -> str:
    return text.translate(_LATEX_ESCAPES)


def _latex_cell(cell: Cell) -> str:
    text = _latex_text(cell.text)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    spread = rf" {{\scriptsize $\pm$ {_latex_text(cell.spread)}}}" if cell.spread else ""
    return text + spread + (r"$^\dagger$" if cell.gap else "")
