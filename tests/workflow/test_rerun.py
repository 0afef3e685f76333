"""Only changed stages run again: each change, and the exact set of rules that would run."""

from __future__ import annotations

import os
import shutil

FIGURES = {
    "plot_metric_points",
    "plot_protocol_gap",
    "plot_anomaly_examples",
    "plot_score_histogram",
}
TABLES = {"render_table", "compare_with_paper"}
AFTER_METRICS = {"aggregate_metrics", *TABLES, "plot_metric_points", "plot_protocol_gap"}
AFTER_SCORES = {"evaluate", *AFTER_METRICS, "plot_anomaly_examples", "plot_score_histogram"}
ONE_METHOD = {"fit_detector", "score_clips", *AFTER_SCORES}


def methods(jobs: dict[str, set[str]], rule: str) -> set[str]:
    return {w.partition("method=")[2].partition(",")[0] for w in jobs[rule]}


def test_nothing_changed(project):
    assert project.would_run() == {}


def test_touching_every_source_changes_nothing(project):
    for folder in ("src", "workflow_scripts", "rules", "config", "envs"):
        for path in (project.root / folder).rglob("*.*"):
            os.utime(path)
    assert project.would_run() == {}


def test_moving_the_repository_changes_nothing(project, tmp_path):
    shutil.move(project.root, tmp_path / "moved")
    assert type(project)(tmp_path / "moved").would_run() == {}


def test_a_docstring_changes_nothing(project):
    project.edit(
        "src/vision_to_sound/detectors/patchcore.py", '"""PatchCore', '"""New words. PatchCore'
    )
    assert project.would_run() == {}


def test_a_line_in_a_detector_reruns_that_detector(project):
    path = "src/vision_to_sound/detectors/patchcore.py"
    project.edit(path, "class PatchCore", "ANSWER = 42\n\n\nclass PatchCore")
    jobs = project.would_run()
    assert set(jobs) == ONE_METHOD
    for rule in ("fit_detector", "score_clips", "evaluate"):
        assert methods(jobs, rule) == {"patchcore"}
    assert "vision_to_sound.detectors.patchcore" in project.reasons()


def test_a_line_in_coreset_reruns_patchcore_alone(project):
    path = project.root / "src/vision_to_sound/detectors/coreset.py"
    path.write_text(path.read_text() + "\nANSWER = 42\n")
    jobs = project.would_run()
    assert set(jobs) == ONE_METHOD and methods(jobs, "fit_detector") == {"patchcore"}


def test_a_new_row_in_the_registry_changes_nothing(project):
    project.edit(
        "src/vision_to_sound/detectors/__init__.py",
        "DETECTORS: dict[str, DetectorEntry] = {",
        'DETECTORS: dict[str, DetectorEntry] = {\n    "new": DetectorEntry("m:C", (), False, True, "New"),',
    )
    assert project.would_run() == {}


def test_figure_code_touches_no_metric(project):
    path = project.root / "src/vision_to_sound/figures_maps.py"
    path.write_text(path.read_text() + "\nANSWER = 42\n")
    assert set(project.would_run()) == {"plot_anomaly_examples", "plot_score_histogram"}


def test_mixing_reruns_mixtures_and_on_but_no_download(project):
    path = project.root / "src/vision_to_sound/mixing.py"
    path.write_text(path.read_text() + "\nANSWER = 42\n")
    jobs = project.would_run()
    assert {"synthesize_mixtures", "compute_mixture_spectrograms", "extract_embeddings"} <= set(
        jobs
    )
    assert not {"download_archive", "index_dataset", "extract_backgrounds", "split_clips"} & set(
        jobs
    )


def test_download_code_downloads_nothing_again(project):
    path = project.root / "src/vision_to_sound/transfer.py"
    path.write_text(path.read_text() + "\nANSWER = 42\n")
    assert project.would_run() == {}


def test_a_setting_of_one_method(project):
    project.edit("tiny.yaml", "padim: {n_channels: 20}", "padim: {n_channels: 21}")
    jobs = project.would_run()
    assert set(jobs) == ONE_METHOD and methods(jobs, "fit_detector") == {"padim"}


def test_two_settings_swapped(project):
    """Snakemake compares params as a set of words; one dict of settings shows the swap."""
    project.edit(
        "tiny.yaml", "seeds: [0]", "seeds: [0]\n  test_share: 0.5\n  anomalous_share: 0.25"
    )
    assert "split_clips" in project.would_run()


def test_a_setting_of_one_class_reruns_that_class(project):
    with (project.root / "tiny.yaml").open("a") as file:
        file.write("overrides: {siren: {padim: {n_channels: 25}}}\n")
    jobs = project.would_run()
    assert set(jobs) == ONE_METHOD and methods(jobs, "fit_detector") == {"padim"}
    assert {w.partition("category=")[2].partition(",")[0] for w in jobs["fit_detector"]} == {
        "siren"
    }


def test_a_pin_of_the_paper_environment(project):
    project.edit("envs/paper.yaml", "matplotlib==", "matplotlib==9.")
    assert set(project.would_run()) == {
        *TABLES,
        *FIGURES,
        "aggregate_metrics",
        "collect_skipped_clips",
    }


def test_a_method_added_runs_only_its_jobs(project):
    project.edit("tiny.yaml", "controls: [oracle, random]", "controls: [oracle, random, energy]")
    jobs = project.would_run()
    assert set(jobs) == {"score_clips", *AFTER_SCORES}  # what it hears is in the pictures too
    assert methods(jobs, "score_clips") == {"energy"}


def test_one_score_file_deleted(project):
    path = "results/scores/leakfree/envmix/siren/snr0/aisfx/padim/seed0.npz"
    (project.root / path).unlink()
    jobs = project.would_run()
    assert set(jobs) == {"score_clips", *AFTER_SCORES}
    assert len(jobs["score_clips"]) == 1


def test_retry_settings_download_nothing_again(project):
    project.edit("config/config.yaml", "attempts: 8", "attempts: 9")
    assert project.would_run() == {}


def test_a_label_reruns_only_what_prints_it(project):
    project.edit("src/vision_to_sound/detectors/__init__.py", '"PatchCore"', '"Patch Core"')
    assert set(project.would_run()) == {*TABLES, *FIGURES}


def test_settings_that_only_stop_bad_input_rerun_nothing(project):
    project.edit("config/config.yaml", "on_bad_clip: stop", "on_bad_clip: skip")
    project.edit("config/config.yaml", "max_member_mb: 256", "max_member_mb: 512")
    assert project.would_run() == {}


def test_a_word_in_a_log_line_reruns_nothing(project):
    project.edit(
        "src/vision_to_sound/stage.py", "rule %s, wildcards %s", "the rule %s, wildcards %s"
    )
    assert project.would_run() == {}


def test_licence_and_address_of_an_archive_rerun_nothing(project):
    project.edit("config/datasets.tsv", "CC BY-NC", "CC BY-NC 3.0")
    assert project.would_run() == {}
