"""Synthetic machines: the layout of MIMII, the same bytes again, faults that are heard but not louder."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vision_to_sound.archive_table import read_table
from vision_to_sound.archives import Archive
from vision_to_sound.datasets import MIMII_TYPES, index_mimii
from vision_to_sound.downloads import fetch
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.spectrogram import log_mel_db
from vision_to_sound.synthetic.mimii import MACHINES, write_synthetic_mimii
from vision_to_sound.synthetic.parts import write_archive_table

SETTINGS = dict(
    machine_types=list(MIMII_TYPES),
    snrs_db=[6],
    ids=[4],
    normal_per_id=18,
    abnormal_per_id=8,
    clip_s=2.0,
    seed=3,
)
FRONT_END = FrontEnd("test", 16_000, 1024, 512, 64, 0.0, 8000.0, "slaney", "slaney", "reflect")
SMALL = SETTINGS | {"normal_per_id": 3, "abnormal_per_id": 2}


def contents(path: Path) -> dict[str, bytes]:
    with Archive(path, max_member_bytes=5_000_000) as archive:
        return dict(archive.iterate(lambda name: True))


def samples_of(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), always_2d=True)[0]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    archives = write_synthetic_mimii(tmp_path_factory.mktemp("mimii"), **SETTINGS)
    assert list(archives) == [f"mimii_6_dB_{name}" for name in MIMII_TYPES]
    assert [path.name for path in archives.values()] == [f"6_dB_{t}.zip" for t in MIMII_TYPES]
    return {path.stem.split("_")[-1]: contents(path) for path in archives.values()}


def test_types_are_those_of_the_data_set():
    assert list(MACHINES) == list(MIMII_TYPES)


def test_layout_and_format(machines, tmp_path):
    for machine_type, members in machines.items():
        for name, data in members.items():
            info = soundfile.info(io.BytesIO(data))
            assert (info.samplerate, info.channels, info.subtype) == (16_000, 8, "PCM_16")
            assert info.frames == 32_000
            assert name.split("/")[0] == machine_type
    archives = write_synthetic_mimii(tmp_path, **SMALL)
    with Archive(archives["mimii_6_dB_pump"], max_member_bytes=1 << 24) as archive:
        index = index_mimii(archive)
    assert set(index["category"]) == {"pump_id_04"}
    assert list(index["label"]) == [0, 0, 0, 1, 1]


def test_the_layout_is_that_of_the_real_archive(machines, shared_data):
    with Archive(shared_data / "0_dB_fan.zip", max_member_bytes=1 << 24) as archive:
        real = archive.members()
    made = [name.replace("id_04", "id_00") for name in machines["fan"]]
    assert [n for n in made if int(n[-12:-4]) < 8] == [n for n in real if int(n[-12:-4]) < 8]


def test_same_arguments_give_the_same_bytes_and_others_leave_a_clip_alone(machines, tmp_path):
    first = write_synthetic_mimii(tmp_path / "a", **SMALL)
    again = write_synthetic_mimii(tmp_path / "b", **SMALL)
    for name, path in first.items():
        assert path.read_bytes() == again[name].read_bytes()
        whole = machines[name.split("_")[-1]]
        few = contents(path)
        assert len(few) == 5 and all(whole[member] == data for member, data in few.items())


def test_seed_changes_every_clip(machines, tmp_path):
    archives = write_synthetic_mimii(tmp_path, **SMALL | {"seed": 4, "machine_types": ["fan"]})
    for name, data in contents(archives["mimii_6_dB_fan"]).items():
        assert data != machines["fan"][name]


def test_only_the_noise_differs_between_snrs(tmp_path):
    settings = SMALL | {"machine_types": ["slider"], "snrs_db": [-6, 0, 6], "normal_per_id": 1}
    paths = write_synthetic_mimii(tmp_path, **settings).values()
    hard, even, easy = (
        samples_of(contents(path)["slider/id_04/normal/00000000.wav"]) for path in paths
    )
    step = 10 ** (6 / 20)
    # noise at SNR 0 is n: at -6 it is step * n, at +6 n / step
    noise = (hard - even) / (step - 1)
    assert np.abs((even - easy) / (1 - 1 / step) - noise).max() < 5e-4  # 16 bit
    machine = even - noise
    snr_db = 10 * np.log10(np.mean(machine**2) / np.mean(noise**2))
    assert snr_db == pytest.approx(0, abs=0.1)


def features(clips: list[bytes]) -> np.ndarray:
    """Mean and spread over time of each mel band's level (dB), of the mean of all channels: (n_clips, 128)."""
    mono = np.array([samples_of(data).mean(axis=1) for data in clips], np.float32)
    spectrograms_db = log_mel_db(mono, FRONT_END, device="cpu")  # (n_clips, n_frames, n_mels)
    return np.concatenate([spectrograms_db.mean(axis=1), spectrograms_db.std(axis=1)], axis=1)


