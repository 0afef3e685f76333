"""The page in a real browser: order, filter, keys, sound, and only as much decoded as is seen."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import page_clips
import pytest
from waiting import until

pytestmark = pytest.mark.browser


@cache
def expected() -> list:
    """The clips of `page_of_16`, made once and only where a browser is there to show them."""
    return list(page_clips.clips(16))


def by_score() -> list[str]:
    return [clip.name for clip in sorted(expected(), key=lambda clip: -clip.score)]


def with_region():
    ranked = sorted(expected(), key=lambda clip: -clip.score)
    return next(clip for clip in ranked if len(clip.regions) == 1)


SHOWN = "[...document.querySelectorAll('.clip:not([hidden]) h2')].map((h) => h.textContent)"
FOCUSED = "document.activeElement.querySelector('h2')?.textContent"


def card(page, name: str):
    return page.locator(".clip", has=page.get_by_role("heading", name=name, exact=True))


def position_s(page, name: str) -> float:
    return float(card(page, name).locator(".cursor").get_attribute("aria-valuenow"))


def is_playing(page, name: str) -> bool:
    return "is-playing" in card(page, name).get_attribute("class").split()


@pytest.fixture
def page(visit, page_of_16):
    return visit(page_of_16)


def test_clips_are_ranked_and_each_has_its_numbers_and_its_verdict_in_words(page):
    assert page.evaluate(SHOWN) == by_score()
    assert page.locator(".rank").all_text_contents() == [str(i) for i in range(1, 17)]
    verdicts = page.locator(".verdict span").all_text_contents()
    n = sum(clip.verdict == "anomalous" for clip in expected())
    assert verdicts == ["Anomalous"] * n + ["Normal"] * (16 - n) and 0 < n < 16
    marks = page.evaluate(
        """[...document.querySelectorAll(".clip .verdict .mark > *")]
        .filter((mark) => getComputedStyle(mark).display !== "none").map((mark) => mark.tagName)"""
    )
    assert marks == ["path"] * n + ["circle"] * (16 - n)
    first = next(clip for clip in expected() if clip.name == by_score()[0])
    numbers = card(page, first.name).locator(".numbers").inner_text()
    assert f"score {first.score:.4g}" in re.sub(r"\s+", " ", numbers)
    assert (
        f"{first.duration_s:.2f} s" in numbers and f"{first.recorded_at:%Y-%m-%d %H:%M}" in numbers
    )
    assert page.locator("#summary").inner_text().startswith(f"{n} of 16 clips are anomalous.")


@pytest.mark.parametrize(
    ("order", "key", "downwards"),
    [
        ("name", lambda clip: int(re.search(r"\d+", clip.name)[0]), False),
        ("time", lambda clip: clip.recorded_at, False),
        ("duration", lambda clip: (clip.duration_s, clip.score), True),
        ("score", lambda clip: clip.score, True),
    ],
)
def test_sorting_in_both_directions(page, order, key, downwards):
    page.select_option("#sort", "name" if order == "score" else order)
    page.select_option("#sort", order)
    wanted = [clip.name for clip in sorted(expected(), key=key, reverse=downwards)]
    assert page.evaluate(SHOWN) == wanted
    page.click("#direction")
    turned = page.evaluate(SHOWN)
    if order == "duration":  # equal durations stay ranked by score
        turned = [
            float(next(c.duration_s for c in expected() if c.name == name)) for name in turned
        ]
        assert turned == sorted(turned)
    else:
        assert turned == wanted[::-1]


def test_filter_by_text_and_verdict_with_counts_and_a_way_back(page):
    page.fill("#filter", "PUMP 1")
    wanted = [name for name in by_score() if "1" in name]
    assert page.evaluate(SHOWN) == wanted and len(wanted) == 8
    assert page.locator("#status").inner_text() == "8 clips shown"
    page.check("#verdicts input[value=normal]", force=True)
    normal = {clip.name for clip in expected() if clip.verdict == "normal"}
    assert page.evaluate(SHOWN) == [name for name in wanted if name in normal]
    page.fill("#filter", "no such name")
    assert page.evaluate(SHOWN) == [] and page.locator("#nothing").is_visible()
    page.click("#clear")
    assert page.evaluate(SHOWN) == by_score()
    assert page.locator("#verdicts label").all_text_contents() == [
        "All 16",
        f"Anomalous {16 - len(normal)}",
        f"Normal {len(normal)}",
    ]


def test_j_and_k_walk_through_what_is_shown(page):
    page.fill("#filter", "1")
    shown = page.evaluate(SHOWN)
    page.keyboard.press("j")  # in the text field a j is a letter
    assert page.input_value("#filter") == "1j"
    page.keyboard.press("Backspace")
    page.keyboard.press("Escape")
    seen = []
    for key in "jjjk":
        page.keyboard.press(key)
        seen.append(page.evaluate(FOCUSED))
    assert seen == [shown[0], shown[1], shown[2], shown[1]]
    top = card(page, shown[1]).evaluate("(c) => c.getBoundingClientRect().top")
    bar = page.locator("#tools").evaluate("(t) => t.getBoundingClientRect().bottom")
    assert bar - 2 <= top <= bar + 2  # under the sticky bar, not behind it
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "filter"


def test_help_opens_with_a_question_mark_and_closes(page):
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Space")  # on the close button, which has the focus
    assert not page.locator("#help").is_visible()


def test_space_plays_and_stops_and_the_cursor_moves_with_the_clock(page):
    page.keyboard.press("j")
    page.keyboard.press("Space")
    name = by_score()[0]
    until(page, "window.starts.length === 1")
    until(page, "document.querySelector('.is-playing .cursor')?.ariaValueNow > 0.1")
    early = position_s(page, name)
    until(page, f"document.querySelector('.is-playing .cursor')?.ariaValueNow > {early}")
    late, left = card(page, name).evaluate(
        """(card) => { const cursor = card.querySelector(".cursor");
        return [Number(cursor.getAttribute("aria-valuenow")), parseFloat(cursor.style.left)]; }"""
    )
    assert early < late
    duration_s = next(clip.duration_s for clip in expected() if clip.name == name)
    assert left / 100 * duration_s == pytest.approx(late, abs=0.01)
    page.keyboard.press("Space")
    assert not is_playing(page, name)
    stopped = position_s(page, name)
    page.wait_for_timeout(200)
    assert position_s(page, name) == stopped >= late
    page.keyboard.press("Space")  # goes on where it stopped
    until(page, "window.starts.length === 2")
    assert page.evaluate("starts[1].offset") == pytest.approx(stopped, abs=0.02)
    assert page.evaluate("starts[0].bufferS") == pytest.approx(duration_s, abs=0.01)


def test_a_click_into_the_picture_moves_the_cursor(page):
    name = with_region().name
    cells = card(page, name).locator(".cells")
    cells.scroll_into_view_if_needed()
    box = cells.bounding_box()
    cells.click(position={"x": 0.02 * box["width"], "y": 5})
    assert position_s(page, name) == pytest.approx(0.02 * with_region().duration_s, abs=0.02)
    page.keyboard.press("ArrowRight")
    assert position_s(page, name) == pytest.approx(0.07 * with_region().duration_s, abs=0.02)


@pytest.mark.parametrize("where", [".region", ".span"])
def test_a_region_plays_its_span_alone(page, where):
    start_s, end_s, *_ = with_region().regions[0]
    name = with_region().name
    card(page, name).locator(where).click()
    until(page, "window.starts.length === 1 && window.endedAt")
    (start,) = page.evaluate("starts")
    assert start["offset"] == pytest.approx(start_s, abs=1e-4)
    assert start["duration"] == pytest.approx(end_s - start_s, abs=1e-4)
    assert page.evaluate("endedAt") - start["at"] == pytest.approx(end_s - start_s, abs=0.15)
    until(page, "!document.querySelector('.is-playing')")
    assert position_s(page, name) == pytest.approx(start_s, abs=0.01)  # ready to play it again


def test_a_region_lies_over_what_is_heard_in_it(page):
    """The box in the picture is where time and frequency axis say."""
    start_s, end_s, low_hz, high_hz, _ = with_region().regions[0]
    here = card(page, with_region().name)
    box, cells = (here.locator(s).bounding_box() for s in (".region", ".cells"))
    left = (box["x"] - cells["x"]) / cells["width"] * with_region().duration_s
    right = left + box["width"] / cells["width"] * with_region().duration_s
    assert (left, right) == (pytest.approx(start_s, abs=0.01), pytest.approx(end_s, abs=0.01))
    for hz, y in ((high_hz, box["y"]), (low_hz, box["y"] + box["height"])):
        share = 1 - (y - cells["y"]) / cells["height"]
        band = share * page_clips.FRONT_END.n_mels - 0.5
        centres_hz = page_clips.FRONT_END.mel_band_centres_hz()
        assert abs(centres_hz - hz).argmin() == pytest.approx(band, abs=1.1)
    label = here.locator(".span").get_attribute("aria-label")
    assert f"{start_s:.2f}–{end_s:.2f} s" in label and "score" in label


def test_changing_the_source_keeps_the_position(page):
    page.keyboard.press("j")
    page.keyboard.press("Space")
    until(page, "window.starts.length === 1")
    page.wait_for_timeout(500)
    page.keyboard.press("2")
    until(page, "window.starts.length === 2")
    page.wait_for_timeout(300)
    card(page, by_score()[0]).get_by_label("Background").check()
    until(page, "window.starts.length === 3")
    original, anomaly, background = page.evaluate("starts")
    for before, after in ((original, anomaly), (anomaly, background)):
        passed = after["at"] - before["at"]
        assert after["offset"] - before["offset"] == pytest.approx(passed, abs=0.15)
    assert original["rms"] > background["rms"] > anomaly["rms"] > 0
    checked = card(page, by_score()[0]).locator(".sources input:checked")
    assert checked.get_attribute("value") == "background"


def test_decoded_sound_lies_where_the_picture_shows_it(page):
    """MP3 starts late by the encoder's delay unless the browser cuts it: a click must stay in its place."""
    clip = max((c for c in expected() if len(c.regions) == 3), key=lambda c: c.score)
    card(page, clip.name).locator(".play").click()
    until(page, "window.starts.length === 1")
    clicks_s = [region[0] + 0.03 for region in clip.regions]
    peak_s = page.evaluate("starts[0].peakS")
    assert min(abs(peak_s - at) for at in clicks_s) < 0.006


