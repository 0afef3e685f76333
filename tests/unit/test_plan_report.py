"""What a run will cost, told to people: the table, dry runs, measured speeds, and that no rule is forgotten."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from plan_cases import (
    CLAP,
    COUNTS,
    ENVMIX,
    EXPERIMENT,
    KCELLS,
    LEAKFREE,
    MIMII,
    SPECTROGRAM,
    make_job,
    paper_config,
    write_index,
)

from vision_to_sound import plan
from vision_to_sound.archive_table import rows_for
from vision_to_sound.dry_run import PlannedJob
from vision_to_sound.plan import Cost, estimate


@pytest.fixture
def config(repository, tmp_path):
    return paper_config(repository, tmp_path)


# --- Report ---------------------------------------------------------------------------------------


def test_estimate_adds_up_jobs_disk_and_time(config):
    jobs = [
        make_job("download_archive", archive="urbansound8k"),
        make_job("download_archive", archive="esc50"),
        make_job("score_clips", ENVMIX, LEAKFREE, CLAP, EXPERIMENT, method="padim"),
        make_job("score_clips", ENVMIX, LEAKFREE, CLAP, EXPERIMENT, method="stfpm"),
        make_job("score_clips", ENVMIX, LEAKFREE, CLAP, EXPERIMENT, method="energy"),
        make_job("render_table", encoder="clap2022_cnn14"),
        make_job("split_clips", ENVMIX, LEAKFREE, seed="0"),
    ]
    speeds = {
        ("score_clips", "padim"): (2.0, 0.001),
        ("score_clips", "stfpm"): (3.0, 0.01),
        ("render_table", ""): (1.5, 0.5),
    }
    archives = {"urbansound8k": 6_023_741_708, "esc50": None}
    costs = estimate(jobs, config, counts=COUNTS, archives=archives, speeds=speeds)
    assert list(costs) == ["download_archive", "score_clips", "render_table", "split_clips"]
    assert costs["download_archive"] == Cost(2, 6_023_741_708, 2.0)
    assert costs["score_clips"].jobs == 3
    assert costs["score_clips"].disk_bytes == 3 * 209 * SPECTROGRAM
    stfpm_s = 3.0 + 0.01 * KCELLS * 209
    padim_s = 2.0 + 0.001 * KCELLS * 209 * 2.25**2
    energy_s = stfpm_s  # not measured: as slow as the slowest
    assert costs["score_clips"].seconds == pytest.approx(stfpm_s + padim_s + energy_s)
    assert costs["render_table"] == Cost(1, 0.0, 1.5)
    assert costs["split_clips"] == Cost(1, 0.0, 1.0), "no speed is known"


def test_the_report_says_whether_the_disk_is_large_enough():
    costs = {"fit_detector": Cost(3, 4e9, 7200.0), "evaluate": Cost(2, 5e6, 30.0)}
    text = plan.report(costs, free_bytes=5_000_000_000, job_slots=2)
    lines = [line.split() for line in text.splitlines()]
    assert ["fit_detector", "3", "4.0", "GB", "60", "min"] in lines
    assert ["evaluate", "2", "5", "MB", "15", "s"] in lines
    assert ["in", "all", "5", "4.0", "GB", "60", "min"] in lines
    assert text.endswith("disk: 4.0 GB needed, 5.0 GB free: enough")
    assert plan.fits(costs, free_bytes=5_000_000_000)
    tight = plan.report(costs, free_bytes=4_000_000_000, job_slots=1)
    assert tight.endswith("disk: 4.0 GB needed, 4.0 GB free: NOT ENOUGH")
    assert not plan.fits(costs, free_bytes=4_000_000_000)
    assert tight.splitlines()[-1] == plan.disk_line(costs, free_bytes=4_000_000_000)
    assert "0 MB needed" in plan.report({}, free_bytes=1, job_slots=1)


def test_free_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    free = plan.free_disk(tmp_path / "results" / "deep")
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1e9


def test_what_has_to_be_fetched(repository, config, tmp_path):
    downloads, mirror = tmp_path / "downloads", tmp_path / "mirror"
    downloads.mkdir()
    mirror.mkdir()
    config |= {"downloads": str(downloads), "mirror": str(mirror)}
    rows = rows_for(repository / "config" / "datasets.tsv", None)
    assert plan.to_fetch(rows, [], config)["urbansound8k"] == 6_023_741_708
    assert plan.to_fetch(rows, [], config)["esc50"] is None
    (downloads / rows["esc50"].file).touch()
    (mirror / rows["mimii_0_dB_fan"].file).touch()
    fetched = plan.to_fetch(rows, ["urbansound8k"], config)
    assert [fetched[n] for n in ("urbansound8k", "esc50", "mimii_0_dB_fan")] == [0, 0, 0]
    assert fetched["mimii_0_dB_pump"] == 7_869_431_302
    made = plan.to_fetch(rows, [], config | {"synthetic": {"clips_per_background": 20}})
    assert {name for name, size in made.items() if size != 0} == {
        "clap_2022", "panns_cnn14", "aisfx", "efficientat_mn04", "wide_resnet50", "deit_small",
    }  # fmt: skip


def test_the_plan_names_what_it_does_not_know(repository, config):
    jobs = [
        make_job("download_archive", archive="esc50"),
        make_job("index_dataset", source="esc50"),
    ]
    given = {"directory": repository / "config", "archives": {"esc50": None}, "job_slots": 2}
    text = plan.plan_of(jobs, config, **given)
    assert "of unknown size: esc50" in text and "mirror" not in text
    assert "a mirror may hold less" in plan.plan_of(jobs, config | {"mirror": "/data"}, **given)
    assert "unknown" not in plan.plan_of(jobs[1:], config, **given)


# --- Measured speeds -----------------------------------------------------------------


def test_speeds_come_out_of_benchmarks(repository, config, tmp_path):
    """Two methods on machines of two sizes; one benchmark file is missing, one is of a busy machine."""
    jobs = []
    config["mimii"]["clip_s"] = 10.0
    write_index(
        config,
        "mimii_0_dB_fan",
        [(f"{label}_{i}", "fan_id_00", 10.0, label) for label, n in ((0, 50), (1, 10)) for i in range(n)]
        + [(f"{label}_{i}", "fan_id_02", 10.0, label) for label, n in ((0, 90), (1, 20)) for i in range(n)],
    )  # fmt: skip
    kcells = 1379 * 64 / 1000
    for method, start_s, clip_s in (("stfpm", 4.0, 0.02), ("energy", 1.0, 0.001)):
        for category, n_test, load in (("fan_id_00", 20, 100.0), ("fan_id_02", 40, 50.0)):
            path = tmp_path / f"{method}_{category}.tsv"
            cpu_s = start_s + clip_s * kcells * n_test
            pd.DataFrame([{"s": cpu_s * 100 / load, "h:m:s": "0:00:09", "mean_load": load}]).to_csv(
                path, sep="\t", index=False
            )
            wildcards = {"dataset": "mimii", "category": category, "method": method}
            job = make_job("score_clips", wildcards, LEAKFREE, CLAP, EXPERIMENT)
            jobs.append(PlannedJob(job.rule, job.wildcards, str(path)))
    missing = make_job("score_clips", MIMII, LEAKFREE, CLAP, EXPERIMENT, method="cfa")
    jobs.append(PlannedJob(missing.rule, missing.wildcards, str(tmp_path / "none.tsv")))
    text = plan.measured_speeds([(jobs, config)], repository / "config" / "clip_counts.tsv")
    (tmp_path / "speeds.tsv").write_text(text + "\n")
    assert plan.read_speeds(tmp_path / "speeds.tsv") == {
        ("score_clips", "energy"): (1.0, 0.001),
        ("score_clips", "stfpm"): (4.0, 0.02),
    }


# Rules without a benchmark, or that do nothing but name files.
TARGETS = {
    *("all", "tables", "figures", "metrics", "leaderboard", "recordings"),
    *(f"table{i}" for i in range(1, 4)),
    *(f"figure{i}" for i in range(1, 5)),
}
# What they take depends on folders that nobody has looked into when a run is planned.
OF_FOLDERS = {
    *("embed_recordings", "fit_recordings", "score_recordings", "name_anomalies", "write_page")
}
# No part of the runs that `plan` counts and measures, those of `all`.
OF_LEADERBOARD = {"render_leaderboard", "plot_leaderboard"}
NOT_MEASURED = TARGETS | OF_FOLDERS | OF_LEADERBOARD


def test_every_rule_and_method_has_its_speed(repository, config):
    speeds = plan.read_speeds(repository / "config" / "speeds.tsv")
    text = "\n".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.M))
    assert len(rules) > 30
    rules -= NOT_MEASURED
    by_method = {"fit_detector", "score_clips", "measure_faithfulness"}
    assert {rule for rule, _ in speeds} == rules
    assert {rule for rule, method in speeds if method} == by_method
    demo = yaml.safe_load((repository / "config" / "demo.yaml").read_text())
    methods = {*config["methods"], *demo["methods"]}
    for rule, names in (
        ("fit_detector", methods),
        ("score_clips", methods | set(config["controls"])),
        ("measure_faithfulness", set(config["faithfulness"]["methods"])),
    ):
        assert names <= {method for known, method in speeds if known == rule}
    assert all(
        start_s >= 0 and clip_s >= 0 and start_s + clip_s > 0 for start_s, clip_s in speeds.values()
    )
    for rule in ("extract_embeddings", "compute_normal_spectrograms", "extract_backgrounds"):
        assert speeds[rule, ""][1] > 0, "their time goes by the clips"


def test_rules_that_plan_knows_by_name_are_there(repository):
    text = "\n".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.M))
    source = (repository / "src" / "vision_to_sound" / "plan.py").read_text()
    named = set(re.findall(r'"((?:compute|extract|fit|score|measure|download|index)_\w+)"', source))
    assert len(named) > 8 and named <= rules


def test_planning_needs_the_standard_library_only(repository):
    code = (
        "import sys, vision_to_sound.plan\n"
        "heavy = {'numpy', 'torch', 'pandas', 'scipy', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(repository / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
