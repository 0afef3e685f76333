"""The leaderboard: every detector on every encoder, EnvMix without leakage, ranked, with its cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vision_to_sound.encoders import ENCODERS
from vision_to_sound.labels import is_control, method_label, method_order
from vision_to_sound.metrics_table import EXPERIMENT, Draws, checked_metrics
from vision_to_sound.tables.layouts import (
    SNR_NOTES,
    Cell,
    Layout,
    count,
    listed,
    mean_cell,
    uncertainty_notes,
)
from vision_to_sound.tables.means import (
    Mean,
    expected_experiments,
    experiment_list,
    is_ahead,
    leader,
    mean_of,
    recordings_behind,
)

PROTOCOL, DATASET = "leakfree", "envmix"
COLUMNS = {  # name -> level and truth; all are ROC
    "sample_roc": ("sample", ""),
    "spectrogram_leakfree_roc": ("spectrogram", "leakfree"),
    "spectrogram_published_roc": ("spectrogram", "published"),
    "temporal_roc": ("temporal", ""),
}
RANKED_BY = "sample_roc"
HEADLINE = ("sample_roc", "spectrogram_leakfree_roc", "temporal_roc")
COSTS = ("fit_s", "embed_s", "score_s", "clip_s", "peak_mb")


def leaderboard_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """What the leaderboard is made of; ValueError if there is nothing, or for what `checked_metrics` refuses."""
    rows = checked_metrics(metrics)
    rows = rows[(rows["dataset"] == DATASET) & (rows["protocol"] == PROTOCOL)]
    if rows.empty:
        raise ValueError(f"metrics table: no rows of data set {DATASET!r} under {PROTOCOL!r}")
    return rows[rows["metric"] == "roc"]


def leaderboard_table(metrics: pd.DataFrame, draws: Draws, costs: pd.DataFrame) -> pd.DataFrame:
    """All detectors and encoders of leakfree EnvMix, in percent, the best first.

    Ranked by sample ROC, the mean over classes and SNRs per seed, then over seeds (as in `envmix_table`). Equal means
    (to 1e-6 points) share a rank. Controls have none, nor has what lacks an experiment; the latter stands last, because
    what is missing may be what is hard.

    Args:
        metrics: long metrics table.
        draws: of its sample rows.
        costs: as `costs.read_costs` returns them; may lack rows.

    Returns:
        Columns rank (text, "" for none), method, label, encoder, encoder_label, control, complete (bool), behind_first
        (bool: the first is ahead of it by more than chance explains, see `means.is_ahead`); for each name in COLUMNS,
        and for <name>_snr<SNR> of each SNR, those of `method_records` (_best: ahead of every other complete method
        on any encoder); then experiments, expected, classes, snrs, seeds (counts), missing (text), stale (count),
        the COSTS (three digits, "" where not measured), machine, interval_percent, recordings (what intervals rest on).

    Raises:
        ValueError: as `leaderboard_rows`, or draws of another table.
    """
    rows = leaderboard_rows(metrics)
    expected = expected_experiments(rows)
    snrs = sorted(rows["snr_db"].unique(), reverse=True)  # the hard case first
    columns = {name: (place, expected) for name, place in COLUMNS.items()}
    for snr in snrs:
        for name, place in COLUMNS.items():
            columns[f"{name}_snr{snr:g}"] = (place, [e for e in expected if e[1] == snr])
    means = {
        names: {key: _mean(own, draws, *what) for key, what in columns.items()}
        for names, own in rows.groupby(["method", "encoder"], sort=True)
    }
    complete = {
        names: all(len(found[name].experiments) == len(expected) for name in COLUMNS)
        for names, found in means.items()
    }
    competing = [names for names in means if complete[names] and not is_control(names[0])]
    ranks = _ranks({names: means[names][RANKED_BY].value for names in competing})
    first = min(ranks, key=ranks.get, default=None)
    best = {
        key: leader(
            {names: means[names][key] for names in competing},
            n_experiments=len(of_column),
            level=draws.interval,
        )
        for key, (_, of_column) in columns.items()
    }
    counts = {"expected": len(expected)}
    for name, column in zip(("classes", "snrs", "seeds"), EXPERIMENT, strict=True):
        counts[name] = rows[column].nunique()
    order, behind = method_order(rows["method"]), recordings_behind(rows, of="class")
    records = []
    for names in sorted(
        means,
        key=lambda n: (
            not complete[n],
            -round(np.nan_to_num(means[n][RANKED_BY].value, nan=-1.0), 6),
            order.index(n[0]),
            n[1],
        ),
    ):
        method, encoder = names
        found = means[names]
        record = {"rank": str(ranks.get(names, "")), "method": method}
        record |= {"label": method_label(method), "encoder": encoder}
        record |= {"encoder_label": encoder_label(encoder), "control": is_control(method)}
        record |= {"complete": complete[names]}
        record["behind_first"] = names in ranks and is_ahead(
            means[first][RANKED_BY], found[RANKED_BY], level=draws.interval
        )
        for key, mean in found.items():
            record |= mean.columns(key)
            record |= {f"{key}_of": len(columns[key][1]), f"{key}_best": best[key] == names}
        gaps = [e for e in expected if any(e not in found[name].experiments for name in COLUMNS)]
        own = rows[(rows["method"] == method) & (rows["encoder"] == encoder)]
        record |= {"experiments": len(expected) - len(gaps), **counts}
        record |= {"missing": experiment_list(gaps)}
        record |= {"stale": len(own.loc[own["stale"], EXPERIMENT].drop_duplicates())}
        records.append(record | {"interval_percent": 100.0 * draws.interval, "recordings": behind})
    table = pd.DataFrame.from_records(records)
    costs = costs.assign(**{name: [_significant(x) for x in costs[name]] for name in COSTS})
    costs = costs[["method", "encoder", *COSTS, "machine"]]
    table = table.merge(costs, on=["method", "encoder"], how="left", validate="one_to_one")
    return table.fillna({name: "" for name in (*COSTS, "machine")})


def _mean(rows: pd.DataFrame, draws: Draws, place: tuple[str, str], expected: list[tuple]) -> Mean:
    """Of the rows of a level and truth, over those of the experiments that are there."""
    level, truth = place
    rows = rows[(rows["level"] == level) & (rows["truth"] == truth)]
    return mean_of(rows[rows["snr_db"].isin({snr for _, snr, _ in expected})], draws)


def encoder_label(encoder: str) -> str:
    """Name for print; an encoder that the registry does not know keeps its own."""
    return ENCODERS[encoder].label if encoder in ENCODERS else encoder


def _ranks(values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], int]:
    """1 for the largest, 1 more than the number of larger ones for the others."""
    rounded = {names: round(value, 6) for names, value in values.items()}
    return {
        names: 1 + sum(other > value for other in rounded.values())
        for names, value in rounded.items()
    }


def _significant(value: float) -> str:
    """Three digits, without exponent; "" for NaN."""
    if not np.isfinite(value):
        return ""
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


# --- print


def leaderboard_layout(table: pd.DataFrame) -> Layout:
    """All three levels and the cost of each detector, in the order of the table."""
    groups = [("", 3), ("Sample", 1), ("Spectrogram ROC", 2), ("Temporal", 1)]
    groups += [("Seconds", 1), ("Seconds a clip", 2), ("", 2)]
    header = ["Rank", "Detector", "Encoder", "ROC", "leakfree truth", "published truth", "ROC"]
    header += ["fit", "embed", "score", "Peak MiB", "Experiments"]
    rows = []
    for row in table.to_dict("records"):
        done, gap = f"{row['experiments']}/{row['expected']}", not row["complete"]
        cells = [_cell(row, name) for name in COLUMNS]
        cells += [Cell(row[name] or "–") for name in ("fit_s", "embed_s", "score_s", "peak_mb")]
        rows.append([*_names(row), *cells, Cell(done, gap=gap)])
    return Layout(
        title=_title(table),
        groups=groups,
        header=header,
        align="rll" + "r" * 9,
        blocks=[("", rows)],
        notes=[*_notes(table, list(COLUMNS)), *_cost_notes(table)],
    )


def snr_layout(table: pd.DataFrame) -> Layout:
    """The three levels at each SNR, detectors in the order of the leaderboard."""
    snrs = sorted(
        (int(name.split("_snr")[1].split("_")[0]) for name in table.columns if "_snr" in name),
        reverse=True,
    )
    snrs = list(dict.fromkeys(snrs))
    keys = [f"{name}_snr{snr}" for snr in snrs for name in HEADLINE]
    rows = [[*_names(row), *(_cell(row, key) for key in keys)] for row in table.to_dict("records")]
    return Layout(
        title=f"{_title(table)}, ROC per SNR",
        groups=[("", 3), *((f"SNR {snr:+d} dB" if snr else "SNR 0 dB", 3) for snr in snrs)],
        header=["Rank", "Detector", "Encoder", *["sample", "spectrogram", "temporal"] * len(snrs)],
        align="rll" + "r" * len(keys),
        blocks=[("", rows)],
        notes=_notes(table, keys),
    )


def _title(table: pd.DataFrame) -> str:
    spread = ", mean ± standard deviation over seeds" if table["seeds"].max() > 1 else ""
    return f"Leaderboard: EnvMix, protocol {PROTOCOL} (percent{spread})"


def _names(row: dict) -> list[Cell]:
    label = f"{row['label']} (control)" if row["control"] else row["label"]
    return [Cell(row["rank"] or "–"), Cell(label), Cell(row["encoder_label"])]


def _cell(row: dict, key: str) -> Cell:
    return mean_cell(row, key, n_expected=row[f"{key}_of"])


def _notes(table: pd.DataFrame, keys: list[str]) -> list[str]:
    first = table.iloc[0]
    means = [count(first["classes"], "background class"), count(first["snrs"], "SNR")]
    means = " x ".join([*means, count(first["seeds"], "seed")])
    notes = [
        f"Ranked by sample ROC. Means over {means}, {first['expected']} experiments a detector. {SNR_NOTES[DATASET]}",
        "Spectrogram ROC under two truths: the most energetic cells of the event's time span (leakfree, the "
        "headline) and the loudest cells of the event by the paper's rule (published). Chance is 50 at every level.",
        "Controls have no rank: oracle is the ceiling, random is chance, energy and band z-score need no network.",
        *uncertainty_notes(table, keys, has_draws=True, has_others=True),
    ]
    beside = table[(table["rank"] != "") & ~table["behind_first"]][1:]  # without the first
    if len(beside):
        names = [f"{row.label} ({row.encoder_label})" for row in beside.itertuples()]
        notes.append(
            f"By the interval of the paired difference the first is not ahead of: {', '.join(names)}."
        )
    for row in table.to_dict("records"):
        name = f"{row['label']} ({row['encoder_label']})"
        if not row["complete"]:
            notes.append(
                f"† {name} has no rank: {row['experiments']} of {row['expected']} experiments are complete; "
                f"missing: {listed(row['missing'])}."
            )
        if row["stale"]:
            notes.append(f"{name}: {row['stale']} experiments come from other code (stale).")
    return notes


def _cost_notes(table: pd.DataFrame) -> list[str]:
    machines = sorted({m for machine in table["machine"] for m in machine.split("; ") if m})
    if not machines:
        return ["What it costs was not measured: the logs of the jobs are gone."]
    return [
        "Cost: seconds of CPU (on a GPU of wall time) without start-up; fit: of one detector, the mean; embed, "
        "score: of one clip whose spectrogram is there. Peak MiB: the largest job of fitting, embedding and scoring, "
        f"with Python and libraries. Measured on {'; '.join(machines)}.",
    ]
