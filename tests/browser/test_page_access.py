"""The page for everybody: labels, contrast, the keyboard alone, a phone, a dark room; and a thousand clips."""

from __future__ import annotations

import json
import time

import pytest
from waiting import until

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}

# Text nodes with the colour they have and the nearest opaque background behind them.
TEXTS = """() => {
  const rgb = (css) => (css.match(/[\\d.]+/g) || []).map(Number);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    const left = parent.closest("script, style, template, noscript, dialog, .unseen, .skip");
    if (!node.textContent.trim() || left) continue;
    if (!parent.checkVisibility() || parent.matches(":disabled")) continue;
    const svg = parent.closest("svg");
    const style = getComputedStyle(parent);
    let behind = parent, back = [0, 0, 0, 0];
    while (behind && (back.length === 4 && back[3] === 0)) {
      back = rgb(getComputedStyle(behind).backgroundColor);
      if (back.length === 3) break;
      behind = behind.parentElement;
    }
    if (back.length === 4 && back[3] === 0) continue;
    found.push([node.textContent.trim().slice(0, 40), rgb(svg ? style.fill : style.color), back]);
  }
  return found;
}"""

NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role=slider], img, svg[role=img]")]
  .filter((e) => e.checkVisibility() && !e.closest("template"))
  .filter((e) => {
    const by = (e.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean)
      .map((id) => document.getElementById(id)?.textContent).join("");
    const label = [...(e.labels || [])].map((l) => l.textContent).join("");
    const decorative = e.tagName === "IMG" && e.hasAttribute("alt") && e.closest(".legend");
    return !decorative && !(by || e.getAttribute("aria-label") || label || e.alt || e.textContent).trim();
  }).map((e) => e.outerHTML.slice(0, 100))"""


def contrast(one: list[float], other: list[float]) -> float:
    """Ratio of WCAG 2: of the relative luminances of two sRGB colours."""

    def luminance(colour):
        linear = [
            c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
            for c in colour[:3]
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_definition():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([119, 119, 119], [255, 255, 255]) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(visit, page_of_16, scheme):
    page = visit(page_of_16, color_scheme=scheme)
    page.locator(".clip").first.scroll_into_view_if_needed()
    page.click(".settings summary")
    texts = page.evaluate(TEXTS)
    assert len(texts) > 80
    poor = [(t, round(contrast(c, b), 2)) for t, c, b in texts if contrast(c, b) < 4.5]
    assert not poor
    print(f"{scheme}: {len(texts)} texts, lowest {min(contrast(c, b) for _, c, b in texts):.2f}")


def test_everything_that_can_be_used_has_a_name(visit, page_of_16):
    page = visit(page_of_16)
    page.locator(".clip").first.scroll_into_view_if_needed()
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("document.documentElement.lang") == "en"
    headings = page.evaluate("[...document.querySelectorAll('h1, .clip h2')].map((h) => h.tagName)")
    assert headings == ["H1"] + ["H2"] * 16
    assert len(page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")) == len(
        set(page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)"))
    )


def test_tab_goes_from_the_skip_link_over_the_tools_into_a_clip(visit, page_of_16):
    page = visit(page_of_16)
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate(
                "(e => e.id || e.value || e.classList[0] || e.tagName)(document.activeElement)"
            )
        )
    assert order == [
        "skip",
        "SUMMARY",
        "filter",
        "all",
        "sort",
        "direction",
        "opacity",
        "keys",
        "loudness",
        "cursor",
        "play",
        "original",
        "span",
        "span",
    ]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_no_width_scrolls_sideways(visit, page_of_16, width):
    phone = {**PHONE, "viewport": {"width": width, "height": 740}}
    page = visit(page_of_16, **(phone if width < 500 else {"viewport": phone["viewport"]}))
    page.click(".settings summary")
    for share in (0, 0.4, 0.9):
        page.evaluate(f"scrollTo(0, {share} * document.body.scrollHeight)")
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_finger_plays_on_a_phone(visit, page_of_16):
    page = visit(page_of_16, **PHONE)
    play = page.locator(".play").first
    play.tap()
    until(page, "document.querySelector('.is-playing') && window.starts.length === 1")
    box = play.bounding_box()
    assert min(box["width"], box["height"]) >= 44
    play.tap()
    until(page, "!document.querySelector('.is-playing')")


def test_reduced_motion_has_no_transitions(visit, page_of_16):
    durations = (
        "[...document.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)"
    )
    calm = visit(page_of_16, reduced_motion="reduce").evaluate(durations)
    usual = visit(page_of_16, reduced_motion="no-preference").evaluate(durations)
    assert set(calm) == {"0s"} and set(usual) != {"0s"}


def test_a_thousand_clips_open_sort_and_scroll_with_few_pictures(visit, page_of_1000):
    begin = time.monotonic()
    page = visit(page_of_1000)
    opened_s = time.monotonic() - begin
    paint_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert page.locator(".clip").count() == 1000
    n_images = "document.images.length - 1"  # without the legend's
    assert 0 < page.evaluate(n_images) <= 12
    most = page.evaluate(
        """async () => { let most = 0; const height = document.body.scrollHeight;
        for (let i = 0; i <= 50; i++) { scrollTo(0, height * i / 50);
          for (let k = 0; k < 2; k++) await new Promise(requestAnimationFrame);
          most = Math.max(most, document.images.length - 1); }
        return most; }"""
    )
    assert most <= 24  # those that come and those that go
    until(page, "document.images.length - 1 <= 14")
    until(page, "[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    sort_ms = page.evaluate(
        """() => { const begin = performance.now(), sort = document.getElementById("sort");
        sort.value = "time"; sort.dispatchEvent(new Event("change")); document.body.offsetHeight;
        return performance.now() - begin; }"""
    )
    names = page.evaluate("[...document.querySelectorAll('.clip h2')].map((h) => h.textContent)")
    assert names == [f"pump_{i + 1}.wav" for i in range(1000)]
    for share in (0.3, 0.8, 0.5, 0.8):  # far away, and past clips that were never laid out
        page.evaluate("scrollTo(0, 0)")
        box = page.locator("#by-time").bounding_box()
        page.mouse.click(box["x"] + share * box["width"], box["y"] + 0.7 * box["height"])
        page.wait_for_timeout(500)
        bar = page.locator("#tools").evaluate("(tools) => tools.getBoundingClientRect().bottom")
        top = page.locator(".clip.is-current").evaluate("(c) => c.getBoundingClientRect().top")
        assert bar - 2 <= top <= bar + 2
    page.fill("#filter", "pump_999")
    page.keyboard.press("Escape")
    page.keyboard.press("Space")
    until(page, "window.starts.length === 1")
    size = page_of_1000.stat().st_size
    assert f"{size / 1e6:.0f} MB" in page.locator("#foot").inner_text()
    measured = {
        "megabytes": round(size / 1e6, 1),
        "first_paint_ms": round(paint_ms),
        "opened_s": round(opened_s, 2),
        "sort_ms": round(sort_ms),
        "most_images": most,
    }
    print(json.dumps(measured))
