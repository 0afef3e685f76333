"""Regions where something was put, and nowhere else; label tracks that Audacity reads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.front_ends import FRONT_ENDS
from vision_to_sound.monitoring.regions import (
    BandScale,
    Region,
    audacity_labels,
    find_regions,
    label_track_path,
    write_label_tracks,
)

FRONT_END = FRONT_ENDS["aisfx_44k1"]


def test_a_block_above_the_limit_is_one_region_with_its_edges():
    excess = np.zeros((200, FRONT_END.n_mels), np.float32)
    excess[50:80, 30:40] = 2.0
    excess[60, 35] = 4.5
    (region,) = find_regions(excess, FRONT_END)
    edges_hz = FRONT_END.mel_band_edges_hz()
    assert region.start_s == pytest.approx(49.5 * FRONT_END.hop_s)
    assert region.end_s == pytest.approx(79.5 * FRONT_END.hop_s)
    assert (region.low_hz, region.high_hz) == (edges_hz[30], edges_hz[40])
    assert region.score == pytest.approx(4.5)


def test_neighbours_are_one_and_far_ones_are_two_the_strongest_first():
    excess = np.zeros((400, FRONT_END.n_mels), np.float32)
    excess[50:80, 30:40] = 2.0
    excess[82:90, 30:40] = 2.0  # two frames on, within 0.05 s
    excess[300:310, 5:9] = 3.0
    found = find_regions(excess, FRONT_END)
    assert [round(region.score, 3) for region in found] == [3.0, 2.0]
    assert find_regions(excess, FRONT_END, at_most=1) == found[:1]


@pytest.mark.parametrize("frame", [0, 199])
def test_regions_at_the_ends_stay_inside_the_clip(frame):
    excess = np.zeros((200, FRONT_END.n_mels), np.float32)
    excess[frame, 0] = excess[frame, -1] = 2.0
    for region in find_regions(excess, FRONT_END):
        assert 0 <= region.start_s < region.end_s <= 199 * FRONT_END.hop_s + 1e-9
        assert region.low_hz < region.high_hz


def test_a_calm_map_has_none():
    assert find_regions(np.ones((50, FRONT_END.n_mels), np.float32), FRONT_END) == []


def test_the_scale_is_the_bands_own():
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 10.0, 0.0])
    maps = [(rng.normal(size=(5000, 3)) * spread + 7).astype(np.float32) for _ in range(4)]
    scale = BandScale.of_normal(maps)
    excess = np.concatenate([scale.excess(m) for m in maps])
    assert np.isfinite(excess).all()
    np.testing.assert_allclose(np.median(excess, axis=0), 0, atol=1e-3)
    assert (excess[:, :2] > 1).mean() == pytest.approx(0.001, rel=0.2)


def test_label_tracks_hold_spans_and_bands(tmp_path):
    regions = [Region(2.5, 3.0, 100.0, 2000.0, 1.5), Region(0.5, 1.0, 50.0, 60.0, 4.25)]
    assert audacity_labels(regions) == (
        "0.500000\t1.000000\tanomaly 4.25\n\\\t50.000\t60.000\n"
        "2.500000\t3.000000\tanomaly 1.50\n\\\t100.000\t2000.000\n"
    )
    table = pd.DataFrame(
        [("sub/a.wav", 0, *r) for r in regions], columns=["recording", "clip", *Region._fields]
    )
    write_label_tracks(table, tmp_path / "audacity")
    assert (tmp_path / "audacity" / "sub" / "a.wav.txt").read_text() == audacity_labels(regions)
    write_label_tracks(table[:0], tmp_path / "none")
    assert list((tmp_path / "none").iterdir()) == []


def table_of(*recordings: str) -> pd.DataFrame:
    rows = [(name, 0, 0.5, 1.0, 50.0, 60.0, 4.25) for name in recordings]
    return pd.DataFrame(rows, columns=["recording", "clip", *Region._fields])


@pytest.mark.parametrize(
    "name",
    [
        "a" * 248 + ".wav",
        "a" * 251 + ".wav",
        "\u00e9" * 125 + ".wav",
        "x" + "\U0001f50a" * 62 + ".flac",
        "a" * 247 + "\udcff.wav",  # a byte that is no UTF-8
        "a." + "w" * 250,
    ],
)
def test_a_long_name_gets_a_label_track_of_its_own(name, tmp_path):
    other = "b" + name[1:] if name[0] == "a" else name[:-5] + "b" + name[-4:]
    twin = name[:-9] + "z" + name[-8:]  # the same beginning
    names = [f"fan/{n}" for n in (name, other, twin)]
    write_label_tracks(table_of(*names), tmp_path)
    tracks = list((tmp_path / "fan").iterdir())
    assert len(tracks) == 3
    assert all(len(os.fsencode(track.name)) <= 255 and track.suffix == ".txt" for track in tracks)
    assert (tmp_path / label_track_path(names[0])).is_file()
    if "\udcff" not in name:
        assert all(track.name.encode("utf-8") for track in tracks)


def test_only_names_that_are_too_long_are_changed():
    longest = "a" * 247 + ".wav"
    assert str(label_track_path(f"sub/{longest}")) == f"sub/{longest}.txt"
    assert label_track_path(f"a{longest}").name != f"a{longest}.txt"


def test_a_label_track_and_a_folder_of_the_same_name(tmp_path):
    write_label_tracks(table_of("a.wav", "a.wav.txt/b.wav"), tmp_path)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2


@pytest.mark.parametrize("name", ["../x.wav", "fan/../../x.wav", "/tmp/x.wav", "..", "."])
def test_nothing_is_written_outside_of_the_folder(name, tmp_path):
    folder = tmp_path / "results" / "audacity"
    with pytest.raises(ValueError, match="expected a path below the folder of recordings"):
        write_label_tracks(table_of("good.wav", name), folder)
    assert not Path("/tmp/x.wav.txt").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
