"""Rows of a long metrics table and draws that belong to them, made up."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vision_to_sound.metrics_table import Draws


def sample_roc(value: float, **identity: object) -> dict:
    row = {
        "protocol": "published",
        "dataset": "envmix",
        "category": "siren",
        "snr_db": 0,
        "encoder": "aisfx",
        "method": "padim",
        "seed": 0,
        "level": "sample",
        "truth": "",
        "metric": "roc",
        "value": value,
        "headline": True,
        "n_clips": 40,
        "n_recordings": 20,
        "n_anomalous": 20,
        "device": "cpu",
        "score_code": "abc",
        "code": "abc",
        "stale": False,
    }
    return row | identity


def draws_for(
    metrics: pd.DataFrame, *, shared: float = 0.02, own: float = 0.0, n_draws: int = 400
) -> Draws:
    """Draws of the sample rows: the value with normal noise, `shared` by all rows and each row's `own`."""
    rng = np.random.default_rng(0)
    rows = metrics[metrics["level"] == "sample"]
    names = [
        f"{row.protocol}/{row.dataset}/{row.category}/snr{row.snr_db}/{row.encoder}/{row.method}"
        f"/seed{row.seed}/{row.metric}"
        for row in rows.itertuples()
    ]
    noise = shared * rng.normal(size=n_draws) + own * rng.normal(size=(len(rows), n_draws))
    values = rows["value"].to_numpy()[:, None] + noise
    return Draws(np.array(names, dtype=str), values.astype(np.float32), 0.95)