def test_equal_loudness_raises_a_faint_source(page):
    page.evaluate(
        """() => { window.levels = []; const ramp = AudioParam.prototype.linearRampToValueAtTime;
        AudioParam.prototype.linearRampToValueAtTime = function (value, at) {
          window.levels.push(value); return ramp.call(this, value, at); }; }"""
    )
    page.keyboard.press("3")
    page.keyboard.press("j")
    page.keyboard.press("Space")
    until(page, "window.levels.length === 2")
    page.check("#loudness")
    until(page, "window.levels.length === 4")
    first, _, second, _ = page.evaluate("levels")
    assert first == 1 and second > 1


def test_opacity_slider_and_m_change_the_map(page):
    opacity = "getComputedStyle(document.querySelector('.map')).opacity"
    assert page.evaluate(opacity) == "0.8"
    page.locator("#opacity").fill("25")
    assert page.evaluate(opacity) == "0.25"
    page.locator("#clips").focus()
    page.keyboard.press("m")
    assert page.evaluate(opacity) == "0"
    page.keyboard.press("m")
    assert page.evaluate(opacity) == "0.25"


@pytest.mark.parametrize("plot", ["#by-rank", "#by-time"])
def test_a_click_on_a_point_of_the_overview_opens_its_clip(page, plot):
    box = page.locator(plot).bounding_box()
    named = None
    for share in range(15, 98):
        x, y = box["x"] + share / 100 * box["width"], box["y"] + 0.75 * box["height"]
        page.mouse.move(x, y)
        if page.locator("#hint").is_visible():
            named = page.locator("#hint").inner_text().split()[0]
            break
    assert named in by_score()
    page.mouse.click(x, y)
    assert page.evaluate(FOCUSED) == named
    assert page.locator(f"{plot} .ring").evaluate("(ring) => ring.style.display") == ""


