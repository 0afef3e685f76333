"""The page as a file: what is in it, what cannot get into it, and what it costs to write."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import io
import json
import re
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice

import numpy as np
import page_clips
import pytest
import soundfile
from PIL import Image

from vision_to_sound.monitoring.page import ASSETS, AUDIO_SOURCES, SCRIPTS, PageClip, Region

NASTY = ("</script><script>alert(1)</script>.wav", "a\"b'c&d<!--.wav", "Pümpe → 水\u2028泵.wav")


def plain(i: int = 0, **changes) -> PageClip:
    """A clip of few cells that costs nothing to write."""
    rng = np.random.default_rng(i)
    cells = rng.uniform(-60, -10, (12, page_clips.FRONT_END.n_mels)).astype(np.float32)
    clip = PageClip(
        name=f"clip_{i}.wav",
        score=float(i),
        verdict="normal",
        duration_s=0.35,
        spectrogram_db=cells,
        anomaly_map=np.zeros_like(cells),
    )
    return replace(clip, **changes)


class Blocks(html.parser.HTMLParser):
    """Text of each script, style and title element of a page, by id or tag, as a browser splits it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "title"):
            self._open = dict(attrs).get("id") or tag
            assert self._open not in self.found, f"two blocks {self._open}"
            self.found[self._open] = ""

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.found[self._open] += data


def blocks(path) -> Blocks:
    return Blocks(path.read_text(encoding="utf-8"))


def index(path) -> dict:
    return json.loads(blocks(path).found["index"])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    size = page_clips.write(path, page_clips.clips(3))
    assert size == path.stat().st_size
    assert index(path)["bytes"] == pytest.approx(size, abs=30)
    return path


def test_header_warnings_and_settings_are_there_without_script(page):
    text = page.read_text(encoding="utf-8")
    for value in (*page_clips.HEADER.values(), *page_clips.WARNINGS, *page_clips.SETTINGS):
        assert str(value) in text
    assert page_clips.SCALE.label in text and "from 3 to 12" in text


def test_warnings_and_settings_leave_no_empty_box(tmp_path):
    page_clips.write(tmp_path / "p.html", [plain()], warnings=(), settings=None)
    hidden = {
        attrs.get("class") for _, attrs in blocks(tmp_path / "p.html").tags if "hidden" in attrs
    }
    assert {"warnings", "settings"} <= hidden


