"""Experiments' rows: identity, intervals at the sample level, draws that go with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.experiments import experiment_metrics, metrics_of_experiments
from vision_to_sound.metrics import best_f1, roc_auc
from vision_to_sound.scores import AnomalyScores, Truth, identified_rows
from vision_to_sound.uncertainty import bootstrap_interval

EXPERIMENT = {
    "protocol": "leakfree",
    "dataset": "envmix",
    "category": "siren",
    "snr": "-6",
    "encoder": "aisfx",
    "method": "padim",
    "seed": "1",
}


@pytest.fixture
def experiment() -> tuple[AnomalyScores, Truth, pd.DataFrame]:
    """60 test clips from 30 recordings behind 10 training clips."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60) % 2 == 0)
    masks = (rng.random((60, 6, 5)) < 0.3) & labels[:, None, None]
    truth = Truth(labels=labels, masks={"leakfree": masks}, frames=masks.any(axis=2))
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float32)
    scores = AnomalyScores(labels + rng.normal(size=60), maps, device="cpu", code="abc")
    table = pd.DataFrame(
        {
            "clip": [f"clip{i}" for i in range(70)],
            "recording": [f"rec{i // 2}" for i in range(70)],
            "role": ["train"] * 10 + ["test"] * 60,
            "label": [0] * 10 + labels.astype(int).tolist(),
        }
    )
    return scores, truth, table


def measure(scores, truth, table, *, n_draws=200, **changes):
    settings = {"fpr_limit": 0.3, "n_draws": n_draws, "interval": 0.9, "code": "def"}
    return experiment_metrics(scores, truth, table, experiment=EXPERIMENT | changes, **settings)


def test_rows_say_whose_they_are(experiment):
    rows, _ = measure(*experiment)
    assert (
        list(rows.columns)
        == (
            "protocol dataset category snr_db encoder method seed level truth metric value headline "
            "ci_low ci_high n_clips n_recordings n_anomalous device score_code code"
        ).split()
    )
    first = rows.iloc[0]
    assert (first["category"], first["snr_db"], first["seed"]) == ("siren", -6, 1)
    assert (first["n_clips"], first["n_anomalous"]) == (60, 30)
    assert first["n_recordings"] == 30, "two clips of each"
    assert (first["device"], first["score_code"], first["code"]) == ("cpu", "abc", "def")
    assert set(rows["level"]) == {"sample", "spectrogram", "temporal"}


def test_intervals_are_those_of_the_draws(experiment):
    scores, truth, _ = experiment
    rows, draws = measure(*experiment)
    sample = rows[rows["level"] == "sample"].set_index("metric")
    assert sample.loc["roc", "value"] == roc_auc(scores.clips, truth.labels)
    assert sample.loc["f1", "value"] == best_f1(scores.clips, truth.labels)
    for metric, row in sample.iterrows():
        assert draws[metric].dtype == np.float32 and draws[metric].shape == (200,)
        expected = bootstrap_interval(draws[metric], value=row["value"], level=0.9)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected)
        assert 0.0 < row["ci_low"] < row["value"] < row["ci_high"] < 1.0
    others = rows[rows["level"] != "sample"]
    assert len(others) and others[["ci_low", "ci_high"]].isna().all(axis=None)


def test_the_same_recordings_have_the_same_draws_everywhere(experiment):
    scores, truth, table = experiment
    first = measure(scores, truth, table)[1]
    for changes in ({"snr": "6"}, {"seed": "0"}, {"method": "cfa"}, {"protocol": "leakfree"}):
        np.testing.assert_array_equal(
            measure(scores, truth, table, **changes)[1]["roc"], first["roc"]
        )
    other = measure(scores, truth, table, category="drilling")[1]
    assert (other["roc"] != first["roc"]).any()


def test_clips_of_unknown_recording_stand_for_themselves(experiment):
    scores, truth, table = experiment
    unknown = measure(scores, truth, table.assign(recording=""))[1]
    alone = measure(scores, truth, table.assign(recording=table["clip"]))[1]
    np.testing.assert_array_equal(unknown["roc"], alone["roc"])
    assert (unknown["roc"] != measure(scores, truth, table)[1]["roc"]).any()


def test_what_resampling_cannot_change_has_no_interval(experiment):
    scores, truth, table = experiment
    maps = np.zeros((60, 6, 5), dtype=np.float32)
    perfect, _ = measure(AnomalyScores(truth.labels.astype(float), maps), truth, table)
    assert perfect.loc[0, "value"] == 1.0 and perfect.loc[0, ["ci_low", "ci_high"]].isna().all()
    one, draws = measure(scores, truth, table.assign(recording="rec0"))
    assert (one["n_recordings"] == 1).all() and one["ci_low"].isna().all()
    drawn = draws["roc"][np.isfinite(draws["roc"])]
    assert len(drawn) > 100 and np.ptp(drawn) == 0.0


def test_another_experiments_table_is_refused(experiment):
    scores, truth, table = experiment
    with pytest.raises(ValueError, match="padim/seed1: the table has 59 test clips, .* has 60"):
        measure(scores, truth, table[:-1])
    swapped = table.assign(label=table["label"].to_numpy()[::-1])
    with pytest.raises(ValueError, match="another order"):
        measure(scores, truth, swapped)


def test_experiments_together_are_experiments_one_by_one(experiment):
    scores, truth, table = experiment
    turned = AnomalyScores(-scores.clips, -scores.maps, device="cpu", code="abc")
    names = [EXPERIMENT, EXPERIMENT | {"seed": "2"}]
    settings = {"fpr_limit": 0.3, "n_draws": 50, "interval": 0.9, "code": "def"}
    rows, draws = metrics_of_experiments(
        [(scores, truth, table), (turned, truth, table)], experiments=names, **settings
    )
    alone = [measure(scores, truth, table, n_draws=50)]
    alone += [measure(turned, truth, table, n_draws=50, seed="2")]
    pd.testing.assert_frame_equal(rows, pd.concat([one for one, _ in alone], ignore_index=True))
    for i, (_, own) in enumerate(alone):
        np.testing.assert_array_equal(draws["roc"][i], own["roc"])
        np.testing.assert_array_equal(draws["f1"][i], own["f1"])
    assert draws["experiments"].tolist() == [
        f"leakfree/envmix/siren/snr-6/aisfx/padim/seed{seed}" for seed in (1, 2)
    ]
    assert float(draws["interval"]) == 0.9
    with pytest.raises(ValueError, match="shorter"):
        metrics_of_experiments([(scores, truth, table)], experiments=names, **settings)


def test_rows_of_another_stage_get_the_same_columns(experiment):
    scores, truth, table = experiment
    row = {"level": "faithfulness", "truth": "", "metric": "ff_v1", "value": 0.1, "headline": True}
    names = {"recordings": table["recording"], "experiment": EXPERIMENT, "code": "def"}
    rows = identified_rows(pd.DataFrame([row]), scores, truth, **names)
    columns = [name for name in measure(scores, truth, table)[0] if not name.startswith("ci_")]
    assert list(rows.columns) == columns