def test_pictures_are_decoded_and_axes_are_drawn(page):
    here = card(page, by_score()[0])
    here.scroll_into_view_if_needed()
    until(page, "[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    size = here.locator("img.spectrogram").evaluate("(i) => [i.naturalWidth, i.naturalHeight]")
    wanted = next(clip for clip in expected() if clip.name == by_score()[0]).spectrogram_db.shape
    assert tuple(size) == wanted
    assert "1 kHz" in here.locator(".frequencies").inner_text()
    assert here.locator(".times").inner_text().endswith("s")


def test_a_sound_that_cannot_be_decoded_is_said(visit, tmp_path):
    broken = [replace(clip, audio={"original": b"not a sound"}) for clip in expected()[:1]]
    page_clips.write(tmp_path / "p.html", broken)
    page = visit(tmp_path / "p.html")
    page.keyboard.press("Space")
    page.wait_for_selector("#status:has-text('cannot play the original of pump_1.wav')")


def test_a_page_without_clips_and_one_without_sound(visit, tmp_path):
    page_clips.write(tmp_path / "none.html", [])
    page = visit(tmp_path / "none.html")
    assert page.locator("#summary").inner_text() == "This page holds no clips."
    assert not page.locator("#tools").is_visible()
    page.keyboard.press("j")
    silent = replace(expected()[0], audio={}, recorded_at=None, p_value=None)
    page_clips.write(tmp_path / "silent.html", [silent])
    page = visit(tmp_path / "silent.html")
    assert page.locator(".play").is_disabled()
    assert page.get_by_text("No sound of this clip in this page").is_visible()
    assert page.locator("#by-time-title").inner_text() == "Scores in order of recording"


def test_names_are_shown_as_text(visit, tmp_path):
    names = [
        '<img src=x onerror="window.hurt = 1">.wav',
        "</script><script>window.hurt = 1</script>",
    ]
    page_clips.write(tmp_path / "p.html", [replace(expected()[0], name=name) for name in names])
    page = visit(tmp_path / "p.html")
    assert sorted(page.evaluate(SHOWN)) == sorted(names)
    assert page.evaluate("window.hurt") is None
