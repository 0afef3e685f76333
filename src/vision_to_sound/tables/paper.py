"""Tables 1 to 3 of the paper from the long metrics table: MIMII, faithfulness on EnvMix, EnvMix."""

from __future__ import annotations

import pandas as pd

from vision_to_sound.labels import method_label, method_order
from vision_to_sound.metrics_table import EXPERIMENT, FAITHFULNESS, Draws
from vision_to_sound.tables.means import (
    expected_experiments,
    experiment_list,
    leader,
    mean_of,
    method_records,
    recordings_behind,
    table_rows,
)

PAPER_COLUMNS = {  # Table 3 of the paper: level -> its metrics, in print order
    "sample": ("roc", "f1"),
    "spectrogram": ("f1", "pro", "roc"),
    "temporal": ("f1", "roc"),
}

# --- Table 1

MACHINE_TYPES = ("fan", "pump", "slider", "valve")  # in the paper's order
MIMII_METRICS = ("f1", "roc")
QUOTED = "quoted"  # how the note of such a value of the paper begins


def mimii_table(
    metrics: pd.DataFrame,
    draws: Draws,
    paper_values: pd.DataFrame,
    *,
    protocol: str,
    encoder: str,
    by: str | None = None,
) -> pd.DataFrame:
    """Table 1 of the paper for one protocol, in percent; differs: controls, intervals, spread, counts shown.

    Every cell is the mean over a machine type's ids and SNRs per seed, then over seeds. The values that the
    paper quotes from elsewhere (its Baseline) are a row of their own at the end, as quoted.

    Args:
        metrics: long metrics table; categories are named like "fan_id_00".
        draws: of its sample rows.
        paper_values: config/paper_values.tsv.
        protocol: "published" or "leakfree".
        encoder: name of the encoder; methods with an encoder of their own are in every encoder's table.
        by: None for one row per method; "id" or "snr_db" for one per machine id or SNR and method (quoted values
            are means over these, so they are left out).

    Returns:
        Columns table ("mimii"), protocol, encoder, interval_percent, recordings (see `recordings_behind`), [by],
        quoted (bool), then those of `method_records` with columns `<type>_<metric>` for the types that are there.

    Raises:
        ValueError: unknown protocol or encoder, a category that is no machine type and id, or what
            `envmix_table` refuses.
    """
    if by not in (None, "id", "snr_db"):
        raise ValueError(f"by: expected None, 'id' or 'snr_db', got {by!r}")
    rows = table_rows(metrics, dataset="mimii", protocol=protocol, encoder=encoder)
    rows = rows[rows["headline"] & (rows["level"] == "sample")]
    machines = rows["category"].str.extract(rf"^({'|'.join(MACHINE_TYPES)})_id_(\d+)$")
    if machines.isna().any(axis=None):
        odd = sorted(rows.loc[machines[0].isna(), "category"].unique())
        raise ValueError(f"MIMII: expected categories such as 'fan_id_00', got {odd}")
    rows = rows.assign(type=machines[0], id=machines[1], column=machines[0] + "_" + rows["metric"])
    expected = {name: expected_experiments(part) for name, part in rows.groupby("type")}
    types = [name for name in MACHINE_TYPES if name in expected]
    methods = method_order(rows["method"])
    head = {"table": "mimii", "protocol": protocol, "encoder": encoder}
    head |= {
        "interval_percent": 100.0 * draws.interval,
        "recordings": recordings_behind(rows, of="machine id"),
    }
    records = []
    for group, part in [(None, rows)] if by is None else list(rows.groupby(by, sort=True)):
        found = set(zip(part["category"], part["snr_db"], strict=True))
        columns = {
            f"{name}_{metric}": [e for e in expected[name] if e[:2] in found]
            for name in types
            for metric in MIMII_METRICS
        }
        names = {"quoted": False} if by is None else {by: group, "quoted": False}
        for record in method_records(part, draws, columns=columns, methods=methods):
            records.append(head | names | record)
    if by is None:
        records += [head | record for record in _quoted(paper_values, types)]
    return pd.DataFrame.from_records(records)


def _quoted(paper_values: pd.DataFrame, types: list[str]) -> list[dict]:
    """The row of numbers that the paper itself quotes; [] if it quotes none of these types."""
    is_quoted = paper_values["note"].fillna("").str.startswith(QUOTED)
    values = paper_values[
        is_quoted & (paper_values["dataset"] == "mimii") & paper_values["category"].isin(types)
    ]
    if values.empty:
        return []
    row = {"quoted": True, "method": "quoted", "label": "Baseline, as quoted", "control": False}
    for name in types:
        for metric in MIMII_METRICS:
            cell = values[(values["category"] == name) & (values["metric"] == metric)]["value"]
            key = f"{name}_{metric}"
            row |= {f"{key}_mean": float(cell.iloc[0]) if len(cell) else float("nan")}
            row |= {f"{key}_n": 0, f"{key}_of": 0, f"{key}_best": False}
    counts = dict.fromkeys(("seeds", "experiments", "expected", "classes", "snrs", "stale"), 0)
    return [row | counts | {"missing": ""}]


# --- Table 2

VERSIONS = ("ff_v1", "ff_v2")  # the paper's rows
# The method's own map, then what a perfect and a meaningless one would give.
MASKS = {"own": "", "oracle": "_oracle_mask", "random": "_random_mask"}


