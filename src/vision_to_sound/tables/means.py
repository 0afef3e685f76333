"""Means over experiments, their intervals and spread, and which method is ahead: what all tables share.

Frames in, frames out; nothing is read or written here. A finished table (paper.py, comparison.py) is a flat frame
of percent that says beside every mean how many experiments it is the mean of, its interval where there is one,
and whether it is ahead of the rest; layouts.py and formats.py print it.

Bold (`_best`) is what is ahead of every other method beyond chance, see `is_ahead`. Controls and methods whose
experiments are incomplete neither get it nor stand in its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from vision_to_sound.labels import PROTOCOLS, is_control, method_label, own_encoder
from vision_to_sound.metrics_table import EXPERIMENT, Draws, checked_metrics
from vision_to_sound.settings import check_known
from vision_to_sound.uncertainty import LEAST_DEFINED_SHARE, bootstrap_interval

LEAST_CLIPS = 20  # the bootstrap's own limit, see uncertainty.py
LEAST_SEEDS = 3  # two seeds say next to nothing of the spread


def encoder_rows(metrics: pd.DataFrame, encoder: str) -> pd.DataFrame:
    """The rows of one encoder, and those of methods that bring an encoder of their own."""
    own = metrics["method"].map(own_encoder)
    return metrics[metrics["encoder"] == own.where(own != "", encoder)]


def table_rows(metrics: pd.DataFrame, *, dataset: str, protocol: str, encoder: str) -> pd.DataFrame:
    """What a table is made of; ValueError if there is nothing, naming what there is."""
    check_known(protocol, PROTOCOLS, what="protocol")
    rows = checked_metrics(metrics)
    rows = rows[(rows["dataset"] == dataset) & (rows["protocol"] == protocol)]
    if rows.empty:
        raise ValueError(
            f"metrics table: no rows of data set {dataset!r} under protocol {protocol!r}"
        )
    check_known(encoder, rows["encoder"].unique(), what=f"encoder (protocol {protocol})")
    return encoder_rows(rows, encoder)


def metric_rows(
    metrics: pd.DataFrame, *, encoder: str, dataset: str, level: str, metric: str
) -> pd.DataFrame:
    """Finite values of one metric under both protocols, on the protocol's own truth; ValueError if none."""
    rows = encoder_rows(checked_metrics(metrics), encoder)
    rows = rows[(rows["dataset"] == dataset) & (rows["level"] == level)]
    names = ", ".join(sorted(rows["metric"].unique())) or "nothing"
    rows = rows[(rows["metric"] == metric) & np.isfinite(rows["value"])]
    rows = rows[(rows["truth"] == "") | (rows["truth"] == rows["protocol"])]
    if rows.empty:
        raise ValueError(
            f"metrics table: no finite {metric!r} of level {level!r} for data set {dataset!r}, "
            f"encoder {encoder!r}; there it has {names}"
        )
    return rows


def recordings_behind(rows: pd.DataFrame, *, of: str) -> str:
    """How many recordings the test clips of a category were cut from, in words: what intervals rest on.

    rows: of a metrics table; those of the sample level count. of: what a category is, e.g. "class".
    """
    sample = rows[rows["level"] == "sample"]
    counts = sample.groupby("category")["n_recordings"].min().astype(int)
    least, most = counts.min(), counts.max()
    text = f"{least}" if least == most else f"{least} to {most}"
    text += f" a {of}"
    if least == 1:
        single = ", ".join(counts.index[counts == 1].str.replace("_", " "))
        text += f"; all clips of {single} come from one, which no resampling varies"
    return text


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


@dataclass(frozen=True)
class Mean:
    """One cell of a table, in percent: mean over conditions per seed, then over seeds.

    value, spread: as `seed_statistics`; NaN where undefined.
    low, high: interval of the value, 0 to 100; NaN where there are no draws.
    per_seed: mean over conditions, by seed.
    draws: float64 (n_draws,), the same mean of each bootstrap draw; None but at the sample level.
    experiments: (category, SNR, seed) behind it.
    n_clips: test clips behind it, of one seed.
    """

    value: float
    spread: float
    low: float
    high: float
    per_seed: pd.Series
    draws: np.ndarray | None
    experiments: frozenset[tuple]
    n_clips: int

    def columns(self, key: str) -> dict[str, float]:
        """Mean, spread, interval (where the column has one) and count as columns of a table."""
        cell = {f"{key}_mean": self.value, f"{key}_std": self.spread}
        cell |= {f"{key}_low": self.low, f"{key}_high": self.high}
        return cell | {f"{key}_n": len(self.experiments)}


def mean_of(rows: pd.DataFrame, draws: Draws) -> Mean:
    """The mean of rows of one method, level and metric; undefined values are left out."""
    rows = rows[np.isfinite(rows["value"])]
    value, spread, n_seeds, _ = seed_statistics(rows)
    drawn, limits = None, (float("nan"), float("nan"))
    if len(rows) and (rows["level"] == "sample").all():
        per_seed = rows.groupby("seed")["value"].transform("size").to_numpy()
        weights = 1.0 / (n_seeds * per_seed)  # a mean over seeds of means over conditions
        drawn = value + 100.0 * _mean_deviation(draws.of(rows), rows["value"].to_numpy(), weights)
        limits = bootstrap_interval(drawn, value=value, level=draws.interval)
    return Mean(
        value,
        spread,
        *(float(limit) for limit in np.clip(limits, 0.0, 100.0)),
        per_seed=100.0 * rows.groupby("seed")["value"].mean(),
        draws=drawn,
        experiments=frozenset(rows[EXPERIMENT].itertuples(index=False, name=None)),
        n_clips=int(rows.groupby("seed")["n_clips"].sum().min()) if len(rows) else 0,
    )


