"""Panels of cells: a log-mel spectrogram, a mask or an anomaly map over seconds and hertz.

What the pictures of single clips share. Orange is the truth in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from vision_to_sound.metrics import roc_auc
from vision_to_sound.scores import AnomalyScores, Truth

FREQUENCY_TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
DYNAMIC_RANGE_DB = 70.0  # a spectrogram's colours cover at most this much below its loudest cells
SPECTROGRAM_COLOURS = "magma"
MAP_COLOURS = sns.color_palette("mako", as_cmap=True)
TRUTH_COLOUR = "#FF9A2E"
MASK_COLOURS = ListedColormap(["#0B0405", TRUTH_COLOUR])  # the ground is mako's darkest
FRAME_COLOURS = ListedColormap(["#DDDDDD", TRUTH_COLOUR])


@dataclass(frozen=True)
class CellScales:
    """Time and frequency of the cells that all panels of a figure share."""

    extent: tuple[float, float, float, float]  # time from, to in seconds; mel band from, to
    tick_bands: np.ndarray
    tick_labels: list[str]
    span_s: tuple[float, float] | None  # onset and end of the event, dashed lines


def cell_scales(
    frame_times_s: np.ndarray,
    *,
    n_mels: int,
    ticks: tuple[np.ndarray, list[str]],
    span_s: tuple[float, float] | None = None,
) -> CellScales:
    """Scales of cells whose frames are centred at frame_times_s, float (n_frames,), evenly spaced.

    ticks: from `frequency_ticks`.
    """
    step_s = float(np.mean(np.diff(frame_times_s))) if len(frame_times_s) > 1 else 1.0
    start_s, end_s = float(frame_times_s[0]) - step_s / 2, float(frame_times_s[-1]) + step_s / 2
    return CellScales((start_s, end_s, -0.5, n_mels - 0.5), *ticks, span_s)


def frequency_ticks(mel_centres_hz: np.ndarray, *, spacing: float) -> tuple[np.ndarray, list[str]]:
    """Round frequencies on an axis whose unit is the mel band.

    Args:
        mel_centres_hz: float (n_mels,), increasing.
        spacing: ticks closer than this share of the axis to a rounder one are left out.

    Returns:
        Positions in bands, float (n_ticks,), and labels such as "500", "2k". Increasing.
    """
    n_mels = len(mel_centres_hz)
    # decades first, then the fives, then the twos: the roundest frequency of a crowd stays
    ordered = sorted(FREQUENCY_TICKS_HZ, key=lambda hz: ("152".index(str(hz)[0]), hz))
    kept: list[tuple[float, int]] = []
    for hz in ordered:
        if not mel_centres_hz[0] <= hz <= mel_centres_hz[-1]:
            continue
        band = float(np.interp(hz, mel_centres_hz, np.arange(n_mels)))
        if all(abs(band - other) >= spacing * n_mels for other, _ in kept):
            kept.append((band, hz))
    kept.sort()
    labels = [f"{hz // 1000}k" if hz >= 1000 else str(hz) for _, hz in kept]
    return np.array([band for band, _ in kept]), labels


def draw_cells(
    axis: Axes, values: np.ndarray, scales: CellScales, *, cmap, vmin: float, vmax: float
) -> AxesImage:
    """Cells (n_time, n_freq), time to the right and frequency up, spread over the scales' extent.

    Light grey where a value is not finite.
    """
    axis.set_facecolor("0.85")
    image = axis.imshow(
        np.ma.masked_invalid(np.asarray(values, dtype=np.float32).T),
        extent=scales.extent,
        origin="lower",
        aspect="auto",
        cmap=cmap,
        vmin=vmin,
        vmax=vmax,
        interpolation="nearest",
    )
    axis.set_yticks(scales.tick_bands, scales.tick_labels)
    return image


def colour_bar(axis: Axes, image: AxesImage, *, label: str, beside: Axes | None = None) -> Colorbar:
    """A slim colour bar beside the axis, or in the axes `beside` that are there for it."""
    place = (
        {"cax": beside} if beside else {"ax": axis, "pad": 0.012, "fraction": 0.05, "aspect": 16}
    )
    formatter = ScalarFormatter()
    formatter.set_powerlimits((-2, 4))  # 0.00012 would push the panels apart
    bar = axis.figure.colorbar(image, format=formatter, **place)
    bar.locator = MaxNLocator(nbins=4)
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.ax.yaxis.get_offset_text().set_fontsize(7)
    bar.set_label(label, fontsize=8)
    return bar


def draw_mask(
    axis: Axes, mask: np.ndarray, scales: CellScales, *, beside: Axes | None = None
) -> None:
    """Truth, bool (n_frames, n_mels), with a bar that says which colour is which."""
    image = draw_cells(axis, mask.astype(np.float32), scales, cmap=MASK_COLOURS, vmin=0, vmax=1)
    bar = colour_bar(axis, image, label="", beside=beside)
    bar.set_ticks([0.25, 0.75], labels=["normal", "anomalous"], rotation=90, va="center")
    bar.ax.tick_params(length=0, labelsize=7)


def draw_frame_strip(axis: Axes, frames_truth: np.ndarray, scales: CellScales) -> None:
    """Anomalous frames as a strip along the head of a panel."""
    strip = axis.inset_axes((0.0, 1.025, 1.0, 0.06))
    strip.imshow(
        frames_truth[np.newaxis].astype(np.float32),
        extent=(scales.extent[0], scales.extent[1], 0, 1),
        aspect="auto",
        cmap=FRAME_COLOURS,
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    strip.set(xlim=axis.get_xlim(), xticks=[], yticks=[])
    strip.spines[:].set_visible(False)


def shade_frames(axis: Axes, frames_truth: np.ndarray, frame_times_s: np.ndarray) -> None:
    """Anomalous frames, bool (n_frames,), as orange ground over the whole height of a panel."""
    step_s = float(np.mean(np.diff(frame_times_s))) if len(frame_times_s) > 1 else 1.0
    padded = np.concatenate([[False], frames_truth, [False]]).astype(np.int8)
    starts, ends = (np.flatnonzero(np.diff(padded) == sign) for sign in (1, -1))
    for start, end in zip(frame_times_s[starts], frame_times_s[ends - 1], strict=True):
        axis.axvspan(
            start - step_s / 2, end + step_s / 2, color=TRUTH_COLOUR, alpha=0.45, linewidth=0
        )


def value_range(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest finite value as colour limits; one apart where all are equal, (0, 1) for none."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def robust_range_db(values_db: np.ndarray) -> tuple[float, float]:
    """Colour limits that one click or one silent band cannot spoil: quantiles 0.02 and 0.998.

    Not further apart than `DYNAMIC_RANGE_DB`; not finite cells do not count.
    """
    finite = values_db[np.isfinite(values_db)]
    if not finite.size:
        return -DYNAMIC_RANGE_DB, 0.0
    low, high = (float(value) for value in np.quantile(finite, [0.02, 0.998]))
    low = max(low, high - DYNAMIC_RANGE_DB)
    return (low, high) if high > low else (high - DYNAMIC_RANGE_DB, high)


def mark_span(axis: Axes, scales: CellScales) -> None:
    for time_s in scales.span_s or ():
        axis.axvline(time_s, color="white", linewidth=1.0, linestyle=(0, (4, 3)))


def check_shapes(arrays: Mapping[str, np.ndarray | None], shape: tuple[int, ...]) -> None:
    """ValueError where an array, if there is one, does not have the shape that its axes have."""
    for name, values in arrays.items():
        if values is not None and values.shape != shape:
            raise ValueError(
                f"{name}: expected shape {shape} from the lengths of frame_times_s and "
                f"mel_centres_hz, got {values.shape}"
            )


def choose_clip(
    scores: AnomalyScores, truth: Truth, clips: Sequence[str], *, protocol: str, which: str
) -> int:
    """Which of the anomalous test clips to show: its row among them.

    Args:
        scores, truth: of all test clips.
        clips: names of the anomalous ones.
        protocol: whose mask tells how well a map finds its event.
        which: "best", "typical" (median) or "worst" by the ROC of the clip's own cells (by its clip score, where no
            mask is known), or "clip-NAME".

    Raises:
        ValueError: no clip of that name, or none with an anomalous cell.
    """
    if which.startswith("clip-"):
        name = which.removeprefix("clip-")
        if name not in list(clips):
            raise ValueError(f"clip {name!r} is not among the mixtures: {', '.join(clips)}")
        return list(clips).index(name)
    if protocol in truth.masks:
        masks, maps = truth.masks[protocol][truth.labels], scores.maps[truth.labels]
        rows = np.flatnonzero(masks.any(axis=(1, 2)))
        values = [roc_auc(maps[row].ravel(), masks[row].ravel()) for row in rows]
    else:
        values = scores.clips[truth.labels]
        rows = np.arange(len(values))
    if not len(rows):
        raise ValueError("no clip has an anomalous cell")
    order = rows[np.argsort(values, kind="stable")]
    return int({"worst": order[0], "typical": order[len(order) // 2], "best": order[-1]}[which])
