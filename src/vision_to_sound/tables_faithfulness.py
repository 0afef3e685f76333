"""Table 2 of the paper: faithfulness of the methods' anomaly maps on EnvMix."""

from __future__ import annotations

import pandas as pd

from vision_to_sound.metrics_table import FAITHFULNESS, Draws
from vision_to_sound.tables import (
    expected_experiments,
    experiment_list,
    leader,
    mean_of,
    method_label,
    method_order,
    table_rows,
)

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