def _mean_deviation(drawn: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far the mean of each draw is from the mean of the values: (n_draws,).

    A draw may lack a class of one condition, where that has few recordings; then the mean is over the deviations of
    the others, so that it matters not how easy the missing condition is. With many conditions hardly any
    draw has all of them.

    Args:
        drawn: (n_rows, n_draws), NaN where undefined. values, weights: (n_rows,).

    Returns:
        NaN for a draw that has none, and for all draws if a condition is defined in too few of them.
    """
    known = np.isfinite(drawn)
    if (known.mean(axis=1) < LEAST_DEFINED_SHARE).any():
        return np.full(drawn.shape[1], np.nan)
    share = weights[:, None] * known  # (n_rows, n_draws)
    deviation = np.where(known, drawn - values[:, None], 0.0)
    with np.errstate(invalid="ignore"):
        return (share * deviation).sum(axis=0) / share.sum(axis=0)


def is_ahead(mean: Mean, other: Mean, *, level: float) -> bool:
    """Whether a mean is larger than another of the same experiments by more than chance explains.

    Sample level: the bootstrap interval of the paired difference lies above 0, and at least one of the two has an
    interval. Elsewhere, without draws: the t interval of the difference over seeds, paired by seed, lies above 0, and
    there are three seeds or more.
    Never with fewer test clips than LEAST_CLIPS: a bootstrap of so few says too little.
    """
    if mean.n_clips < LEAST_CLIPS:
        return False
    if mean.draws is not None and other.draws is not None:
        if np.isnan(mean.low) and np.isnan(other.low):
            return False  # resampling changes neither
        difference = mean.draws - other.draws
        low, _ = bootstrap_interval(
            difference, value=mean.value - other.value, level=level, may_be_alike=True
        )
        return low > 0
    leads = (mean.per_seed - other.per_seed).dropna()
    if len(leads) < LEAST_SEEDS:
        return False
    quantile = stats.t.ppf((1 + level) / 2, len(leads) - 1)
    return bool(leads.mean() > quantile * leads.std(ddof=1) / np.sqrt(len(leads)))


def leader(means: Mapping[str, Mean], *, n_experiments: int, level: float) -> str:
    """The method that is ahead of every other one; "" if none is, or there is no other.

    Controls and methods with fewer than n_experiments are left out.
    """
    rivals = {
        method: mean
        for method, mean in means.items()
        if not is_control(method) and len(mean.experiments) == n_experiments
    }
    for method, mean in rivals.items():
        others = [other for name, other in rivals.items() if name != method]
        if others and all(is_ahead(mean, other, level=level) for other in others):
            return method
    return ""


def method_records(
    rows: pd.DataFrame, draws: Draws, *, columns: Mapping[str, Sequence[tuple]], methods: list[str]
) -> list[dict]:
    """One record per method: what it has of each column of a table.

    Args:
        rows: with `column`, the column that a row belongs to.
        draws: of the sample rows.
        columns: per column of the table the experiments (category, SNR, seed) that it should be the mean of.
        methods: in the order of the table; those without rows keep their place.

    Returns:
        Per method: method, label, control (bool), for each column <column>_mean, _std, _low, _high (of the
        interval), _n (experiments behind it), _of (that many there should be), _best (bool), then seeds,
        experiments (complete ones), expected, classes, snrs (counts), missing (text), stale (experiments
        with values made by other code).
    """
    means = {
        (method, key): mean_of(part, draws)
        for method in methods
        for key in columns
        for part in [rows[(rows["method"] == method) & (rows["column"] == key)]]
    }
    ahead = {
        key: leader(
            {method: means[method, key] for method in methods},
            n_experiments=len(expected),
            level=draws.interval,
        )
        for key, expected in columns.items()
    }
    all_expected = list(dict.fromkeys(e for expected in columns.values() for e in expected))
    records = []
    for method in methods:
        own = {key: means[method, key] for key in columns}
        record = {"method": method, "label": method_label(method), "control": is_control(method)}
        for key, mean in own.items():
            record |= mean.columns(key)
            record |= {f"{key}_of": len(columns[key]), f"{key}_best": ahead[key] == method}
        # a column that a method never fills is a dash, not a gap
        filled = {key: mean.experiments for key, mean in own.items() if mean.experiments}
        done = [
            experiment
            for experiment in all_expected
            if any(experiment in found for found in filled.values())
            and all(experiment in filled[key] for key in filled if experiment in columns[key])
        ]
        stale = rows[(rows["method"] == method) & rows["stale"]]
        gaps = [experiment for experiment in all_expected if experiment not in set(done)]
        records.append(
            record
            | {
                "seeds": max(len(mean.per_seed) for mean in own.values()),
                "experiments": len(done),
                "expected": len(all_expected),
                "classes": len({category for category, _, _ in all_expected}),
                "snrs": len({snr_db for _, snr_db, _ in all_expected}),
                "missing": experiment_list(gaps),
                "stale": len(stale[EXPERIMENT].drop_duplicates()),
            }
        )
    return records


def experiment_list(experiments: Iterable[tuple]) -> str:
    """Experiments in words: "siren 0 dB seed 1; ..."."""
    return "; ".join(f"{category} {snr:g} dB seed {seed}" for category, snr, seed in experiments)


def expected_experiments(rows: pd.DataFrame) -> list[tuple]:
    """All combinations of the classes, SNRs and seeds that occur in rows."""
    return list(product(*(sorted(rows[column].unique()) for column in EXPERIMENT)))
