"""Indexes and extraction on small archives in the layouts of the real ones."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

from vision_to_sound.archive_record import ArchiveRecord, file_checksum
from vision_to_sound.archives import Archive, open_archive
from vision_to_sound.audio import BadClipError
from vision_to_sound.datasets import (
    INDEX_COLUMNS,
    index_dataset,
    index_esc50,
    index_mimii,
    index_urbansound8k,
    rows_of_category,
)
from vision_to_sound.extraction import extract_backgrounds, extract_events

RATE = 8000
HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"


def wav(samples, rate=RATE, subtype="PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype=subtype, format="WAV")
    return buffer.getvalue()


def noise(seconds, channels=1, rate=RATE, seed=0):
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    return samples.squeeze()


def urbansound8k(path, clips, csv_lines=None) -> Archive:
    """clips: {name: bytes}; the csv comes last, as in the real archive, with reversed rows."""
    lines = csv_lines or [f"{n},{n.split('-')[0]},0.5,4.5,1,1,8,siren" for n in reversed(clips)]
    files = {f"UrbanSound8K/audio/fold1/{name}": data for name, data in clips.items()}
    files["UrbanSound8K/metadata/UrbanSound8K.csv"] = "\n".join([HEADER, *lines]).encode()
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return Archive(path, max_member_bytes=1 << 24)


def extract(archive, on_bad_clip="stop"):
    rows = rows_of_category(index_urbansound8k(archive), "siren", min_duration_s=4.0)
    return extract_backgrounds(
        archive,
        rows,
        sample_rate_hz=RATE,
        clip_s=4.0,
        max_missing_s=0.1,
        on_bad_clip=on_bad_clip,
        advance=lambda n: None,
    )


def test_index_and_extraction_of_urbansound8k(tmp_path):
    clips = {
        "1-8-0-0.wav": wav(noise(4.2)),
        "1-8-0-1.wav": wav(noise(4.0, channels=2), subtype="PCM_24"),
        "2-8-0-0.wav": wav(noise(4.0, rate=22050), 22050),
        "3-8-0-0.wav": wav(noise(3.95), subtype="FLOAT"),
    }
    archive = urbansound8k(tmp_path / "u.tar.gz", clips)
    index = index_urbansound8k(archive)
    assert list(index["clip"]) == sorted(clips) and set(index["recording"]) == {"1", "2", "3"}
    extracted = extract(archive)
    assert extracted.audio.shape == (4, 4 * RATE) and extracted.audio.dtype == np.float32
    assert list(extracted.table["row"]) == [0, 1, 2, 3]
    assert np.abs(extracted.audio[0] - noise(4.2)[: 4 * RATE]).max() < 1e-4
    assert np.abs(extracted.audio[1] - noise(4.0, channels=2).mean(axis=1)).max() < 1e-5
    assert not extracted.audio[3, round(3.95 * RATE) :].any()  # 50 ms short: padded
    assert extracted.skipped.empty


def test_only_clips_that_last_long_enough(tmp_path):
    clips = {f"{i}-8-0-0.wav": wav(noise(4)) for i in (1, 2, 3)}
    lines = [
        "1-8-0-0.wav,1,0.5,4.5,1,1,8,siren",
        "2-8-0-0.wav,2,0,3.999,1,1,8,siren",
        "3-8-0-0.wav,3,0.1,4.1,1,1,8,siren",  # 3.9999999999999996 s: as in the published code
    ]
    index = index_urbansound8k(urbansound8k(tmp_path / "u.tar.gz", clips, lines))
    assert list(rows_of_category(index, "siren", min_duration_s=4.0)["clip"]) == ["1-8-0-0.wav"]
    with pytest.raises(ValueError, match="class 'siren': none of its 3 clips lasts 9"):
        rows_of_category(index, "siren", min_duration_s=9.0)
    with pytest.raises(ValueError, match="did you mean 'siren'"):
        rows_of_category(index, "sirens", min_duration_s=4.0)


BAD = {
    "2-8-0-0.wav": (b"RIFFxxxxWAVEjunk", "not readable"),
    "3-8-0-0.wav": (b"", "0 bytes"),
    "4-8-0-0.wav": (wav(np.full(4 * RATE, np.nan), subtype="FLOAT"), "NaN"),
    "5-8-0-0.wav": (wav(np.zeros(4 * RATE)), "silent"),
    "6-8-0-0.wav": (wav(noise(2.0)), "has 16000 samples where 32000"),
    "8-8-0-0.wav": (wav(np.full(round(3.95 * RATE), 0.3)), "silent"),  # a constant
    "9-8-1-0.wav": (wav(np.full(4 * 11_025, 0.3), 11_025), "silent"),  # resampled it has edges
    "9-8-2-0.wav": (wav(noise(4.0)[:, None] * [1, -1]), "silent"),  # channels that cancel
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_clip_stops_with_its_name_and_the_reason(tmp_path, name):
    data, problem = BAD[name]
    archive = urbansound8k(tmp_path / "u.tar.gz", {"1-8-0-0.wav": wav(noise(4)), name: data})
    with pytest.raises(BadClipError, match=problem) as caught:
        extract(archive)
    assert name in str(caught.value)


def test_one_run_names_all_bad_clips(tmp_path):
    clips = {"1-8-0-0.wav": wav(noise(4))} | {name: data for name, (data, _) in BAD.items()}
    with pytest.raises(BadClipError, match=f"{len(BAD) - 1} more bad clips") as caught:
        extract(urbansound8k(tmp_path / "u.tar.gz", clips))
    for name in BAD:
        assert name in str(caught.value)


def test_bad_clips_can_be_skipped_and_are_listed(tmp_path):
    good = {"1-8-0-0.wav": wav(noise(4)), "9-8-0-0.wav": wav(noise(4, seed=9))}
    clips = good | {name: data for name, (data, _) in BAD.items()}
    lines = [f"{n},{n[0]},0,4,1,1,8,siren" for n in [*clips, "7-8-0-0.wav"]]  # 7 is not there
    extracted = extract(urbansound8k(tmp_path / "u.tar.gz", clips, lines), on_bad_clip="skip")
    assert list(extracted.table["clip"]) == list(good)
    assert np.abs(extracted.audio[extracted.table["row"][1]] - noise(4, seed=9)).max() < 1e-4
    assert len(extracted.skipped) == len(BAD) + 1
    problems = dict(zip(extracted.skipped["clip"], extracted.skipped["problem"], strict=True))
    assert "not in the archive" in problems["UrbanSound8K/audio/fold1/7-8-0-0.wav"]


def test_a_missing_file_stops(tmp_path):
    lines = ["1-8-0-0.wav,1,0,4,1,1,8,siren", "2-8-0-0.wav,2,0,4,1,1,8,siren"]
    archive = urbansound8k(tmp_path / "u.tar.gz", {"1-8-0-0.wav": wav(noise(4))}, lines)
    with pytest.raises(BadClipError, match="2-8-0-0.wav: is named by the metadata but"):
        extract(archive)


def test_all_clips_bad_is_an_error_even_when_skipping(tmp_path):
    archive = urbansound8k(tmp_path / "u.tar.gz", {"1-8-0-0.wav": b""})
    with pytest.raises(ValueError, match="all 1 clips were skipped"):
        extract(archive, on_bad_clip="skip")


def test_rows_do_not_depend_on_the_order_of_the_archive(tmp_path):
    clips = {f"{i}-8-0-0.wav": wav(noise(4, seed=i)) for i in range(4)}
    forward = extract(urbansound8k(tmp_path / "a.tar.gz", clips))
    backward = extract(urbansound8k(tmp_path / "b.tar.gz", dict(reversed(clips.items()))))
    assert forward.table.equals(backward.table)
    assert np.array_equal(forward.audio, backward.audio)


def esc50(path, clips, named=None) -> Archive:
    lines = [f"{name},1,0,dog,False,77,A" for name in named or clips]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "ESC-50-0123abc/meta/esc50.csv",
            "\n".join(["filename,fold,target,category,esc10,src_file,take", *lines]),
        )
        for name, data in clips.items():
            file.writestr(f"ESC-50-0123abc/audio/{name}", data)
    return Archive(path, max_member_bytes=1 << 24)


def extract_dog(archive, max_missing_s=0.1):
    return extract_events(
        archive,
        index_esc50(archive),
        sample_rate_hz=RATE,
        clip_s=4.0,
        max_missing_s=max_missing_s,
        on_bad_clip="stop",
        advance=lambda n: None,
    )


def test_an_event_that_broke_off_is_no_short_event(tmp_path):
    whole = wav(noise(1.0))
    archive = esc50(tmp_path / "e.zip", {"1-1-A-0.wav": whole[: -RATE // 2]})
    with pytest.raises(BadClipError) as caught:
        extract_dog(archive)
    for part in ("e.zip: ESC-50-0123abc/audio/1-1-A-0.wav: is cut off", "0.250 s less"):
        assert part in str(caught.value)
    assert list(extract_dog(archive, max_missing_s=0.3).table["length_samples"]) == [3 * RATE // 4]


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_constant_is_no_event(tmp_path, value):
    constant = np.concatenate([np.zeros(50), np.full(RATE, value), np.zeros(50)])
    clips = {"1-1-A-0.wav": wav(noise(1.0)), "1-2-A-0.wav": wav(constant)}
    with pytest.raises(BadClipError, match="1-2-A-0.wav: is silent"):
        extract_dog(esc50(tmp_path / "e.zip", clips))


def test_events_are_trimmed_and_cut(tmp_path):
    padded = np.concatenate([np.zeros(100), noise(0.5), np.zeros(200)])
    inner = np.concatenate([[0.5], np.zeros(50), [0.25], np.zeros(3)])
    clips = {"1-1-A-0.wav": wav(padded), "1-2-A-0.wav": wav(noise(5)), "1-3-A-0.wav": wav(inner)}
    archive = esc50(tmp_path / "e.zip", clips)
    index = index_esc50(archive)
    assert set(index["category"]) == {"dog"} and set(index["recording"]) == {"77"}
    events = extract_dog(archive)
    assert list(events.table["length_samples"]) == [RATE // 2, 4 * RATE, 52]
    assert np.abs(events.audio[0, : RATE // 2] - noise(0.5)).max() < 1e-4
    assert not events.audio[0, RATE // 2 :].any()


def test_esc50_with_a_missing_file_is_refused(tmp_path):
    archive = esc50(tmp_path / "e.zip", {"1-1-A-0.wav": wav(noise(1))}, ["1-1-A-0.wav", "gone.wav"])
    with pytest.raises(ValueError, match="1 files of meta/esc50.csv are not in it.*gone.wav"):
        index_esc50(archive)


def test_an_archive_of_something_else_is_refused(tmp_path):
    archive = esc50(tmp_path / "e.zip", {"1-1-A-0.wav": wav(noise(1))})
    with pytest.raises(ValueError, match="no metadata/UrbanSound8K.csv"):
        index_urbansound8k(archive)


def mimii(path, members) -> Archive:
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, b"")
    return Archive(path, max_member_bytes=1 << 24)


MIMII_MEMBERS = [
    f"fan/{machine}/{kind}/{i:08d}.wav"
    for machine in ("id_02", "id_00")
    for kind in ("abnormal", "normal")
    for i in (1, 0)
]


@pytest.mark.parametrize("top", ["", "0_dB_fan/", "some/where/"])
def test_index_of_mimii(tmp_path, top):
    others = ["readme.txt", "__MACOSX/fan/id_00/normal/._00000000.wav", "fan/id_00/normal.wav"]
    archive = mimii(tmp_path / "m.zip", [*others, *(f"{top}{name}" for name in MIMII_MEMBERS)])
    index = index_mimii(archive)
    assert list(index) == [*INDEX_COLUMNS, "label"] and len(index) == 8
    assert list(index["category"]) == ["fan_id_00"] * 4 + ["fan_id_02"] * 4
    assert list(index["label"]) == [0, 0, 1, 1] * 2
    kinds = ["normal_00000000.wav", "normal_00000001.wav"]
    assert list(index["clip"]) == (kinds + [f"ab{kind}" for kind in kinds]) * 2
    assert index["recording"].equals(index["clip"]) and set(index["duration_s"]) == {10.0}
    assert index["member"][2] == f"{top}fan/id_00/abnormal/00000000.wav"


def test_recordings_of_mimii_can_be_left_out(tmp_path):
    archive = mimii(tmp_path / "m.zip", MIMII_MEMBERS)
    bad = "fan_id_02/abnormal_00000000.wav"
    index = index_mimii(archive, exclude=[bad, "pump_id_02/normal_00000000.wav"])  # no pump here
    whole = index_mimii(archive)
    left_out = whole[~whole["member"].isin(index["member"])]
    assert list(left_out["category"] + "/" + left_out["clip"]) == [bad]
    for entry, message in (
        (
            "fan_id_02/abnormal_00000009.wav",
            "no fan_id_02/abnormal_00000009.wav in the archive, whose 8 rec.* Take it off",
        ),
        ("fam_id_02/abnormal_00000000.wav", "mimii.exclude: 'fam_id_02.*expected one like"),
        ("fan_id_02/abnormal_00000000", "names no recording"),
    ):
        with pytest.raises(ValueError, match=message):
            index_mimii(archive, exclude=[entry])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["fan/normal/00000000.wav"], "no recording lies under a path like fan/id_00/normal"),
        (["fan/id_00/abnormal/0.wav", "fan/id_02/normal/0.wav"], "fan_id_00 without normal clips"),
        (["fan/id_00/normal/0.wav", "a/fan/id_00/normal/0.wav"], "normal_0.wav is there twice"),
    ],
)
def test_a_wrong_mimii_archive_is_refused(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        index_mimii(mimii(tmp_path / "m.zip", members))


def test_the_name_of_an_archive_says_how_it_is_indexed(tmp_path):
    archive = mimii(tmp_path / "m.zip", MIMII_MEMBERS)
    assert len(index_dataset(archive, source="mimii_-6_dB_fan", exclude=[])) == 8
    left_out = ["fan_id_00/normal_00000000.wav"]
    assert len(index_dataset(archive, source="mimii_0_dB_fan", exclude=left_out)) == 7
    with pytest.raises(ValueError, match="no meta/esc50.csv"):
        index_dataset(archive, source="esc50", exclude=[])


def test_real_archives(shared_data):
    def opened(name):
        path = shared_data / name
        record = ArchiveRecord(
            name=name,
            path=str(path),
            bytes=path.stat().st_size,
            checksum=file_checksum(path, "md5"),
            licence="",
            source="mirror",
            mtime_ns=path.stat().st_mtime_ns,
        )
        return open_archive(record, max_member_bytes=1 << 28)

    with opened("UrbanSound8K.tar.gz") as archive:
        index = index_urbansound8k(archive)
    assert len(index) == 478
    assert len(rows_of_category(index, "siren", min_duration_s=4.0)) == 46
    with opened("ESC-50-master.zip") as archive:
        assert len(index_esc50(archive)) == 88
    with opened("0_dB_fan.zip") as archive:
        index = index_mimii(archive)
    assert set(index["category"]) == {"fan_id_00"} and index["label"].sum() == 8
    assert len(index) == 20 and index["member"][0] == "fan/id_00/normal/00000000.wav"
