"""Checkpoints, good and bad."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from encoder_helpers import (
    AISFX,
    CLAP,
    PANNS,
    full_state,
    msclap_taps,
    relative_error,
    some_spectrograms,
)

from vision_to_sound.encoders.conv_blocks import ConvBlockEncoder
from vision_to_sound.encoders.weights import (
    WeightsError,
    extract_audio_weights,
    load_encoder,
    random_weights,
    write_random_weights,
)


def test_extraction_keeps_the_audio_part_only_and_the_same_bytes(clap_checkpoint, tmp_path):
    digests = set()
    for name in ("first", "second"):
        extract_audio_weights(clap_checkpoint, CLAP, out=tmp_path / name, source_checksum="md5:1")
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    n_values = sum(p.numel() for p in ConvBlockEncoder(CLAP).parameters())
    assert (tmp_path / "first").stat().st_size < 4 * n_values + 50_000
    assert b"md5:1" in (tmp_path / "first").read_bytes()[:20_000]


def test_an_open_file_will_do(clap_checkpoint, tmp_path):
    with clap_checkpoint.open("rb") as file:
        extract_audio_weights(file, CLAP, out=tmp_path / "from_file", source_checksum="md5:1")
    extract_audio_weights(clap_checkpoint, CLAP, out=tmp_path / "path", source_checksum="md5:1")
    assert (tmp_path / "from_file").read_bytes() == (tmp_path / "path").read_bytes()


@pytest.mark.parametrize("with_counters", [True, False])
def test_panns_checkpoint_in_the_old_file_format(msclap_cnn14, tmp_path, with_counters):
    state = full_state(msclap_cnn14, prefix="")
    if not with_counters:
        state = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    torch.save(
        {"iteration": 600_000, "model": state},
        tmp_path / "Cnn14.pth",
        _use_new_zipfile_serialization=False,
    )
    assert not zipfile.is_zipfile(tmp_path / "Cnn14.pth")
    extract_audio_weights(
        tmp_path / "Cnn14.pth", PANNS, out=tmp_path / "w", source_checksum="md5:2"
    )
    encoder = load_encoder(PANNS, tmp_path / "w")
    log_mels = torch.from_numpy(some_spectrograms(PANNS, 1, 33))
    assert not encoder.training
    with torch.inference_mode():
        ours, theirs = encoder(log_mels), msclap_taps(msclap_cnn14, log_mels)
    for got, expected in zip(ours, theirs, strict=True):
        assert relative_error(got, expected) < 1e-5


def changed_clap(path: Path, change) -> io.BytesIO:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(0)
    return buffer


def _rename_prefix(checkpoint):
    model = checkpoint["model"]
    for key in [key for key in model if key.startswith("audio_encoder.base.")]:
        model[key.replace("audio_encoder.base.", "audio_branch.")] = model.pop(key)


def _without_top_key(checkpoint):
    checkpoint["state_dict"] = checkpoint.pop("model")


def _without_a_block(checkpoint):
    for key in [key for key in checkpoint["model"] if "conv_block3" in key]:
        del checkpoint["model"][key]


def _with_another_shape(checkpoint):
    key = "audio_encoder.base.conv_block2.conv1.weight"
    checkpoint["model"][key] = torch.zeros(128, 64, 5, 5)


def _with_a_third_convolution(checkpoint):
    key = "audio_encoder.base.conv_block1.conv3.weight"
    checkpoint["model"][key] = torch.zeros(64, 64, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename_prefix, "Expected keys such as 'audio_encoder.base.*audio_enc.*more"),
        (_without_top_key, "under 'model', got keys epoch, state_dict"),
        (_without_a_block, r"10 keys missing: conv_block3\.\S+, .*\(5 more\)"),
        (
            _with_another_shape,
            r"conv_block2.conv1.weight expected \(128, 64, 3, 3\) got \(128, 64, 5, 5\)",
        ),
        (_with_a_third_convolution, "1 keys unexpected: conv_block1.conv3.weight"),
    ],
)
def test_a_wrong_checkpoint_says_which_keys(clap_checkpoint, tmp_path, change, message):
    source = changed_clap(clap_checkpoint, change)
    with pytest.raises(WeightsError, match=message) as caught:
        extract_audio_weights(source, CLAP, out=tmp_path / "w", source_checksum="")
    assert "'clap2022_cnn14'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_encoders_weights_are_refused(clap_checkpoint, tmp_path):
    with pytest.raises(WeightsError, match="'panns_cnn14'.*Expected keys such as 'bn0"):
        extract_audio_weights(clap_checkpoint, PANNS, out=tmp_path / "w", source_checksum="")
    extract_audio_weights(clap_checkpoint, CLAP, out=tmp_path / "w", source_checksum="")
    with pytest.raises(WeightsError, match="weights of encoder 'panns_cnn14' .*, got.*'clap2022"):
        load_encoder(PANNS, tmp_path / "w")
    deeper = dataclasses.replace(CLAP.blocks[-1], name="block5")
    longer = dataclasses.replace(
        CLAP, blocks=(*CLAP.blocks, deeper), tap_names=(*CLAP.tap_names, "block5")
    )
    with pytest.raises(WeightsError, match="10 keys missing: conv_block5"):
        load_encoder(longer, tmp_path / "w")
    (tmp_path / "junk").write_bytes(b"junk" * 10)
    with pytest.raises(
        WeightsError, match="junk: expected extracted weights of encoder .*, got a file that starts"
    ):
        load_encoder(CLAP, tmp_path / "junk")


class RunsCode:
    """Unpickling it makes a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __reduce__(self):
        return (os.mkdir, (str(self.directory),))


