"""What the page says on top and under a clip, from tables alone."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.encoders import ENCODERS
from vision_to_sound.monitoring.conformal import Conformal
from vision_to_sound.monitoring.folders import metrics_of
from vision_to_sound.monitoring.results_page import (
    best_words,
    clock,
    header_of,
    notes_of,
    warnings_of,
)


def table(n: int, **columns) -> pd.DataFrame:
    base = {
        "recording": [f"{i}.wav" for i in range(n)],
        "clip": "0",
        "duration_s": 10.0,
        "level_db": -40.0,
        "channel_level_db": -40.0,
        "channels_cancel": False,
        "dc": 0.0,
        "n_clipped": 0,
        "silent": False,
        "sample_rate_hz": 16_000,
        "window_s": 10.0,
        "known_label": "",
    }
    made = pd.DataFrame({**base, **columns})
    if "content" not in made:
        made["content"] = [f"{next(_numbers)}" for _ in range(n)]
    return made


_numbers = itertools.count()


def detector(
    n_held_out: int = 60, rate: float = 0.05, whole: bool = True, channel: int | None = None
) -> SimpleNamespace:
    return SimpleNamespace(
        spec=ENCODERS["aisfx"],  # hears up to 22.05 kHz
        conformal=Conformal(np.arange(float(n_held_out)), rate),
        false_alarm_rate=rate,
        about={"whole_recordings_held_out": whole},
    )


NONE = {"normal": pd.DataFrame(columns=["recording", "problem"])}


def warnings(
    clips=None, normal=None, *, by=None, skipped=NONE, n_shown=None, stamp=""
) -> list[str]:
    clips = table(80) if clips is None else clips
    return warnings_of(
        clips,
        table(80) if normal is None else normal,
        by or detector(),
        skipped,
        n_shown=len(clips) if n_shown is None else n_shown,
        stamp=stamp,
    )


# As quiet as the clips whose channels cancel, so that levels do not differ.
QUIET = table(80, level_db=-88.0, channel_level_db=-88.0)


def test_nothing_is_said_where_nothing_is_wrong():
    assert warnings() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"normal": table(49)}, "Only 49 normal clips"),
        ({"by": detector(9)}, "Only 9 held-out normal clips: the lowest false alarm rate"),
        ({"by": detector(whole=False)}, "parts of the recordings that the detector learned from"),
        ({"clips": table(80, sample_rate_hz=44_100)}, "normal 16000 Hz, unsorted 44100 Hz"),
        ({"clips": table(80, level_db=-30.0)}, "Levels differ: median -40.0 dB normal, -30.0 dB"),
        (
            {"clips": table(80, duration_s=20.0)},
            "Unsorted clips are longer (20.0 s against 10.0 s)",
        ),
        ({"clips": table(80, n_clipped=[9] + 79 * [0])}, "Clipped: 0.wav (unsorted)"),
        ({"normal": table(80, silent=[True] + 79 * [False])}, "Silent: 0.wav (normal)"),
        ({"n_shown": 10}, "Of 80 clips the 10 most anomalous are shown"),
        ({"stamp": "RANDOM WEIGHTS"}, "RANDOM WEIGHTS."),
        (
            {
                "skipped": {
                    "normal": pd.DataFrame(
                        [("x.wav", "is empty")], columns=["recording", "problem"]
                    )
                }
            },
            "Not used, of the normal recordings: x.wav: is empty.",
        ),
        (
            {
                "clips": table(80, channels_cancel=True, level_db=-88.0, channel_level_db=-22.0),
                "normal": QUIET,
            },
            "Channels cancel each other: 0.wav, 1.wav, 2.wav, 3.wav, 4.wav and 75 more (unsorted): level -88 dB, "
            "channels -22 dB. One of them is inverted; set channel",
        ),
        (
            {"clips": table(80, dc=[0.3] + 79 * [0.0])},
            "A constant offset (DC) of up to 0.3 of full scale: 0.wav (unsorted)",
        ),
        (
            {
                "clips": table(80, sample_rate_hz=192_000),
                "normal": table(80, sample_rate_hz=192_000),
            },
            "Recordings hold sound up to 96 kHz, the encoder hears up to 22.1 kHz: nothing above",
        ),
        (
            {
                "clips": table(80, content=["x"] + [f"u{i}" for i in range(79)]),
                "normal": table(80, content="x"),
            },
            "In the normal folder too: 0.wav. The detector learned from them, so it cannot judge them.",
        ),
        (
            {"normal": table(80, recording=["broken/1.wav"] + [f"{i}.wav" for i in range(79)])},
            "Among the normal recordings, but anomalous by their names: broken/1.wav.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_trap_is_one_sentence(arguments, words):
    (said,) = warnings(**arguments)
    assert words in said


def test_a_touch_of_full_scale_and_a_small_difference_of_level_are_no_warnings():
    assert warnings(clips=table(80, n_clipped=2, level_db=-36.0, duration_s=12.0)) == []


@pytest.mark.parametrize(
    "clips",
    [
        table(80, dc=0.004),  # of -40 dB, which is 1 % of full scale: small beside it
        table(80, sample_rate_hz=48_000),  # 24 kHz against 22.05 kHz
    ],
)
def test_what_is_usual_is_no_warning(clips):
    assert warnings(clips, clips.assign(content=[f"n{i}" for i in range(80)])) == []


def test_what_was_left_out_for_one_reason_is_one_sentence():
    skipped = pd.DataFrame(
        [(f"{i}.m4a", "is not read") for i in range(20)] + [("x.wav", "is empty")],
        columns=["recording", "problem"],
    )
    assert warnings(skipped={"unsorted": skipped}) == [
        "Not used, of the unsorted recordings: 0.m4a, 1.m4a, 2.m4a, 3.m4a, 4.m4a and 15 more: is not read.",
        "Not used, of the unsorted recordings: x.wav: is empty.",
    ]


def test_how_many_recordings_have_a_label_is_said():
    clips = table(100, known_label=["anomalous"] * 40 + ["normal"] * 59 + [""])
    clips = clips.assign(score=np.arange(100.0)[::-1], verdict="normal", recorded_at="")
    by = detector()
    by.about |= {"n_fitted": 60, "n_held_out": 20}
    header = header_of(clips, table(80), by, metrics_of(clips), method_label="M", encoder_label="E")
    assert header["By the labels"] == (
        "99 of 100 recordings have one, sample ROC 100.0, found 0 % of the anomalous, "
        "false alarms 0 % of the normal"
    )
    assert header["Heard"] == "0 Hz to 8 kHz"
    clips = clips.assign(known_label="")
    header = header_of(clips, table(80), by, metrics_of(clips), method_label="M", encoder_label="E")
    assert "By the labels" not in header


def test_of_many_names_a_few_are_written_out():
    (said,) = warnings(clips=table(80, n_clipped=9))
    assert said == "Clipped: 0.wav, 1.wav, 2.wav, 3.wav, 4.wav and 75 more (unsorted)."


def test_notes_of_a_clip():
    rows = table(1, n_clipped=7, duration_s=0.5, known_label="anomalous").itertuples()
    assert notes_of(next(rows)) == [
        "clipped: 7 samples at full scale",
        "repeated to fill the 10 s that the encoder hears at once",
        "labelled anomalous",
    ]
    assert notes_of(next(table(1, silent=True).itertuples())) == ["silent"]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, "0:00"), (59.6, "1:00"), (61.0, "1:01"), (3723.0, "1:02:03")]
)
def test_places_in_a_recording(seconds, expected):
    assert clock(seconds) == expected


def test_the_phrase_that_fits_best_is_the_one_that_is_said():
    names = pd.DataFrame(
        [("a.wav", "0", "a hiss", 0.3), ("a.wav", "0", "a rattle", 0.7)],
        columns=["recording", "clip", "prompt", "probability"],
    )
    assert best_words(names) == {
        ("a.wav", "0"): ["among the phrases asked for it sounds most like 'a rattle' (70%)"]
    }


def test_metrics_by_hand():
    clips = pd.DataFrame(
        {
            "score": [4.0, 3.0, 2.0, 1.0, 9.0],
            "verdict": ["anomalous", "anomalous", "normal", "normal", "normal"],
            "known_label": ["anomalous", "normal", "anomalous", "normal", ""],
        }
    )
    values = dict(metrics_of(clips)[["metric", "value"]].itertuples(index=False))
    assert values == {"sample_roc": 75.0, "found_share": 50.0, "false_alarm_share": 50.0}
    assert metrics_of(clips.assign(known_label="")).empty
    only_normal = metrics_of(clips.assign(known_label="normal"))
    assert list(only_normal["metric"]) == ["false_alarm_share"]
