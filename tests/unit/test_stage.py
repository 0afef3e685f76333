"""What every script starts with: log, source check, atomic writes."""

from __future__ import annotations

import errno
import logging
import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from vision_to_sound import stage
from vision_to_sound.provenance import stage_fingerprint
from vision_to_sound.seals import replacing


class Named(dict):
    """Snakemake's named lists, as far as a script uses them."""

    __getattr__ = dict.__getitem__


def fake_snakemake(tmp_path: Path, repository: Path, rule: str = "split_clips", **params) -> object:
    return SimpleNamespace(
        rule=rule,
        wildcards=Named(category="siren"),
        params=Named(params),
        resources=Named(budget_mb=500, gpu=0),
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
    assert capsys.readouterr().err == ""  # the screen is for what somebody has to know


def test_warnings_and_slow_progress_are_on_the_screen(tmp_path, repository, capsys):
    with stage.run_stage(fake_snakemake(tmp_path, repository)):
        logging.getLogger("x").warning("clip y.wav is short")
        warnings.warn("few clips", stacklevel=1)
        advance = stage.progress(3, "clips", every_s=0.0)
        advance(2)
    shown = capsys.readouterr().err.splitlines()
    assert shown[:2] == ["clip y.wav is short", "UserWarning: few clips"]
    assert shown[2].startswith("clips: 2 of 3, ") and len(shown) == 3
    assert "few clips" in (tmp_path / "job.log").read_text()


def test_ctrl_c_is_no_error(tmp_path, repository, capsys):
    with pytest.raises(SystemExit) as caught:
        with stage.run_stage(fake_snakemake(tmp_path, repository)):
            raise KeyboardInterrupt
    assert caught.value.code == 130 and capsys.readouterr().err == ""
    log = (tmp_path / "job.log").read_text()
    assert "stopped by Ctrl-C; the next run goes on" in log and "Traceback" not in log


def failed_with(error: Exception, snakemake) -> None:
    with pytest.raises(SystemExit) as caught:
        with stage.run_stage(snakemake):
            raise error
    assert caught.value.code == 1


def test_a_failure_is_in_the_log_and_in_words_on_the_screen(tmp_path, repository, capsys):
    failed_with(ValueError("clip x.wav is bad"), fake_snakemake(tmp_path, repository))
    log, screen = (tmp_path / "job.log").read_text(), capsys.readouterr().err
    assert "Traceback" in log and log.endswith("ERROR vision_to_sound.stage: clip x.wav is bad\n")
    assert "Traceback" not in screen and "rule split_clips {'category': 'siren'} failed" in screen
    assert screen.splitlines()[-2].endswith("clip x.wav is bad")
    assert screen.splitlines()[-1] == f"log: {tmp_path / 'job.log'}"


def test_without_a_log_the_traceback_is_on_the_screen(tmp_path, repository, capsys):
    snakemake = fake_snakemake(tmp_path, repository)
    snakemake.log = []
    failed_with(ValueError("clip x.wav is bad"), snakemake)
    screen = capsys.readouterr().err
    assert "Traceback" in screen and screen.splitlines()[-1].endswith("clip x.wav is bad")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("gain"), ["KeyError: 'gain'", "Nobody foresaw this"]),
        (ZeroDivisionError("division by zero"), ["ZeroDivisionError: division by zero"]),
        (MemoryError("Unable to allocate 9 GiB"), ["out of memory (Unable", "lower memory_mb"]),
        (MemoryError(), ["out of memory (no more is known)"]),
        (RuntimeError(""), ["RuntimeError: ", "Nobody foresaw this"]),
        (FileNotFoundError(2, "No such file", "a.npy"), ["No such file: 'a.npy'"]),
        (
            OSError(28, "Disk full", "b/.a.0123abcd-77.npy"),
            ["Disk full: 'b/a.npy'. Free some space"],
        ),
        (
            OSError(28, "a.json: b/.a.0123abcd-77.npy needs 5 MiB: full"),
            ["b/a.npy needs 5 MiB: full. Free"],
        ),
    ],
)
def test_no_error_is_without_words(error, words):
    for word in words:
        assert word in stage.in_words(error)


