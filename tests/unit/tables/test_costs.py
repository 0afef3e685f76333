"""Costs from the logs of jobs: what `run_stage` writes is what is read, and what is not there is not made up."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.stage import machine, run_stage
from vision_to_sound.tables.costs import read_costs

LINE = "12:00:00 INFO vision_to_sound.stage: "


@pytest.fixture
def logs(tmp_path) -> dict[str, str]:
    return {
        "fit": f"{tmp_path}/fit/{{category}}/{{encoder}}/{{method}}/seed{{seed}}.log",
        "embed": f"{tmp_path}/embed/{{category}}/{{encoder}}.log",
        "score": f"{tmp_path}/score/{{category}}/snr{{snr}}/{{encoder}}/{{method}}/seed{{seed}}.log",
    }


def experiments(*, method="padim", encoder="aisfx", device="cpu, torch 2.13.0") -> pd.DataFrame:
    """Two classes, SNRs and seeds; two levels, as in the metrics table."""
    return pd.DataFrame(
        {
            **{"method": method, "encoder": encoder, "device": device, "level": level},
            **{"category": category, "snr_db": snr, "seed": seed},
        }
        for category in ("dog", "siren")
        for snr in (6, -6)
        for seed in (0, 1)
        for level in ("sample", "temporal")
    )


def write_logs(rows, logs, part, *, clips=10, wall_s=4.0, cpu_s=2.0, peak_mb=500) -> list[str]:
    from pathlib import Path

    named = rows.rename(columns={"snr_db": "snr"}).to_dict("records")
    paths = sorted({logs[part].format(**row) for row in named})
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(
            f"{LINE}timed {clips} clips: {wall_s:.4f} s, {cpu_s:.4f} s of CPU; AMD EPYC, 2 cores\n"
            f"{LINE}done in 9.0 s, peak memory {peak_mb} MiB\n"
        )
    return paths


def test_seconds_and_memory_by_hand(logs):
    rows = experiments()
    assert len(write_logs(rows, logs, "fit", clips=30, cpu_s=6.0)) == 4
    assert len(write_logs(rows, logs, "embed", clips=40, cpu_s=4.0, peak_mb=700)) == 2
    assert len(write_logs(rows, logs, "score")) == 8
    cost = read_costs(rows, logs).iloc[0]
    assert cost["fit_s"] == 6.0, "of one detector"
    assert cost["embed_s"] == pytest.approx(0.1) and cost["score_s"] == pytest.approx(0.2)
    assert cost["clip_s"] == pytest.approx(0.3)
    assert (cost["peak_mb"], cost["machine"]) == (700, "AMD EPYC, 2 cores")


def test_a_clip_counts_once_however_the_jobs_are_cut(logs):
    rows = experiments()
    write_logs(rows, logs, "score", clips=10, cpu_s=1.0)
    siren = rows[rows["category"] == "siren"]
    write_logs(siren, logs, "score", clips=30, cpu_s=1.0)
    assert read_costs(rows, logs).iloc[0]["score_s"] == pytest.approx(8 / 160)


def test_on_a_gpu_seconds_are_wall_time(logs):
    rows = experiments(device="NVIDIA H100, torch 2.13.0")
    write_logs(rows, logs, "fit")
    assert read_costs(rows, logs).iloc[0]["fit_s"] == 4.0


def test_what_no_log_says_is_not_a_number(logs):
    rows = experiments()
    cost = read_costs(rows, logs).iloc[0]
    assert np.isnan(cost[["fit_s", "embed_s", "score_s", "clip_s", "peak_mb"]].astype(float)).all()
    assert cost["machine"] == ""
    [path, *_] = write_logs(rows, logs, "score")
    with open(path, "w") as file:  # killed before its end
        file.write(f"{LINE}timed 99 clips: 1.0 s, 500.0 s of CPU; AMD EPYC, 2 cores\n")
    cost = read_costs(rows, logs).iloc[0]
    assert cost["score_s"] == pytest.approx(0.2) and np.isnan(cost["clip_s"])


@pytest.mark.parametrize("method", ["autoencoder", "energy"])
def test_what_reads_no_embeddings_pays_for_none(logs, method):
    rows = experiments(method=method)
    write_logs(rows, logs, "score")
    write_logs(rows, logs, "embed")
    cost = read_costs(rows, logs).iloc[0]
    assert cost["embed_s"] == 0.0 and cost["clip_s"] == cost["score_s"] == pytest.approx(0.2)


def test_each_detector_and_encoder_has_its_own_row(logs):
    rows = pd.concat([experiments(), experiments(encoder="panns_cnn14"), experiments(method="cfa")])
    write_logs(experiments(method="cfa"), logs, "fit")
    costs = read_costs(rows, logs).set_index(["method", "encoder"])
    assert list(costs.index) == [("cfa", "aisfx"), ("padim", "aisfx"), ("padim", "panns_cnn14")]
    assert costs["fit_s"].notna().tolist() == [True, False, False]


def test_a_job_writes_what_is_read(tmp_path, logs, repository):
    """Work that sleeps takes wall time and hardly any of the processor."""
    rows = experiments().query("category == 'dog' and snr_db == 6 and seed == 0")
    [path] = write_logs(rows, logs, "score")
    snakemake = SimpleNamespace(
        rule="score_clips",
        wildcards={},
        params={},
        resources={},
        threads=1,
        log=[path],
        scriptdir=str(repository / "workflow_scripts"),
    )
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with run_stage(snakemake) as job, job.timed(4):
            time.sleep(0.2)
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
    [on_cpu] = read_costs(rows, logs)["score_s"]
    gpu = read_costs(rows.assign(device="NVIDIA H100"), logs).iloc[0]
    assert 0.05 <= gpu["score_s"] < 1.0 and on_cpu < gpu["score_s"] / 2
    assert gpu["machine"] == machine() and gpu["machine"].endswith(" cores")
    assert gpu["peak_mb"] > 20
