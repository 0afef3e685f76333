"""From two folders to a page, with an untrained network; then files come and go, and only they are worked on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vision_to_sound.files import read_table

from .conftest import REPOSITORY, Project, copy_of_repository

sys.path.insert(0, str(REPOSITORY / "tests" / "unit" / "monitoring"))
from machine_sounds import RATE_HZ, hum, write_folders  # noqa: E402

CONFIG = """\
datasets: [folder]
weights: random
normal: normal
unsorted: unsorted
recordings: {false_alarm_rate: 0.1}
detectors: {band_padim: {layers: [block2]}}
threads: 1
memory_mb: 800
"""
ODD_NAME = "sub folder/anomaly {id}<b> #ü.wav"
NO_UTF8 = os.fsdecode(b"=normal\xff\r.wav")  # in tables and on the page as in NO_UTF8_TEXT
NO_UTF8_TEXT = r"'=normal\udcff\u000d.wav"
SCORED = {"embed_recordings", "score_recordings", "write_page"}
OUT = Path("results") / "recordings"


@pytest.fixture(scope="module")
def sorted_folder(tmp_path_factory) -> Project:
    project = copy_of_repository(tmp_path_factory.mktemp("recordings") / "run")
    (project.root / "own.yaml").write_text(CONFIG)
    write_folders(project.root, n_normal=20)
    odd = project.root / "unsorted" / ODD_NAME
    odd.parent.mkdir()
    (project.root / "unsorted" / "anomaly_200.wav").rename(odd)
    (project.root / "unsorted" / "normal_100.wav").rename(project.root / "unsorted" / NO_UTF8)
    (project.root / "unsorted" / "normal_broken.wav").write_bytes(b"no sound")
    (project.root / "unsorted" / "annexed.wav").symlink_to("/nowhere/else.wav")
    (project.root / "unsorted" / "phone.m4a").write_bytes(b"not read")
    (project.root / "unsorted" / "loop").symlink_to(".")
    shutil.copy2(odd, project.root / "unsorted" / "z again.wav")
    result = project.snakemake(config="own.yaml")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-5000:]
    return project


@pytest.fixture
def project(sorted_folder, tmp_path) -> Project:
    root = tmp_path / "copy"
    shutil.copytree(sorted_folder.root, root, symlinks=True)
    return Project(root)


def rules(project: Project) -> set[str]:
    return set(project.would_run(config="own.yaml"))


def write(path: Path, seed: int, **how) -> None:
    import soundfile

    soundfile.write(path, hum(seed, **how), RATE_HZ)


def test_tables_page_and_label_tracks(sorted_folder):
    out = sorted_folder.root / OUT
    clips = read_table(out / "clips.tsv")
    assert len(clips) == 4 and list(clips["score"]) == sorted(clips["score"], reverse=True)
    assert set(clips["recording"].iloc[:2]) == {ODD_NAME, "anomaly_201.wav"}
    assert NO_UTF8_TEXT in set(clips["recording"])
    assert set(clips["known_label"]) == {"normal", "anomalous"}
    assert (clips["p_value"] > 0).all()
    regions = read_table(out / "regions.tsv")
    assert set(regions["recording"]) <= set(clips.loc[clips["verdict"] == "anomalous", "recording"])
    assert ODD_NAME in set(regions["recording"])
    for name in set(regions["recording"]) - {NO_UTF8_TEXT}:
        assert (out / "audacity" / f"{name}.txt").read_text().count("anomaly ") >= 1
    metrics = dict(read_table(out / "metrics.tsv")[["metric", "value"]].itertuples(index=False))
    assert metrics["sample_roc"] == 100.0 and metrics["found_share"] == 100.0
    page = (out / "page.html").read_text()
    assert "RANDOM WEIGHTS" in page and "Only 20 normal clips" in page
    for not_used in (
        "normal_broken.wav: not readable as audio",
        "annexed.wav: is a link to /nowhere/else.wav, which cannot be opened",
        "phone.m4a: .m4a is not read; convert it",
        "loop: leads to a folder that is listed already",
    ):
        assert f"Not used, of the unsorted recordings: {not_used}" in page
    skipped = read_table(out / "unsorted_skipped.tsv")
    problems = dict(zip(skipped["recording"], skipped["problem"], strict=True))
    # of two recordings of the same sound the first by name stays
    assert problems["z again.wav"] == f"holds the same sound as {ODD_NAME}" and len(problems) == 5
    assert rules(sorted_folder) == set()


def test_a_new_unsorted_file_is_embedded_and_scored_alone(project):
    cache = project.root / OUT / "embeddings"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    write(project.root / "unsorted" / "new.wav", 300, whistle=True)
    assert rules(project) == SCORED
    result = project.snakemake(config="own.yaml")
    assert result.returncode == 0, result.stderr[-3000:]
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    assert len(after) == len(before) + 1 and before.items() <= after.items()
    assert "new.wav" in set(read_table(project.root / OUT / "clips.tsv")["recording"])


def test_a_new_normal_file_fits_again_and_is_embedded_alone(project):
    cache = project.root / OUT / "embeddings"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    write(project.root / "normal" / "new.wav", 301)
    assert rules(project) == SCORED | {"fit_recordings"}
    assert project.snakemake(config="own.yaml").returncode == 0
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    assert len(after) == len(before) + 1 and before.items() <= after.items()


def test_another_recording_under_the_same_name_and_time_is_seen(project):
    """cp -p: the copy is older than the run, and of the same length."""
    odd, other = (
        project.root / "unsorted" / "anomaly_201.wav",
        project.root / "unsorted" / "normal_101.wav",
    )
    os.utime(odd, ns=(5, other.stat().st_mtime_ns))
    before = read_table(project.root / OUT / "clips.tsv").set_index("recording")
    shutil.copy2(odd, other)
    assert odd.stat().st_size == other.stat().st_size
    assert rules(project) == SCORED
    write(odd, 302)  # else the two are the same sound
    assert project.snakemake(config="own.yaml").returncode == 0
    after = read_table(project.root / OUT / "clips.tsv").set_index("recording")
    assert before.loc["normal_101.wav", "verdict"] == "normal"
    assert after.loc["normal_101.wav", "verdict"] == "anomalous"
    assert after.loc["anomaly_201.wav", "verdict"] == "normal"


def test_another_normal_recording_under_the_same_name_fits_again(project):
    folder = project.root / "normal"
    shutil.copy2(folder / "normal_3.wav", folder / "normal_4.wav")
    assert rules(project) == SCORED | {"fit_recordings"}


def test_a_link_to_nothing_keeps_no_new_file_waiting(project):
    (project.root / "unsorted" / "locked.wav").symlink_to("/nowhere")
    write(project.root / "unsorted" / "new.wav", 303)
    assert project.snakemake(config="own.yaml").returncode == 0
    assert "new.wav" in set(read_table(project.root / OUT / "clips.tsv")["recording"])


def test_labels_of_a_table_are_seen_to_change(project):
    (project.root / "labels.csv").write_text(
        "recording,label\nanomaly_201.wav,anomalous\n*,normal\n"
    )
    project.edit("own.yaml", "false_alarm_rate", "labels: labels.csv, false_alarm_rate")
    assert rules(project) == {"score_recordings", "write_page"}
    assert project.snakemake(config="own.yaml").returncode == 0
    metrics = read_table(project.root / OUT / "metrics.tsv").set_index("metric")
    assert metrics.loc["found_share", "n"] == 1
    (project.root / "labels.csv").write_text("recording,label\n*,normal\n")
    assert rules(project) == {"score_recordings", "write_page"}


def test_no_page_of_another_run_stays_under_its_name(project):
    page, previous = project.root / OUT / "page.html", project.root / OUT / "previous" / "page.html"
    content = page.read_bytes()
    (project.root / "empty").mkdir()
    for name in ("one", "two"):
        (project.root / name).mkdir()
        write(project.root / name / "a.wav", 1)
    failures = {
        "unsorted=empty": "holds no sound file",
        "recordings={false_alarm_rate: 7}": "config key recordings.false_alarm_rate: 7.0 ",
        "normal=one": "1 normal clip: one to learn from and one for the threshold",  # a job fails
    }
    for change, words in failures.items():
        page.write_bytes(content)
        project.snakemake("--dry-run", "--config", change, config="own.yaml")
        assert page.exists()  # a dry run changes nothing
        result = project.snakemake("--config", change, config="own.yaml")
        assert result.returncode == 1 and words in result.stderr
        assert not page.exists() and not (project.root / OUT / "clips.tsv").exists()
        assert previous.read_bytes() == content
    assert project.snakemake(config="own.yaml").returncode == 0
    assert page.exists() and not previous.parent.exists()


def test_any_name_of_a_folder_is_taken_as_it_was_typed(project):
    names = {"normal": "pump #3 {x} <b> $HOME", "unsorted": "2024"}
    for side, name in names.items():
        (project.root / side).rename(project.root / name)
    assert rules_of(project, *(f"{side}={name}" for side, name in names.items())) == {"write_page"}


def rules_of(project: Project, *config: str) -> set[str]:
    return set(project.would_run("--config", *config, config="own.yaml"))


def test_a_folder_that_is_no_utf8(project):
    name = os.fsdecode(b"pumpe\xfc")
    (project.root / "unsorted").rename(project.root / name)
    assert rules_of(project, f"unsorted={name}") == {"write_page"}
    result = project.snakemake("--config", f"unsorted={name}", config="own.yaml")
    assert result.returncode == 0 and "Traceback" not in result.stderr
    assert r"Recordings in pumpe\udcfc" in (project.root / OUT / "page.html").read_text()


def test_from_another_folder_the_own_config_is_read(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "config").mkdir(parents=True)
    (elsewhere / "config" / "config.yaml").write_text("a stranger: [this\n")
    for side in ("normal", "unsorted"):
        (elsewhere / side).symlink_to(project.root / side)
    there = Project(elsewhere)
    result = there.snakemake(
        "--dry-run",
        "--snakefile",
        str(project.root / "Snakefile"),
        config=str(project.root / "own.yaml"),
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_short_screen(project):
    write(project.root / "unsorted" / "new.wav", 304, whistle=True)
    environment = {**project.environment(), "PYTHONPATH": "src"}
    environment.pop("MAKELEVEL", None)  # make says the result itself
    result = subprocess.run(
        project.command("--logger", "short", config="own.yaml"),
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = (result.stdout + result.stderr).splitlines()
    assert len(lines) < 30, lines
    assert "3 of 5 clips anomalous, of 5 recordings. Worst: " in result.stderr
    assert "4 of 4 jobs" in result.stderr
    assert f"page    {OUT}/page.html" in result.stderr


def test_a_file_that_is_gone_leaves_tables_and_caches(project):
    (project.root / "unsorted" / "normal_101.wav").unlink()
    n_before = len(list((project.root / OUT).rglob("*.npz")))
    assert rules(project) == SCORED
    assert project.snakemake(config="own.yaml").returncode == 0
    assert len(read_table(project.root / OUT / "clips.tsv")) == 3
    assert len(list((project.root / OUT).rglob("*.npz"))) == n_before - 2  # embedding and map


def test_what_each_change_would_run(project):
    project.edit("own.yaml", "false_alarm_rate: 0.1", "false_alarm_rate: 0.2")
    assert rules(project) == {"fit_recordings", "score_recordings", "write_page"}
    project.edit("own.yaml", "false_alarm_rate: 0.2", "false_alarm_rate: 0.1, title: Pump 3")
    assert rules(project) == {"write_page"}
    project.edit("own.yaml", ", title: Pump 3", "")
    project.edit("src/vision_to_sound/monitoring/page_assets/page.css", "body", "body, .other")
    assert rules(project) == {"write_page"}


STAND_IN_CLAP = """\
from types import SimpleNamespace
import torch

