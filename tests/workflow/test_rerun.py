"""Only changed stages run again: each change, and the exact set of rules that would run."""

from __future__ import annotations

import os
import re
import shutil

import pytest

PICTURES = {
    "plot_anomaly_examples",
    "plot_framework",
    "plot_ground_truth",
    "plot_score_histogram",
    "plot_training_curves",
}
FIGURES = {"plot_metric_points", "plot_protocol_gap", *PICTURES}
TABLES = {"render_table", "compare_with_paper"}
EXPORTS = {"export_listening_examples", "export_recording_anomalies"}
AFTER_METRICS = {"aggregate_metrics", *TABLES, "plot_metric_points", "plot_protocol_gap"}
# What scores of every method lead to; on top of it some methods are in more pictures, or are measured.
AFTER_SCORES = {"evaluate", *AFTER_METRICS, "plot_score_histogram"}
ONE_METHOD = {"fit_detector", "score_clips", *AFTER_SCORES}
ONE_MAP = {*ONE_METHOD, "plot_anomaly_examples"}
RERUN_BY = {
    "patchcore": {*ONE_MAP, "plot_framework", *EXPORTS},
    "padim": {*ONE_MAP, "measure_faithfulness"},
    "stfpm": {*ONE_MAP, "plot_training_curves"},
    "autoencoder": {
        *ONE_METHOD,
        "plot_training_curves",
    },  # a grid of its own: no map beside the others
}
# Jobs before the metrics table: where each belongs to one experiment or clip set.
PER_EXPERIMENT = {
    "fit_detector",
    "compute_truth",
    "score_clips",
    "measure_faithfulness",
    "evaluate",
    "extract_embeddings",
}


def values(jobs: dict[str, set[str]], rule: str, wildcard: str) -> set[str]:
    """What a wildcard stands for in the jobs of a rule."""
    found = [re.search(rf"\b{wildcard}=([^,]*)", wildcards) for wildcards in jobs[rule]]
    return {match[1] for match in found if match}


def methods(jobs: dict[str, set[str]], rule: str) -> set[str]:
    return values(jobs, rule, "method")


def append(project, module: str) -> None:
    path = project.root / "src/vision_to_sound" / module
    path.write_text(path.read_text() + "\nANSWER = 42\n")


def test_nothing_changed(project):
    assert project.would_run() == {}


def test_touching_every_source_changes_nothing(project):
    for folder in ("src", "workflow_scripts", "rules", "config", "envs"):
        for path in (project.root / folder).rglob("*.*"):
            os.utime(path)
    assert project.would_run() == {}


def test_conda_after_a_run_without_it_changes_nothing(project, stand_in_conda):
    assert project.would_run("--sdm", "conda") == {}


def test_moving_the_repository_changes_nothing(project, tmp_path):
    shutil.move(project.root, tmp_path / "moved")
    assert type(project)(tmp_path / "moved").would_run() == {}


def test_docstrings_and_comments_change_nothing(project):
    """In every module and every script at once."""
    changed = 0
    for folder in ("src", "workflow_scripts"):
        for path in (project.root / folder).rglob("*.py"):
            text = path.read_text()
            changed += '"""' in text
            new = re.sub(r'"""(?=\w)', '"""New words. ', text)
            path.write_text(new + "\n# And a comment.\n")
    assert changed > 60
    assert project.would_run() == {}


# --- code


@pytest.mark.parametrize("method", RERUN_BY)
def test_a_line_in_a_detector_reruns_that_detector(project, method):
    append(project, f"detectors/{method}.py")
    jobs = project.would_run()
    assert set(jobs) == RERUN_BY[method]
    for rule in ("fit_detector", "score_clips", "evaluate"):
        assert methods(jobs, rule) == {method}
    assert f"vision_to_sound.detectors.{method}" in project.reasons()


def test_a_line_in_coreset_reruns_patchcore_alone(project):
    append(project, "detectors/coreset.py")
    jobs = project.would_run()
    assert set(jobs) == RERUN_BY["patchcore"] and methods(jobs, "fit_detector") == {"patchcore"}


def test_a_new_row_in_the_registry_changes_nothing(project):
    project.edit(
        "src/vision_to_sound/detectors/__init__.py",
        "DETECTORS: dict[str, DetectorEntry] = {",
        'DETECTORS: dict[str, DetectorEntry] = {\n    "new": DetectorEntry(target="m:C", label="New", needs=()),',
    )
    assert project.would_run() == {}


