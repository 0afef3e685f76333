"""The paper's printed numbers beside ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vision_to_sound.labels import PAPER_ENCODER, PROTOCOLS, method_label, own_encoder
from vision_to_sound.metrics_table import EXPERIMENT, Draws, checked_metrics
from vision_to_sound.tables.means import encoder_rows, mean_of
from vision_to_sound.tables.paper import QUOTED

VERDICT_TOLERANCE = 2.0  # percentage points; the verdict says so in words
NOT_RECOVERABLE = "not recoverable"


def compare_with_paper(
    metrics: pd.DataFrame, draws: Draws, paper_values: pd.DataFrame, *, encoder: str
) -> pd.DataFrame:
    """Each number of the paper's three tables beside ours under both protocols.

    AU-PRO is compared in the paper's own normalisation (both axes min-maxed) under both protocols;
    masks are the protocol's own. Ours and its interval are rounded to the paper's one decimal first, so that
    the printed difference adds up. The verdict is about the published protocol, the first that holds of:
    "not recoverable" (the paper's value is lost); "not run"; "within 2 points"; "within the interval" (further
    away, but the paper's number lies inside our bootstrap interval; sample level only); "higher" or
    "lower" (ours is).

    Args:
        metrics: long metrics table.
        draws: of its sample rows.
        paper_values: config/paper_values.tsv: table, dataset, category ("all": every class; a
            machine type covers its ids), method, level, metric, value (percent; empty where it is
            lost), conditions (classes or machine ids x SNRs behind it), note.
        encoder: ours; the paper's is `PAPER_ENCODER`. Methods with an encoder of their own are always there.

    Returns:
        One row per number, in the order of `paper_values`: its identity, label, paper (NaN: not recoverable),
        published, published_low, published_high (interval), published_minus_paper, verdict, the same four for
        leakfree, conditions_paper and per protocol what the mean is over (conditions_*, seeds_*,
        experiments_*, stale_*: made by other code), encoder, paper_encoder (bool: the method runs on what the
        paper ran it on), interval_percent, comparable (of the published protocol: "yes", or "no:" and why; ""
        without a verdict).
    """
    rows = encoder_rows(checked_metrics(metrics), encoder)
    rows = rows[np.isfinite(rows["value"])]
    rows = rows[rows["truth"].isin([""]) | (rows["truth"] == rows["protocol"])]
    records = []
    for printed in paper_values.fillna({"note": ""}).to_dict("records"):
        cell = rows[_in_category(rows["category"], printed["category"])]
        for column in ("dataset", "method", "level", "metric"):
            cell = cell[cell[column] == printed[column]]
        identity = ("table", "dataset", "category", "method", "level", "metric")
        record = {column: printed[column] for column in identity}
        record |= {"label": method_label(printed["method"]), "paper": float(printed["value"])}
        counts = {"conditions_paper": int(printed["conditions"])}
        for protocol in PROTOCOLS:
            part = cell[cell["protocol"] == protocol]
            mean = mean_of(part, draws)
            ours, low, high = (round(x, 1) for x in (mean.value, mean.low, mean.high))
            record |= {protocol: ours, f"{protocol}_low": low, f"{protocol}_high": high}
            record[f"{protocol}_minus_paper"] = round(ours - record["paper"], 1)
            if protocol == "published":
                record["verdict"] = _verdict(record)
            counts[f"conditions_{protocol}"] = len(part[EXPERIMENT[:2]].drop_duplicates())
            counts[f"seeds_{protocol}"] = len(mean.per_seed)
            counts[f"experiments_{protocol}"] = len(part)
            counts[f"stale_{protocol}"] = int(part["stale"].sum())
        on_paper_encoder = encoder == PAPER_ENCODER or bool(own_encoder(printed["method"]))
        record |= counts | {"encoder": encoder, "paper_encoder": on_paper_encoder}
        record["interval_percent"] = 100.0 * draws.interval
        record["comparable"] = _comparable(record, note=str(printed["note"]))
        records.append(record)
    return pd.DataFrame.from_records(records)


def _in_category(categories: pd.Series, printed: str) -> pd.Series:
    """The paper's "all" is every class; its machine type "fan" covers fan_id_00, fan_id_02, ..."""
    if printed == "all":
        return pd.Series(True, index=categories.index)
    return categories.astype(str).str.partition("_id_")[0] == printed


def _verdict(record: dict) -> str:
    ours, paper = record["published"], record["paper"]
    if not np.isfinite(paper):
        return NOT_RECOVERABLE
    if not np.isfinite(ours):
        return "not run"
    if abs(record["published_minus_paper"]) <= VERDICT_TOLERANCE:
        return f"within {VERDICT_TOLERANCE:g} points"
    if record["published_low"] <= paper <= record["published_high"]:
        return "within the interval"
    return "higher" if ours > paper else "lower"


def _comparable(record: dict, *, note: str) -> str:
    if record["verdict"] in ("not run", NOT_RECOVERABLE):
        return ""
    reasons = []
    if note.startswith(QUOTED):
        reasons.append("the paper quotes this value")
    if not record["paper_encoder"]:
        reasons.append(f"encoder is not {PAPER_ENCODER}")
    done, wanted = record["conditions_published"], record["conditions_paper"]
    if done != wanted:
        reasons.append(f"{done} of {wanted} conditions")
    if record["experiments_published"] < done * record["seeds_published"]:
        reasons.append("seeds are missing")
    if record["stale_published"]:
        reasons.append("values of other code (stale)")
    return "no: " + ", ".join(reasons) if reasons else "yes"
