"""Table 1 of the paper: sample level on MIMII, a pair of columns per machine type."""

from __future__ import annotations

import pandas as pd

from vision_to_sound.metrics_table import Draws
from vision_to_sound.tables import (
    expected_experiments,
    method_order,
    method_records,
    table_rows,
)

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
        Columns table ("mimii"), protocol, encoder, interval_percent, [by], quoted (bool), then those of
        `tables.method_records` with columns `<type>_<metric>` for the types that are there.

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
    head["interval_percent"] = 100.0 * draws.interval
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
