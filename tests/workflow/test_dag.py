"""The jobs of a run before it starts: the whole paper, one data set alone, and a training that is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest

from .conftest import Project, copy_of_repository

MIMII_RULES = {"split_recordings", "compute_recording_spectrograms", "export_recording_anomalies"}
ENVMIX_RULES = {
    *("extract_backgrounds", "extract_events", "split_clips", "synthesize_mixtures"),
    *("compute_normal_spectrograms", "compute_mixture_spectrograms", "measure_faithfulness"),
    *("collect_skipped_clips", "plot_framework", "plot_ground_truth", "export_listening_examples"),
}
EXAMPLES = {"plot_anomaly_examples", "plot_framework", "export_listening_examples"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Project:
    """A copy of the repository with no results and no mirror."""
    project = copy_of_repository(tmp_path_factory.mktemp("dag") / "fresh")
    project.edit("tiny.yaml", "mirror: mirror\n", "")
    return project


# --- the paper


@pytest.fixture(scope="module")
def paper(fresh) -> dict[str, dict[str, list[str]]]:
    """{rule: {wildcards: inputs}} of all jobs of config/config.yaml; asked for once, it takes a minute."""
    return fresh.planned_jobs(config="config/config.yaml")


def test_the_paper_has_the_jobs_of_its_design(paper):
    """By hand: 2 protocols; EnvMix 8 classes, 3 SNRs, 3 seeds; MIMII 4 types of 4 ids, 3 SNRs, 2 seeds."""
    envmix = 2 * 8 * 3 * 3  # 144 experiments of a method
    mimii = 2 * (4 * 4) * 3 * 2  # 192
    assert (envmix, mimii) == (144, 192)
    # Normal clips of a class: published levels differ by SNR and seed, leakfree ones do not.
    normal_sets = 8 * 3 * 3 + 8
    assert normal_sets == 80
    # A leakfree detector of EnvMix serves all 3 SNRs.
    fits = 8 * 3 * 3 + 8 * 3 + mimii
    assert fits == 288
    jobs = {rule: len(found) for rule, found in paper.items()}
    assert (
        jobs
        == {
            "download_archive": 15,  # UrbanSound8K, ESC-50, 4 types x 3 SNRs of MIMII, CLAP
            "index_dataset": 14,  # all but CLAP
            "extract_weights": 1,
            "extract_backgrounds": 8,
            "extract_events": 1,
            "split_clips": 48,  # 2 protocols x 8 classes x 3 seeds: the SNR has no part in it
            "split_recordings": 192,  # one an experiment of MIMII
            "synthesize_mixtures": 144,  # one an experiment of EnvMix
            # On 2 grids, the encoder's and the autoencoder's own:
            "compute_normal_spectrograms": 160,  # 80 sets x 2
            "compute_mixture_spectrograms": 288,  # 144 x 2; three stems a job
            "compute_recording_spectrograms": 192,  # 2 protocols x 16 machines x 3 SNRs x 2: no seed
            "compute_truth": 288,  # 144 x 2: of recordings the table knows all there is
            # Of the one encoder with a network:
            "extract_embeddings": 416,  # 80 normal sets + 144 mixture sets + 2 x 16 x 3 x (normal, abnormal)
            "fit_detector": 1728,  # 288 x 6 that learn: 5 methods and band_zscore
            "score_clips": 3024,  # (144 + 192) x (5 methods + 4 controls)
            "evaluate": 432,  # 2 x (8 + 16) x 9: all SNRs and seeds in one job
            "measure_faithfulness": 576,  # 144 x 4 methods: EnvMix only, and no autoencoder
            "aggregate_metrics": 1,
            "render_table": 14,  # 2 protocols x (3 of EnvMix + 3 of MIMII + 1 of faithfulness)
            "compare_with_paper": 1,
            "collect_skipped_clips": 1,
            "plot_metric_points": 6,  # EnvMix 4 metrics, MIMII the 2 of the sample level
            "plot_protocol_gap": 6,
            # Examples: 2 protocols x (siren and one fan):
            "plot_anomaly_examples": 4,
            "plot_score_histogram": 4,
            "plot_framework": 2,  # siren alone: recordings have no stems
            "plot_ground_truth": 2,
            "plot_training_curves": 1,
            "export_listening_examples": 2,
            "export_recording_anomalies": 2,
        }
    )


def test_a_front_end_without_network_gets_no_embeddings_and_no_weights(paper):
    found = 0
    for jobs in paper.values():
        for wildcards, inputs in jobs.items():
            if "encoder=logmel_dcase2020" in wildcards:
                found += 1
                assert not [path for path in inputs if "/embeddings/" in path], wildcards
                assert not [path for path in inputs if "/weights/" in path], wildcards
    assert found > 800
    for rule in ("extract_embeddings", "extract_weights", "measure_faithfulness"):
        assert {re.search(r"encoder=(\w+)", w)[1] for w in paper[rule]} == {"clap2022_cnn14"}


def test_methods_wait_for_what_they_need(paper):
    """The encoder itself for STFPM, the truth for the oracle alone; test clips never reach a fit."""
    for wildcards, inputs in paper["score_clips"].items():
        method = re.search(r"method=(\w+)", wildcards)[1]
        folders = {path.split("/")[1] for path in inputs}
        assert ("weights" in folders) == (method == "stfpm"), wildcards
        needs_truth = method == "oracle" and "dataset=envmix" in wildcards
        assert ("truth" in folders) == needs_truth, wildcards
        assert ("detectors" in folders) == (method not in ("oracle", "random", "energy")), wildcards
        assert ("embeddings" in folders) == (method in ("patchcore", "padim", "cfa", "stfpm"))
    for inputs in paper["fit_detector"].values():
        assert not re.search(r"/(mixture|abnormal|event|background)/|/truth/", " ".join(inputs))


# --- a part of it


@pytest.mark.parametrize(("dataset", "others"), [("mimii", ENVMIX_RULES), ("envmix", MIMII_RULES)])
def test_one_data_set_alone_has_no_job_of_the_other(fresh, dataset, others):
    config = (fresh.root / "tiny.yaml").read_text()
    config = config.replace("datasets: [envmix, mimii]", f"datasets: [{dataset}]")
    (fresh.root / f"{dataset}.yaml").write_text(config)
    jobs = fresh.would_run(config=f"{dataset}.yaml")
    assert {"fit_detector", "score_clips", "render_table", "plot_training_curves"} <= set(jobs)
    assert not others & set(jobs)
    archives = " ".join(jobs["download_archive"])
    assert ("mimii" in archives) == (dataset == "mimii")
    assert ("urbansound8k" in archives) == (dataset == "envmix")


def test_random_weights_are_not_downloaded(fresh):
    config = (fresh.root / "tiny.yaml").read_text()
    (fresh.root / "random.yaml").write_text(config + "weights: random\n")
    jobs = fresh.would_run(config="random.yaml")
    assert jobs["extract_weights"] == {"encoder=aisfx"}
    assert jobs["download_archive"] == {
        "archive=urbansound8k",
        "archive=esc50",
        "archive=mimii_0_dB_fan",
    }


@pytest.mark.parametrize(
    ("target", "last", "absent"),
    [
        ("table1", {"render_table"}, {"plot_metric_points", "plot_framework"}),
        ("leaderboard", {"render_leaderboard", "plot_leaderboard"}, {"render_table", *EXAMPLES}),
        ("figure1", {"plot_anomaly_examples"}, {"evaluate", "plot_framework"}),
        ("figure2", {"plot_framework"}, {"evaluate", "split_recordings"}),
        ("figure3", {"plot_ground_truth"}, {"fit_detector", "score_clips", "split_recordings"}),
    ],
)
def test_a_table_or_figure_can_be_asked_for_alone(fresh, target, last, absent):
    jobs = fresh.would_run(target)
    assert last <= set(jobs) and not absent & set(jobs)
    if target == "table1":
        assert {re.search(r"table=(\w+)", w)[1] for w in jobs["render_table"]} == {"mimii"}


# --- a training that is killed


def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(project):
    """SIGKILL after the first epoch: Snakemake and its job, nothing can clean up."""
    project.edit("tiny.yaml", "stfpm: {epochs: 2}", "stfpm: {epochs: 6}")
    name = "leakfree/envmix/siren/aisfx/stfpm/seed0"
    detector = project.root / f"results/detectors/{name}.npz"
    checkpoint = project.root / f"results/checkpoints/{name}.pt"
    target = str(detector.relative_to(project.root))
    undisturbed = project.snakemake(target)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert not checkpoint.exists()
    expected = detector.read_bytes()

    detector.unlink()
    run = subprocess.Popen(
        project.command(target),
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not checkpoint.exists():
            assert run.poll() is None, "it ended before a checkpoint was seen"
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.05)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert checkpoint.is_file() and not detector.exists()

    assert project.snakemake("--unlock").returncode == 0
    resumed = project.snakemake(target)
    assert resumed.returncode == 0, resumed.stderr
    log = (project.root / f"results/logs/fit_detector/{name}.log").read_text()
    epoch = int(re.search(r"going on after epoch (\d+)", log)[1])
    assert 1 <= epoch < 6
    assert f"epoch {epoch} of 6" not in log and f"epoch {epoch + 1} of 6" in log
    assert detector.read_bytes() == expected
    assert not checkpoint.exists()
