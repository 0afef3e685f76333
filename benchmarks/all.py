"""All benchmarks in one run; their table into docs/speed.md and README.md, between markers."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import coreset, embedding, metrics, scoring, startup
from benchmarks.rows import Row, machine, markdown, prepare

PAGES = (Path("docs/speed.md"), Path("README.md"))


def filled(text: str, name: str, content: str) -> str:
    marked = rf"<!-- {name} -->\n.*?<!-- /{name} -->"
    return re.sub(
        marked, lambda _: f"<!-- {name} -->\n{content}\n<!-- /{name} -->", text, flags=re.S
    )


def short(rows: list[Row]) -> str:
    """What, ratio, target: for the README."""
    lines = ["| what | against | times as fast | target |", "| --- | --- | --- | --- |"]
    for row in rows:
        cells = row.cells()
        value = f"{row.ours_s:.1f} s" if row.ratio is None else cells[4]
        lines.append(f"| {row.what} | {cells[1]} | {value} | {cells[5]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing")
    parser.add_argument("--paper", action="store_true", help="only the coreset of the paper's size")
    parser.add_argument("--threads", type=int, default=2, help="of both sides (default: 2)")
    chosen = parser.parse_args()

    before = machine()
    print(before, flush=True)
    prepare(chosen.threads)
    parts = [startup, metrics, embedding, scoring, coreset]
    rows: list[Row] = []
    for part in [coreset] if chosen.paper else parts:
        arguments = part.PARSER.parse_args([])
        arguments.quick, arguments.threads, arguments.paper = chosen.quick, chosen.threads, False
        kinds = ("recordings", "noise") if chosen.paper else ("",)
        for kind in kinds:
            if kind:
                arguments.paper, arguments.data = True, kind
            found = part.measure(arguments)
            print(markdown(found), flush=True)
            rows += found
    if chosen.quick:
        return
    when = f"{datetime.now(UTC):%Y-%m-%d}, {before}, {chosen.threads} threads.\n\n"
    name = "paper" if chosen.paper else "speed"
    for page in PAGES:
        table = markdown(rows) if page.parent.name else short(rows)
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, name, when + table), encoding="utf-8")


if __name__ == "__main__":
    main()
