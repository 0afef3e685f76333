"""Texts of a figure as they are drawn: what stands there, and whether it can be read."""

from __future__ import annotations

import itertools
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def all_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def misplaced_texts(figure: Figure) -> list[str]:
    """Texts that stick out of the figure, and pairs that cover each other; [] is what a reader wants."""
    drawn = []
    draw = Text.draw

    def recorded(text: Text, renderer) -> None:
        drawn.append(text)
        draw(text, renderer)

    canvas = FigureCanvasAgg(figure)
    with mock.patch.object(Text, "draw", recorded):  # not every text of a figure is drawn
        canvas.draw()
    boxes = [
        (text.get_text(), Text.get_window_extent(text, canvas.get_renderer()).extents)
        for text in drawn
        if text.get_visible() and text.get_text().strip()
    ]
    assert boxes, "no text was drawn"
    width, height = figure.bbox.size
    bad = [
        f"{name!r} sticks out"
        for name, (x0, y0, x1, y1) in boxes
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height
    ]
    for (name, a), (other, b) in itertools.combinations(boxes, 2):
        overlap_x = min(a[2], b[2]) - max(a[0], b[0])
        overlap_y = min(a[3], b[3]) - max(a[1], b[1])
        if overlap_x > 1 and overlap_y > 1:  # pixels
            bad.append(f"{name!r} covers {other!r}")
    return bad
