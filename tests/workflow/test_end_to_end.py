"""The tiny run: every stage ran, its files are what they say, and the controls hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile

from vision_to_sound.metrics_table import Draws

STAMP = "SYNTHETIC SOUNDS"
METHODS = {"patchcore", "padim", "stfpm", "autoencoder"}
CONTROLS = {"oracle", "random"}
# A phrase of each caption in report/ that stands in one line there.
CAPTIONS = {
    "anomaly_example": "One clip: the mixture that the methods hear",
    "compare_with_paper": "Every number of the paper",
    "framework": "The whole method on one clip (Figure 2 of the paper)",
    "ground_truth": "How the truth of a mixture is made",
    "leaderboard": "Every detector on every encoder, EnvMix under",
    "metric_points": "One metric per background class or machine",
    "paper_table": "Faithfulness of the anomaly maps on EnvMix, in the shape of",
    "protocol_gap": "stays when no field recording is on",
    "score_histogram": "Clip scores of one experiment",
    "skipped_clips": "Clips that were left out because they could not be used",
    "training_curves": "Mean loss of each epoch for the methods that train",
    "workflow": "Two protocols, always side by side.",
}


@pytest.fixture(scope="module")
def results(finished):
    return finished.root / "results"


@pytest.fixture(scope="module")
def metrics(results):
    return pd.read_csv(results / "metrics" / "all.tsv", sep="\t", keep_default_na=False)


def test_the_long_table_has_every_experiment_and_metric(metrics):
    names = "protocol dataset category snr_db encoder method seed level truth metric value".split()
    assert set(names) <= set(metrics.columns)
    evaluated = metrics[metrics["level"] != "faithfulness"]
    rows = evaluated.groupby(["dataset", "protocol", "category", "method"]).size()
    # 2 protocols x (2 classes + 1 machine) x (4 methods + 2 controls)
    assert len(rows["envmix"]) == 2 * 2 * 6 and set(rows["envmix"]) == {12}
    assert len(rows["mimii"]) == 2 * 1 * 6 and set(rows["mimii"]) == {2}
    assert set(metrics["method"]) == METHODS | CONTROLS
    assert not metrics["stale"].any()
    controls = metrics["method"].isin(CONTROLS)  # they do without PyTorch
    assert (metrics.loc[controls, "device"] == "cpu").all()
    assert metrics.loc[~controls, "device"].str.match(r"cpu, torch 2\.").all()
    own = metrics["method"] == "autoencoder"
    assert set(metrics.loc[own, "encoder"]) == {"logmel_dcase2020"}
    assert set(metrics.loc[~own, "encoder"]) == {"aisfx"}


def test_recordings_are_judged_as_wholes(metrics):
    """MIMII says which recordings are abnormal, not when or where."""
    mimii = metrics[metrics["dataset"] == "mimii"]
    assert set(mimii["level"]) == {"sample"}
    assert set(mimii["metric"]) == {"roc", "f1"}
    tested = mimii.groupby("protocol")[["n_clips", "n_anomalous"]].agg(["min", "max"])
    assert tested.loc["published"].tolist() == [2, 2, 1, 1]  # int(0.3 x 4) abnormal, as many normal
    assert tested.loc["leakfree"].tolist() == [8, 8, 4, 4]  # all 4


def test_faithfulness_is_measured_on_envmix(metrics):
    rows = metrics[metrics["level"] == "faithfulness"]
    kinds = [
        f"{v}{mask}{n}"
        for v in ("ff_v1", "ff_v2")
        for mask in ("", "_oracle_mask")
        for n in ("", "_anomalous")
    ]
    assert set(rows["metric"]) == set(kinds)
    assert len(rows) == 2 * 2 * len(kinds)  # protocols, classes
    assert set(rows["method"]) == {"padim"} and set(rows["dataset"]) == {"envmix"}
    assert set(rows.loc[rows["headline"], "metric"]) == {"ff_v1", "ff_v2"}
    assert np.isfinite(rows["value"].astype(float)).all()


def test_controls_hold(metrics):
    headline = metrics[metrics["headline"]]
    oracle = headline[headline["method"] == "oracle"]
    assert (oracle["value"].astype(float) > 1 - 1e-12).all()
    random = headline[(headline["method"] == "random") & (headline["metric"] == "roc")]
    cells = random[random["level"] == "spectrogram"]["value"].astype(float)
    assert len(cells) == 4 and (abs(cells - 0.5) < 0.02).all()


def test_every_sample_row_has_its_draws_and_nothing_else_has(results, metrics):
    draws = Draws.load(results / "metrics" / "draws.npz")
    sample = metrics[metrics["level"] == "sample"]
    assert len(sample) == 2 * 3 * 6 * 2 == len(draws.names)
    values = draws.of(sample)
    assert values.shape == (len(sample), 100) and draws.interval == 0.95
    np.testing.assert_array_equal(values, draws.values)  # in the order of the table
    oracle = values[(sample["method"] == "oracle").to_numpy()]
    assert np.all(oracle[np.isfinite(oracle)] == 1.0)
    assert (metrics.loc[metrics["level"] != "sample", ["ci_low", "ci_high"]] == "").all(axis=None)
    limits = sample[["ci_low", "value", "ci_high"]].replace("", np.nan).astype(float)
    varies = [
        np.isfinite(own).mean() >= 0.5 and np.ptp(own[np.isfinite(own)]) > 1e-6 for own in values
    ]
    assert (limits["ci_low"].notna() == varies).all(), (
        "no interval where resampling changes nothing"
    )
    limits = limits.dropna()
    assert len(limits) > 10 and (limits["ci_low"] < limits["ci_high"]).all()


def test_nothing_is_left_to_do(finished):
    assert finished.would_run("all", "leaderboard") == {}


def test_every_job_has_a_log_and_a_benchmark(results):
    logs = {
        p.relative_to(results / "logs").with_suffix("") for p in (results / "logs").rglob("*.log")
    }
    benchmarks = {
        p.relative_to(results / "benchmarks").with_suffix("")
        for p in (results / "benchmarks").rglob("*.tsv")
    }
    assert logs == benchmarks and len(logs) > 200
    for path in (results / "logs").rglob("*.log"):
        lines = path.read_text().splitlines()
        assert "rule " in lines[0] and "peak memory" in lines[-1], path


def test_tables_and_figures_say_that_the_sounds_are_synthetic(results):
    tables = results / "tables" / "aisfx"
    for protocol in ("published", "leakfree"):
        for name in (
            *("mimii", "mimii_by_snr_db", "mimii_by_id"),  # Table 1
            "faithfulness",  # Table 2
            *("envmix", "envmix_by_snr_db", "envmix_by_category"),  # Table 3
        ):
            grouping = name.partition("_by_")
            stem = f"{grouping[0]}_{protocol}{grouping[1]}{grouping[2]}"
            for suffix in ("html", "tsv", "md", "tex"):
                assert STAMP in (tables / f"{stem}.{suffix}").read_text()
    assert len(list(tables.glob("[!.]*"))) == 2 * 7 * 4 + 4
    for path in tables.glob("compare_with_paper.*"):
        assert STAMP in path.read_text(), path

    figures = results / "figures" / "aisfx"
    for path in figures.rglob("*.svg"):
        assert path.stat().st_size > 1000
    n_examples = {"examples": 4 * 3, "scores": 4, "framework": 2, "ground_truth": 2}
    found = {name: len(list((figures / name).rglob("*.png"))) for name in n_examples}
    assert found == n_examples
    assert {path.name for path in figures.glob("*.png")} == {
        f"{figure}_{shown}.png"
        for figure in ("points", "gap")
        for shown in ("envmix_sample_roc", "envmix_spectrogram_roc", "mimii_sample_roc")
    } | {"training_curves.png"}


def test_tables_name_every_method_that_they_are_about(results):
    tables = results / "tables" / "aisfx"
    for name in ("mimii_leakfree", "envmix_leakfree"):
        text = (tables / f"{name}.md").read_text()
        for label in ("PatchCore", "PaDiM", "STFPM", "Autoencoder", "Oracle", "Random"):
            assert label in text, f"{label} in {name}"
    text = (tables / "faithfulness_published.md").read_text()
    assert "PaDiM" in text and "PatchCore" not in text


def test_the_leaderboard_ranks_methods_and_knows_what_they_cost(results, metrics):
    folder = results / "leaderboard"
    table = pd.read_csv(folder / "leaderboard.tsv", sep="\t")
    ranked = table[table["rank"].notna()]
    assert set(ranked["method"]) == METHODS and set(table["method"]) == METHODS | CONTROLS
    assert ranked["sample_roc_mean"].is_monotonic_decreasing and ranked["rank"].iloc[0] == 1
    leakfree = metrics[(metrics["protocol"] == "leakfree") & (metrics["dataset"] == "envmix")]
    for row in table.itertuples():  # one SNR and seed: the mean over the two classes
        own = leakfree[(leakfree["method"] == row.method) & (leakfree["metric"] == "roc")]
        for truth in ("leakfree", "published"):
            values = own.loc[own["truth"] == truth, "value"].astype(float)
            shown = getattr(row, f"spectrogram_{truth}_roc_mean")
            assert len(values) == 2 and shown == pytest.approx(100 * values.mean(), abs=0.051)
    measured = table[["score_s", "clip_s", "peak_mb"]]
    assert (measured > 0).all(axis=None) and (ranked["fit_s"] > 0).all()
    no_network = table["method"].isin(CONTROLS | {"autoencoder"})
    assert ((table["embed_s"] == 0) == no_network).all()
    for name in ("leaderboard", "leaderboard_by_snr_db"):
        for suffix in ("html", "md", "tex"):
            assert STAMP in (folder / f"{name}.{suffix}").read_text()
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {
        f"quality_against_cost_{x}.png" for x in ("sample", "spectrogram", "temporal")
    }


def test_training_leaves_losses_and_no_checkpoint(results):
    assert not [path for path in (results / "checkpoints").rglob("*") if path.is_file()]
    trained = [
        path
        for method in ("stfpm", "autoencoder")
        for path in (results / "detectors").rglob(f"{method}/*.npz")
    ]
    assert len(trained) == 2 * 6
    for path in trained:
        with np.load(path) as learned:
            assert learned["losses_"].shape == (2,) and np.isfinite(learned["losses_"]).all()


def read_wavs(folder, *names):
    signals = {}
    for name in names:
        signals[name], rate = soundfile.read(folder / f"0_{name}.wav")
    return signals, rate


def test_listening_examples_are_the_sum_of_their_stems(results):
    tables = list((results / "listening").glob("*/envmix/**/examples.tsv"))
    assert len(tables) == 2
    for table in tables:
        stems, rate = read_wavs(table.parent, "mixture", "background", "event")
        assert rate == 44100 and {len(samples) for samples in stems.values()} == {2 * 44100}
        assert np.abs(stems["mixture"] - stems["background"] - stems["event"]).max() < 1e-4
        row = pd.read_csv(table, sep="\t").iloc[0]
        span = slice(row.onset_samples, row.onset_samples + row.length_samples)
        assert not stems["event"][: span.start].any() and not stems["event"][span.stop :].any()


@pytest.mark.parametrize(
    ("dataset", "clip", "rate"), [("envmix", "mixture", 44100), ("mimii", "recording", 16000)]
)
def test_what_a_method_isolates_and_leaves_is_the_clip(results, dataset, clip, rate):
    tables = list((results / "listening").glob(f"*/{dataset}/**/examples.tsv"))
    assert len(tables) == 2
    for table in tables:
        parts, found = read_wavs(table.parent, clip, "patchcore_isolated", "patchcore_cleaned")
        assert found == rate and {len(samples) for samples in parts.values()} == {2 * rate}
        total = parts["patchcore_isolated"] + parts["patchcore_cleaned"]
        assert np.abs(total - parts[clip]).max() < 1e-4
        assert parts["patchcore_isolated"].any() and parts["patchcore_cleaned"].any()
        assert "patchcore_isolated_level_db" in pd.read_csv(table, sep="\t")


def test_abnormal_recordings_are_exported_first(results):
    for table in (results / "listening").glob("*/mimii/**/examples.tsv"):
        row = pd.read_csv(table, sep="\t").iloc[0]
        assert row["label"] == 1 and "abnormal" in row["clip"]


def test_no_temporary_file_is_left(results):
    hidden = {p for p in results.rglob(".*") if p.is_file() and p.name != ".snakemake_timestamp"}
    checksums = {p.with_name(f".{p.name}.crc32") for p in results.rglob("[!.]*.tsv")}
    assert hidden <= checksums, sorted(hidden - checksums)


def test_the_report_is_one_html_file_with_captions(finished):
    captions = {path.stem for path in (finished.root / "report").glob("*.rst")}
    assert captions == set(CAPTIONS)
    result = finished.snakemake("all", "leaderboard", "--report", "report.html")
    assert result.returncode == 0, result.stderr
    html = (finished.root / "report.html").read_text()
    for text in (STAMP, "background over event", "leakfree", "oracle", *CAPTIONS.values()):
        assert text in html, text
