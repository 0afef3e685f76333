"""The paper's tables from the long metrics table, and their comparison with the printed numbers.

Frames in, frames out; nothing is read or written here. A metrics table has one row per value
(columns `METRIC_COLUMNS`; values are fractions). A finished table is a flat frame of percent that
says beside every mean how many experiments it is the mean of; table_formats.py prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
import pandas as pd

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.settings import check_known

PROTOCOLS = ("published", "leakfree")
PAPER_ENCODER = "clap2022_cnn14"
PAPER_COLUMNS = {  # Table 3 of the paper: level -> its metrics, in print order
    "sample": ("roc", "f1"),
    "spectrogram": ("f1", "pro", "roc"),
    "temporal": ("f1", "roc"),
}
# The paper's order of rows (its Baseline comes first), then other methods, then controls.
METHOD_ORDER = ("autoencoder", "cfa", "padim", "patchcore", "stfpm")
CONTROL_ORDER = ("oracle", "energy", "band_zscore", "random")
EXPERIMENT = ["category", "snr_db", "seed"]
IDENTITY = ["protocol", "dataset", *EXPERIMENT, "encoder", "method", "level", "truth", "metric"]
METRIC_COLUMNS = [*IDENTITY, "value", "headline", "stale"]
VERDICT_TOLERANCE = 2.0  # percentage points; the verdict says so in words


def method_label(method: str) -> str:
    """Name for print; a method that the registry does not know keeps its own."""
    return DETECTORS[method].label if method in DETECTORS else method


def is_control(method: str) -> bool:
    """True for the rows that bound the task (oracle, random, ...) instead of competing in it."""
    return method in DETECTORS and DETECTORS[method].is_control


def method_order(methods: Iterable[str]) -> list[str]:
    """Distinct methods: the paper's order, then unknown ones by name, then controls."""
    known = [*METHOD_ORDER, *CONTROL_ORDER]
    rank = {name: i for i, name in enumerate(known)}
    return sorted(set(methods), key=lambda name: (is_control(name), rank.get(name, 99), name))


def checked_metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    """A copy of the long metrics table with plain types.

    Raises:
        ValueError: a column is missing, a flag is blank, or one value of one experiment is there
            twice (a mean over both would weigh that experiment double).
    """
    missing = [name for name in METRIC_COLUMNS if name not in metrics.columns]
    if missing:
        raise ValueError(
            f"metrics table: columns {missing} are missing; got {list(metrics.columns)}. "
            "Expected the table that aggregate_metrics writes."
        )
    for name in ("headline", "stale"):
        if metrics[name].dtype != bool:
            raise ValueError(
                f"metrics table: column {name!r} should be true or false in every row, got dtype "
                f"{metrics[name].dtype}; look for blank cells in it"
            )
    metrics = metrics.copy()
    metrics["truth"] = metrics["truth"].fillna("").astype(str)  # "" comes back from a TSV as NaN
    twice = metrics[metrics.duplicated(IDENTITY)]
    if len(twice):
        raise ValueError(
            f"metrics table: {len(twice)} values occur twice, first "
            f"{twice.iloc[0][IDENTITY].to_dict()}. Each experiment must be aggregated once."
        )
    return metrics


def seed_statistics(values: pd.DataFrame) -> tuple[float, float, int, int]:
    """Mean and spread of one cell: mean over conditions per seed, then over seeds.

    Args:
        values: rows with `seed` and a finite `value` (fraction), one per experiment.

    Returns:
        (mean, standard deviation over seeds with n - 1, seeds, experiments), the first two in
        percent. The deviation is NaN for one seed, both are NaN without rows.
    """
    per_seed = 100.0 * values.groupby("seed")["value"].mean()
    if per_seed.empty:
        return float("nan"), float("nan"), 0, 0
    return float(per_seed.mean()), float(per_seed.std(ddof=1)), len(per_seed), len(values)


def envmix_table(
    metrics: pd.DataFrame, *, protocol: str, encoder: str, by: str | None = None
) -> pd.DataFrame:
    """Table 3 of the paper for one protocol, in percent; differs: controls, spread, counts shown.

    Every cell is the mean over background classes and SNRs per seed, then over seeds. `PRO` is the
    protocol's own AU-PRO, masks are the protocol's own truth (the headline rows).

    Args:
        metrics: long metrics table.
        protocol: "published" or "leakfree".
        encoder: name of the encoder.
        by: None for one row per method; "snr_db" or "category" for one per SNR or class and method.

    Returns:
        Columns protocol, encoder, [by], method, label, control (bool), then for each of the seven
        columns of the paper `<level>_<metric>_mean`, `_std`, `_n` (experiments behind it), then
        seeds, experiments (complete ones), expected (classes x snrs x seeds found under this
        protocol), classes, snrs, missing (text), stale (experiments with values made by other
        code). Sorted by `by`, methods in the paper's order, controls last.

    Raises:
        ValueError: unknown protocol or encoder, or a metrics table that `checked_metrics` refuses.
    """
    if by not in (None, "snr_db", "category"):
        raise ValueError(f"by: expected None, 'snr_db' or 'category', got {by!r}")
    rows = _headline_rows(metrics, protocol=protocol, encoder=encoder)
    parts = [(None, rows)] if by is None else list(rows.groupby(by, sort=True))
    records = []
    for group, part in parts:
        levels = [
            [group] if column == by else sorted(rows[column].unique()) for column in EXPERIMENT
        ]
        head = {"protocol": protocol, "encoder": encoder} | ({} if by is None else {by: group})
        for method in method_order(rows["method"]):
            own = part[part["method"] == method]
            records.append(head | _record(own, method=method, expected=list(product(*levels))))
    return pd.DataFrame.from_records(records)