def test_no_address_and_a_policy_that_forbids_the_network(page):
    text = page.read_text(encoding="utf-8")
    without_base64 = re.sub(r"[A-Za-z0-9+/=]{200,}", "", text)
    assert "://" not in without_base64 and not re.search(r"(src|href)\s*=\s*[\"']?//", text)
    assert "url(" not in without_base64 and "@import" not in without_base64
    found = blocks(page)
    (policy,) = [a["content"] for _, a in found.tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for kind in ("script", "style"):
        digest = hashlib.sha256(found.found[kind].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]
    assert not [a for _, a in found.tags if "style" in a]  # the policy would drop them


def test_every_asset_of_the_page_is_in_it(page):
    text = page.read_text(encoding="utf-8")
    for asset in ASSETS.glob("*.[cj]s*"):
        assert asset.name in (*SCRIPTS, "page.css")
        assert asset.read_text(encoding="utf-8") in text


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_text(tmp_path, name):
    path = tmp_path / "p.html"
    page_clips.write(
        path, [plain(name=name, notes=[name])], title=name, header={name: name}, warnings=[name]
    )
    found = blocks(path)
    assert found.found["title"] == name
    (clip,) = json.loads(found.found["index"])["clips"]
    assert clip["name"] == name and clip["notes"] == [name]
    assert {"script", "style", "index", "title", "spectrogram-0", "map-0"} == set(found.found)


def test_pictures_show_the_cells_with_high_bands_on_top(tmp_path):
    cells = np.full((20, page_clips.FRONT_END.n_mels), -80.0, np.float32)
    cells[5:9, -30:-22] = -20.0  # loud, near the top
    anomaly_map = np.full_like(cells, 3.0)
    anomaly_map[5, -25], anomaly_map[9, 0], anomaly_map[12, 3] = 12.0, 7.5, -40.0
    path = tmp_path / "p.html"
    page_clips.write(path, [plain(spectrogram_db=cells, anomaly_map=anomaly_map)])
    found = blocks(path).found
    grey = np.asarray(image(found["spectrogram-0"]).convert("L")).astype(int)
    assert grey.shape == (128, 20)
    assert grey[24:28, 6:8].min() > 225 and grey[60:, :].max() < 30
    opacity = np.asarray(image(found["map-0"]).convert("RGBA"))[..., 3]
    assert opacity[24, 5] == opacity.max() == 235
    assert abs(int(opacity[127, 9]) - 117) <= 3  # half way from faint to strong
    assert opacity[124, 12] == 0 and (opacity > 0).sum() == 2
    assert index(path)["clips"][0]["rangeDb"] == [-80.0, -20.0]


def image(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_long_clip_keeps_its_short_event(tmp_path):
    cells = np.full((50_000, page_clips.FRONT_END.n_mels), -80.0, np.float32)
    anomaly_map = np.zeros_like(cells)
    anomaly_map[31_234, 10] = 12.0
    page_clips.write(tmp_path / "p.html", [plain(spectrogram_db=cells, anomaly_map=anomaly_map)])
    drawn = image(blocks(tmp_path / "p.html").found["map-0"]).convert("RGBA")
    rows, columns = np.nonzero(np.asarray(drawn)[..., 3])
    assert drawn.width <= 4096 and rows.tolist() == [117]
    assert columns[0] / drawn.width == pytest.approx(31_234 / 50_000, abs=1 / 2000)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 11000, 96000])
@pytest.mark.parametrize("audio_format", ["mp3", "flac"])
def test_sounds_come_back_in_time_and_level(tmp_path, rate_hz, audio_format):
    t = np.arange(rate_hz) / rate_hz
    tone = (0.3 * np.sin(2 * np.pi * 440 * t) * (t > 0.5)).astype(np.float32)
    path = tmp_path / "p.html"
    page_clips.write(
        path,
        [plain(duration_s=1.0, audio={"original": (tone, rate_hz)})],
        audio_format=audio_format,
    )
    data = base64.b64decode(blocks(path).found["original-0"])
    samples, read_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    assert len(samples) / read_hz == pytest.approx(1.0, abs=0.001)
    loud = np.flatnonzero(np.abs(samples) > 0.15)
    assert loud[0] / read_hz == pytest.approx(0.5, abs=0.005)
    assert np.sqrt(np.mean(samples[int(0.6 * read_hz) :] ** 2)) == pytest.approx(0.3 / 2**0.5, 0.02)


def test_sources_above_full_scale_are_turned_down_alike(tmp_path):
    rng = np.random.default_rng(0)
    original = rng.uniform(-0.5, 0.5, 16000).astype(np.float32)
    anomaly = (4 * original).astype(np.float32)  # peaks near 2
    audio = {"original": (original, 16000), "anomaly": (anomaly, 16000)}
    path = tmp_path / "p.html"
    page_clips.write(path, [plain(duration_s=1.0, audio=audio)], audio_format="flac")
    found = blocks(path).found
    first, second = (
        soundfile.read(io.BytesIO(base64.b64decode(found[f"{name}-0"])))[0] for name in audio
    )
    assert np.abs(second).max() == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(second, 4 * first, atol=2e-4)


def test_encoded_sounds_pass_as_they_are(tmp_path):
    page_clips.write(tmp_path / "p.html", [plain(audio={"background": b"ID3 any bytes"})])
    found = blocks(tmp_path / "p.html").found
    assert base64.b64decode(found["background-0"]) == b"ID3 any bytes"
    assert json.loads(found["index"])["clips"][0]["sources"] == ["background"]


