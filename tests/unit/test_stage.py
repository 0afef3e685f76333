"""What every script starts with: log, source check, atomic writes."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from vision_to_sound import stage
from vision_to_sound.provenance import stage_fingerprint


class Named(dict):
    """Snakemake's named lists, as far as a script uses them."""

    __getattr__ = dict.__getitem__


def fake_snakemake(tmp_path: Path, repository: Path, rule: str = "split_clips", **params) -> object:
    return SimpleNamespace(
        rule=rule,
        wildcards=Named(category="siren"),
        params=Named(params),
        resources=Named(mem_mb=500, gpu=0),
        threads=1,
        log=[str(tmp_path / "job.log")],
        scriptdir=str(repository / "workflow_scripts"),
    )


@pytest.fixture(autouse=True)
def restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_first_and_last_line_of_a_log(tmp_path, repository, capsys):
    with stage.run_stage(fake_snakemake(tmp_path, repository, settings={"seed": 3})) as job:
        assert job.memory_bytes == 250 << 20 and job.settings == {"seed": 3}
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert "rule split_clips, wildcards {'category': 'siren'}" in lines[0]
    assert "settings {'seed': 3}" in lines[1]
    assert "peak memory" in lines[-1]
    assert "rule split_clips" in capsys.readouterr().err


def test_a_failure_is_in_the_log_and_on_the_screen(tmp_path, repository, capsys):
    with pytest.raises(SystemExit) as caught:
        with stage.run_stage(fake_snakemake(tmp_path, repository)):
            raise ValueError("clip x.wav is bad")
    assert caught.value.code == 1
    for text in ((tmp_path / "job.log").read_text(), capsys.readouterr().err):
        assert "Traceback" in text and "clip x.wav is bad" in text.splitlines()[-1]
        assert str(tmp_path / "job.log") in text


def test_source_that_changed_while_the_workflow_was_running_stops_the_job(tmp_path, repository):
    code = stage_fingerprint(
        repository / "workflow_scripts" / "split_clips.py",
        source_root=repository / "src",
        env_file=repository / "envs" / "audio.yaml",
    )
    with stage.run_stage(fake_snakemake(tmp_path, repository, code=code)) as job:
        assert len(job.code) == 12
    with pytest.raises(SystemExit):
        changed = code | {"vision_to_sound.splits": "0" * 12}
        with stage.run_stage(fake_snakemake(tmp_path, repository, code=changed)):
            pytest.fail("the job ran")
    log = (tmp_path / "job.log").read_text()
    assert "changed while the workflow was running: vision_to_sound.splits" in log


def test_progress_in_a_log(caplog):
    with caplog.at_level(logging.INFO):
        advance = stage.progress(3, "clips", every_s=0.0)
        advance(1)
        advance(2)
    assert "clips: 1 of 3" in caplog.text and "clips: 3 of 3" in caplog.text  # every_s=0: each call
