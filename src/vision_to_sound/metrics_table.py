"""The long metrics table, one row per value, and the bootstrap draws that belong to its sample rows.

Values are fractions. Columns: `METRIC_COLUMNS` and what experiments.experiment_metrics adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from vision_to_sound.files import load_arrays, save_arrays
from vision_to_sound.seals import contents_of
from vision_to_sound.uncertainty import EXPERIMENT_NAME

EXPERIMENT = ["category", "snr_db", "seed"]
IDENTITY = ["protocol", "dataset", *EXPERIMENT, "encoder", "method", "level", "truth", "metric"]
METRIC_COLUMNS = [*IDENTITY, "value", "headline", "n_clips", "n_recordings", "stale"]
DRAWN_METRICS = ("roc", "f1")  # of the sample level
DRAW_ARRAYS = (*DRAWN_METRICS, "experiments", "interval")  # of a file of experiments' draws
FAITHFULNESS = "faithfulness"  # a level whose rows come from a stage of its own


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of the sample rows of a metrics table.

    names: of each row that has draws, its experiment and metric ("published/envmix/.../seed0/roc").
    values: float32 (n_rows, n_draws), fractions; NaN where undefined. Draw k of one row and draw k of another
        are of the same resampled recordings.
    interval: share of the draws inside an interval.
    """

    names: np.ndarray
    values: np.ndarray
    interval: float

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names.tolist())}

    def of(self, rows: pd.DataFrame) -> np.ndarray:
        """float32 (len(rows), n_draws): the draws of sample rows of the table, in their order."""
        names = _row_names(rows)
        unknown = [name for name in names if name not in self._places]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(names)} sample rows have no bootstrap draws, first {unknown[0]}: "
                "table and draws are not of one run of aggregate_metrics"
            )
        return self.values[[self._places[name] for name in names]]

    def save(self, path: str | Path) -> None:
        interval = np.array(self.interval)
        save_arrays(path, {"names": self.names, "draws": self.values, "interval": interval})

    @classmethod
    def load(cls, path: str | Path) -> Draws:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: another kind of file, or a damaged one; names it.
        """
        expected = "bootstrap draws of a metrics table (.npz)"
        arrays = load_arrays(path, expected=expected, names=("names", "draws", "interval"))
        names, values = arrays["names"], arrays["draws"]
        with contents_of(path, expected=expected):
            if names.ndim != 1 or values.ndim != 2 or len(names) != len(values):
                raise ValueError(f"{names.shape} names and {values.shape} draws")
            return cls(names, values, float(arrays["interval"]))


def aggregate_metrics(
    metrics: Iterable[pd.DataFrame],
    draws: Iterable[Mapping[str, np.ndarray]],
    faithfulness: Iterable[pd.DataFrame] = (),
    *,
    current_code: str,
    score_code: Mapping[str, str],
    faithfulness_code: Mapping[str, str],
) -> tuple[pd.DataFrame, Draws]:
    """One long metrics table of all experiments, sorted by their identity, and its draws in that order.

    Rows made by other code are `stale`, which happens only if somebody keeps Snakemake from running
    what it would.

    Args:
        metrics, draws: of experiments, as experiments.metrics_of_experiments returns them.
        faithfulness: rows of level "faithfulness" with the same columns; they have no intervals.
        current_code: digest of the code that evaluates now.
        score_code: digest of the code that scores now, per method.
        faithfulness_code: digest of the code that measures faithfulness now, per method.

    Raises:
        ValueError: sample rows without draws, draws without rows, or draws of different settings.
    """
    draws = list(draws)
    settings = {(own["roc"].shape[1], float(own["interval"])) for own in draws}
    if len(settings) != 1:
        raise ValueError(
            f"experiments differ in (bootstrap draws, interval): {sorted(settings)}; "
            "evaluate all of them with the same settings"
        )
    table = pd.concat([*metrics, *faithfulness], ignore_index=True)
    made_now = table["code"] == current_code
    is_faithfulness = table["level"] == FAITHFULNESS
    made_now[is_faithfulness] = table["code"] == table["method"].map(faithfulness_code)
    scored_now = table["score_code"] == table["method"].map(score_code)
    table["stale"] = ~(made_now & scored_now)
    table = table.sort_values(IDENTITY, ignore_index=True, kind="stable")

    found = Draws(
        np.array([f"{e}/{m}" for own in draws for m in DRAWN_METRICS for e in own["experiments"]]),
        np.concatenate([own[m].astype(np.float32) for own in draws for m in DRAWN_METRICS]),
        settings.pop()[1],
    )
    sample = table[table["level"] == "sample"]
    sorted_draws = Draws(np.array(_row_names(sample)), found.of(sample), found.interval)
    unused = sorted(set(found.names.tolist()) - set(sorted_draws.names.tolist()))
    if unused:
        raise ValueError(f"{len(unused)} draws have no row in the metrics table, first {unused[0]}")
    return table, sorted_draws


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


def _row_names(rows: pd.DataFrame) -> list[str]:
    records = rows.rename(columns={"snr_db": "snr"}).to_dict("records")
    return [f"{EXPERIMENT_NAME.format(**record)}/{record['metric']}" for record in records]
