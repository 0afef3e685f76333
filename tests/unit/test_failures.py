"""The last words of a run that failed: each cause once, with rule, file, what to do and log."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vision_to_sound.failures import FailedJob, cause_of, summary

HEAD = "12:00:00 INFO vision_to_sound.stage: rule split_clips, wildcards {}\n"
TRACEBACK = (
    "12:00:01 ERROR vision_to_sound.stage: rule split_clips  failed\n"
    'Traceback (most recent call last):\n  File "x.py", line 3, in f\nValueError: bad\n'
)
ERROR = "12:00:01 ERROR vision_to_sound.stage: "


def job(folder: Path, text: str | None, name: str = "siren") -> FailedJob:
    log = folder / f"{name}.log"
    if text is not None:
        log.write_text(text, encoding="utf-8")
    return FailedJob("split_clips", {"category": name, "seed": "0"}, str(log))


@pytest.fixture
def started() -> float:
    return time.time() - 5


def test_the_cause_is_the_last_error_of_the_log_whole(tmp_path, started):
    text = (
        HEAD + "12:00:01 WARNING x: odd\n" + TRACEBACK + ERROR + "u.tar.gz is damaged.\nFetch it.\n"
    )
    assert cause_of(job(tmp_path, text), started=started) == "u.tar.gz is damaged.\nFetch it."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "before it could write a log"),
        ("", "ended from outside, without an error of its own"),
        (HEAD, "Last word in its log: rule split_clips, wildcards {}."),
        (
            HEAD + "12:00:02 INFO vision_to_sound.training: epoch 3 of 9\n",
            "epoch 3 of 9. If memory",
        ),
        (HEAD + "12:00:02 INFO vision_to_sound.stage: done in 1.0 s\n", "script itself finished"),
    ],
)
def test_a_job_that_left_no_error_is_spoken_for(tmp_path, started, text, words):
    assert words in cause_of(job(tmp_path, text), started=started)


def test_the_log_of_an_older_run_is_not_taken_for_this_ones(tmp_path, started):
    old = job(tmp_path, HEAD + ERROR + "an old story\n")
    os.utime(old.log, (started - 100, started - 100))
    assert "an old story" not in cause_of(old, started=started)
    assert "none" in summary([FailedJob("all")], started=started)


def test_jobs_with_one_cause_are_named_once(tmp_path, started):
    jobs = [job(tmp_path, ERROR + "disk is full\n", f"class{n}") for n in range(30)]
    jobs.append(job(tmp_path, ERROR + "clip x.wav is silent\n"))
    lines = summary(jobs, started=started).splitlines()
    assert lines[1].startswith("  31 JOBS FAILED. All that finished is kept")
    assert lines[3] == "  split_clips category=class0 seed=0"
    assert lines[4:7] == [
        "      disk is full",
        f"      log: {tmp_path}/class0.log",
        "      the same in 29 more: split_clips category=class1 seed=0, ...",
    ]
    assert lines[8:11] == [
        "  split_clips category=siren seed=0",
        "      clip x.wav is silent",
        f"      log: {tmp_path}/siren.log",
    ]


def test_many_long_causes_stay_on_one_screen(tmp_path, started):
    jobs = [
        job(tmp_path, ERROR + f"cause {n}: " + "a long story of many words " * 200, f"class{n}")
        for n in range(20)
    ]
    text = summary(jobs, started=started)
    assert len(text.splitlines()) <= 55 and max(map(len, text.splitlines())) <= 130
    assert "and 16 more with other causes" in text and "(the rest is in the log)" in text
