"""Files that a later stage reads: no bit of them goes wrong in silence, and no other file is taken for one."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sealed_files import KINDS, anomaly_detector, outcomes

from vision_to_sound.archive_record import ArchiveError, ArchiveRecord
from vision_to_sound.embeddings import EmbeddingCache
from vision_to_sound.files import (
    load_arrays,
    open_array,
    read_table,
    save_arrays,
    write_table,
)
from vision_to_sound.metrics_table import Draws
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.embedding import EmbeddedClip
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.seals import (
    OtherFileError,
    read_json,
    read_sealed,
    replacing_sealed,
    write_json,
)


@pytest.mark.parametrize("kind", list(KINDS))
def test_no_flipped_bit_goes_by_in_silence(kind, tmp_path):
    file = KINDS[kind](tmp_path)
    n_bytes = file.path.stat().st_size
    bits = range(0, 8 * n_bytes, 1 if n_bytes < 150 else 41)  # all bits of the small ones
    found = outcomes(file, bits)
    assert found["silent"] == 0 and found["error"] > len(bits) / 4, found


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("length", [0, 1, 9, -40, -1])
def test_a_file_that_was_cut_off_is_an_error_that_names_it(kind, length, tmp_path):
    file = KINDS[kind](tmp_path)
    file.path.write_bytes(file.path.read_bytes()[:length])
    if file.made_again:
        assert file.read() is None
        return
    with pytest.raises((ValueError, ArchiveError), match="metrics|" + file.path.name):
        file.read()


def test_what_a_reader_says_is_cut_short(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, {"a": np.zeros(9000)})
    content = bytearray(path.read_bytes())
    content[27] = 0x20  # the member's name has 8 KiB
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz is damaged \(.*; delete it") as caught:
        load_arrays(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_an_array_that_one_bit_takes_off_the_list_is_missed(tmp_path):
    """The length of an entry's comment covers the next entry: zipfile itself finds nothing wrong."""
    path = tmp_path / "a.npz"
    save_arrays(path, {"a": np.zeros(3), "mask_b": np.zeros(3)})
    content = bytearray(path.read_bytes())
    first, second = content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02")
    content[first + 32] = content.index(b"PK\x05\x06") - second
    path.write_bytes(content)
    assert np.load(path).files == ["a"]
    with pytest.raises(
        ValueError, match=r"a\.npz is damaged \(1 of 2 arrays are listed\); delete it"
    ):
        load_arrays(path)


# --- Tables and their checksums


def test_a_table_without_its_checksum_is_refused_and_a_checksum_alone_does_no_harm(tmp_path):
    path, table = tmp_path / "t.tsv", pd.DataFrame({"clip": ["a"]})
    write_table(table, path)
    assert sorted(os.listdir(tmp_path)) == [".t.tsv.crc32", "t.tsv"]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"t\.tsv"):
        read_table(path)
    write_table(pd.DataFrame({"clip": ["b"]}), path)
    assert list(read_table(path)["clip"]) == ["b"]
    (tmp_path / ".t.tsv.crc32").unlink()
    with pytest.raises(
        ValueError, match=r"t\.tsv is damaged \(no checksum .*; delete it, the next"
    ):
        read_table(path)


def test_a_value_that_was_changed_by_hand_is_found(tmp_path):
    path = tmp_path / "t.tsv"
    write_table(pd.DataFrame({"value": [0.75]}), path)
    path.write_text(path.read_text().replace("0.75", "1.75"))
    with pytest.raises(
        ValueError, match=r"t\.tsv is damaged \(checksum\); delete it, the next run"
    ):
        read_table(path)


