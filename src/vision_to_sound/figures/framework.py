"""How one clip becomes scores: the framework, Figure 2 of the paper, on a real clip.

Arrays in, matplotlib `Figure` out. Time runs to the right in every panel, orange is the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from vision_to_sound.figures.cells import (
    MAP_COLOURS,
    SPECTROGRAM_COLOURS,
    CellScales,
    cell_scales,
    check_shapes,
    colour_bar,
    draw_cells,
    frequency_ticks,
    robust_range_db,
    shade_frames,
    value_range,
)
from vision_to_sound.figures.style import (
    ANOMALOUS_COLOUR,
    NORMAL_COLOUR,
    STYLE,
    method_styles,
    new_figure,
)

# What a detector holds a clip against, in words for someone who has not met it.
_COMPARES = {
    "patchcore": "Keeps a bank of embeddings of normal clips. A cell scores as its distance to the "
    "nearest one in the bank.",
    "padim": "Learns mean and covariance of each cell over normal clips. A cell scores as its "
    "Mahalanobis distance from that mean.",
    "cfa": "Learns to draw the embeddings of normal clips towards a memory of centres. A cell "
    "scores as its distance to the nearest centres.",
    "stfpm": "Teaches a second network to imitate the encoder on normal clips. A cell scores as "
    "the difference between the two.",
    "spade": "Looks up the normal clips most like this one. A cell scores as its distance to the "
    "nearest embeddings in them.",
    "band_nn": "Keeps a bank of embeddings of normal clips for each frequency band. A cell scores as its "
    "distance to the nearest ones in its band's bank, over what is usual there.",
    "fastflow": "Learns an invertible map from embeddings of normal clips to white noise. A cell scores as how "
    "unlikely its noise is.",
    "autoencoder": "Learns to rebuild normal spectrograms through a bottleneck. A cell scores as "
    "the error of its copy.",
    "energy": "Learns nothing. A cell scores as its own level.",
    "band_zscore": "Learns mean and spread of each mel band over normal clips. A cell scores as "
    "its deviation from that mean.",
}
_COMPARES_OTHER = "Has met normal clips only. A cell scores by how unlike them it is."
_ARROW_COLOUR = "0.25"
_TAP_COLOURS = "cividis"

# Places in inches, counted from the upper left corner below the title.
_SIZE_IN = (9.75, 6.5)
_LEFTS_IN, _WIDTHS_IN = (0.65, 3.6, 7.3), (1.95, 2.2, 2.25)  # of the three columns
_TOPS_IN, _HEIGHT_IN = (0.6, 3.88), 2.15  # of the two rows
_BOX_IN = (0.4, 1.35)  # the detector's upper edge below its row's, its height
_FRAMES_DOWN_IN, _STRIP_IN = (
    1.4,
    0.5,
)  # frame scores below the row's edge; height of the clip scores
_LANE_IN = 3.25  # between the rows


def framework_figure(
    *,
    waveform: np.ndarray,
    sample_rate_hz: int,
    spectrogram_db: np.ndarray,
    taps: Mapping[str, np.ndarray],
    anomaly_map: np.ndarray,
    frame_scores: np.ndarray,
    frames_truth: np.ndarray | None,
    clip_score: float,
    normal_scores: np.ndarray,
    method: str,
    encoder_label: str,
    frame_times_s: np.ndarray,
    mel_centres_hz: np.ndarray,
    title: str,
    stamp: str,
    dpi: int,
) -> Figure:
    """The framework on one clip: waveform, spectrogram, embeddings, detector, map, scores.

    Source: Figure 2 of the paper; differs: real data in every panel, axes in seconds and hertz.

    Args:
        waveform: samples of the clip, float (n_samples,); the time axes end with it.
        sample_rate_hz: of the waveform.
        spectrogram_db: log-mel spectrogram, dB, float (n_frames, n_mels).
        taps: name -> embeddings, float (n_time, n_freq, n_channels), from shallow to deep; drawn as
            the mean over channels, each spread over the whole clip and all bands.
        anomaly_map: float (n_frames, n_mels).
        frame_scores: float (n_frames,).
        frames_truth: bool (n_frames,), frames that are really anomalous; None if unknown.
        clip_score: the clip's own score.
        normal_scores: scores of normal test clips, float (n_clips,), at least one.
        method: a detector's name.
        encoder_label: how the encoder is called.
        frame_times_s: centres of the frames, float (n_frames,), evenly spaced.
        mel_centres_hz: centres of the mel bands, float (n_mels,), increasing.
        title: over the figure.
        stamp: banner on the figure, "" for none.
        dpi: resolution of raster formats; cells are stored as images in vector formats, too.

    Raises:
        ValueError: an array does not fit the spectrogram's shape, or taps or normal scores are
            missing.
    """
    n_frames, n_mels = len(frame_times_s), len(mel_centres_hz)
    cells = {"spectrogram_db": spectrogram_db, "anomaly_map": anomaly_map}
    check_shapes(cells, (n_frames, n_mels))
    check_shapes({"frame_scores": frame_scores, "frames_truth": frames_truth}, (n_frames,))
    _check_framework(waveform, taps, normal_scores)
    clip_s = len(waveform) / sample_rate_hz
    scales = cell_scales(
        frame_times_s, n_mels=n_mels, ticks=frequency_ticks(mel_centres_hz, spacing=0.085)
    )
    with mpl.rc_context(STYLE):
        canvas = _Canvas.new(title=title, stamp=stamp, dpi=dpi)
        _draw_waveform(canvas.panel(0, 0), waveform, clip_s=clip_s)

        axis = canvas.panel(1, 0)
        _head(axis, "2  Log-mel spectrogram", "how loud, when, at which pitch")
        low, high = robust_range_db(spectrogram_db)
        look = {"cmap": SPECTROGRAM_COLOURS, "vmin": low, "vmax": high}
        _draw_clip_cells(axis, spectrogram_db, scales, look, label="dB", clip_s=clip_s)

        few = frequency_ticks(mel_centres_hz, spacing=0.3)
        few_ticks = cell_scales(frame_times_s, n_mels=n_mels, ticks=few)
        _draw_taps(canvas, taps, few_ticks, encoder_label=encoder_label, clip_s=clip_s)

        down_in, box_in = _BOX_IN
        _draw_detector(canvas.panel(0, 1, down_in=down_in, height_in=box_in), method)

        axis = canvas.panel(1, 1)
        _head(axis, "5  Anomaly map", "how unusual, when, at which pitch")
        low, high = value_range(anomaly_map)
        look = {"cmap": MAP_COLOURS, "vmin": low, "vmax": high}
        _draw_clip_cells(axis, anomaly_map, scales, look, label="score", clip_s=clip_s)

        of_clip = canvas.panel(2, 1, height_in=_STRIP_IN)
        _draw_clip_score(of_clip, clip_score, np.asarray(normal_scores, dtype=np.float64))
        frames_in = _HEIGHT_IN - _FRAMES_DOWN_IN
        of_frames = canvas.panel(2, 1, down_in=_FRAMES_DOWN_IN, height_in=frames_in)
        _draw_frame_scores(of_frames, frame_scores, frames_truth, frame_times_s, clip_s=clip_s)
        _draw_arrows(canvas)
    return canvas.figure


@dataclass(frozen=True)
class _Canvas:
    """A figure whose panels stand at fixed places: arrows run between them."""

    figure: Figure

    @classmethod
    def new(cls, *, title: str, stamp: str, dpi: int) -> _Canvas:
        width_in, height_in = _SIZE_IN
        figure = new_figure(
            width_in=width_in, height_in=height_in, dpi=dpi, title=title, stamp=stamp
        )
        figure.set_layout_engine("none")
        return cls(figure)

    def panel(
        self, column: int, row: int, *, down_in: float = 0.0, height_in: float = _HEIGHT_IN
    ) -> Axes:
        """Axes in a place of the grid, `down_in` below its upper edge."""
        width_in, total_in = self.figure.get_size_inches()
        bottom_in = _SIZE_IN[1] - _TOPS_IN[row] - down_in - height_in
        return self.figure.add_axes(
            (
                _LEFTS_IN[column] / width_in,
                bottom_in / total_in,
                _WIDTHS_IN[column] / width_in,
                height_in / total_in,
            )
        )

    def arrow(self, corners_in: Sequence[tuple[float, float]]) -> None:
        """An arrow along corners (from the left, from the top)."""
        path = Path([(x, _SIZE_IN[1] - y) for x, y in corners_in])
        self.figure.add_artist(
            FancyArrowPatch(
                path=path,
                arrowstyle="-|>",
                mutation_scale=13,
                color=_ARROW_COLOUR,
                linewidth=1.6,
                joinstyle="round",
                transform=self.figure.dpi_scale_trans,
            )
        )


def _draw_arrows(canvas: _Canvas) -> None:
    """From stage to stage; from the embeddings back to the left edge, where the next row begins."""
    upper_in, lower_in = (top + _HEIGHT_IN / 2 for top in _TOPS_IN)
    to_middle, to_right = (2.7, 3.02), (6.35, 6.68)
    canvas.arrow([(x, upper_in) for x in to_middle])
    canvas.arrow([(x, upper_in) for x in to_right])
    taps_in, box_in = _LEFTS_IN[2] + 0.8 * _WIDTHS_IN[2], _LEFTS_IN[0] + 0.5 * _WIDTHS_IN[0]
    head_in = _TOPS_IN[1] + _BOX_IN[0] - 0.42
    lane = [(taps_in, _LANE_IN - 0.22), (taps_in, _LANE_IN), (box_in, _LANE_IN), (box_in, head_in)]
    canvas.arrow(lane)
    canvas.arrow([(x, lower_in) for x in to_middle])
    for middle_in in (_STRIP_IN / 2, (_FRAMES_DOWN_IN + _HEIGHT_IN) / 2):
        canvas.arrow([(x, _TOPS_IN[1] + middle_in) for x in to_right])


def _head(axis: Axes, title: str, subtitle: str, *, lift_points: float = 0.0) -> None:
    """A stage's number and name, and below it what it is in plain words."""
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    axis.annotate(title, (0, 1), xytext=(0, 16 + lift_points), weight="bold", fontsize=10, **place)
    axis.annotate(subtitle, (0, 1), xytext=(0, 5 + lift_points), fontsize=8, color="0.3", **place)


