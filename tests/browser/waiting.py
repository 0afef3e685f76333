"""Waiting for a page: its security policy forbids the polling that Playwright's wait_for_function does."""

from __future__ import annotations

import time


def until(page, expression: str, *, timeout_s: float = 30.0) -> None:
    """Return once the JavaScript expression is true; AssertionError if it stays false."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(f"Boolean({expression})"):
        assert time.monotonic() < deadline, f"after {timeout_s:g} s still not: {expression}"
        page.wait_for_timeout(20)
