"""Put the tables of finished runs into README.md and docs/*.md, and their pictures beside them.

    make docs        (after make subset, make leaderboard or both)

Text between <!-- NAME --> and <!-- /NAME --> is replaced: `tables NAME` by results/subset/tables/aisfx/NAME.md,
`sample_roc` by sample ROC under both protocols, `costs` by time and memory per rule from the benchmark files,
`leaderboard NAME` by the table of that name. What comes from a run that is not there stays as it is.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd

from vision_to_sound.files import read_table

RESULTS = Path("results/subset")
TABLES = RESULTS / "tables" / "aisfx"
BOARD = Path("results/leaderboard_subset/leaderboard")
PICTURES = {
    "points_envmix_sample_roc.png": "subset_points_sample_roc.png",
    "gap_envmix_sample_roc.png": "subset_gap_sample_roc.png",
    "training_curves.png": "subset_training_curves.png",
}
METHOD_RULES = ("fit_detector", "score_clips", "measure_faithfulness")


def markdown(table: pd.DataFrame) -> str:
    lines = [" | ".join(table.columns), " | ".join(["---"] * len(table.columns))]
    lines += [" | ".join(map(str, row)) for row in table.itertuples(index=False)]
    return "\n".join(f"| {line} |" for line in lines)


def sample_roc() -> str:
    columns = {}
    for protocol in ("published", "leakfree"):
        table = read_table(TABLES / f"envmix_{protocol}.tsv")
        columns[protocol] = [
            f"{row.sample_roc_mean:.1f} [{row.sample_roc_low:.1f}, {row.sample_roc_high:.1f}]".replace(
                " [nan, nan]",
                "",  # resampling changes nothing
            )
            for row in table.itertuples()
        ]
    return markdown(pd.DataFrame({"sample ROC [95 % interval]": table["label"], **columns}))


def costs() -> str:
    """Benchmark files know rule and wildcards by their path: .../METHOD/seedN.tsv, .../METHOD.tsv."""
    rows = []
    for path in sorted((RESULTS / "benchmarks").rglob("*.tsv")):
        rule = path.relative_to(RESULTS / "benchmarks").parts[0].removesuffix(".tsv")
        measured = pd.read_csv(path, sep="\t").iloc[0]
        cpu_s = measured["s"] * min(measured["mean_load"] / 100 or 1.0, 1.0)
        method = path.parent.name if rule in METHOD_RULES else ""
        rows.append((rule, method, measured["s"], cpu_s, measured["max_rss"]))
    found = pd.DataFrame(rows, columns=["rule", "method", "s", "cpu_s", "mb"])
    groups = found.groupby(["rule", "method"])
    table = groups.agg(jobs=("s", "size"), s=("s", "sum"), cpu=("cpu_s", "sum"), mb=("mb", "max"))
    table = table.round().fillna(0).astype(int).reset_index()
    names = {"s": "seconds, all jobs", "cpu": "of CPU", "mb": "largest peak, MB"}
    return markdown(table.rename(columns=names))


def filled(text: str) -> str:
    def block(match: re.Match) -> str:
        name = match[1]
        if not (BOARD if name.startswith("leaderboard ") else RESULTS).exists():
            return match[0]
        if name.startswith("leaderboard "):
            content = (BOARD / f"{name.removeprefix('leaderboard ')}.md").read_text(
                encoding="utf-8"
            )
        elif name.startswith("tables "):
            content = (TABLES / f"{name.removeprefix('tables ')}.md").read_text(encoding="utf-8")
        else:
            content = {"sample_roc": sample_roc, "costs": costs}[name]()
        return f"<!-- {name} -->\n{content.strip()}\n<!-- /{name} -->"

    return re.sub(r"<!-- ([\w ]+) -->\n.*?<!-- /\1 -->", block, text, flags=re.S)


if __name__ == "__main__":
    for page in (Path("README.md"), Path("docs/subset.md"), Path("docs/leaderboard.md")):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    pictures = {RESULTS / "figures" / "aisfx" / picture: name for picture, name in PICTURES.items()}
    pictures[BOARD / "quality_against_cost_sample.png"] = "leaderboard_sample.png"
    for picture, name in pictures.items():
        if picture.exists():
            shutil.copyfile(picture, Path("docs") / name)