def _draw_waveform(axis: Axes, waveform: np.ndarray, *, clip_s: float) -> None:
    """Lowest to highest sample of each of up to 600 pieces: every sample would be megabytes of svg."""
    _head(axis, "1  Waveform", "the sound itself")
    n_pieces = min(600, len(waveform))
    starts = np.arange(n_pieces) * len(waveform) // n_pieces
    low, high = (edge.reduceat(waveform, starts) for edge in (np.minimum, np.maximum))
    times_s = (np.arange(n_pieces) + 0.5) * (clip_s / n_pieces)
    axis.fill_between(times_s, low, high, color=NORMAL_COLOUR, linewidth=0.4)
    peak = float(np.abs(waveform).max()) or 1.0
    axis.set(xlim=(0, clip_s), ylim=(-1.08 * peak, 1.08 * peak))
    axis.set(xlabel="time (s)", ylabel="amplitude")
    unit = 10.0 ** np.floor(np.log10(peak))
    tick = unit * np.floor(peak / unit)  # the peak rounded down to one digit
    axis.set_yticks([-tick, 0.0, tick], [f"−{tick:g}", "0", f"{tick:g}"])


def _draw_clip_cells(
    axis: Axes, values: np.ndarray, scales: CellScales, look: dict, *, label: str, clip_s: float
) -> None:
    image = draw_cells(axis, values, scales, **look)
    beside = axis.inset_axes((1.03, 0.0, 0.035, 1.0))
    colour_bar(axis, image, label="", beside=beside)
    # beside the bar it would be in an arrow's way, above it in a power of ten's
    beside.set_xlabel(label, fontsize=8, loc="left", labelpad=16)
    axis.set(xlim=(0, clip_s), xlabel="time (s)", ylabel="frequency (Hz)")


