"""What all figures share: fonts, colours and markers of the methods, a new figure, and its bytes.

Nothing is read, and pyplot's global state is not touched. A method has the same colour and marker in every figure;
controls are grey and hollow.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from vision_to_sound.files import replacing
from vision_to_sound.labels import is_control, method_label, method_order
from vision_to_sound.settings import check_known

STYLE = {
    **sns.axes_style("ticks"),
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the same letters everywhere
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "vision_to_sound",  # the same bytes from the same figure
}
NORMAL_COLOUR, ANOMALOUS_COLOUR = "#0173B2", "#D55E00"
STAMP_COLOUR = "#A40000"
# The paper's methods have Okabe and Ito's colours, told apart by readers with any colour vision; the others are darker.
_METHOD_STYLE = {
    "autoencoder": ("#56B4E9", "v"),
    "cfa": ("#E69F00", "^"),
    "padim": ("#0072B2", "s"),
    "patchcore": ("#D55E00", "o"),
    "stfpm": ("#009E73", "D"),
    "spade": ("#CC79A7", "p"),
    "band_padim": ("#5E3C99", "<"),
    "band_nn": ("#8C6D31", ">"),
    "fastflow": ("#8A9A00", "8"),
    "surprising_energy": ("#1A1A1A", "X"),
}
_SPARE_COLOURS = ("#7F3B08", "#35978F", "#8E0152")
_CONTROL_STYLE = {
    "oracle": ("#404040", "*"),
    "energy": ("#6E6E6E", "P"),
    "band_zscore": ("#8A8A8A", "h"),
    "random": ("#A8A8A8", "d"),
}


@dataclass(frozen=True)
class MethodStyle:
    """How a method looks in every figure."""

    label: str
    colour: str
    marker: str
    hollow: bool

    @property
    def title(self) -> str:
        return f"{self.label} (control)" if self.hollow else self.label

    def marker_settings(self, *, size_points: float) -> dict:
        """Keyword arguments of `Axes.plot` for a point without a line."""
        return {
            "linestyle": "none",
            "marker": self.marker,
            "markersize": size_points,
            "color": self.colour,
            "markerfacecolor": "white" if self.hollow else self.colour,
            "markeredgecolor": self.colour if self.hollow else "white",
            "markeredgewidth": 1.1 if self.hollow else 0.5,
        }


def method_styles(methods: Iterable[str]) -> dict[str, MethodStyle]:
    """Styles in table order; methods without a colour of their own share the spare ones by name."""
    methods = method_order(methods)
    unknown = [m for m in methods if m not in _METHOD_STYLE and m not in _CONTROL_STYLE]
    styles = {}
    for method in methods:
        if method in unknown:
            colour = _SPARE_COLOURS[unknown.index(method) % len(_SPARE_COLOURS)]
            colour, marker = ("#8A8A8A", "X") if is_control(method) else (colour, "X")
        else:
            colour, marker = (_METHOD_STYLE | _CONTROL_STYLE)[method]
        styles[method] = MethodStyle(method_label(method), colour, marker, is_control(method))
    return styles


def figure_bytes(figure: Figure, *, file_format: str) -> bytes:
    """The figure as a "png", "svg" or "pdf" file: the same bytes from the same figure, no date."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    check_known(file_format, metadata, what="figure format")
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=file_format, metadata=metadata[file_format])
    return buffer.getvalue()


def save_figure(figure: Figure, paths: Iterable[str | Path]) -> None:
    """Write a figure to each path in the format of its ending: .png, .svg or .pdf."""
    for path in paths:
        with replacing(path) as temporary:
            temporary.write_bytes(figure_bytes(figure, file_format=Path(path).suffix[1:]))


def new_figure(*, width_in: float, height_in: float, dpi: int, title: str, stamp: str) -> Figure:
    """A figure with constrained layout under its title and, on top, the stamp ("" for none)."""
    stamp_in, title_in = (0.34 if stamp else 0.0), (0.3 if title else 0.0)
    total_in = height_in + stamp_in + title_in
    figure = Figure(figsize=(width_in, total_in), dpi=dpi, layout="constrained")
    layout = figure.get_layout_engine()
    layout.set(rect=(0, 0, 1, height_in / total_in), w_pad=0.06, h_pad=0.06, hspace=0.03)
    middle = {"ha": "center", "va": "center", "weight": "bold"}
    if stamp:
        figure.text(
            0.5,
            1.0 - 0.5 * stamp_in / total_in,
            stamp,
            fontsize=min(9.5, 118.0 * width_in / len(stamp)),  # one line, however long the stamp is
            color="white",
            bbox={"facecolor": STAMP_COLOUR, "edgecolor": "none", "boxstyle": "square,pad=0.35"},
            **middle,
        )
    if title:
        figure.text(
            0.5,
            1.0 - (stamp_in + 0.55 * title_in) / total_in,
            title,
            fontsize=min(10.5, 118.0 * width_in / len(title)),
            **middle,
        )
    return figure
