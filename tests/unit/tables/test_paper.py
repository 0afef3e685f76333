"""The EnvMix table: values by hand, intervals, what is bold, gaps that stay visible, markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from metric_rows import draws_for, sample_roc

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.labels import method_order
from vision_to_sound.metrics_table import Draws
from vision_to_sound.tables.formats import to_html, to_latex, to_markdown, to_tsv
from vision_to_sound.tables.means import metric_rows
from vision_to_sound.tables.paper import PAPER_COLUMNS, envmix_table

STAMP = "SYNTHETIC SOUNDS: 100 % made up"


def table_of(metrics: pd.DataFrame, *, protocol: str = "published", by: str | None = None, **noise):
    """EnvMix table of the encoder aisfx, with draws of little noise that all methods share."""
    draws = draws_for(metrics, **noise)
    return envmix_table(metrics, draws, protocol=protocol, encoder="aisfx", by=by)


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
    padim = row_of(table_of(tiny), "padim")
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
        table = table_of(metrics, protocol=protocol)
        assert table.loc[0, "spectrogram_pro_mean"] == pytest.approx(expected)
    means = [name for name in table.columns if name.endswith("_mean")]
    assert means == [
        f"{level}_{metric}_mean" for level, names in PAPER_COLUMNS.items() for metric in names
    ]
    assert "chance is 15" in to_markdown(table, stamp="")


def test_rows_are_in_the_papers_order_with_controls_last():
    names = "random zebra spade stfpm oracle autoencoder patchcore cfa padim".split()
    expected = "autoencoder cfa padim patchcore stfpm spade zebra oracle random".split()
    assert method_order(names) == method_order(reversed(names)) == expected


def test_one_seed_has_no_spread(tiny):
    table = table_of(tiny[tiny["seed"] == 0])
    assert table["sample_roc_std"].isna().all()
    text = to_markdown(table, stamp="")
    assert "±" not in text and "n=1" in text


def test_missing_experiment_is_flagged_and_not_bold(tiny):
    gone = (tiny["method"] == "padim") & (tiny["category"] == "dog") & (tiny["seed"] == 1)
    table = table_of(tiny[~gone])
    padim = row_of(table, "padim")
    assert (padim["experiments"], padim["expected"]) == (3, 4)
    assert padim["missing"] == "dog 0 dB seed 1"
    text = to_markdown(table, stamp="")
    assert "| 3/4† |" in text and "missing: dog 0 dB seed 1." in text
    assert "77.5 ± 10.6 [" in text  # seeds: (80 + 90) / 2 and 70
    assert "**" not in text, "neither the incomplete one nor the only complete one"
    assert row_of(table, "patchcore")["missing"] == ""


def test_undefined_value_counts_as_missing(tiny):
    tiny.loc[tiny["method"] == "padim", "value"] = [0.8, np.nan, 0.9, 0.6]
    padim = row_of(table_of(tiny), "padim")
    assert (padim["sample_roc_n"], padim["missing"]) == (3, "siren 0 dB seed 1")


def test_method_without_any_value_is_a_dash(tiny):
    tiny.loc[tiny["method"] == "padim", "value"] = np.nan
    table = table_of(tiny)
    label = DETECTORS["padim"].label
    assert f"| {label} | – | – |" in to_markdown(table, stamp="")
    assert row_of(table, "padim")["experiments"] == 0


def test_best_non_control_is_bold_in_every_markup(tiny):
    table = table_of(tiny)
    text, latex, page = (render(table, stamp="") for render in (to_markdown, to_latex, to_html))
    assert text.count("**") == 2 and "**75.0** ± 14.1 [" in text
    assert latex.count(r"\textbf{") == 1
    assert r"\textbf{75.0} {\scriptsize $\pm$ 14.1 [" in latex
    assert page.count("<b>") == 1 and '<b>75.0</b> <span class="spread">± 14.1 [' in page
    assert "| *Controls* |" in text and r"\emph{Controls}" in latex
    assert "Bold: ahead of every other complete method" in text


def test_interval_is_that_of_the_mean_of_draws(tiny):
    padim = tiny[(tiny["method"] == "padim") & ~((tiny["category"] == "dog") & (tiny["seed"] == 1))]
    draws = draws_for(padim, shared=0.0, own=0.1)
    row = envmix_table(padim, draws, protocol="published", encoder="aisfx").iloc[0]
    siren0, siren1, dog0 = 100.0 * draws.of(padim).astype(np.float64)
    means = ((siren0 + dog0) / 2 + siren1) / 2  # over classes per seed, then over seeds
    expected = np.percentile(means, [2.5, 97.5]) - means.mean() + row["sample_roc_mean"]
    assert [row["sample_roc_low"], row["sample_roc_high"]] == pytest.approx(expected)
    assert row["sample_roc_low"] < row["sample_roc_mean"] == 77.5 < row["sample_roc_high"]
    assert np.isnan(row["temporal_roc_low"]) and row["interval_percent"] == 95.0


def test_a_draw_that_lacks_a_condition_is_judged_by_the_others(tiny):
    """Each draw lacks one of two classes in turn: the interval is that of single classes, moved to their mean."""
    padim = tiny[(tiny["method"] == "padim") & (tiny["seed"] == 0)]
    draws = draws_for(padim, shared=0.0, own=0.02)
    values = draws.values.copy()
    assert len(values) == 2
    values[0, ::2] = values[1, 1::2] = np.nan
    lacking = Draws(draws.names, values, draws.interval)
    row = envmix_table(padim, lacking, protocol="published", encoder="aisfx").iloc[0]
    deviations = 100.0 * (values - padim["value"].to_numpy()[:, None])
    means = np.nansum(deviations, axis=0)  # of the one that is there
    expected = np.percentile(means, [2.5, 97.5]) - means.mean() + row["sample_roc_mean"]
    assert [row["sample_roc_low"], row["sample_roc_high"]] == pytest.approx(expected, abs=1e-4)
    values[0, :] = np.nan  # nothing is known of the first class
    values[0, 0] = values[1, 0]
    row = envmix_table(padim, lacking, protocol="published", encoder="aisfx").iloc[0]
    assert np.isnan(row["sample_roc_low"]) and np.isfinite(row["sample_roc_mean"])


def test_intervals_stay_within_0_and_100(tiny):
    table = table_of(tiny, shared=0.3)
    assert row_of(table, "oracle")["sample_roc_high"] == 100.0
    assert "100.0 ± 0.0 [" in to_markdown(table, stamp="")


def test_bold_goes_by_the_paired_difference(tiny):
    """Wide intervals that overlap do not matter where methods rise and fall together."""
    tiny.loc[tiny["method"] == "patchcore", "value"] = 0.74
    together, apart = table_of(tiny, shared=0.05), table_of(tiny, shared=0.0, own=0.05)
    for table in (together, apart):
        padim, patchcore = row_of(table, "padim"), row_of(table, "patchcore")
        assert padim["sample_roc_low"] < patchcore["sample_roc_high"]
    assert row_of(together, "padim")["sample_roc_best"]
    assert not apart["sample_roc_best"].any()
    assert "Nothing is bold" in to_markdown(apart, stamp="")


def test_bold_needs_to_beat_every_other_method(tiny):
    third = tiny[tiny["method"] == "padim"].assign(method="cfa")
    metrics = pd.concat([tiny, third])
    assert not table_of(metrics)["sample_roc_best"].any(), "two equal methods lead"
    metrics.loc[metrics["method"] == "cfa", "value"] -= 0.01
    assert row_of(table_of(metrics), "padim")["sample_roc_best"]


@pytest.mark.parametrize(("n_clips", "bold"), [(10, True), (4, False)])
def test_a_few_clips_make_nothing_bold(tiny, n_clips, bold):
    """Two classes and seeds: 2 x n_clips per seed. Four clips of a kind give intervals without width."""
    tiny["n_clips"] = n_clips
    assert ("**" in to_markdown(table_of(tiny), stamp="")) == bold


@pytest.mark.parametrize(
    ("leads", "bold"),
    [
        ([0.10, 0.11], False),  # two seeds
        ([0.10, 0.11, 0.12], True),
        ([0.01, 0.10, 0.20], False),  # t interval: 10.3 - 4.3 * 9.5 / sqrt(3) < 0
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_columns_without_draws_are_bold_by_seeds(leads, bold):
    rows = [
        sample_roc(0.5 + 0.1 * seed + ahead, level="temporal", method=method, seed=seed)
        for seed, lead in enumerate(leads)
        for method, ahead in (("padim", lead), ("patchcore", 0.0))
    ]
    table = table_of(pd.DataFrame(rows))
    assert row_of(table, "padim")["temporal_roc_best"] == bold
    assert not row_of(table, "patchcore")["temporal_roc_best"]


def test_methods_with_an_encoder_of_their_own_are_in_every_table(tiny):
    own = tiny[tiny["method"] == "padim"].assign(method="autoencoder", encoder="logmel_dcase2020")
    other = tiny[tiny["method"] == "padim"].assign(encoder="panns_cnn14", value=0.1)
    table = table_of(pd.concat([tiny, own, other]))
    assert list(table["method"]) == ["autoencoder", "padim", "patchcore", "oracle"]
    assert row_of(table, "padim")["sample_roc_mean"] == pytest.approx(75.0)
    assert set(table["encoder"]) == {"aisfx"}
    text = to_markdown(table, stamp="")
    assert "works on logmel_dcase2020 whatever the encoder is." in text
    assert "logmel_dcase2020" not in to_markdown(table_of(tiny), stamp="")


def test_rows_of_one_metric(tiny):
    rows = {"encoder": "aisfx", "dataset": "envmix", "level": "sample"}
    assert len(metric_rows(tiny, **rows, metric="roc")) == 12
    with pytest.raises(ValueError, match="no finite 'auroc' of level 'sample'.*it has roc"):
        metric_rows(tiny, **rows, metric="auroc")
    with pytest.raises(ValueError, match="data set 'mimii'.*it has nothing"):
        metric_rows(tiny, **rows | {"dataset": "mimii"}, metric="roc")


def test_latex_has_groups_and_balanced_braces(tiny):
    latex = to_latex(table_of(tiny), stamp=STAMP)
    for part in (r"\toprule", r"\bottomrule", r"\multicolumn{3}{c}{Spectrogram}"):
        assert part in latex
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-6} \cmidrule(lr){7-8}" in latex
    assert latex.count("{") == latex.count("}")
    body = [line for line in latex.splitlines() if line.startswith(("PaDiM", "Method"))]
    assert [line.count("&") for line in body] == [9, 9]
    assert r"100 \% made up" in latex, "a bare percent sign would comment out the rest of the line"


@pytest.mark.parametrize("by", [None, "snr_db", "category"])
def test_stamp_is_visible_in_every_format(tiny, by):
    table = table_of(tiny, by=by)
    assert to_markdown(table, stamp=STAMP).splitlines()[0] == f"> **{STAMP}**"
    assert STAMP.replace("%", r"\%") in to_latex(table, stamp=STAMP)
    lines = to_tsv(table, stamp=STAMP).splitlines()
    assert lines[0].startswith("stamp\t") and all(row.startswith(STAMP) for row in lines[1:])
    for render in (to_markdown, to_latex, to_tsv):
        assert "SYNTHETIC" not in render(table, stamp="")


def test_text_does_not_depend_on_the_order_of_rows(tiny):
    shuffled = tiny.sample(frac=1.0, random_state=3)
    for render in (to_markdown, to_latex, to_tsv):
        texts = {render(table_of(rows, by="category"), stamp="") for rows in (tiny, shuffled)}
        assert len(texts) == 1


def test_tsv_keeps_mean_and_spread_apart(tiny, tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text(to_tsv(table_of(tiny), stamp=""))
    padim = row_of(pd.read_csv(path, sep="\t"), "padim")
    assert (padim["sample_roc_mean"], padim["sample_roc_std"]) == (75.0, 14.1)
    assert np.isnan(padim["temporal_roc_mean"])


def test_companion_tables_split_by_class_and_snr(tiny):
    harder = tiny.assign(snr_db=6, value=tiny["value"] - 0.1)
    metrics = pd.concat([tiny, harder[harder["method"] != "patchcore"]])
    by_snr = table_of(metrics, by="snr_db")
    assert list(by_snr["snr_db"]) == [0, 0, 0, 6, 6, 6]
    assert by_snr["sample_roc_mean"].tolist()[:2] == pytest.approx([75.0, 50.0])
    lost = by_snr.iloc[4]  # a method without this SNR keeps its row
    assert (lost["method"], lost["experiments"], lost["expected"]) == ("patchcore", 0, 4)
    assert "SNR +6 dB" in to_markdown(by_snr, stamp="")
    by_class = table_of(metrics, by="category")
    siren = by_class[(by_class["category"] == "siren") & (by_class["method"] == "padim")].iloc[0]
    # seeds: (80 + 70) / 2 and (70 + 60) / 2 over the two SNRs
    assert siren["sample_roc_mean"] == pytest.approx(70.0)
    assert siren["expected"] == 4


def test_stale_values_are_named(tiny):
    tiny["stale"] = tiny["seed"] == 1
    text = to_markdown(table_of(tiny), stamp="")
    assert f"{DETECTORS['padim'].label}: 2 experiments come from other code (stale)." in text


def test_errors_say_what_is_wrong(tiny):
    draws = draws_for(tiny)
    with pytest.raises(ValueError, match="did you mean 'published'"):
        envmix_table(tiny, draws, protocol="publishd", encoder="aisfx")
    with pytest.raises(ValueError, match="aisfx"):
        envmix_table(tiny, draws, protocol="published", encoder="aisfy")
    with pytest.raises(ValueError, match="no rows of data set 'envmix'"):
        table_of(tiny, protocol="leakfree")
    with pytest.raises(ValueError, match="occur twice"):
        table_of(pd.concat([tiny, tiny[:1]]))
    with pytest.raises(ValueError, match="stale"):
        table_of(tiny.drop(columns="stale"))
    with pytest.raises(ValueError, match="blank"):
        table_of(tiny.assign(headline=[True] * 11 + [None]))
    with pytest.raises(ValueError, match=r"by: expected None.*'machine'"):
        table_of(tiny, by="machine")
    few = Draws(draws.names[1:], draws.values[1:], draws.interval)
    with pytest.raises(ValueError, match="1 of 4 sample rows have no bootstrap draws, first publ"):
        envmix_table(tiny, few, protocol="published", encoder="aisfx")


def test_html_is_well_formed_and_holds_every_row(tiny):
    frame = table_of(tiny)
    page = to_html(frame, stamp="A <stamp> & more")
    body = page.replace("<!DOCTYPE html>", "").replace('<meta charset="utf-8">', "")
    tree = ElementTree.fromstring(body.strip())
    text = " ".join(tree.itertext())
    assert "A <stamp> & more" in text
    for label in frame["label"]:
        assert label in text
    widths = {len(row) for row in tree.iter("tr") if len(row) > 1 and row[0].tag == "td"}
    assert len(widths) == 1
