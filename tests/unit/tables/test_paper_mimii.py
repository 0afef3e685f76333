"""Table 1 (MIMII): machine types as column groups, quoted numbers apart, ids and SNRs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metric_rows import draws_for, sample_roc

from vision_to_sound.tables.formats import to_html, to_latex, to_markdown, to_tsv
from vision_to_sound.tables.paper import mimii_table

PAPER_VALUES = Path(__file__).resolve().parents[3] / "config" / "paper_values.tsv"


@pytest.fixture
def machines() -> pd.DataFrame:
    """Two types with two ids, two SNRs, two seeds, two methods and a control; ROC and F1."""
    rows = []
    categories = ("valve_id_00", "valve_id_02", "fan_id_00", "fan_id_04")
    for category, snr_db, seed, method, metric in product(
        categories, (0, 6), (42, 43), ("padim", "stfpm", "random"), ("roc", "f1")
    ):
        value = {"padim": 0.7, "stfpm": 0.6, "random": 0.5}[method]
        value += 0.1 * category.startswith("fan") + 0.02 * category.endswith("4")
        value += 0.04 * (snr_db == 6) + 0.02 * (seed == 43) - 0.01 * (metric == "f1")
        rows.append(
            sample_roc(value, dataset="mimii", category=category, snr_db=snr_db, seed=seed)
            | {"method": method, "metric": metric}
        )
    return pd.DataFrame(rows)


@pytest.fixture
def paper() -> pd.DataFrame:
    return pd.read_csv(PAPER_VALUES, sep="\t")


def table_of(metrics, paper, *, by=None) -> pd.DataFrame:
    draws = draws_for(metrics, shared=0.03)
    return mimii_table(metrics, draws, paper, protocol="published", encoder="aisfx", by=by)


def test_means_by_hand_and_the_papers_shape(machines, paper):
    table = table_of(machines, paper)
    assert list(table["method"]) == ["padim", "stfpm", "random", "quoted"]
    means = [name for name in table.columns if name.endswith("_mean")]
    assert means == ["fan_f1_mean", "fan_roc_mean", "valve_f1_mean", "valve_roc_mean"]
    padim = table.iloc[0]
    # fan: 80 and 82 by id, + 0 or 4 by SNR, + 0 or 2 by seed: seeds 83 and 85
    assert padim["fan_roc_mean"] == pytest.approx(84.0)
    assert padim["fan_roc_std"] == pytest.approx(np.sqrt(2.0))
    assert padim["valve_f1_mean"] == pytest.approx(72.0)
    assert (padim["fan_roc_n"], padim["fan_roc_of"]) == (8, 8)
    assert (padim["experiments"], padim["expected"], padim["seeds"]) == (16, 16, 2)
    assert padim["fan_roc_low"] < 84.0 < padim["fan_roc_high"]
    assert padim["fan_roc_best"] and not table.iloc[1]["fan_roc_best"]


def test_quoted_baseline_stands_apart(machines, paper):
    table = table_of(machines, paper)
    quoted = table.iloc[-1]
    assert quoted["quoted"] and table["quoted"].sum() == 1
    assert (quoted["fan_roc_mean"], quoted["valve_roc_mean"]) == (65.8, 66.3)
    assert np.isnan(quoted["fan_f1_mean"])
    text = to_markdown(table, stamp="")
    lines = text.splitlines()
    row = lines.index("| Baseline, as quoted | – | 65.8 | – | 66.3 | – | – |")
    assert lines[row - 1].startswith("| *Quoted by the paper, from other data* |")
    assert "Baseline" not in to_markdown(table_of(machines, paper, by="id"), stamp="")
    machines["value"] = 0.1  # a quoted number beats nobody
    machines.loc[machines["method"] == "padim", "value"] = 0.2
    assert table_of(machines, paper).iloc[0]["fan_roc_best"]


def test_the_direction_of_snr_is_said(machines, paper):
    for by in (None, "snr_db", "id"):
        text = to_markdown(table_of(machines, paper, by=by), stamp="")
        assert "machine over factory noise: +6 dB is the easy case" in text
        assert "background over event" not in text


def test_by_id_and_by_snr(machines, paper):
    by_id = table_of(machines, paper, by="id")
    assert list(by_id["id"]) == ["00"] * 3 + ["02"] * 3 + ["04"] * 3
    padim = by_id[by_id["method"] == "padim"].set_index("id")
    assert padim.loc["00", "fan_roc_mean"] == pytest.approx(83.0)
    assert padim.loc["04", "fan_roc_mean"] == pytest.approx(85.0)
    assert np.isnan(padim.loc["02", "fan_roc_mean"]), "there is no fan 02"
    assert list(padim["expected"]) == [8, 4, 4] and not padim["missing"].any()
    assert "Machine id 04" in to_markdown(by_id, stamp="")
    by_snr = table_of(machines, paper, by="snr_db")
    padim = by_snr[by_snr["method"] == "padim"].set_index("snr_db")
    assert padim["valve_roc_mean"].tolist() == pytest.approx([71.0, 75.0])
    assert "SNR +6 dB, controls" in to_markdown(by_snr, stamp="")


def test_missing_machines_are_gaps(machines, paper):
    gone = (machines["method"] == "padim") & machines["category"].str.startswith("fan")
    table = table_of(machines[~gone], paper)
    padim = table.iloc[0]
    assert (padim["experiments"], padim["expected"], padim["fan_roc_n"]) == (8, 16, 0)
    assert padim["missing"].startswith("fan_id_00 0 dB seed 42; ")
    one = gone & (machines["seed"] == 43) & (machines["category"] == "fan_id_04")
    table = table_of(machines[~one], paper)
    text = to_markdown(table, stamp="")
    padim = next(line for line in text.splitlines() if line.startswith("| PaDiM"))
    assert padim.count("†") == 3, "both fan columns and the count"
    assert "**" in padim, "its valve columns are complete"


def test_every_markup(machines, paper):
    table = table_of(machines, paper)
    latex = to_latex(table, stamp="MADE UP")
    assert r"\multicolumn{2}{c}{Fan} & \multicolumn{2}{c}{Valve}" in latex
    assert latex.count("{") == latex.count("}") and "MADE UP" in latex
    assert "Baseline, as quoted" in to_html(table, stamp="")
    header = to_tsv(table, stamp="").splitlines()[0].split("\t")
    assert {"fan_roc_low", "fan_roc_high", "quoted"} <= set(header)


def test_errors(machines, paper):
    with pytest.raises(ValueError, match=r"'fan_id_00', got \['fan/id_00'\]"):
        table_of(machines.replace({"category": {"fan_id_00": "fan/id_00"}}), paper)
    with pytest.raises(ValueError, match=r"by: expected None.*'category'"):
        table_of(machines, paper, by="category")
