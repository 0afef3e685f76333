"""The tiny run: every stage ran, its files are what they say, and the controls hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile


@pytest.fixture(scope="module")
def results(finished):
    return finished.root / "results"


@pytest.fixture(scope="module")
def metrics(results):
    return pd.read_csv(results / "metrics" / "all.tsv", sep="\t", keep_default_na=False)


def test_the_long_table_has_every_experiment_and_metric(metrics):
    names = "protocol dataset category snr_db encoder method seed level truth metric value".split()
    assert set(names) <= set(metrics.columns)
    experiments = metrics.groupby(["protocol", "category", "method"]).size()
    assert len(experiments) == 2 * 2 * 4 and set(experiments) == {12}
    assert not metrics["stale"].any()
    controls = metrics["method"].isin(["oracle", "random"])  # they do without PyTorch
    assert (metrics.loc[controls, "device"] == "cpu").all()
    assert metrics.loc[~controls, "device"].str.match(r"cpu, torch 2\.").all()


def test_controls_hold(metrics):
    headline = metrics[metrics["headline"]]
    oracle = headline[headline["method"] == "oracle"]
    assert (oracle["value"].astype(float) > 1 - 1e-12).all()
    random = headline[(headline["method"] == "random") & (headline["metric"] == "roc")]
    cells = random[random["level"] == "spectrogram"]["value"].astype(float)
    assert (abs(cells - 0.5) < 0.02).all()


def test_nothing_is_left_to_do(finished):
    assert finished.would_run() == {}


def test_every_job_has_a_log_and_a_benchmark(results):
    logs = {
        p.relative_to(results / "logs").with_suffix("") for p in (results / "logs").rglob("*.log")
    }
    benchmarks = {
        p.relative_to(results / "benchmarks").with_suffix("")
        for p in (results / "benchmarks").rglob("*.tsv")
    }
    assert logs == benchmarks and len(logs) > 60
    for path in (results / "logs").rglob("*.log"):
        lines = path.read_text().splitlines()
        assert "rule " in lines[0] and "peak memory" in lines[-1], path


def test_tables_and_figures_say_that_the_sounds_are_synthetic(results):
    tables = [p for p in (results / "tables").rglob("envmix_*.*")]
    assert len(tables) == 2 * 3 * 4
    for path in [*tables, *(results / "tables").rglob("compare_with_paper.*")]:
        assert "SYNTHETIC SOUNDS" in path.read_text(), path
    for path in (results / "figures").rglob("*.svg"):
        assert path.stat().st_size > 1000
    assert len(list((results / "figures").rglob("*.png"))) == 8 + 2 * 4


def test_listening_examples_are_the_sum_of_their_stems(results):
    tables = list((results / "listening").rglob("examples.tsv"))
    assert len(tables) == 2
    for table in tables:
        stems = {}
        for stem in ("mixture", "background", "event"):
            stems[stem], rate = soundfile.read(table.parent / f"0_{stem}.wav")
            assert rate == 44100 and len(stems[stem]) == 4 * 44100
        assert np.abs(stems["mixture"] - stems["background"] - stems["event"]).max() < 1e-4
        row = pd.read_csv(table, sep="\t").iloc[0]
        span = slice(row.onset_samples, row.onset_samples + row.length_samples)
        assert not stems["event"][: span.start].any() and not stems["event"][span.stop :].any()


def test_no_temporary_file_is_left(results):
    assert not [p for p in results.rglob(".*") if p.is_file() and p.name != ".snakemake_timestamp"]


def test_the_report_is_one_html_file_with_captions(finished):
    result = finished.snakemake("--report", "report.html")
    assert result.returncode == 0, result.stderr
    html = (finished.root / "report.html").read_text()
    for text in ("SYNTHETIC SOUNDS", "background over event", "leakfree", "oracle"):
        assert text in html
