"""Experiments' rows of the long metrics table, and the bootstrap draws behind their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_to_sound.metrics import evaluate
from vision_to_sound.scores import AnomalyScores, Truth, identified_rows, source_recordings
from vision_to_sound.uncertainty import (
    EXPERIMENT_NAME,
    bootstrap_interval,
    bootstrap_sample_metrics,
    bootstrap_weights,
)

if TYPE_CHECKING:
    import pandas as pd


def metrics_of_experiments(
    parts: Iterable[tuple[AnomalyScores, Truth, pd.DataFrame]],
    *,
    experiments: Sequence[Mapping[str, str]],
    **settings: Any,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """`experiment_metrics` of several experiments, one after another; as many parts as experiments.

    Returns:
        rows: of all.
        draws: roc, f1 float32 (n_experiments, n_draws); experiments, their names; interval.
    """
    import pandas as pd

    found = [
        experiment_metrics(scores, truth, table, experiment=experiment, **settings)
        for experiment, (scores, truth, table) in zip(experiments, parts, strict=True)
    ]
    draws = {name: np.stack([own[name] for _, own in found]) for name in ("roc", "f1")}
    return pd.concat([rows for rows, _ in found], ignore_index=True), {
        **draws,
        "experiments": np.array([EXPERIMENT_NAME.format(**own) for own in experiments]),
        "interval": np.array(settings["interval"]),
    }


def experiment_metrics(
    scores: AnomalyScores,
    truth: Truth,
    table: pd.DataFrame,
    *,
    experiment: Mapping[str, str],
    fpr_limit: float,
    n_draws: int,
    interval: float,
    code: str,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """`metrics.evaluate` as rows of the long metrics table, with what is needed to tell them apart.

    Args:
        scores: of the experiment's test clips.
        truth: of the same clips.
        table: the experiment's clips (columns clip, recording, role, label); its test rows are in the order of
            the scores.
        experiment: protocol, dataset, category, snr, encoder, method, seed as they stand in paths.
        fpr_limit: of AU-PRO, in (0, 1].
        n_draws: bootstrap draws of the sample metrics.
        interval: share of the draws inside an interval, e.g. 0.95.
        code: digest of the code that evaluates.

    Returns:
        rows: columns protocol dataset category snr_db encoder method seed level truth metric value headline
            ci_low ci_high (fractions; NaN but at the sample level) n_clips n_recordings (that they were cut from)
            n_anomalous device score_code code (digests of the code that scored and that evaluated).
        draws: roc, f1 float32 (n_draws,).

    Raises:
        ValueError: the table's test clips are not those that were scored.
    """
    import pandas as pd

    test = table[table["role"] == "test"]
    if not np.array_equal(test["label"].to_numpy(dtype=bool), truth.labels):
        raise ValueError(
            f"{EXPERIMENT_NAME.format(**experiment)}: the table has {len(test)} test clips, "
            f"{int(test['label'].sum())} of them anomalous; the truth has {len(truth.labels)} and "
            f"{int(truth.labels.sum())}, or they stand in another order. Make both again."
        )
    rows = pd.DataFrame(
        evaluate(scores, truth, protocol=experiment["protocol"], fpr_limit=fpr_limit)
    )
    recordings = source_recordings(test)
    weights = bootstrap_weights(
        recordings,
        n_draws=n_draws,
        dataset=experiment["dataset"],
        category=experiment["category"],
    )
    draws = bootstrap_sample_metrics(scores.clips, truth.labels, weights)
    rows[["ci_low", "ci_high"]] = np.nan
    for row in rows.index[rows["level"] == "sample"]:
        limits = bootstrap_interval(
            draws[rows.at[row, "metric"]], value=rows.at[row, "value"], level=interval
        )
        rows.loc[row, ["ci_low", "ci_high"]] = np.clip(limits, 0.0, 1.0)
    rows = identified_rows(
        rows, scores, truth, recordings=recordings, experiment=experiment, code=code
    )
    return rows, draws
