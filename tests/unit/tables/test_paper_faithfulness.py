"""Table 2 (faithfulness): versions as rows, methods as columns, other masks below."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest
from metric_rows import draws_for, sample_roc

from vision_to_sound.tables.formats import to_html, to_latex, to_markdown, to_tsv
from vision_to_sound.tables.paper import envmix_table, faithfulness_table

SUFFIXES = ("", "_oracle_mask", "_random_mask", "_anomalous", "_oracle_mask_anomalous")


@pytest.fixture
def metrics() -> pd.DataFrame:
    """Two classes, three seeds, two methods; faithfulness beside sample ROC."""
    rows = []
    for category, seed, method in product(("siren", "dog"), (0, 1, 2), ("padim", "patchcore")):
        names = {"category": category, "seed": seed, "method": method}
        rows.append(sample_roc(0.5, **names))
        for version, suffix in product(("ff_v1", "ff_v2"), SUFFIXES):
            value = 0.1 + 0.01 * seed + 0.02 * (category == "dog") + 0.3 * ("oracle" in suffix)
            value += 0.05 * (method == "padim") - 0.3 * (version == "ff_v1")
            value += 0.5 * suffix.endswith("anomalous")
            rows.append(
                sample_roc(value, level="faithfulness", metric=version + suffix, **names)
                | {"headline": suffix == ""}
            )
    return pd.DataFrame(rows)


def table_of(metrics, *, protocol="published") -> pd.DataFrame:
    return faithfulness_table(metrics, draws_for(metrics), protocol=protocol, encoder="aisfx")


def test_values_by_hand_in_the_papers_shape(metrics):
    table = table_of(metrics)
    assert list(table["mask"]) == ["own", "own", "oracle", "oracle", "random", "random"]
    assert list(table["metric"]) == ["ff_v1", "ff_v2"] * 3
    # own map, version 2, PatchCore: classes 10 and 12, seeds + 0, 1, 2
    own = table.iloc[1]
    assert own["patchcore_mean"] == pytest.approx(12.0) and own["patchcore_std"] == pytest.approx(1)
    assert table.iloc[3]["patchcore_mean"] == pytest.approx(42.0)
    assert table.iloc[0]["padim_mean"] == pytest.approx(-13.0)
    assert own["padim_best"] and not own["patchcore_best"], "ahead by 5 in each of three seeds"
    assert (own["expected"], own["padim_n"], own["seeds"]) == (6, 6, 3)


def test_markup_has_versions_as_rows(metrics):
    table = table_of(metrics)
    text = to_markdown(table, stamp="MADE UP")
    assert "| Metric | Methods PaDiM | Methods PatchCore |" in text
    assert "| FF v2 | **17.0** ± 1.0 | 12.0 ± 1.0 |" in text
    assert "| FF v1 | **-13.0** ± 1.0 | -18.0 ± 1.0 |" in text
    assert "*Control: the true mask instead*" in text and "not recoverable" in text
    latex = to_latex(table, stamp="MADE UP")
    assert latex.count("{") == latex.count("}")
    for render in (to_markdown, to_latex, to_html, to_tsv):
        assert "MADE UP" in render(table, stamp="MADE UP")


def test_the_domain_of_the_mask_is_the_protocols(metrics):
    both = pd.concat([metrics, metrics.assign(protocol="leakfree")])
    assert "scales the spectrogram in dB" in to_markdown(table_of(both), stamp="")
    leakfree = to_markdown(table_of(both, protocol="leakfree"), stamp="")
    assert "scales the spectrogram's power" in leakfree


def test_gaps_and_stale_values_are_named(metrics):
    gone = (metrics["method"] == "padim") & (metrics["metric"] == "ff_v2") & (metrics["seed"] == 1)
    metrics = metrics[~(gone & (metrics["category"] == "dog"))].reset_index(drop=True)
    metrics["stale"] = (metrics["method"] == "patchcore") & (metrics["metric"] == "ff_v1")
    table = table_of(metrics)
    assert table.iloc[1]["missing"] == "PaDiM: dog 0 dB seed 1"
    assert not table.iloc[1]["padim_best"]
    text = to_markdown(table, stamp="")
    assert "† FF v2 (own mask), missing: PaDiM: dog 0 dB seed 1." in text
    assert "FF v1 (own mask): values of PatchCore come from other code (stale)." in text


def test_absent_controls_and_absent_rows(metrics):
    plain = metrics[~metrics["metric"].str.contains("mask")]
    assert list(table_of(plain)["mask"]) == ["own", "own"]
    with pytest.raises(ValueError, match="no rows of level 'faithfulness'.*faithfulness.methods"):
        table_of(metrics[metrics["level"] == "sample"])


def test_faithfulness_rows_do_not_enter_the_envmix_table(metrics):
    sample = metrics[metrics["level"] == "sample"]
    tables = [
        envmix_table(rows, draws_for(rows), protocol="published", encoder="aisfx")
        for rows in (metrics, sample)
    ]
    pd.testing.assert_frame_equal(*tables)