def test_faithfulness_code_scores_nothing(project):
    append(project, "faithfulness.py")
    assert set(project.would_run()) == {"measure_faithfulness", *AFTER_METRICS}


def test_uncertainty_code_scores_nothing(project):
    append(project, "uncertainty.py")
    assert set(project.would_run()) == {"evaluate", *AFTER_METRICS}


def test_listening_code_reruns_the_exports_alone(project):
    append(project, "listening.py")
    assert set(project.would_run()) == EXPORTS


def test_figure_code_touches_no_metric(project):
    append(project, "figures/maps.py")
    assert set(project.would_run()) == {"plot_anomaly_examples", "plot_score_histogram"}


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("figures/framework.py", {"plot_framework"}),
        ("figures/truth.py", {"plot_ground_truth"}),
        ("figures/training.py", {"plot_training_curves"}),
        ("figures/points.py", {"plot_metric_points", "plot_protocol_gap"}),
        ("figures/style.py", FIGURES),
        ("tables/layouts.py", TABLES),
    ],
)
def test_code_of_figures_or_tables_reruns_what_it_draws(project, module, rules):
    append(project, module)
    assert set(project.would_run()) == rules


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("tables/costs.py", {"render_leaderboard", "plot_leaderboard"}),
        ("figures/leaderboard.py", {"plot_leaderboard"}),
    ],
)
def test_code_of_the_leaderboard_reruns_the_leaderboard_alone(project, module, rules):
    append(project, module)
    assert set(project.would_run("leaderboard")) == rules
    assert project.would_run() == {}


def test_costs_are_no_reason_to_run_again(project):
    """They are read from logs; one that is gone or newer changes no metric."""
    logs = project.root / "results/logs"
    shutil.rmtree(logs / "extract_embeddings")
    for path in logs.rglob("*.log"):
        os.utime(path)
    assert project.would_run("all", "leaderboard") == {}


def test_mixing_reruns_mixtures_and_on_but_no_download(project):
    append(project, "mixing.py")
    jobs = project.would_run()
    assert {"synthesize_mixtures", "compute_mixture_spectrograms", "extract_embeddings"} <= set(
        jobs
    )
    assert not {"download_archive", "index_dataset", "extract_backgrounds", "split_clips"} & set(
        jobs
    )
    for rule in PER_EXPERIMENT & set(jobs):
        assert values(jobs, rule, "dataset") == {"envmix"}


def test_reading_recordings_reruns_mimii_and_on_but_no_mixture(project):
    append(project, "recordings.py")
    jobs = project.would_run()
    assert {"compute_recording_spectrograms", "extract_embeddings", "fit_detector"} <= set(jobs)
    assert not {"download_archive", "split_recordings", "synthesize_mixtures"} & set(jobs)
    for rule in PER_EXPERIMENT & set(jobs):
        assert values(jobs, rule, "dataset") == {"mimii"}


def test_download_code_downloads_nothing_again(project):
    append(project, "transfer.py")
    assert project.would_run() == {}


# --- settings


def test_a_setting_of_one_method(project):
    project.edit("tiny.yaml", "padim: {n_channels: 20}", "padim: {n_channels: 21}")
    jobs = project.would_run()
    assert set(jobs) == RERUN_BY["padim"] and methods(jobs, "fit_detector") == {"padim"}


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
    assert set(jobs) == RERUN_BY["padim"] and methods(jobs, "fit_detector") == {"padim"}
    assert values(jobs, "fit_detector", "category") == {"siren"}


def test_more_draws_score_nothing(project):
    project.edit("tiny.yaml", "n_draws: 100", "n_draws: 200")
    assert set(project.would_run()) == {"evaluate", *AFTER_METRICS}


def test_contaminated_training_reruns_the_published_recordings(project):
    project.edit("tiny.yaml", "seeds: [42]", "seeds: [42]\n  contaminated: true")
    jobs = project.would_run()
    assert set(jobs) == {
        *("split_recordings", "fit_detector", "score_clips", "evaluate"),
        *AFTER_METRICS,
        *("plot_anomaly_examples", "plot_score_histogram", "plot_training_curves"),
        "export_recording_anomalies",
    }
    for rule in set(jobs) - AFTER_METRICS - {"plot_training_curves"}:
        assert values(jobs, rule, "protocol") == {"published"}
        assert values(jobs, rule, "category") == {"fan_id_00"}