def test_times_are_utc_where_the_zone_is_known(tmp_path):
    noon = datetime(2025, 6, 1, 12, 0)
    east = noon.replace(tzinfo=timezone(timedelta(hours=2)))
    page_clips.write(
        tmp_path / "p.html", [plain(recorded_at=noon), plain(recorded_at=east), plain()]
    )
    naive, aware, none = index(tmp_path / "p.html")["clips"]
    noon_ms = noon.replace(tzinfo=UTC).timestamp() * 1000
    assert (naive["recordedMs"], naive["zone"]) == (noon_ms, "")
    assert (aware["recordedMs"], aware["zone"]) == (noon_ms - 7_200_000, "UTC")
    assert none["recordedMs"] is None


def test_the_same_clips_give_the_same_bytes_whatever_the_threads(tmp_path):
    for threads in (1, 3):
        page_clips.write(tmp_path / f"{threads}.html", map(plain, range(10)), threads=threads)
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "3.html").read_bytes()
    assert [c["name"] for c in index(tmp_path / "3.html")["clips"]][::9] == [
        "clip_0.wav",
        "clip_9.wav",
    ]


@pytest.mark.parametrize("threads", [1, 2])
def test_clips_are_forgotten_once_written(tmp_path, threads):
    alive: list[weakref.ref] = []
    most = 0

    def made():
        nonlocal most
        for i in range(40):
            clip = plain(i)
            alive.append(weakref.ref(clip.spectrogram_db))
            most = max(most, sum(ref() is not None for ref in alive))
            yield clip
            del clip

    page_clips.write(tmp_path / "p.html", made(), threads=threads)
    assert len(alive) == 40 and most <= threads + 1


def test_a_failure_leaves_the_page_of_before(tmp_path):
    path = tmp_path / "p.html"
    page_clips.write(path, [plain()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="clip 'bad.wav': its score is nan"):
        page_clips.write(path, [plain(), plain(name="bad.wav", score=float("nan"))])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


CELLS = plain().spectrogram_db


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "odd"}, "verdict 'odd', expected one of anomalous, normal"),
        ({"duration_s": 0.0}, "its duration is 0.0 s"),
        (
            {"spectrogram_db": CELLS[:, :5]},
            r"spectrogram of shape \(12, 5\), expected \(n_frames, 128\)",
        ),
        (
            {"anomaly_map": CELLS[:5]},
            r"map of shape \(5, 128\) over a spectrogram of shape \(12, 128\)",
        ),
        ({"anomaly_map": CELLS * np.nan}, "its anomaly map holds NaN or infinite values"),
        ({"audio": {"event": b""}}, "audio source 'event', expected one of original"),
        ({"regions": [Region(1, 1, 0, 9, 1)]}, "expected start < end"),
    ],
)
def test_a_clip_that_cannot_be_shown_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"clip 'clip_0.wav': .*{message}"):
        page_clips.write(tmp_path / "p.html", [plain(**changes)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio_format": "opus"}, "audio format 'opus' is unknown, allowed: mp3, flac"),
        ({"threshold": float("nan")}, "threshold: expected a number"),
        ({"hop_s": 0}, "hop_s: expected seconds"),
        ({"band_centres_hz": [200, 100]}, "ascending"),
    ],
)
def test_settings_that_make_no_page(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        page_clips.write(tmp_path / "p.html", [], **changes)


def test_sources_and_regions_reach_the_index(page):
    clip = index(page)["clips"][2]
    expected = next(islice(page_clips.clips(3), 2, None))
    assert clip["sources"] == list(AUDIO_SOURCES)
    assert clip["regions"] == [pytest.approx(list(r), rel=1e-5) for r in expected.regions] != []
    assert clip["nFrames"] == len(expected.spectrogram_db)
    assert clip["anomalous"] == (expected.score > page_clips.THRESHOLD)
