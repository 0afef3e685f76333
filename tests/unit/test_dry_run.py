"""Snakemake's dry run as jobs, and configs that lie over one another."""

from __future__ import annotations

from vision_to_sound import dry_run
from vision_to_sound.dry_run import merged_config, parse_dry_run

DRY_RUN = """\
Building DAG of jobs...
Job stats:
job             count
------------  -------
fit_detector        1
all                 1

[Wed Nov 25 22:40:30 2026]
rule fit_detector:
    input: results/splits/leakfree/envmix/siren/seed0.tsv
    output: results/detectors/leakfree/envmix/siren/aisfx/spade/seed0.npz
    log: results/logs/fit_detector/leakfree/envmix/siren/aisfx/spade/seed0.log
    jobid: 100
    benchmark: results/benchmarks/fit_detector/leakfree/envmix/siren/aisfx/spade/seed0.tsv
    reason: Params have changed since last execution: before: {'rule': 'wildcards: x=y'}
    wildcards: protocol=leakfree, dataset=envmix, category=siren, snr_dir=, encoder=aisfx, method=spade, seed=0
    priority: 20
    resources: tmpdir=/tmp, mem_mb=1000
[Wed Nov 25 22:40:30 2026]
rule extract_events:
    output: results/clips/envmix/events.npy
    jobid: 7
    reason: Missing output files: results/clips/envmix/events.npy
    resources: tmpdir=/tmp
[Wed Nov 25 22:40:30 2026]
localrule all:
    input: results/tables/aisfx/envmix_published.tsv
    jobid: 0
    resources: tmpdir=/tmp
Job stats:
job             count
------------  -------
fit_detector        1

Reasons:
    (check individual jobs above for details)
This was a dry-run (flag -n). The order of jobs does not reflect the order of execution.
"""


def test_parse_dry_run():
    fit, events, everything = parse_dry_run(DRY_RUN)
    assert (fit.rule, events.rule, everything.rule) == ("fit_detector", "extract_events", "all")
    assert fit.wildcards == {
        "protocol": "leakfree",
        "dataset": "envmix",
        "category": "siren",
        "snr_dir": "",
        "encoder": "aisfx",
        "method": "spade",
        "seed": "0",
    }
    assert fit.benchmark.endswith("fit_detector/leakfree/envmix/siren/aisfx/spade/seed0.tsv")
    assert events.wildcards == {} and events.benchmark == ""
    assert parse_dry_run("Nothing to be done (all requested files are present).") == []


def test_a_config_file_lies_over_the_papers(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text("a: {b: 1, c: [1, 2]}\nd: 4\n")
    (tmp_path / "mine.yaml").write_text("a: {c: [3]}\n")
    monkeypatch.setattr(dry_run, "CONFIG", str(tmp_path / "own.yaml"))
    monkeypatch.chdir(tmp_path)
    assert merged_config(None) == {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merged_config("mine.yaml") == {"a": {"b": 1, "c": [3]}, "d": 4}


def test_the_papers_config_is_the_repositorys_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("a stranger: 1\n")
    monkeypatch.chdir(tmp_path)
    assert "envmix" in merged_config(None)