def test_stopped_anywhere_there_is_a_good_file_or_none(tmp_path, monkeypatch):
    """Killed before any of the calls that change the folder: what can be read is old or new, and whole."""

    class Killed(BaseException):
        pass

    def killed_at(n: int) -> None:
        calls = iter(range(100))

        def counted(real):
            def call(*arguments, **options):
                if next(calls) >= n:
                    raise Killed
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for owner, name in ((os, "replace"), (Path, "unlink"), (Path, "write_bytes")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            with replacing_sealed(path) as temporary:
                temporary.write_text("new")

    path, found = tmp_path / "t.tsv", []
    for n in range(20):
        with replacing_sealed(path) as temporary:
            temporary.write_text("old")
        try:
            killed_at(n)
        except Killed:
            pass
        try:
            found.append(read_sealed(path))
        except FileNotFoundError:
            found.append(b"")
    assert set(found) == {b"old", b"", b"new"}
    assert found == sorted(found, key=[b"old", b"", b"new"].index)


# --- JSON


@pytest.mark.parametrize("content", [{"b": [1, 0.1], "a": "\u00e9\ud800"}, [], "text", None, {}])
def test_json_comes_back_as_it_was(content, tmp_path):
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json", expected="x") == content
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a"}', "RIFF", '"text"', "{]"])
def test_other_json_is_not_called_damaged(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(OtherFileError, match=r"a\.json: expected a list of pumps, got a"):
        read_json(tmp_path / "a.json", expected="a list of pumps")


# --- Loaders: other people's files

LOADERS = {
    "a detector saved by": AnomalyDetector.load,
    "an embedded clip": EmbeddedClip.load,
    "anomaly scores": AnomalyScores.load,
    "ground truth": Truth.load,
    "bootstrap draws": Draws.load,
    "arrays of the workflow": load_arrays,
    "an array of the workflow": open_array,
    "the record of an archive": ArchiveRecord.load,
    "the description of an": lambda path: EmbeddingCache(path, path),
    "what a Mean": lambda path: _mean().load(path),
    "extracted weights of": lambda path: _load_encoder(path),
}
READ_NPZ = [name for name in LOADERS if LOADERS[name] not in (open_array, ArchiveRecord.load)]
READ_NPZ = [name for name in READ_NPZ if "description" not in name and "weights" not in name]
TYPED = [name for name in READ_NPZ if LOADERS[name] is not load_arrays]


def _mean():
    from sealed_files import Mean

    return Mean()


def _load_encoder(path):
    from vision_to_sound.encoders import ENCODERS
    from vision_to_sound.encoders.weights import load_encoder

    return load_encoder(ENCODERS["aisfx"], path)


def refused(path: Path, loader: str) -> str:
    with pytest.raises((ValueError, ArchiveError)) as caught:
        LOADERS[loader](path)
    text = str(caught.value)
    assert path.name in text and "delete" not in text
    return text


@pytest.mark.parametrize("loader", list(LOADERS))
@pytest.mark.parametrize(
    "content",
    [b"RIFF\x24\x08\x00\x00WAVEfmt ", b"", b"#!/bin/sh\n", b"fLaC\x00", b"\x80\x02}q\x00."],
)
def test_somebodys_own_file_is_not_called_damaged(loader, content, tmp_path):
    path = tmp_path / "pump_3.wav"
    path.write_bytes(content)
    assert f"expected {loader}" in refused(path, loader)
    assert path.read_bytes() == content


@pytest.mark.parametrize("loader", list(LOADERS))
def test_a_folder_and_a_file_that_is_not_there(loader, tmp_path):
    assert "got a folder" in refused(tmp_path, loader)
    with pytest.raises(FileNotFoundError, match="nothing"):
        LOADERS[loader](tmp_path / "nothing.npz")


@pytest.mark.parametrize("loader", READ_NPZ)
def test_an_npz_that_inflates_is_refused_before_it_does(loader, tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, words=np.zeros(1 << 16), clips=np.zeros(1 << 16))
    assert "compressed" in refused(path, loader)


@pytest.mark.parametrize("loader", READ_NPZ)
def test_members_that_declare_more_than_the_file_has_are_refused(loader, tmp_path):
    path = tmp_path / "large.npz"
    save_arrays(path, {"words": np.zeros(300)})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = 2 * (1 << 30).to_bytes(4, "little")  # both sizes
    path.write_bytes(content)
    assert "larger" in refused(path, loader)


@pytest.mark.parametrize("loader", TYPED)
def test_other_arrays_are_refused_by_name(loader, tmp_path):
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    assert "other" in refused(tmp_path / "other.npz", loader)


def with_header(path: Path, header: str, n_bytes: int = 64) -> None:
    """An .npz with a right checksum whose array has this header."""
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", start + bytes(n_bytes))


HEADER = "{{'descr': {}, 'fortran_order': {}, 'shape': {}}}"


@pytest.mark.parametrize(
    "header",
    [
        HEADER.format("'<f8'", False, (1 << 60,)),  # 8 EiB
        HEADER.format("'<f8'", False, (9,)),
        HEADER.format("'<f8'", False, (7,)),
        HEADER.format("'<f8'", False, (-8,)),
        HEADER.format("'<f8'", False, (1 << 62, 0)),
        HEADER.format("'<U0'", False, (1 << 40,)),
        HEADER.format("'<f8'", 1, (8,)),
        HEADER.format("'<q99'", False, (8,)),
        HEADER.format("'<f8'", False, (8,))[:-3],  # ends within a bracket
        "(" * 900,
        "-" * 60_000 + "1",
        "",
        "{1: 2}",
        "\x00",
    ],
)
def test_impossible_headers_are_errors_that_name_the_file(header, tmp_path):
    with_header(tmp_path / "a.npz", header)
    with pytest.raises(ValueError, match=r"a\.npz is damaged"):
        load_arrays(tmp_path / "a.npz")
    path = tmp_path / "b.npy"
    path.write_bytes(zipfile.ZipFile(tmp_path / "a.npz").read("a.npy"))
    with pytest.raises(ValueError, match=r"b\.npy is damaged"):
        open_array(path)


def test_a_right_header_is_read(tmp_path):
    with_header(tmp_path / "a.npz", HEADER.format("'<f8'", False, (2, 4)))
    np.testing.assert_array_equal(load_arrays(tmp_path / "a.npz")["a"], np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("words", np.array("no json")),
        ("words", np.array("[1, 2]")),
        ("words", np.array("[" * 100_000)),
        ("words", np.array("{}")),
        ("method", "another"),
        ("method", 7),
        ("settings", {"no_such_setting": 1}),
        ("settings", 3),
        ("encoder", "another"),
        ("format", "vision_to_sound detector 0"),
        ("surplus", 1),
        ("about", None),  # missing
        ("learned_other", np.ones(2)),
    ],
)
def test_detectors_that_this_version_cannot_read_are_named(name, values, tmp_path):
    import json

    path = tmp_path / "pump_3.npz"
    anomaly_detector(path)
    arrays = load_arrays(path)
    if isinstance(values, np.ndarray):
        arrays[name] = values
    else:
        words = json.loads(str(arrays["words"])) | {name: values}
        if values is None:
            del words[name]
        arrays["words"] = np.array(json.dumps(words))
    save_arrays(path, arrays)
    refused(path, "a detector saved by")


def test_a_damaged_detector_is_fitted_again_not_deleted(tmp_path):
    path = tmp_path / "pump_3.npz"
    anomaly_detector(path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "pump_3.npz is damaged" in refused(path, "a detector saved by")
    with pytest.raises(TypeError, match="takes weights, gpu, threads and memory_mb, got colour"):
        AnomalyDetector.load(path, colour="red")
