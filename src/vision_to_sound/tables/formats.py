"""Finished tables as Markdown, LaTeX, HTML or TSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from vision_to_sound.files import replacing, replacing_sealed
from vision_to_sound.tables.layouts import Cell, Layout, layout_of, percent

LayoutOf = Callable[[pd.DataFrame], Layout]

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


def to_markdown(table: pd.DataFrame, *, stamp: str, layout: LayoutOf = layout_of) -> str:
    """GitHub Markdown; `stamp` ("" for none) stands above the table in bold."""
    return _markdown(layout(table), stamp=stamp)


def to_latex(table: pd.DataFrame, *, stamp: str, layout: LayoutOf = layout_of) -> str:
    """A LaTeX table (package booktabs); `stamp` ("" for none) is its first row, in bold."""
    return _latex(layout(table), stamp=stamp)


def to_html(table: pd.DataFrame, *, stamp: str, layout: LayoutOf = layout_of) -> str:
    """One self-contained page for a browser; `stamp` ("" for none) is a banner over the table."""
    return _html(layout(table), stamp=stamp)


def to_tsv(table: pd.DataFrame, *, stamp: str) -> str:
    """Every column of the frame, one decimal, for machines; a `stamp` becomes the first column."""
    frame = table.copy()
    if stamp:
        frame.insert(0, "stamp", stamp)
    for column in frame.select_dtypes("floating"):
        frame[column] = [percent(value) for value in frame[column]]
    return frame.to_csv(sep="\t", index=False, lineterminator="\n")


def write_formats(
    table: pd.DataFrame,
    paths: Iterable[str | Path],
    *,
    stamp: str,
    layout: LayoutOf = layout_of,
) -> None:
    """Write a table to each path in the format of its ending: .tsv, .md, .tex or .html; layout: how it is printed."""
    printed = {".md": to_markdown, ".tex": to_latex, ".html": to_html}
    for path in paths:
        if (suffix := Path(path).suffix) == ".tsv":
            with replacing_sealed(path) as temporary:
                temporary.write_text(to_tsv(table, stamp=stamp), encoding="utf-8")
            continue
        with replacing(path) as temporary:
            text = printed[suffix](table, stamp=stamp, layout=layout)
            temporary.write_text(text, encoding="utf-8")


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


def _extra(cell: Cell) -> str:
    """Spread and interval beside a number: "± 1.2 [58.1, 72.9]"."""
    spread = [f"± {cell.spread}"] if cell.spread else []
    return " ".join([*spread, f"[{cell.interval}]"] if cell.interval else spread)


def _html_cell(cell: Cell, letter: str) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    extra = escape(_extra(cell))
    extra = f' <span class="spread">{extra}</span>' if extra else ""
    return f'<td class="{letter}">{text}{extra}{"†" if cell.gap else ""}</td>'


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_text(text: str) -> str:
    return text.replace("|", r"\|")


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_text(cell.text)
    text = f"**{text}**" if cell.bold else text
    extra = _extra(cell)
    return text + (f" {extra}" if extra else "") + ("†" if cell.gap else "")


def _latex_text(text: str) -> str:
    return text.translate(_LATEX_ESCAPES)


def _latex_cell(cell: Cell) -> str:
    text = _latex_text(cell.text)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    extra = _latex_text(_extra(cell))
    extra = rf" {{\scriptsize {extra}}}" if extra else ""
    return text + extra + (r"$^\dagger$" if cell.gap else "")
