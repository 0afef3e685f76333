"""Any file name as one harmless line of text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_to_sound.file_names import from_text, to_text

NAMES = st.text(
    st.one_of(st.sampled_from("a\\u0d'=+-@\r\n\t\x7f\x85\u2028"), st.characters(codec=None)),
    min_size=1,
)


@given(NAMES)
def test_there_and_back_on_one_line_that_no_spreadsheet_runs(name):
    text = to_text(name)
    assert from_text(text) == name
    assert len(text.splitlines()) == 1 and "\t" not in text
    assert text[0] not in "=+-@"
    text.encode("utf-8")


@pytest.mark.parametrize("name", ["a b.wav", "ü/é 😀.wav", "C\\d.wav", "a{b}<c>#$.wav", "it's.wav"])
def test_usual_names_stay_as_they_are(name):
    assert to_text(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("=cmd|' /C calc'!A0.wav", "'=cmd|' /C calc'!A0.wav"),
        ("-6_dB.wav", "'-6_dB.wav"),
        ("a\rb.wav", "a\\u000db.wav"),
        ("x\udcff.wav", "x\\udcff.wav"),
        ("'=a", "''=a"),
    ],
)
def test_what_odd_names_look_like(name, text):
    assert to_text(name) == text
