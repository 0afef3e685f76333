"""The paper's numbers beside ours: differences, verdicts, and what is comparable."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metric_rows import draws_for, sample_roc

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.labels import PAPER_ENCODER
from vision_to_sound.tables.comparison import compare_with_paper
from vision_to_sound.tables.formats import to_latex, to_markdown, to_tsv

STAMP = "SYNTHETIC SOUNDS: 100 % made up"
PAPER_VALUES = Path(__file__).resolve().parents[3] / "config" / "paper_values.tsv"


@pytest.fixture
def tiny() -> pd.DataFrame:
    """Two classes x two seeds of two methods, means 75 and 50; sample ROC only."""
    values = {"padim": [0.80, 0.70, 0.90, 0.60], "patchcore": [0.5] * 4}
    cells = [("siren", 0), ("siren", 1), ("dog", 0), ("dog", 1)]
    return pd.DataFrame(
        sample_roc(value, method=method, category=category, seed=seed)
        for method, of_method in values.items()
        for (category, seed), value in zip(cells, of_method, strict=True)
    )


def compared(metrics, paper_values, *, encoder, **noise) -> pd.DataFrame:
    noise = noise or {"shared": 0.001}
    return compare_with_paper(metrics, draws_for(metrics, **noise), paper_values, encoder=encoder)


def paper_row(**changes: object) -> pd.DataFrame:
    row = {
        "table": "3",
        "dataset": "envmix",
        "category": "all",
        "method": "padim",
        "level": "sample",
        "metric": "roc",
        "value": 86.3,
        "conditions": 24,
        "note": np.nan,
    }
    return pd.DataFrame([row | changes])


def test_comparison_by_hand(tiny):
    metrics = pd.concat([tiny, tiny.assign(protocol="leakfree", value=tiny["value"] - 0.2)])
    row = compared(metrics, paper_row(), encoder="aisfx").iloc[0]
    assert (row["published"], row["published_minus_paper"], row["verdict"]) == (
        75.0,
        -11.3,
        "lower",
    )
    assert (row["leakfree"], row["leakfree_minus_paper"]) == (55.0, -31.3)
    counts = ["conditions_paper", "conditions_published", "seeds_published"]
    assert [int(row[name]) for name in counts] == [24, 2, 2]
    assert not row["paper_encoder"]
    assert row["comparable"] == "no: encoder is not clap2022_cnn14, 2 of 24 conditions"


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [(77.0, "within 2 points"), (77.1, "lower"), (73.0, "within 2 points"), (72.9, "higher")],
)
def test_verdict_at_its_limits(tiny, printed, verdict):
    row = compared(tiny, paper_row(value=printed), encoder="aisfx").iloc[0]
    assert row["verdict"] == verdict


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [(77.0, "within 2 points"), (77.1, "within the interval"), (79.5, "lower"), (70.5, "higher")],
)
def test_verdict_knows_our_interval(tiny, printed, verdict):
    row = compared(tiny, paper_row(value=printed), encoder="aisfx", shared=0.02).iloc[0]
    assert row["published_low"] < 72.0 and 78.0 < row["published_high"] < 79.5
    assert row["verdict"] == verdict
    assert np.isnan(row["leakfree_low"])


def test_lost_values_show_ours_and_no_verdict(tiny):
    rows = tiny.assign(level="faithfulness", metric="ff_v1", value=0.125)
    printed = paper_row(table="2", level="faithfulness", metric="ff_v1", value=np.nan)
    metrics = pd.concat([tiny, rows])
    table = compared(metrics, printed, encoder="aisfx")
    row = table.iloc[0]
    assert (row["published"], row["verdict"], row["comparable"]) == (12.5, "not recoverable", "")
    assert "| FF v1 | – | 12.5 | – | 2/24† |" in to_markdown(table, stamp="")


def test_own_encoder_is_no_reason_against_a_comparison(tiny):
    metrics = tiny[tiny["method"] == "padim"]
    metrics = metrics.assign(method="autoencoder", encoder="logmel_dcase2020")
    printed = paper_row(method="autoencoder", conditions=2)
    row = compared(metrics, printed, encoder="aisfx").iloc[0]
    assert (row["published"], row["comparable"]) == (75.0, "yes")


def test_full_run_of_the_papers_encoder_is_comparable():
    metrics = pd.DataFrame(
        sample_roc(0.863, encoder=PAPER_ENCODER, category=f"class{i}", snr_db=snr_db, seed=seed)
        for i, snr_db, seed in itertools.product(range(8), (-6, 0, 6), (0, 1))
    )
    row = compared(metrics, paper_row(), encoder=PAPER_ENCODER).iloc[0]
    assert (row["verdict"], row["comparable"], row["leakfree_minus_paper"]) == (
        "within 2 points",
        "yes",
        pytest.approx(np.nan, nan_ok=True),
    )
    row = compared(metrics[1:], paper_row(), encoder=PAPER_ENCODER).iloc[0]
    assert row["comparable"] == "no: seeds are missing"


def test_comparison_takes_the_protocols_own_mask():
    rows = [
        sample_roc(value, level="spectrogram", truth=truth, headline=truth == "published")
        for truth, value in (("published", 0.7), ("leakfree", 0.2))
    ]
    printed = paper_row(level="spectrogram", value=70.0)
    row = compared(pd.DataFrame(rows), printed, encoder="aisfx").iloc[0]
    assert (row["published"], row["conditions_published"]) == (70.0, 1)


def test_machine_type_covers_its_ids_and_no_other_type():
    metrics = pd.DataFrame(
        sample_roc(value, dataset="mimii", category=category)
        for category, value in (("fan_id_00", 0.6), ("fan_id_02", 0.7), ("fanfare_id_00", 0.1))
    )
    printed = paper_row(table="1", dataset="mimii", category="fan", value=65.0, conditions=12)
    row = compared(metrics, printed, encoder="aisfx").iloc[0]
    assert (row["published"], row["conditions_published"]) == (65.0, 2)


def test_quoted_values_are_never_called_comparable(tiny):
    printed = paper_row(note="quoted from elsewhere", conditions=2, value=75.0)
    metrics = tiny.assign(encoder=PAPER_ENCODER)
    row = compared(metrics, printed, encoder=PAPER_ENCODER).iloc[0]
    assert row["comparable"] == "no: the paper quotes this value"


def test_paper_values_are_complete_and_known(tiny):
    paper = pd.read_csv(PAPER_VALUES, sep="\t", dtype={"table": str})
    assert paper["dataset"].value_counts().to_dict() == {"mimii": 36, "envmix": 36}
    assert set(paper["method"]) <= set(DETECTORS)
    key = ["table", "dataset", "category", "method", "level", "metric"]
    printed = paper.dropna(subset="value")
    assert set(paper.loc[paper["value"].isna(), "table"]) == {"2"}
    assert not paper.duplicated(key).any() and printed["value"].between(0, 100).all()
    best = printed[(printed["category"] == "all") & (printed["method"] == "patchcore")]
    assert best["value"].tolist() == [90.6, 85.8, 36.8, 58.3, 76.4, 59.9, 82.9]
    table = compared(tiny, paper, encoder="aisfx")
    assert len(table) == 72
    verdicts = table.groupby("verdict").size().to_dict()
    assert verdicts == {"lower": 2, "not recoverable": 8, "not run": 62}
    text = to_markdown(table, stamp=STAMP)
    assert STAMP in text and "| 90.6 | 50.0 [49.8, 50.2] | -40.6 | 2/24† |" in text
    assert STAMP in to_tsv(table, stamp=STAMP) and r"\begin{tabular}" in to_latex(table, stamp="")