def faithfulness_table(
    metrics: pd.DataFrame, draws: Draws, *, protocol: str, encoder: str
) -> pd.DataFrame:
    """Table 2 of the paper for one protocol, in percent of the score's range; differs: controls, counts shown.

    Every cell is the mean over background classes and SNRs per seed, then over seeds.

    Args:
        metrics: long metrics table with rows of level "faithfulness".
        draws: of its sample rows; only their interval's level is used.
        protocol: "published" or "leakfree".
        encoder: name of the encoder; methods with an encoder of their own are in every encoder's table.

    Returns:
        One row per mask and version, in the paper's shape: columns table ("faithfulness"), protocol, encoder,
        interval_percent, mask ("own", "oracle", "random"), metric, control (bool, the last two masks), for
        each method `<method>_mean`, `_std`, `_n`, `_best`, then seeds, expected, classes, snrs (counts),
        missing (text), stale (text: methods with values made by other code).

    Raises:
        ValueError: no faithfulness rows, or what `envmix_table` refuses.
    """
    rows = table_rows(metrics, dataset="envmix", protocol=protocol, encoder=encoder)
    rows = rows[rows["level"] == FAITHFULNESS]
    if rows.empty:
        raise ValueError(
            f"metrics table: no rows of level {FAITHFULNESS!r} for protocol {protocol!r}, encoder "
            f"{encoder!r}; is the config's faithfulness.methods empty?"
        )
    methods, expected = method_order(rows["method"]), expected_experiments(rows)
    head = {"table": "faithfulness", "protocol": protocol, "encoder": encoder}
    head["interval_percent"] = 100.0 * draws.interval
    records = []
    for mask, suffix in MASKS.items():
        for version in VERSIONS:
            part = rows[rows["metric"] == version + suffix]
            if part.empty:
                continue
            means = {m: mean_of(part[part["method"] == m], draws) for m in methods}
            best = leader(means, n_experiments=len(expected), level=draws.interval)
            record = head | {"mask": mask, "metric": version, "control": mask != "own"}
            missing = []
            for method, mean in means.items():
                cell = mean.columns(method) | {f"{method}_best": method == best}
                del cell[f"{method}_low"], cell[f"{method}_high"]  # there are no draws
                record |= cell
                gaps = [e for e in expected if e not in mean.experiments]
                if gaps:
                    missing.append(f"{method_label(method)}: {experiment_list(gaps)}")
            stale = method_order(part.loc[part["stale"], "method"])
            records.append(
                record
                | {
                    "seeds": max(len(mean.per_seed) for mean in means.values()),
                    "expected": len(expected),
                    "classes": len({category for category, _, _ in expected}),
                    "snrs": len({snr_db for _, snr_db, _ in expected}),
                    "missing": " | ".join(missing),
                    "stale": ", ".join(method_label(method) for method in stale),
                }
            )
    return pd.DataFrame.from_records(records)


# --- Table 3


def envmix_table(
    metrics: pd.DataFrame, draws: Draws, *, protocol: str, encoder: str, by: str | None = None
) -> pd.DataFrame:
    """Table 3 of the paper for one protocol, in percent; differs: controls, intervals, spread, counts shown.

    Every cell is the mean over background classes and SNRs per seed, then over seeds. `PRO` is the
    protocol's own AU-PRO, masks are the protocol's own truth (the headline rows). The interval of a
    sample-level mean is that of the same mean of each bootstrap draw.

    Args:
        metrics: long metrics table.
        draws: of its sample rows.
        protocol: "published" or "leakfree".
        encoder: name of the encoder; methods with an encoder of their own are in every encoder's table.
        by: None for one row per method; "snr_db" or "category" for one per SNR or class and method.

    Returns:
        Columns table ("envmix"), protocol, encoder, interval_percent, recordings (see `recordings_behind`), [by],
        then those of `method_records` with the seven columns `<level>_<metric>` of the paper. Sorted by `by`,
        methods in the paper's order, controls last.

    Raises:
        ValueError: unknown protocol or encoder, a metrics table that `checked_metrics` refuses, or draws of
            another table.
    """
    if by not in (None, "snr_db", "category"):
        raise ValueError(f"by: expected None, 'snr_db' or 'category', got {by!r}")
    rows = table_rows(metrics, dataset="envmix", protocol=protocol, encoder=encoder)
    rows = rows[rows["headline"] & rows["level"].isin(PAPER_COLUMNS)]
    metric = rows["metric"].where(~rows["metric"].str.startswith("au_pro"), "pro")
    rows = rows.assign(column=rows["level"] + "_" + metric)
    keys = [f"{level}_{name}" for level, names in PAPER_COLUMNS.items() for name in names]
    head = {"table": "envmix", "protocol": protocol, "encoder": encoder}
    head |= {"interval_percent": 100.0 * draws.interval}
    head["recordings"] = recordings_behind(rows, of="class")
    expected, methods = expected_experiments(rows), method_order(rows["method"])
    records = []
    for group, part in [(None, rows)] if by is None else list(rows.groupby(by, sort=True)):
        place = None if by is None else EXPERIMENT.index(by)
        of_group = [e for e in expected if place is None or e[place] == group]
        columns = dict.fromkeys(keys, of_group)
        names = {} if by is None else {by: group}
        for record in method_records(part, draws, columns=columns, methods=methods):
            records.append(head | names | record)
    return pd.DataFrame.from_records(records)
