"""One HTML file to look at and listen to scored clips: it opens from disk, offline, in any browser.

    clips = (PageClip(name=..., score=..., verdict=..., ...) for clip in scored)  # made as they are written
    write_page(
        "page.html", clips, title="Pump 3", header={"Encoder": "CLAP 2022"}, threshold=3.2,
        threshold_label="exceeded by 1 % of normal clips", band_centres_hz=front_end.mel_band_centres_hz(),
        hop_s=front_end.hop_s, map_scale=MapScale("p-value of a cell", faint=0.05, strong=0.001, log=True),
    )

The page's own text, style and script are the files in `page_assets/`. Pictures and sounds lie in it as base64 that
the browser decodes only when a clip comes into view.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from vision_to_sound.files import replacing
from vision_to_sound.monitoring.page_media import (
    AUDIO_FORMATS,
    MapScale,
    encode_audio,
    map_image,
    spectrogram_image,
)
from vision_to_sound.monitoring.regions import Region

__all__ = ["AUDIO_SOURCES", "VERDICTS", "MapScale", "PageClip", "Region", "write_page"]

ASSETS = Path(__file__).with_name("page_assets")
SCRIPTS = ("units.js", "plots.js", "player.js", "clips.js", "page.js")  # in this order, one scope
AUDIO_SOURCES = ("original", "anomaly", "background")
VERDICTS = ("anomalous", "normal")


@dataclass(frozen=True)
class PageClip:
    """One clip of the page.

    Attributes:
        name: shown, sorted and searched; unique names are easier to talk about but not needed.
        score: the higher the more anomalous.
        verdict: one of `VERDICTS`.
        duration_s: of the recording, and of each source in `audio`.
        spectrogram_db: float32 (n_frames, n_mels), dB, finite; frame i is centred on i * hop_s.
        anomaly_map: float32, the same shape, finite; what it means is said by the page's `MapScale`.
        p_value: of the clip's score, if there is one.
        recorded_at: for the plot over time: UTC if it knows its time zone, else the time as it is. If any clip
            lacks it, the plot is over the order of the clips instead.
        regions: anomalous parts, `Region` or tuples of its five numbers.
        audio: of `AUDIO_SOURCES` those that there are: (float32 (n_samples,) with full scale +-1, rate in Hz), or
            the bytes of a file that browsers play.
        notes: what to know about this recording, a phrase each: "clipped: 312 samples at full scale".
    """

    name: str
    score: float
    verdict: str
    duration_s: float
    spectrogram_db: np.ndarray
    anomaly_map: np.ndarray
    p_value: float | None = None
    recorded_at: datetime | None = None
    regions: Sequence[Region | tuple[float, float, float, float, float]] = ()
    audio: Mapping[str, tuple[np.ndarray, int] | bytes] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_page(
    path: str | os.PathLike[str],
    clips: Iterable[PageClip],
    *,
    title: str,
    header: Mapping[str, object],
    threshold: float,
    threshold_label: str,
    map_scale: MapScale,
    band_centres_hz: Sequence[float] | np.ndarray,
    hop_s: float,
    warnings: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    range_db: tuple[float, float] | None = None,
    audio_format: str = "mp3",
    threads: int = 1,
) -> int:
    """Write the page; it appears whole or not at all. Returns its size in bytes.

    Clips are taken one by one and forgotten once written: at most `threads` + 1 of them are in memory.

    Args:
        clips: in any order, the page ranks them by score; without times their order is the order of recording.
        header: what stands on top: encoder, detector, number of normal clips, date of the data.
        threshold: score above which a clip is anomalous, drawn as a line; the verdicts are those of the clips.
        threshold_label: what the threshold means, behind its value.
        map_scale: meaning and drawing of the anomaly maps.
        band_centres_hz: (n_mels,), ascending; hop_s: seconds from frame to frame. Of all clips.
        warnings: a sentence each, shown on top.
        settings: names and values, folded away under the header.
        range_db: levels drawn black and white; None: each clip has its own range and says so.
        audio_format: "mp3" (small) or "flac" (exact to 16 bit, about five times as large).
        threads: clips encoded side by side.

    Raises:
        ValueError: a clip that cannot be shown, with its name and what is wrong; an unknown audio format.
    """
    centres_hz = np.asarray(band_centres_hz, dtype=np.float64)
    if centres_hz.ndim != 1 or len(centres_hz) < 2 or not (np.diff(centres_hz) > 0).all():
        raise ValueError("band_centres_hz: expected at least two frequencies, ascending")
    if not (math.isfinite(hop_s) and hop_s > 0):
        raise ValueError(f"hop_s: expected seconds from frame to frame, got {hop_s}")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold: expected a number, got {threshold}")
    if audio_format not in AUDIO_FORMATS:
        raise ValueError(
            f"audio format {audio_format!r} is unknown, allowed: {', '.join(AUDIO_FORMATS)}"
        )

    def encode(clip: PageClip) -> tuple[dict[str, Any], dict[str, bytes]]:
        _check(clip, n_mels=len(centres_hz))
        spectrogram, drawn_db = spectrogram_image(clip.spectrogram_db, range_db)
        media = {
            "spectrogram": spectrogram,
            "map": map_image(map_scale.strength(clip.anomaly_map)),
            **encode_audio(clip.audio, audio_format),
        }
        return _entry(clip, drawn_db), media

    before, after = _shell(title, header, warnings, settings or {}, map_scale)
    entries: list[dict[str, Any]] = []
    with replacing(path) as temporary, open(temporary, "wb") as page:
        page.write(before.encode())
        for entry, media in _side_by_side(encode, clips, threads):
            for kind, data in media.items():
                page.write(f'<script type="text/plain" id="{kind}-{len(entries)}">'.encode())
                page.write(base64.b64encode(data))
                page.write(b"</script>\n")
            entries.append(entry)
        tail = f"</script>\n{after}".encode()
        index = {
            "clips": entries,
            "threshold": threshold,
            "thresholdLabel": threshold_label,
            "centresHz": [round(hz, 3) for hz in centres_hz.tolist()],
            "hopS": hop_s,
        }
        page.write(b'<script type="application/json" id="index">')
        # The page states its size; but for these few digits all of it is known here.
        index["bytes"] = page.tell() + len(_json(index)) + len(tail)
        page.write(_json(index).encode())
        page.write(tail)
        size = page.tell()
    return size


def _check(clip: PageClip, *, n_mels: int) -> None:
    def refuse(problem: str) -> None:
        raise ValueError(f"clip {clip.name!r}: {problem}")

    if clip.verdict not in VERDICTS:
        refuse(f"verdict {clip.verdict!r}, expected one of {', '.join(VERDICTS)}")
    if not math.isfinite(clip.score):
        refuse(f"its score is {clip.score}, expected a number")
    if not (math.isfinite(clip.duration_s) and clip.duration_s > 0):
        refuse(f"its duration is {clip.duration_s} s")
    for name, cells in (("spectrogram", clip.spectrogram_db), ("anomaly map", clip.anomaly_map)):
        if cells.ndim != 2 or len(cells) == 0 or cells.shape[1] != n_mels:
            refuse(f"{name} of shape {cells.shape}, expected (n_frames, {n_mels})")
        if not np.isfinite(cells).all():
            refuse(f"its {name} holds NaN or infinite values")
    if clip.anomaly_map.shape != clip.spectrogram_db.shape:
        refuse(
            f"map of shape {clip.anomaly_map.shape} over a spectrogram of shape "
            f"{clip.spectrogram_db.shape}"
        )
    for name in clip.audio:
        if name not in AUDIO_SOURCES:
            refuse(f"audio source {name!r}, expected one of {', '.join(AUDIO_SOURCES)}")
    for region in clip.regions:
        if not np.isfinite(region).all() or region[0] >= region[1] or region[2] >= region[3]:
            refuse(f"region {tuple(region)}, expected start < end in s and low < high in Hz, score")


def _entry(clip: PageClip, drawn_db: tuple[float, float]) -> dict[str, Any]:
    """What the page knows of a clip before it comes into view."""
    recorded_ms = zone = None
    if clip.recorded_at is not None:
        aware = clip.recorded_at.tzinfo is not None
        as_utc = clip.recorded_at if aware else clip.recorded_at.replace(tzinfo=UTC)
        recorded_ms, zone = round(as_utc.timestamp() * 1000), "UTC" if aware else ""
    return {
        "name": clip.name,
        "score": float(clip.score),
        "p": None if clip.p_value is None else float(clip.p_value),
        "anomalous": clip.verdict == "anomalous",
        "durationS": round(float(clip.duration_s), 4),
        "recordedMs": recorded_ms,
        "zone": zone,
        "nFrames": len(clip.spectrogram_db),
        "rangeDb": [round(float(level), 1) for level in drawn_db],
        "regions": [[float(f"{value:.6g}") for value in region] for region in clip.regions],
        "sources": [name for name in AUDIO_SOURCES if name in clip.audio],
        "notes": list(clip.notes),
    }


def _side_by_side(encode: Any, clips: Iterable[PageClip], threads: int) -> Iterator[Any]:
    """encode(clip) for each, in their order; compression leaves Python's lock, so threads help."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Any] = deque()
        try:
            for clip in clips:
                waiting.append(pool.submit(encode, clip))
                del clip
                if len(waiting) >= threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _json(value: object) -> str:
    """JSON that cannot end a script element, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shell(
    title: str,
    header: Mapping[str, object],
    warnings: Sequence[str],
    settings: Mapping[str, object],
    map_scale: MapScale,
) -> tuple[str, str]:
    """The page before and after the clips' data, with its script and style named in its security policy."""
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    parts = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{parts}}})();\n'
    ramp = map_image(np.linspace(0, 1, 128)[:, None].repeat(2, axis=1))
    page = Template((ASSETS / "page.html").read_text(encoding="utf-8")).substitute(
        script_hash=_csp_hash(script),
        style_hash=_csp_hash(style),
        script=script,
        style=style,
        title=html.escape(title),
        header=_pairs(header),
        warnings="\n".join(f"<li>{html.escape(text)}</li>" for text in warnings),
        warnings_hidden="" if warnings else "hidden",
        settings=_pairs(settings),
        settings_hidden="" if settings else "hidden",
        map_label=html.escape(map_scale.label),
        map_faint=f"{map_scale.faint:g}",
        map_strong=f"{map_scale.strong:g}",
        map_ramp=f"data:image/png;base64,{base64.b64encode(ramp).decode()}",
    )
    before, found, after = page.partition("<!-- clips -->\n")
    assert found, "page.html has lost the place of the clips"
    return before, after


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _pairs(values: Mapping[str, object]) -> str:
    return "\n".join(
        f"<div><dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd></div>"
        for name, value in values.items()
    )
