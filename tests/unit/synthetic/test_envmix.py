"""Synthetic archives: layouts of the real ones, the same bytes again, sounds that differ."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vision_to_sound.archive_table import read_table
from vision_to_sound.archives import Archive
from vision_to_sound.downloads import fetch
from vision_to_sound.synthetic.envmix import ESC50_CLASSES, write_synthetic_archives
from vision_to_sound.synthetic.parts import LICENCE, write_archive_table

BACKGROUNDS = ["engine_idling", "air_conditioner", "siren"]
EVENTS = ["glass_breaking", "dog", "clock_alarm", "door_wood_knock", "frog"]


def write(directory: Path, **changes) -> Path:
    arguments = dict(
        backgrounds=BACKGROUNDS, clips_per_background=12, events=EVENTS, clips_per_event=5, seed=3
    )
    archives = write_synthetic_archives(directory, **(arguments | changes))
    write_archive_table(directory / "datasets.tsv", archives)
    return directory


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("synthetic"))


def contents(path: Path) -> dict[str, bytes]:
    with Archive(path, max_member_bytes=5_000_000) as archive:
        return dict(archive.iterate(lambda name: True))


def table_of(members: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(members[name].decode())))


def decode(data: bytes) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(data), always_2d=True)


@pytest.fixture(scope="module")
def urbansound8k(archives: Path) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    members = contents(archives / "UrbanSound8K.tar.gz")
    return table_of(members, "UrbanSound8K/metadata/UrbanSound8K.csv"), members


@pytest.fixture(scope="module")
def esc50(archives: Path) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    members = contents(archives / "ESC-50-master.zip")
    return table_of(members, "ESC-50-master/meta/esc50.csv"), members


# --- Bytes ----------------------------------------------------------------------------------------


def test_same_arguments_give_the_same_bytes(archives: Path, tmp_path: Path):
    write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["ESC-50-master.zip", "UrbanSound8K.tar.gz", "datasets.tsv"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (archives / name).read_bytes()


def test_other_clips_and_classes_change_no_clip(urbansound8k, esc50, tmp_path: Path):
    write(
        tmp_path,
        backgrounds=["siren"],
        clips_per_background=5,
        events=["frog", "dog"],
        clips_per_event=6,
    )
    fewer = contents(tmp_path / "UrbanSound8K.tar.gz")
    fewer.pop("UrbanSound8K/metadata/UrbanSound8K.csv")
    assert len(fewer) == 5
    assert all(urbansound8k[1][name] == data for name, data in fewer.items())
    both = contents(tmp_path / "ESC-50-master.zip").keys() & esc50[1].keys()
    assert len(both) == 11
    assert all(
        contents(tmp_path / "ESC-50-master.zip")[name] == esc50[1][name]
        for name in both
        if name.endswith(".wav")
    )


def test_seed_changes_every_clip(urbansound8k, tmp_path: Path):
    write(tmp_path, seed=4, clips_per_event=1)
    other = contents(tmp_path / "UrbanSound8K.tar.gz")
    assert other.keys() == urbansound8k[1].keys()
    wav = [name for name in other if name.endswith(".wav")]
    assert all(other[name] != urbansound8k[1][name] for name in wav)


def test_table_describes_the_archives(archives: Path, tmp_path: Path):
    rows = read_table(archives / "datasets.tsv")
    assert list(rows) == ["urbansound8k", "esc50"]
    for row in rows.values():
        assert row.licence == LICENCE and "synthetic" in row.licence and row.url == ""
        record = fetch(
            row, downloads=tmp_path, mirror=archives, attempts=1, backoff_s=0.0, timeout_s=1.0
        )
        assert record.checksum == row.checksum


# --- UrbanSound8K ---------------------------------------------------------------------------------


def test_backgrounds_lie_where_the_metadata_says(urbansound8k):
    table, members = urbansound8k
    columns = "slice_file_name fsID start end salience fold classID class"
    assert list(table[0]) == columns.split()
    named = {f"UrbanSound8K/audio/fold{row['fold']}/{row['slice_file_name']}" for row in table}
    assert named == {name for name in members if name.endswith(".wav")}
    assert len(named) == len(table) == 36
    assert {(row["class"], row["classID"]) for row in table} == {
        ("engine_idling", "5"),
        ("air_conditioner", "0"),
        ("siren", "8"),
    }
    for row in table:
        source, class_id, _, _ = row["slice_file_name"].split("-")
        assert (source, class_id) == (row["fsID"], row["classID"])


def test_metadata_has_the_columns_of_the_real_one(urbansound8k, esc50, shared_data: Path):
    for (table, _), file, name in (
        (urbansound8k, "UrbanSound8K.tar.gz", "metadata/UrbanSound8K.csv"),
        (esc50, "ESC-50-master.zip", "meta/esc50.csv"),
    ):
        with Archive(shared_data / file, max_member_bytes=5_000_000) as archive:
            header = archive.read(archive.find(name)).decode().splitlines()[0]
        assert header.split(",") == list(table[0])


def test_background_clips_decode_to_their_stated_duration(urbansound8k):
    table, members = urbansound8k
    rates, channels, subtypes, n_short = set(), set(), set(), 0
    for row in table:
        data = members[f"UrbanSound8K/audio/fold{row['fold']}/{row['slice_file_name']}"]
        samples, rate_hz = decode(data)
        duration_s = float(row["end"]) - float(row["start"])
        assert len(samples) == round(duration_s * rate_hz)
        assert 0.01 < np.sqrt(np.mean(samples**2)) and np.abs(samples).max() < 1
        rates.add(rate_hz)
        channels.add(samples.shape[1])
        subtypes.add(soundfile.info(io.BytesIO(data)).subtype)
        n_short += duration_s < 4.0
    assert rates == {22_050, 44_100, 48_000}
    assert channels == {1, 2} and subtypes == {"PCM_16", "PCM_24"}
    assert n_short == 3


def test_recordings_are_cut_into_overlapping_clips_of_one_fold(urbansound8k):
    table, members = urbansound8k
    by_recording: dict[str, list[dict[str, str]]] = {}
    for row in table:
        by_recording.setdefault(row["fsID"], []).append(row)
    assert len(by_recording) == 9 and {len(rows) for rows in by_recording.values()} == {4}
    for rows in by_recording.values():
        assert len({(row["fold"], row["class"]) for row in rows}) == 1
        first, second = (
            decode(members[f"UrbanSound8K/audio/fold{row['fold']}/{row['slice_file_name']}"])
            for row in rows[:2]
        )
        shift = round((float(rows[1]["start"]) - float(rows[0]["start"])) * first[1])
        overlap = min(len(first[0]) - shift, len(second[0]))
        assert overlap > 0
        np.testing.assert_array_equal(first[0][shift:][:overlap], second[0][:overlap])


def log_spectrum(data: bytes) -> np.ndarray:
    """Level in dB in 24 bands from 60 Hz to 10 kHz, mean 0: (24,)."""
    samples, rate_hz = decode(data)
    power = np.abs(np.fft.rfft(samples[:, 0])) ** 2
    bands = np.searchsorted(
        np.geomspace(60, 10_000, 25), np.fft.rfftfreq(len(samples), 1 / rate_hz)
    )
    level = 10 * np.log10([power[bands == band].mean() for band in range(1, 25)])
    return level - level.mean()


def test_clips_are_nearest_to_their_recording_then_to_their_class(urbansound8k):
    """What makes a split over clips leak, and a class learnable at all."""
    table, members = urbansound8k
    spectra = np.array(
        [
            log_spectrum(members[f"UrbanSound8K/audio/fold{row['fold']}/{row['slice_file_name']}"])
            for row in table
        ]
    )
    distance = np.linalg.norm(spectra[:, None] - spectra[None], axis=-1)
    source = np.array([row["fsID"] for row in table])
    category = np.array([row["class"] for row in table])
    same_source = source[:, None] == source[None]
    same_class = category[:, None] == category[None]
    within_recording = distance[same_source & (distance > 0)].mean()
    within_class = distance[same_class & ~same_source].mean()
    between = distance[~same_class].mean()
    assert 2 * within_recording < within_class < 0.8 * between


# --- ESC-50 ---------------------------------------------------------------------------------------


def test_events_lie_where_the_metadata_says(esc50):
    table, members = esc50
    assert list(table[0]) == "filename fold target category esc10 src_file take".split()
    named = {f"ESC-50-master/audio/{row['filename']}" for row in table}
    assert named == {name for name in members if name.endswith(".wav")} and len(named) == 25
    for row in table:
        assert row["target"] == str(ESC50_CLASSES[row["category"]])
        parts = (row["fold"], row["src_file"], row["take"], f"{row['target']}.wav")
        assert row["filename"] == "-".join(parts)
    assert {row["category"] for row in table if row["esc10"] == "True"} == {"dog"}


def test_class_ids_are_those_of_the_benchmark():
    ids = [39, 24, 21, 30, 1, 34, 43, 0, 26, 33, 37, 22, 8, 28, 48, 35, 4]
    assert sorted(ESC50_CLASSES.values()) == sorted(ids)


def test_events_are_five_seconds_with_exact_silence_around_them(esc50):
    leading = []
    for name, data in esc50[1].items():
        if not name.endswith(".wav"):
            continue
        samples, rate_hz = decode(data)
        assert rate_hz == 44_100 and samples.shape == (220_500, 1)
        sounding = np.flatnonzero(samples[:, 0])
        assert 0.1 < len(sounding) / rate_hz < 4.5
        assert np.all(samples[sounding[-1] + 1 :] == 0) and sounding[-1] < len(samples) - 1
        assert 0.25 < np.abs(samples).max() < 0.95
        leading.append(sounding[0] > rate_hz // 1000)
    assert 0 < sum(leading) < len(leading)


def test_every_event_class_fits_into_its_clip(tmp_path: Path):
    write(tmp_path, backgrounds=["siren"], clips_per_background=1, events=list(ESC50_CLASSES))
    wav = [data for name, data in contents(tmp_path / "ESC-50-master.zip").items() if "wav" in name]
    assert len(wav) == 17 * 5
    for data in wav:
        samples, _ = decode(data)
        assert len(samples) == 220_500 and np.isfinite(samples).all() and samples[-1, 0] == 0


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backgrounds": ["airconditioner"]}, "backgrounds: .*air_conditioner.*'airconditioner'"),
        ({"events": ["siren"]}, "events: .*glass_breaking.*'siren'"),
        ({"events": []}, "events: expected"),
        ({"events": ["dog", "dog"]}, "events: expected different"),
        ({"clips_per_event": 0}, "clips_per_event=0"),
        ({"clips_per_background": -1}, "clips_per_background=-1"),
    ],
)
def test_wrong_arguments_are_errors(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()
