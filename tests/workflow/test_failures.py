"""What a user sees when input is bad: on one screen which rule, which file, what to do, and the log."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vision_to_sound.archive_table import COLUMNS
from vision_to_sound.encoders import ENCODERS

from .conftest import Project, copy_of_repository

CONFIG = """\
mirror: mirror
datasets: [envmix]
encoders: [aisfx]
methods: [padim]
envmix: {backgrounds: [siren], events: [dog], snrs_db: [0], seeds: [0]}
"""
N_SCREEN_LINES = 50


class RunsCode:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def add_row(mirror: Path, name: str, file: str) -> None:
    table = mirror / "datasets.tsv"
    if not table.exists():
        table.write_text("\t".join(COLUMNS) + "\n")
    row = dict.fromkeys(COLUMNS, "") | {"name": name, "file": file, "licence": "CC0"}
    table.write_text(table.read_text() + "\t".join(row.values()) + "\n")


def wav(seconds: float) -> bytes:
    noise = np.random.default_rng(0).normal(size=round(8000 * seconds)) * 0.1
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, 8000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def screen(tmp_path_factory) -> tuple[Project, str]:
    """One run over a lying WAV, a zip that lost its end, and a checkpoint that would run code."""
    project = copy_of_repository(tmp_path_factory.mktemp("failures") / "project")
    mirror = project.root / "mirror"
    mirror.mkdir()
    (project.root / "bad.yaml").write_text(CONFIG)

    header = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    table = header + "".join(f"{n}-8-0-0.wav,{n},0,4,1,1,8,siren\n" for n in range(3))
    files = {"UrbanSound8K/metadata/UrbanSound8K.csv": table.encode()}
    for n in range(3):
        sound = wav(4.0)
        files[f"UrbanSound8K/audio/fold1/{n}-8-0-0.wav"] = sound[:-9000] if n == 1 else sound
    with tarfile.open(mirror / "u.tar.gz", "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    add_row(mirror, "urbansound8k", "u.tar.gz")

    with zipfile.ZipFile(mirror / "e.zip", "w") as archive:
        archive.writestr("ESC-50/meta/esc50.csv", "filename,category,src_file\n")
        archive.writestr("ESC-50/audio/../../outside.wav", wav(1.0))
    add_row(mirror, "esc50", "e.zip")

    trap = io.BytesIO()
    torch.save((RunsCode(project.root / "ran"), {}), trap)
    with zipfile.ZipFile(mirror / "aisfx.whl", "w") as archive:
        archive.writestr(ENCODERS["aisfx"].weights_member, trap.getvalue())
    add_row(mirror, "aisfx", "aisfx.whl")

    result = project.snakemake(
        "--keep-going",
        "results/clips/envmix/siren/backgrounds.npy",
        "results/index/esc50.tsv",
        "results/weights/aisfx.safetensors",
        config="bad.yaml",
    )
    assert result.returncode != 0
    return project, result.stderr + result.stdout


def last_words(output: str) -> str:
    """The summary, without Snakemake's two lines after it."""
    found = re.search(r"^  \d+ JOBS? FAILED.*?(?=^\S)", output, re.M | re.S)
    assert found, output[-3000:]
    return found[0]


def test_the_summary_ends_the_output_and_fits_on_a_screen(screen):
    _, output = screen
    words = last_words(output)
    assert words.startswith("  3 JOBS FAILED. All that finished is kept: mend the cause and start")
    after = output[output.index(words) :]
    assert len(after.strip().splitlines()) < N_SCREEN_LINES
    assert "Traceback" not in output and "exit status" not in words


@pytest.mark.parametrize(
    ("rule", "words", "log"),
    [
        (
            "extract_backgrounds category=siren",
            [
                *("u.tar.gz", "audio/fold1/1-8-0-0.wav", "is cut off", "64000 bytes of sound"),
                *("Replace or remove the file", "on_bad_clip: skip"),
            ],
            "extract_backgrounds/envmix/siren.log",
        ),
        (
            "index_dataset source=esc50",
            ["e.zip", "ESC-50/audio/../../outside.wav", "points outside", "original source"],
            "index_dataset/esc50.log",
        ),
        (
            "extract_weights encoder=aisfx",
            ["aisfx.whl", "refused", "it asks for posix.mkdir", "from its publisher"],
            "extract_weights/aisfx.log",
        ),
    ],
    ids=["lying WAV", "name outside", "checkpoint with code"],
)
def test_each_failure_says_rule_file_remedy_and_log(screen, rule, words, log):
    project, output = screen
    block = last_words(output).partition(f"  {rule}\n")[2].partition("\n\n")[0]
    text = " ".join(block.split())
    for word in words:
        assert word in text, text
    assert f"log: results/logs/{log}" in text
    content = (project.root / "results" / "logs" / log).read_text()
    assert "Traceback" in content and content.splitlines()[0].count("rule ")
    assert not (project.root / "ran").exists()


def test_a_broken_config_is_a_few_lines(screen):
    project, _ = screen
    (project.root / "typo.yaml").write_text("envmix: {snr_db: [0]}\n")
    result = project.snakemake("--dry-run", config="typo.yaml")
    output = (result.stderr + result.stdout).strip()
    assert result.returncode == 1
    assert "config: unknown config key 'envmix.snr_db'" in output
    assert "did you mean 'snrs_db'?" in output and len(output.splitlines()) <= 6


def test_a_job_that_is_killed_is_spoken_for(screen):
    project, _ = screen
    script = project.root / "workflow_scripts" / "index_dataset.py"
    text = script.read_text()
    script.write_text(text.replace("    with run_stage(snakemake) as job:\n", KILLED))
    try:
        result = project.snakemake("results/index/urbansound8k.tsv", "--force", config="bad.yaml")
    finally:
        script.write_text(text)
    words = " ".join(last_words(result.stderr + result.stdout).split())
    assert "1 JOB FAILED" in words and "index_dataset source=urbansound8k" in words
    assert "ended from outside" in words and "fewer jobs side by side" in words


KILLED = """\
    with run_stage(snakemake) as job:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
"""
