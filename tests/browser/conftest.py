"""A real headless Chromium for tests of the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import page_clips
import pytest

DESKTOP = {"width": 1280, "height": 900}
# Keeps what the page asks its sound to play, and where the decoded sound has its peak.
RECORD_STARTS = """
window.starts = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...times) {
  const samples = this.buffer.getChannelData(0);
  let peak = 0, power = 0;
  for (let i = 0; i < samples.length; i++) {
    if (Math.abs(samples[i]) > Math.abs(samples[peak])) peak = i;
    power += samples[i] ** 2;
  }
  window.starts.push({
    offset: times[1], duration: times[2], bufferS: this.buffer.duration, at: this.context.currentTime,
    peakS: peak / this.buffer.sampleRate, rms: Math.sqrt(power / samples.length),
  });
  this.addEventListener("ended", () => { window.endedAt = this.context.currentTime; });
  return start.apply(this, times);
};
"""


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    path = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if path is None:
        pytest.skip("no Chromium: install Debian's package chromium, or name one in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page_of_16(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "16.html"
    page_clips.write(path, page_clips.clips(16))
    return path


@pytest.fixture(scope="session")
def page_of_1000(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "1000.html"
    page_clips.write(path, page_clips.clips(1000), threads=2)
    return path


@pytest.fixture
def visit(chromium):
    """visit(path, **settings of the browser's context) opens a page; its errors fail the test at the end."""
    contexts, problems = [], []

    def open_page(path, **settings):
        context = chromium.new_context(**{"viewport": DESKTOP, "offline": True, **settings})
        contexts.append(context)
        context.add_init_script(RECORD_STARTS)
        page = context.new_page()
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:")) or problems.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems
