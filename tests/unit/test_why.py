"""Why jobs would run: causes out of Snakemake's reasons."""

from __future__ import annotations

from vision_to_sound.dry_run import PlannedJob
from vision_to_sound.why import causes, explain

PARAMS = "Params have changed since last execution: Union of exclusive params before and now across all output: "
CODE = {"script:fit_detector.py": "a1", "vision_to_sound.detectors.padim": "b1"}
SETTINGS = {"detector": {"n_channels": 20, "note": "a; b now: c"}, "method": "padim"}


def job(reason: str, rule: str = "fit_detector") -> PlannedJob:
    return PlannedJob(rule, {"category": "siren"}, reason=reason)


def changed(before: list, now: list) -> str:
    words = [",".join(map(repr, part)) or "<nothing exclusive>" for part in (before, now)]
    return f"{PARAMS}before: {words[0]} now: {words[1]} "


def test_a_module_that_changed_came_or_went():
    now = {"script:fit_detector.py": "a1", "vision_to_sound.detectors.padim": "b2", "new": "c"}
    assert causes(job(changed([CODE], [now]))) == [
        "code: new is new here",
        "code: vision_to_sound.detectors.padim changed",
    ]
    assert causes(job(changed([now], [CODE])))[0] == "code: new is no longer used"


def test_a_setting_is_named_by_its_path():
    now = {"detector": {"n_channels": 21, "note": "a; b now: c"}, "method": "padim"}
    assert causes(job(changed([SETTINGS], [now]))) == ["setting: detector.n_channels: 20 -> 21"]
    both = changed([SETTINGS, CODE], [now | {"seed": 1}, CODE | {"script:fit_detector.py": "a2"}])
    assert causes(job(f"Updated input files: a.tsv, b.npy; {both}")) == [
        "code: script:fit_detector.py changed",
        "setting: detector.n_channels: 20 -> 21",
        "setting: seed: None -> 1",
        "a.tsv: newer than what was made from it",
        "b.npy: newer than what was made from it",
    ]


def test_params_of_a_rule_that_had_none_before():
    for reason in (changed([], [CODE]), changed([1], [2]), f"{PARAMS}before: <x> now: <y> "):
        assert causes(job(reason)) == ["other params than before"]


def test_files_and_what_follows():
    assert causes(job("Missing output files: x.npz")) == ["x.npz: missing"]
    assert causes(job("Input files updated by another job: x.npz")) == []
    assert causes(job("Set of input files has changed since last execution")) == [
        "other input files than before"
    ]


def test_causes_are_put_together():
    edit = changed([CODE], [CODE | {"vision_to_sound.detectors.padim": "b2"}])
    follows = "Input files updated by another job: results/x.npz"
    text = explain(
        [
            job(edit),
            job(edit),
            job(edit, "score_clips"),
            *(job(f"Missing output files: {i}.png", "plot") for i in range(5)),
            job(follows, "evaluate"),
            job(follows, "render_table"),
            job("Rules with neither input nor output files are always executed.", "all"),
        ]
    )
    assert text == (
        "10 jobs would run.\n\n"
        "code: vision_to_sound.detectors.padim changed\n"
        "    -> fit_detector 2, score_clips 1\n\n"
        "0.png: missing\n1.png: missing\n2.png: missing\nand 2 more\n"
        "    -> plot 1\n\n"
        "what follows from these\n"
        "    -> evaluate 1, render_table 1"
    )
    assert explain([]) == "Nothing would run: all of it is up to date."
