"""The long table: stale rows, order, and draws that stay with their rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from metric_rows import sample_roc

from vision_to_sound.files import read_table, write_table
from vision_to_sound.metrics_table import Draws, aggregate_metrics, checked_metrics

CODE = {
    "current_code": "evaluate1",
    "score_code": {"padim": "score1", "cfa": "score2"},
    "faithfulness_code": {"padim": "faithful1", "cfa": "faithful2"},
}


def experiment(method: str, *, seed: int = 0, draws: float = 0.5, **changes: object):
    """Rows (sample ROC and F1, temporal ROC) and draws of one experiment."""
    code = {"score_code": CODE["score_code"][method], "code": "evaluate1"}
    names = {"method": method, "seed": seed} | code | changes
    rows = [
        sample_roc(0.7, **names) | {"ci_low": 0.6, "ci_high": 0.8},
        sample_roc(0.8, **names) | {"metric": "f1", "ci_low": 0.7, "ci_high": 0.9},
        sample_roc(0.9, **names) | {"level": "temporal", "ci_low": np.nan, "ci_high": np.nan},
    ]
    arrays = {
        "roc": np.full((1, 4), draws, dtype=np.float32),
        "f1": np.full((1, 4), draws + 0.1, dtype=np.float32),
        "experiments": np.array([f"published/envmix/siren/snr0/aisfx/{method}/seed{seed}"]),
        "interval": np.array(0.95),
    }
    return pd.DataFrame(rows).drop(columns="stale"), arrays


def faithfulness(method: str, **changes: object) -> pd.DataFrame:
    code = {"score_code": CODE["score_code"][method], "code": CODE["faithfulness_code"][method]}
    row = sample_roc(0.1, method=method, level="faithfulness", metric="ff_v1", **code) | changes
    return pd.DataFrame([row]).drop(columns="stale")


def aggregated(*experiments, faithfulness=()):
    metrics, draws = zip(*experiments, strict=True)
    return aggregate_metrics(metrics, draws, faithfulness, **CODE)


def test_draws_follow_the_sample_rows_through_files(tmp_path):
    parts = [experiment("padim", seed=1, draws=0.3), experiment("cfa", draws=0.5)]
    parts.append(experiment("padim", seed=0, draws=0.1))
    table, draws = aggregated(*parts, faithfulness=[faithfulness("cfa")])
    write_table(table, tmp_path / "all.tsv")
    draws.save(tmp_path / "draws.npz")
    table, draws = read_table(tmp_path / "all.tsv"), Draws.load(tmp_path / "draws.npz")

    sample = table[table["level"] == "sample"]
    assert len(draws.names) == len(sample) == 6 and draws.values.dtype == np.float32
    np.testing.assert_array_equal(draws.of(sample), draws.values)
    first = sample[(sample["method"] == "padim") & (sample["metric"] == "roc")]
    np.testing.assert_allclose(draws.of(first)[:, 0], [0.1, 0.3], rtol=1e-6)
    assert draws.names[0] == "published/envmix/siren/snr0/aisfx/cfa/seed0/f1"
    assert draws.interval == 0.95
    assert checked_metrics(table)["headline"].all()
    assert len(table) == 10 and not table["stale"].any()


def test_order_of_experiments_changes_nothing():
    parts = [experiment("padim", draws=0.3), experiment("cfa", draws=0.5)]
    table, draws = aggregated(*parts)
    other, other_draws = aggregated(*parts[::-1])
    pd.testing.assert_frame_equal(table, other)
    np.testing.assert_array_equal(draws.values, other_draws.values)


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        (experiment("padim", code="old"), 3),
        (experiment("padim", score_code="old"), 3),
        (experiment("padim", score_code="score2"), 3),  # another method's
    ],
)
def test_rows_of_other_code_are_stale(part, rows):
    table, _ = aggregated(part, experiment("cfa"))
    assert table["stale"].sum() == rows and set(table.loc[table["stale"], "method"]) == {"padim"}


def test_faithfulness_goes_by_its_own_code():
    parts = [faithfulness("padim"), faithfulness("cfa", code="evaluate1")]
    table, _ = aggregated(experiment("padim"), experiment("cfa"), faithfulness=parts)
    stale = table[table["stale"]]
    assert stale[["method", "level"]].to_numpy().tolist() == [["cfa", "faithfulness"]]
    scored_before = faithfulness("padim", score_code="old")
    table, _ = aggregated(experiment("padim"), faithfulness=[scored_before])
    assert table.loc[table["stale"], "level"].tolist() == ["faithfulness"]


def test_draws_of_another_experiment_are_refused():
    (first, _), (second, draws) = experiment("padim"), experiment("cfa")
    with pytest.raises(
        ValueError, match="2 of 2 sample rows have no bootstrap draws, .*padim/seed0"
    ):
        aggregate_metrics([first], [draws], **CODE)
    both = [draws, experiment("padim")[1]]
    with pytest.raises(ValueError, match="2 draws have no row .*cfa/seed0/f1"):
        aggregate_metrics([first], both, **CODE)
    fewer = {**draws, "roc": draws["roc"][:, :2], "f1": draws["f1"][:, :2]}
    with pytest.raises(ValueError, match=r"experiments differ in .*\(2, 0.95\), \(4, 0.95\)"):
        aggregate_metrics([first, second], [experiment("padim")[1], fewer], **CODE)
    table, whole = aggregated(experiment("padim"), experiment("cfa"))
    foreign = table.assign(encoder="other")
    with pytest.raises(ValueError, match="4 of 4 sample rows have no bootstrap draws"):
        whole.of(foreign[foreign["level"] == "sample"])