@pytest.mark.parametrize("kind", ["checkpoint", "bare pickle", "wheel"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, kind):
    trap = RunsCode(tmp_path / "ran")
    spec, source = CLAP, tmp_path / "weights.pth"
    if kind == "checkpoint":
        torch.save({"model": trap}, source)
    elif kind == "bare pickle":
        source.write_bytes(pickle.dumps({"model": trap}, protocol=2))
    else:
        spec, source = AISFX, tmp_path / "aisfx.whl"
        buffer = io.BytesIO()
        torch.save((trap, {}), buffer)
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr(AISFX.weights_member, buffer.getvalue())
    with pytest.raises(WeightsError, match=f"refused.*{spec.name}") as caught:
        extract_audio_weights(source, spec, out=tmp_path / "w", source_checksum="")
    assert str(source) in str(caught.value) and "it asks for " in str(caught.value)
    assert "weights_only" not in str(caught.value)  # no advice to read it anyway
    assert not (tmp_path / "ran").exists()
    # the trap is a real one
    pickle.loads(pickle.dumps(trap))
    assert (tmp_path / "ran").exists()


def test_no_setting_of_the_machine_lets_code_run(tmp_path, monkeypatch):
    """torch has a variable that takes its own default back; what is asked for by name stays."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"model": RunsCode(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="refused"):
        extract_audio_weights(
            tmp_path / "weights.pth", CLAP, out=tmp_path / "w", source_checksum=""
        )
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_would_fill_the_memory_is_refused(tmp_path):
    source = tmp_path / "aisfx.whl"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(AISFX.weights_member, bytes(4 << 20))
    with pytest.raises(WeightsError, match=r"aisfx.whl.*refused.* bytes that would become 4194304"):
        extract_audio_weights(source, AISFX, out=tmp_path / "w", source_checksum="")


def test_files_that_are_no_checkpoints(tmp_path):
    for name, content in (("empty", b""), ("page", b"<html>404</html>"), ("cut", b"PK\x03\x04")):
        path = tmp_path / name
        path.write_bytes(content)
        for spec in (CLAP, AISFX):
            with pytest.raises(WeightsError, match=f"{name}.*{spec.name}"):
                extract_audio_weights(path, spec, out=tmp_path / "w", source_checksum="")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(WeightsError, match="must hold 'aisfx/models/checkpoint.pth'"):
        extract_audio_weights(tmp_path / "other.whl", AISFX, out=tmp_path / "w", source_checksum="")
    with pytest.raises(FileNotFoundError):
        extract_audio_weights(tmp_path / "none", CLAP, out=tmp_path / "w", source_checksum="")


def test_random_weights_depend_on_the_seed_alone():
    first, again, other = (random_weights(PANNS, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    key = "conv_block4.conv2.weight"
    assert not torch.equal(first[key], other[key])


def test_random_weights_leave_torchs_own_generator_alone():
    before = torch.get_rng_state()
    random_weights(AISFX, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_wrong_byte_of_the_weights_is_found(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_random_weights(AISFX, seed=7, out=path)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="weights.safetensors is damaged .* the next run makes"):
        load_encoder(AISFX, path)


def test_written_random_weights_are_loaded_with_a_warning(clap_checkpoint, tmp_path, caplog):
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        write_random_weights(AISFX, seed=seed, out=tmp_path / name)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("first", "again", "other"))
    assert first == again != other
    assert b"random, seed 7" in first[:20_000]
    with caplog.at_level(logging.WARNING):
        loaded = load_encoder(AISFX, tmp_path / "first").state_dict()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "UNTRAINED" in caplog.text and "random, seed 7" in caplog.text and "aisfx" in caplog.text
    expected = random_weights(AISFX, seed=7).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)

    caplog.clear()
    extract_audio_weights(clap_checkpoint, CLAP, out=tmp_path / "clap", source_checksum="md5:1")
    load_encoder(CLAP, tmp_path / "clap")
    assert caplog.records == []