def test_a_class_added_runs_its_own_jobs_and_what_aggregates(project):
    project.edit("tiny.yaml", "backgrounds: [", "backgrounds: [engine_idling, ")
    # An archive that had the class all along, as the real one has.
    archives = [path for path in (project.root / "results/synthetic").iterdir() if path.is_file()]
    times = [path.stat() for path in archives]
    result = project.snakemake("--touch", "results/synthetic/datasets.tsv")
    assert result.returncode == 0, result.stderr
    for path, before in zip(archives, times, strict=True):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    jobs = project.would_run()
    its_own = {
        *("extract_backgrounds", "split_clips", "synthesize_mixtures"),
        *("compute_normal_spectrograms", "compute_mixture_spectrograms", "extract_embeddings"),
        *("compute_truth", "fit_detector", "score_clips", "measure_faithfulness", "evaluate"),
    }
    aggregates = {*AFTER_METRICS, "collect_skipped_clips", "plot_training_curves"}
    assert set(jobs) == its_own | aggregates
    for rule in its_own:
        assert values(jobs, rule, "category") == {"engine_idling"}


def test_a_method_added_runs_only_its_jobs(project):
    """Its scores, and pictures and tables, which know the names of all."""
    project.edit("tiny.yaml", "controls: [oracle, random]", "controls: [oracle, random, energy]")
    jobs = project.would_run()
    assert set(jobs) == {"score_clips", *AFTER_SCORES, *PICTURES}
    assert methods(jobs, "score_clips") == methods(jobs, "evaluate") == {"energy"}


def test_random_weights_rerun_what_comes_from_the_encoder_and_stamp_the_tables(project):
    with (project.root / "tiny.yaml").open("a") as file:
        file.write("weights: random\n")
    jobs = project.would_run()
    assert {"extract_weights", "extract_embeddings", "render_table"} <= set(jobs)
    assert not {"download_archive", "compute_normal_spectrograms"} & set(jobs)
    assert methods(jobs, "score_clips") == {"patchcore", "padim", "stfpm"}
    assert "RANDOM WEIGHTS: no network was trained" in project.reasons()


def test_retry_settings_download_nothing_again(project):
    project.edit("config/config.yaml", "attempts: 8", "attempts: 9")
    assert project.would_run() == {}


def test_settings_that_only_stop_bad_input_rerun_nothing(project):
    project.edit("config/config.yaml", "on_bad_clip: stop", "on_bad_clip: skip")
    project.edit("config/config.yaml", "max_member_mb: 256", "max_member_mb: 512")
    assert project.would_run() == {}


# --- names and files


def test_a_pin_of_the_paper_environment(project):
    project.edit("envs/paper.yaml", "matplotlib==", "matplotlib==9.")
    assert set(project.would_run()) == {
        *TABLES,
        *FIGURES,
        "aggregate_metrics",
        "collect_skipped_clips",
    }


def test_one_score_file_deleted(project):
    path = "results/scores/leakfree/envmix/siren/snr0/aisfx/padim/seed0.npz"
    (project.root / path).unlink()
    jobs = project.would_run()
    assert set(jobs) == RERUN_BY["padim"] - {"fit_detector"}
    assert len(jobs["score_clips"]) == len(jobs["measure_faithfulness"]) == 1


def test_a_label_reruns_only_what_prints_it(project):
    project.edit("src/vision_to_sound/detectors/__init__.py", '"PatchCore"', '"Patch Core"')
    assert set(project.would_run()) == {*TABLES, *FIGURES}


def test_a_word_in_a_log_line_reruns_nothing(project):
    project.edit(
        "src/vision_to_sound/stage.py", "rule %s, wildcards %s", "the rule %s, wildcards %s"
    )
    assert project.would_run() == {}


def test_checks_of_the_config_and_words_about_failures_rerun_nothing(project):
    project.edit("src/vision_to_sound/config_schema.py", "is named twice", "is there twice")
    project.edit("src/vision_to_sound/config_choices.py", "belongs in {other}", "is one of {other}")
    project.edit("src/vision_to_sound/failures.py", "_WIDTH = 4, 8, 112", "_WIDTH = 4, 8, 100")
    assert project.would_run() == {}


def test_licence_and_address_of_an_archive_rerun_nothing(project):
    project.edit("config/datasets.tsv", "CC BY-NC", "CC BY-NC 3.0")
    assert project.would_run() == {}