def test_a_name_that_no_encoding_has_does_not_hide_the_error(tmp_path, repository, capsys):
    failed_with(ValueError("clip \udce9.wav is bad"), fake_snakemake(tmp_path, repository))
    assert r"clip \udce9.wav is bad" in (tmp_path / "job.log").read_text()


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


def make_job(**changes) -> stage.Job:
    fields = {
        "rule": "fit_detector",
        "settings": {"epochs": 3, "identity": ["leakfree", "siren"]},
        "fingerprint": {"script:fit_detector.py": "0" * 12, "vision_to_sound.training": "1" * 12},
        "gpu": 0,
        "threads": 1,
        "memory_bytes": 1 << 20,
    }
    return stage.Job(**fields | changes)


@pytest.fixture
def inputs(tmp_path) -> list[str]:
    paths = [tmp_path / "embeddings.npy", tmp_path / "split.tsv"]
    for path in paths:
        path.write_bytes(b"0123456789")
        os.utime(path, ns=(10**18, 10**18))
    return [str(path) for path in paths]


def test_a_key_is_the_same_for_the_same_settings_code_and_inputs(inputs):
    key = make_job().key(inputs)
    assert len(key) == 64 and make_job().key(inputs) == key
    # what has no part in a result; a training that was killed may go on with more memory
    elsewhere = make_job(gpu=1, threads=8, memory_bytes=1 << 30, rule="other")
    assert elsewhere.key([Path(path) for path in inputs]) == key


def test_a_key_changes_with_settings_code_and_which_inputs(inputs):
    keys = [
        make_job().key(inputs),
        make_job(settings={"epochs": 4, "identity": ["leakfree", "siren"]}).key(inputs),
        make_job(settings={"epochs": 3, "identity": ["leakfree", "drilling"]}).key(inputs),
        make_job(fingerprint={"script:fit_detector.py": "0" * 12}).key(inputs),
        make_job(
            fingerprint={
                "script:fit_detector.py": "0" * 12,
                "vision_to_sound.training": "2" * 12,
            }
        ).key(inputs),
        make_job().key(inputs[:1]),
        make_job().key(inputs[::-1]),
        make_job().key([]),
    ]
    assert len(set(keys)) == len(keys)


def test_a_key_changes_with_size_or_time_of_an_input(inputs):
    job, changed = make_job(), Path(inputs[1])
    keys = [job.key(inputs)]
    os.utime(changed, ns=(10**18, 10**18 + 1000))
    keys.append(job.key(inputs))
    changed.write_bytes(b"0123456789x")
    os.utime(changed, ns=(10**18, 10**18))
    keys.append(job.key(inputs))
    assert len(set(keys)) == 3
    changed.write_bytes(b"0123456789")
    os.utime(changed, ns=(10**18, 10**18))
    assert job.key(inputs) == keys[0]
    changed.unlink()
    with pytest.raises(FileNotFoundError):
        job.key(inputs)


def test_progress_in_a_log(caplog):
    with caplog.at_level(logging.INFO):
        advance = stage.progress(3, "clips", every_s=0.0)
        advance(1)
        advance(2)
    assert "clips: 1 of 3" in caplog.text and "clips: 3 of 3" in caplog.text  # every_s=0: each call


def test_a_full_disk_names_the_file_that_had_no_room(tmp_path):
    """Not the temporary one that it was written to."""
    path = tmp_path / "aisfx.npy"
    with pytest.raises(OSError) as caught, replacing(path) as temporary:
        raise OSError(errno.ENOSPC, f"{temporary} needs 9 MiB: {os.strerror(errno.ENOSPC)}")
    words = stage.in_words(caught.value)
    assert f"{path} needs 9 MiB: No space left on device. Free some space" in words
    assert ".aisfx" not in words