def roc_auc(normal: np.ndarray, abnormal: np.ndarray) -> float:
    return float(np.mean(abnormal[:, None] > normal[None]))


def clips_of(members: dict[str, bytes], machine: str, kind: str) -> list[bytes]:
    return [data for name, data in members.items() if f"/{machine}/{kind}/" in name]


@pytest.mark.parametrize("machine_type", MIMII_TYPES)
def test_faults_can_be_learnt_and_are_not_just_louder(machines, machine_type):
    normal, abnormal = (
        clips_of(machines[machine_type], "id_04", kind) for kind in ("normal", "abnormal")
    )
    train, held_out, broken = map(features, (normal[:10], normal[10:], abnormal))
    to_nearest = [
        np.linalg.norm(clips[:, None] - train[None], axis=2).min(axis=1)
        for clips in (held_out, broken)
    ]
    assert roc_auc(*to_nearest) > 0.7
    levels = [np.array([samples_of(d).std() for d in clips]) for clips in (normal, abnormal)]
    assert 0.2 < roc_auc(*levels) < 0.8


def test_types_and_ids_differ(machines, tmp_path):
    other_id = write_synthetic_mimii(tmp_path, **SMALL | {"machine_types": ["fan"], "ids": [0]})
    clips = [clips_of(members, "id_04", "normal")[:3] for members in machines.values()]
    clips.append(clips_of(contents(other_id["mimii_6_dB_fan"]), "id_00", "normal"))
    means = [features(of_one_machine).mean(axis=0) for of_one_machine in clips]
    for one, other in itertools.combinations(means, 2):
        assert np.linalg.norm(one - other) > 8  # dB, over 128 features


def test_table_names_the_archives_for_the_download_stage(tmp_path):
    archives = write_synthetic_mimii(tmp_path, **SMALL | {"machine_types": ["valve"]})
    write_archive_table(tmp_path / "datasets.tsv", archives)
    row = read_table(tmp_path / "datasets.tsv")["mimii_6_dB_valve"]
    limits = dict(attempts=1, backoff_s=0.0, timeout_s=1.0)
    record = fetch(row, downloads=tmp_path / "downloads", mirror=tmp_path, **limits)
    assert record.checksum == row.checksum and record.bytes == row.bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machine_types": ["fam"]}, "machine_types: .*fan, pump, slider, valve.*'fam'"),
        ({"machine_types": ["fan", "fan"]}, "machine_types: expected different"),
        ({"snrs_db": []}, "snrs_db: expected"),
        ({"snrs_db": [0.5]}, "snrs_db: .*whole dB"),
        ({"ids": [100]}, "ids: .*ids from 0 to 99"),
        ({"abnormal_per_id": 0}, "abnormal_per_id=0"),
        ({"clip_s": 0.5}, "clip_s=0.5"),
    ],
)
def test_wrong_arguments_are_errors(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_synthetic_mimii(tmp_path / "new", **SETTINGS | changes)
    assert not (tmp_path / "new").exists()
