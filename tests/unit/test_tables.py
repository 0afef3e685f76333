"""The paper's tables: values by hand, gaps that stay visible, markup and the comparison."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.table_formats import to_latex, to_markdown, to_tsv
from vision_to_sound.tables import (
    PAPER_COLUMNS,
    PAPER_ENCODER,
    compare_with_paper,
    envmix_table,
    method_order,
)

STAMP = "SYNTHETIC SOUNDS: 100 % made up"
PAPER_VALUES = Path(__file__).resolve().parents[2] / "config" / "paper_values.tsv"


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
        "n_anomalous": 20,
        "device": "cpu",
        "code": "abc",
        "stale": False,
    }
    return row | identity


@pytest.fixture
def tiny() -> pd.DataFrame:
    """Two classes x two seeds of three methods; sample ROC only."""
    values = {  # (class, seed)
        "padim": {("siren", 0): 0.80, ("siren", 1): 0.70, ("dog", 0): 0.90, ("dog", 1): 0.60},
        "patchcore": {("siren", 0): 0.5, ("siren", 1): 0.5, ("dog", 0): 0.5, ("dog", 1): 0.5},
        "oracle": {("siren", 0): 1.0, ("siren", 1): 1.0, ("dog", 0): 1.0, ("dog", 1): 1.0},
    }
    return pd.DataFrame(
        sample_roc(value, method=method, category=category, seed=seed)
        for method, cells in values.items()
        for (category, seed), value in cells.items()
    )


def row_of(table: pd.DataFrame, method: str) -> pd.Series:
    return table.set_index("method").loc[method]


def test_mean_and_spread_are_over_seeds_of_class_means(tiny):
    padim = row_of(envmix_table(tiny, protocol="published", encoder="aisfx"), "padim")
    # seed 0: (80 + 90) / 2 = 85; seed 1: (70 + 60) / 2 = 65; mean 75; deviation sqrt(2 * 10^2 / 1)
    assert padim["sample_roc_mean"] == pytest.approx(75.0)
    assert padim["sample_roc_std"] == pytest.approx(np.sqrt(200.0))
    assert (padim["seeds"], padim["experiments"], padim["expected"]) == (2, 4, 4)
    assert np.isnan(padim["temporal_roc_mean"]) and padim["temporal_roc_n"] == 0


def test_columns_are_the_papers_and_pro_is_the_protocols_headline():
    values = {"au_pro_published": 0.6, "au_pro_standard": 0.2}
    rows = [
        sample_roc(value, protocol=protocol, level="spectrogram", truth=protocol, metric=metric)
        | {"headline": metric == headline}
        for protocol, headline in zip(("published", "leakfree"), values, strict=True)
        for metric, value in values.items()
    ]
    metrics = pd.DataFrame(rows)
    for protocol, expected in (("published", 60.0), ("leakfree", 20.0)):
        table = envmix_table(metrics, protocol=protocol, encoder="aisfx")
        assert table.loc[0, "spectrogram_pro_mean"] == pytest.approx(expected)
    means = [name for name in table.columns if name.endswith("_mean")]
    assert means == [
        f"{level}_{metric}_mean" for level, names in PAPER_COLUMNS.items() for metric in names
    ]
    assert "chance is 15" in to_markdown(table, stamp="")


def test_rows_are_in_the_papers_order_with_controls_last():
    names = ["random", "zebra", "stfpm", "oracle", "autoencoder", "patchcore", "cfa", "padim"]
    expected = ["autoencoder", "cfa", "padim", "patchcore", "stfpm", "zebra", "oracle", "random"]
    assert method_order(names) == method_order(reversed(names)) == expected


def test_one_seed_has_no_spread(tiny):
    table = envmix_table(tiny[tiny["seed"] == 0], protocol="published", encoder="aisfx")
    assert table["sample_roc_std"].isna().all()
    text = to_markdown(table, stamp="")
    assert "±" not in text and "n=1" in text


def test_missing_experiment_is_flagged_and_not_bold(tiny):
    gone = (tiny["method"] == "padim") & (tiny["category"] == "dog") & (tiny["seed"] == 1)
    table = envmix_table(tiny[~gone], protocol="published", encoder="aisfx")
    padim = row_of(table, "padim")
    assert (padim["experiments"], padim["expected"]) == (3, 4)
    assert padim["missing"] == "dog 0 dB seed 1"
    text = to_markdown(table, stamp="")
    assert "| 3/4† |" in text and "missing: dog 0 dB seed 1." in text
    assert "**50.0**" in text, "the best of the complete methods is bold"
    assert "**77.5**" not in text and "77.5 ± 10.6†" in text  # seeds: (80 + 90) / 2 and 70
    assert row_of(table, "patchcore")["missing"] == ""


def test_incomplete_mean_is_not_bold_even_in_a_tie(tiny):
    tiny.loc[tiny["method"] == "padim", "value"] = [0.5, 0.5, 0.5, np.nan]
    text = to_markdown(envmix_table(tiny, protocol="published", encoder="aisfx"), stamp="")
    assert text.count("**50.0**") == 1 and "| 50.0 ± 0.0† |" in text


def test_undefined_value_counts_as_missing(tiny):
    tiny.loc[tiny["method"] == "padim", "value"] = [0.8, np.nan, 0.9, 0.6]
    padim = row_of(envmix_table(tiny, protocol="published", encoder="aisfx"), "padim")
    assert (padim["sample_roc_n"], padim["missing"]) == (3, "siren 0 dB seed 1")


def test_method_without_any_value_is_a_dash(tiny):
    tiny.loc[tiny["method"] == "padim", "value"] = np.nan
    table = envmix_table(tiny, protocol="published", encoder="aisfx")
    label = DETECTORS["padim"].label
    assert f"| {label} | – | – |" in to_markdown(table, stamp="")
    assert row_of(table, "padim")["experiments"] == 0


def test_best_non_control_is_bold_in_markdown_and_latex(tiny):
    table = envmix_table(tiny, protocol="published", encoder="aisfx")
    text, latex = to_markdown(table, stamp=""), to_latex(table, stamp="")
    assert text.count("**") == 2 and "**75.0** ± 14.1" in text
    assert latex.count(r"\textbf{") == 1 and r"\textbf{75.0} {\scriptsize $\pm$ 14.1}" in latex
    assert "| *Controls* |" in text and r"\emph{Controls}" in latex


def test_latex_has_groups_and_balanced_braces(tiny):
    latex = to_latex(envmix_table(tiny, protocol="published", encoder="aisfx"), stamp=STAMP)
    for part in (r"\toprule", r"\bottomrule", r"\multicolumn{3}{c}{Spectrogram}"):
        assert part in latex
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-6} \cmidrule(lr){7-8}" in latex
    assert latex.count("{") == latex.count("}")
    body = [line for line in latex.splitlines() if line.startswith(("PaDiM", "Method"))]
    assert [line.count("&") for line in body] == [9, 9]
    assert r"100 \% made up" in latex, "a bare percent sign would comment out the rest of the line"


@pytest.mark.parametrize("by", [None, "snr_db", "category"])
def test_stamp_is_visible_in_every_format(tiny, by):
    table = envmix_table(tiny, protocol="published", encoder="aisfx", by=by)
    assert to_markdown(table, stamp=STAMP).splitlines()[0] == f"> **{STAMP}**"
    assert STAMP.replace("%", r"\%") in to_latex(table, stamp=STAMP)
    lines = to_tsv(table, stamp=STAMP).splitlines()
    assert lines[0].startswith("stamp\t") and all(row.startswith(STAMP) for row in lines[1:])
    for render in (to_markdown, to_latex, to_tsv):
        assert "SYNTHETIC" not in render(table, stamp="")


def test_text_does_not_depend_on_the_order_of_rows(tiny):
    shuffled = tiny.sample(frac=1.0, random_state=3)
    for render in (to_markdown, to_latex, to_tsv):
        texts = {
            render(
                envmix_table(rows, protocol="published", encoder="aisfx", by="category"), stamp=""
            )
            for rows in (tiny, shuffled)
        }
        assert len(texts) == 1


def test_tsv_keeps_mean_and_spread_apart(tiny, tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text(to_tsv(envmix_table(tiny, protocol="published", encoder="aisfx"), stamp=""))
    padim = row_of(pd.read_csv(path, sep="\t"), "padim")
    assert (padim["sample_roc_mean"], padim["sample_roc_std"]) == (75.0, 14.1)
    assert np.isnan(padim["temporal_roc_mean"])


def test_companion_tables_split_by_class_and_snr(tiny):
    harder = tiny.assign(snr_db=6, value=tiny["value"] - 0.1)
    metrics = pd.concat([tiny, harder[harder["method"] != "patchcore"]])
    by_snr = envmix_table(metrics, protocol="published", encoder="aisfx", by="snr_db")
    assert list(by_snr["snr_db"]) == [0, 0, 0, 6, 6, 6]
    assert by_snr["sample_roc_mean"].tolist()[:2] == pytest.approx([75.0, 50.0])
    lost = by_snr.iloc[4]  # a method without this SNR keeps its row
    assert (lost["method"], lost["experiments"], lost["expected"]) == ("patchcore", 0, 4)
    assert "SNR +6 dB" in to_markdown(by_snr, stamp="")
    by_class = envmix_table(metrics, protocol="published", encoder="aisfx", by="category")
    siren = by_class[(by_class["category"] == "siren") & (by_class["method"] == "padim")].iloc[0]
    # seeds: (80 + 70) / 2 and (70 + 60) / 2 over the two SNRs
    assert siren["sample_roc_mean"] == pytest.approx(70.0)
    assert siren["expected"] == 4


def test_stale_values_are_named(tiny):
    tiny["stale"] = tiny["seed"] == 1
    text = to_markdown(envmix_table(tiny, protocol="published", encoder="aisfx"), stamp="")
    assert f"{DETECTORS['padim'].label}: 2 experiments come from other code (stale)." in text


def test_errors_say_what_is_wrong(tiny):
    with pytest.raises(ValueError, match="did you mean 'published'"):
        envmix_table(tiny, protocol="publishd", encoder="aisfx")
    with pytest.raises(ValueError, match="aisfx"):
        envmix_table(tiny, protocol="published", encoder="aisfy")
    with pytest.raises(ValueError, match="no headline rows"):
        envmix_table(tiny, protocol="leakfree", encoder="aisfx")
    with pytest.raises(ValueError, match="occur twice"):
        envmix_table(pd.concat([tiny, tiny[:1]]), protocol="published", encoder="aisfx")
    with pytest.raises(ValueError, match="stale"):
        envmix_table(tiny.drop(columns="stale"), protocol="published", encoder="aisfx")
    with pytest.raises(ValueError, match="blank"):
        broken = tiny.assign(headline=[True] * 11 + [None])
        envmix_table(broken, protocol="published", encoder="aisfx")


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
    row = compare_with_paper(metrics, paper_row(), encoder="aisfx").iloc[0]
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
    row = compare_with_paper(tiny, paper_row(value=printed), encoder="aisfx").iloc[0]
    assert row["verdict"] == verdict


def test_full_run_of_the_papers_encoder_is_comparable():
    metrics = pd.DataFrame(
        sample_roc(0.863, encoder=PAPER_ENCODER, category=f"class{i}", snr_db=snr_db, seed=seed)
        for i, snr_db, seed in itertools.product(range(8), (-6, 0, 6), (0, 1))
    )
    row = compare_with_paper(metrics, paper_row(), encoder=PAPER_ENCODER).iloc[0]
    assert (row["verdict"], row["comparable"], row["leakfree_minus_paper"]) == (
        "within 2 points",
        "yes",
        pytest.approx(np.nan, nan_ok=True),
    )
    row = compare_with_paper(metrics[1:], paper_row(), encoder=PAPER_ENCODER).iloc[0]
    assert row["comparable"] == "no: seeds are missing"


def test_comparison_takes_the_protocols_own_mask():
    rows = [
        sample_roc(value, level="spectrogram", truth=truth, headline=truth == "published")
        for truth, value in (("published", 0.7), ("leakfree", 0.2))
    ]
    printed = paper_row(level="spectrogram", value=70.0)
    row = compare_with_paper(pd.DataFrame(rows), printed, encoder="aisfx").iloc[0]
    assert (row["published"], row["conditions_published"]) == (70.0, 1)


def test_machine_type_covers_its_ids_and_no_other_type():
    metrics = pd.DataFrame(
        sample_roc(value, dataset="mimii", category=category)
        for category, value in (("fan_id_00", 0.6), ("fan/id_02", 0.7), ("fanfare_id_00", 0.1))
    )
    printed = paper_row(table="1", dataset="mimii", category="fan", value=65.0, conditions=12)
    row = compare_with_paper(metrics, printed, encoder="aisfx").iloc[0]
    assert (row["published"], row["conditions_published"]) == (65.0, 2)


def test_quoted_values_are_never_called_comparable(tiny):
    printed = paper_row(note="quoted from elsewhere", conditions=2, value=75.0)
    metrics = tiny.assign(encoder=PAPER_ENCODER)
    row = compare_with_paper(metrics, printed, encoder=PAPER_ENCODER).iloc[0]
    assert row["comparable"] == "no: the paper quotes this value"


def test_paper_values_are_complete_and_known(tiny):
    paper = pd.read_csv(PAPER_VALUES, sep="\t", dtype={"table": str})
    assert paper["dataset"].value_counts().to_dict() == {"mimii": 36, "envmix": 28}
    assert set(paper["method"]) <= set(DETECTORS) | {"cfa", "stfpm", "autoencoder"}
    key = ["table", "dataset", "category", "method", "level", "metric"]
    assert not paper.duplicated(key).any() and paper["value"].between(0, 100).all()
    best = paper[(paper["category"] == "all") & (paper["method"] == "patchcore")]
    assert best["value"].tolist() == [90.6, 85.8, 36.8, 58.3, 76.4, 59.9, 82.9]
    table = compare_with_paper(tiny, paper, encoder="aisfx")
    assert len(table) == 64
    assert table.groupby("verdict").size().to_dict() == {"lower": 2, "not run": 62}
    text = to_markdown(table, stamp=STAMP)
    assert STAMP in text and "| 90.6 | 50.0 | -40.6 | 2/24† |" in text
    assert STAMP in to_tsv(table, stamp=STAMP) and r"\begin{tabular}" in to_latex(table, stamp="")


def test_html_is_well_formed_and_holds_every_row(tiny):
    import xml.etree.ElementTree as ElementTree

    from vision_to_sound.table_formats import to_html

    frame = envmix_table(tiny, protocol="published", encoder="aisfx")
    page = to_html(frame, stamp="A <stamp> & more")
    body = page.replace("<!DOCTYPE html>", "").replace('<meta charset="utf-8">', "")
    tree = ElementTree.fromstring(body.strip())
    text = " ".join(tree.itertext())
    assert "A <stamp> & more" in text
    for label in frame["label"]:
        assert label in text
    widths = {len(row) for row in tree.iter("tr") if len(row) > 1 and row[0].tag == "td"}
    assert len(widths) == 1