def _headline_rows(metrics: pd.DataFrame, *, protocol: str, encoder: str) -> pd.DataFrame:
    check_known(protocol, PROTOCOLS, what="protocol")
    rows = checked_metrics(metrics)
    rows = rows[rows["headline"] & (rows["dataset"] == "envmix")]
    rows = rows[rows["protocol"] == protocol]
    if rows.empty:
        raise ValueError(f"metrics table: no headline rows for EnvMix under protocol {protocol!r}")
    check_known(encoder, rows["encoder"].unique(), what=f"encoder (protocol {protocol})")
    rows = rows[rows["encoder"] == encoder]
    return rows.assign(metric=rows["metric"].where(~rows["metric"].str.startswith("au_pro"), "pro"))


def _record(own: pd.DataFrame, *, method: str, expected: list[tuple]) -> dict:
    """One row of the table: the rows of one method against the (category, SNR, seed) expected."""
    record: dict = {
        "method": method,
        "label": method_label(method),
        "control": is_control(method),
    }
    done = own[np.isfinite(own["value"])]
    complete, seeds = set(expected) if len(done) else set(), 0
    for level, names in PAPER_COLUMNS.items():
        for metric in names:
            cell = done[(done["level"] == level) & (done["metric"] == metric)]
            mean, std, n_seeds, n = seed_statistics(cell)
            key = f"{level}_{metric}"
            record |= {f"{key}_mean": mean, f"{key}_std": std, f"{key}_n": n}
            seeds = max(seeds, n_seeds)
            if n:  # a column that a method never fills is a dash, not a gap
                complete &= set(cell[EXPERIMENT].itertuples(index=False, name=None))
    gaps = [experiment for experiment in expected if experiment not in complete]
    return record | {
        "seeds": seeds,
        "experiments": len(complete),
        "expected": len(expected),
        "classes": len({category for category, _, _ in expected}),
        "snrs": len({snr_db for _, snr_db, _ in expected}),
        "missing": "; ".join(f"{c} {snr:g} dB seed {seed}" for c, snr, seed in gaps),
        "stale": len(own.loc[own["stale"], EXPERIMENT].drop_duplicates()),
    }


def compare_with_paper(
    metrics: pd.DataFrame, paper_values: pd.DataFrame, *, encoder: str
) -> pd.DataFrame:
    """Each printed number of the paper beside ours under both protocols.

    AU-PRO is compared in the paper's own normalisation (both axes min-maxed) under both protocols;
    masks are the protocol's own. Ours is rounded to the paper's one decimal first, so that the
    printed difference adds up.

    Args:
        metrics: long metrics table.
        paper_values: config/paper_values.tsv: table, dataset, category ("all": every class; a
            machine type covers its ids), method, level, metric, value (percent), conditions
            (classes or machine ids x SNRs behind it), note.
        encoder: ours; the paper's is `PAPER_ENCODER`.

    Returns:
        One row per printed number, in the order of `paper_values`: its identity, label, paper,
        published, published_minus_paper, verdict (of the published protocol: "within 2 points",
        "higher", "lower", "not run"), leakfree, leakfree_minus_paper, conditions_paper and per
        protocol what the mean is over (conditions_*, seeds_*, experiments_*, stale_*: made by other
        code), encoder, paper_encoder (bool), comparable (of the published protocol: "yes", or "no:"
        and why; "" if not run).
    """
    rows = checked_metrics(metrics)
    rows = rows[(rows["encoder"] == encoder) & np.isfinite(rows["value"])]
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
            mean, _, seeds, experiments = seed_statistics(part)
            ours = round(mean, 1)
            record[protocol] = ours
            record[f"{protocol}_minus_paper"] = round(ours - record["paper"], 1)
            if protocol == "published":
                record["verdict"] = _verdict(record["published_minus_paper"])
            counts[f"conditions_{protocol}"] = len(part[EXPERIMENT[:2]].drop_duplicates())
            counts[f"seeds_{protocol}"] = seeds
            counts[f"experiments_{protocol}"] = experiments
            counts[f"stale_{protocol}"] = int(part["stale"].sum())
        record |= counts | {"encoder": encoder, "paper_encoder": encoder == PAPER_ENCODER}
        record["comparable"] = _comparable(record, note=str(printed["note"]))
        records.append(record)
    return pd.DataFrame.from_records(records)


def _in_category(categories: pd.Series, printed: str) -> pd.Series:
    """The paper's "all" is every class; its machine type "fan" covers fan, fan_id_00, fan/id_00."""
    if printed == "all":
        return pd.Series(True, index=categories.index)
    return categories.astype(str).str.split(r"[_/\-. ]", n=1, regex=True).str[0] == printed


def _verdict(difference: float) -> str:
    if not np.isfinite(difference):
        return "not run"
    if abs(difference) <= VERDICT_TOLERANCE:
        return f"within {VERDICT_TOLERANCE:g} points"
    return "higher" if difference > 0 else "lower"


def _comparable(record: dict, *, note: str) -> str:
    if record["verdict"] == "not run":
        return ""
    reasons = []
    if note.startswith("quoted"):
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


def aggregate_metrics(
    parts: Iterable[pd.DataFrame], *, current_code: str, score_code: Mapping[str, str]
) -> pd.DataFrame:
    """One long metrics table of all experiments, sorted by their identity.

    current_code: digest of the code that evaluates now; score_code: of the code that scores, per method.
    Rows made by other code are `stale`, which happens only if somebody keeps Snakemake from running
    what it would.
    """
    metrics = pd.concat(parts, ignore_index=True)
    same = metrics["score_code"] == metrics["method"].map(score_code)
    metrics["stale"] = ~same | (metrics["code"] != current_code)
    return metrics.sort_values(IDENTITY, ignore_index=True, kind="stable")