def _draw_taps(
    canvas: _Canvas,
    taps: Mapping[str, np.ndarray],
    scales: CellScales,
    *,
    encoder_label: str,
    clip_s: float,
) -> None:
    gap_in = 0.27
    height_in = (_HEIGHT_IN + gap_in) / len(taps) - gap_in
    for i, (name, values) in enumerate(taps.items()):
        axis = canvas.panel(2, 0, down_in=i * (height_in + gap_in), height_in=height_in)
        n_time, n_freq, n_channels = values.shape
        means = values.mean(axis=2, dtype=np.float64)
        low, high = value_range(means)
        draw_cells(axis, means, scales, cmap=_TAP_COLOURS, vmin=low, vmax=high)
        axis.set_title(
            f"{name}: {n_channels} channels, {n_time} x {n_freq} cells",
            loc="left",
            fontsize=8,
            pad=3,
        )
        axis.set_xlim(0, clip_s)
        axis.tick_params(labelbottom=i == len(taps) - 1)
        if i == 0:
            _head(axis, "3  Embeddings", f"{encoder_label}: mean over channels", lift_points=11)
        if i == len(taps) // 2:
            axis.set_ylabel("frequency (Hz)")
    axis.set_xlabel("time (s)")


def _draw_detector(axis: Axes, method: str) -> None:
    _head(axis, "4  Detector", "what it compares the clip with")
    axis.set(xticks=[], yticks=[], facecolor="0.955")
    axis.spines[:].set(visible=True, color=_ARROW_COLOUR)
    place = {"transform": axis.transAxes, "va": "top"}
    axis.text(0.05, 0.92, method_styles([method])[method].title, weight="bold", **place)
    words = fill(_COMPARES.get(method, _COMPARES_OTHER), 28)
    axis.text(0.05, 0.73, words, fontsize=8.5, linespacing=1.4, **place)