class CLAP:  # hears whether a sound has power above 2 kHz, and reads the word "whistle"
    def __init__(self, model_fp, version, use_cuda):
        assert open(model_fp).read() == "no weights" and version == "2022"
        self.args = SimpleNamespace(sampling_rate=44100, duration=5)
        self.clap = SimpleNamespace(audio_encoder=self.hear)
    def hear(self, sounds):
        power = torch.fft.rfft(sounds).abs().square()
        split = power.shape[1] * 2000 // 22050
        return (torch.stack([power[:, :split].sum(1), power[:, split:].sum(1)], 1), None)
    def get_text_embeddings(self, texts):
        return torch.tensor([[0.0, 1.0] if "whistle" in text else [1.0, 0.0] for text in texts])
    def compute_similarity(self, audio, text):
        return 10 * (audio / audio.norm(dim=1, keepdim=True)) @ text.T
"""


def test_anomalies_are_named_in_words(project, monkeypatch):
    """With a stand-in for msclap and its weights; everything else is as it is in use."""
    (project.root / "modules").mkdir()
    (project.root / "modules" / "msclap.py").write_text(STAND_IN_CLAP)
    (project.root / "clap").mkdir()
    (project.root / "clap" / "CLAP_weights_2022.pth").write_text("no weights")
    digest = hashlib.sha256(b"no weights").hexdigest()
    (project.root / "clap" / "datasets.tsv").write_text(
        "name\tfile\tbytes\tchecksum\turl\tlicence\n"
        f"clap_2022\tCLAP_weights_2022.pth\t10\tsha256:{digest}\t\tnone\n"
    )
    project.edit("own.yaml", "false_alarm_rate", "prompts: [a hum, a whistle], false_alarm_rate")
    (project.root / "own.yaml").open("a").write("mirror: clap\n")
    assert rules(project) == {"download_archive", "name_anomalies", "write_page"}
    modules = {"PYTHONPATH": str(project.root / "modules")}
    monkeypatch.setattr(
        Project, "environment", lambda self: {key: os.environ[key] for key in os.environ} | modules
    )
    result = project.snakemake(config="own.yaml")
    assert result.returncode == 0, result.stderr[-3000:]
    names = read_table(project.root / OUT / "names.tsv")
    best = names.sort_values("probability").groupby("recording").tail(1)
    found = dict(zip(best["recording"], best["prompt"], strict=True))
    assert found[ODD_NAME] == found["anomaly_201.wav"] == "a whistle"
    assert "sounds most like 'a whistle'" in (project.root / OUT / "page.html").read_text()


def test_caches_that_are_gone_are_said_to_be(project):
    shutil.rmtree(project.root / OUT / "embeddings" / "normal")
    result = project.snakemake("--forcerun", "fit_recordings", config="own.yaml")
    assert result.returncode != 0
    assert "is gone; run once more with --forcerun embed_recordings" in result.stderr
    result = project.snakemake("--forcerun", "embed_recordings", config="own.yaml")
    assert result.returncode == 0, result.stderr[-3000:]


def test_folders_that_are_not_named_are_asked_for(project):
    project.edit("own.yaml", "normal: normal\n", "")
    result = project.snakemake("--dry-run", config="own.yaml")
    assert result.returncode != 0
    words = (
        "config key normal: name the folder of normal recordings, snakemake ... --config normal=DIR"
    )
    assert words in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["normal=nowhere"], "config key normal: there is no folder nowhere"),
        (["unsorted=normal"], "20 recordings lie in both folders, first normal_0.wav"),
        (["unsorted=."], "20 recordings lie in both folders, first normal/normal_0.wav"),
        (["check_disk=maybe"], "check_disk: expected boolean, got 'maybe'"),
        (["unsorted=config"], "holds no sound file that can be read"),
        (["recordings={method: oracle}"], "'oracle' needs more than recordings give"),
        (["recordings={labels: x.csv}"], "expected names, none or a csv file, got 'x.csv'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_folders_and_settings_are_one_clear_error(project, arguments, words):
    result = project.snakemake("--dry-run", "--config", *arguments, config="own.yaml")
    assert result.returncode != 0
    assert words in result.stderr + result.stdout
    assert "Traceback" not in result.stderr