def _draw_clip_score(axis: Axes, clip_score: float, normal_scores: np.ndarray) -> None:
    """The clip's score on a line with those of normal clips, which are spread upwards to be seen."""
    share = float(np.mean(normal_scores < clip_score))
    _head(
        axis,
        "6a  Clip score: is it unusual?",
        f"higher than {share:.0%} of {len(normal_scores)} normal clips",
    )
    heights = np.arange(len(normal_scores)) * 0.618034 % 1.0  # golden section: spread, no chance
    points = {"linestyle": "none", "markeredgewidth": 0}
    axis.plot(
        normal_scores,
        0.15 + 0.7 * heights,
        marker="o",
        markersize=4,
        color=NORMAL_COLOUR,
        alpha=0.55,
        label="normal clips",
        **points,
    )
    axis.plot(
        clip_score,
        0.5,
        marker="D",
        markersize=7,
        color=ANOMALOUS_COLOUR,
        label="this clip",
        **points,
    )
    axis.set(ylim=(0, 1), yticks=[])
    axis.spines["left"].set_visible(False)
    axis.margins(x=0.06)
    axis.locator_params(axis="x", nbins=4)
    axis.xaxis.set_major_formatter(_plain)
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.3),
        ncols=2,
        frameon=False,
        handletextpad=0.1,
    )


def _draw_frame_scores(
    axis: Axes,
    frame_scores: np.ndarray,
    frames_truth: np.ndarray | None,
    frame_times_s: np.ndarray,
    *,
    clip_s: float,
) -> None:
    words = "each frame's score" if frames_truth is None else "orange: frames that are anomalous"
    _head(axis, "6b  Frame scores: when?", words)
    if frames_truth is not None:
        shade_frames(axis, frames_truth, frame_times_s)
    axis.plot(frame_times_s, frame_scores, color="black", linewidth=1.1)
    axis.set(xlim=(0, clip_s), xlabel="time (s)")
    axis.locator_params(axis="y", nbins=3)
    axis.yaxis.set_major_formatter(_plain)


def _plain(score: float, _position: int) -> str:
    """A tick by itself: a power of ten at the axis' end would cover the words there."""
    return f"{score:.6g}"


def _check_framework(
    waveform: np.ndarray, taps: Mapping[str, np.ndarray], normal_scores: np.ndarray
) -> None:
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(
            f"waveform: expected samples of one clip (n_samples,), got {waveform.shape}"
        )
    if not taps:
        raise ValueError("taps: expected the embeddings of at least one depth, got none")
    for name, values in taps.items():
        if values.ndim != 3:
            raise ValueError(
                f"tap {name}: expected one clip (n_time, n_freq, n_channels), got {values.shape}"
            )
    if np.ndim(normal_scores) != 1 or not len(normal_scores):
        raise ValueError(
            "normal_scores: expected scores of normal clips (n_clips,), got shape "
            f"{np.shape(normal_scores)}"
        )
