"""The network against the published ones' own code."""

from __future__ import annotations

import dataclasses
import io
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_helpers import (
    AISFX,
    CLAP,
    msclap_taps,
    relative_error,
    some_spectrograms,
)

from vision_to_sound.encoders.conv_blocks import ConvBlockEncoder
from vision_to_sound.encoders.embed import embed
from vision_to_sound.encoders.weights import (
    extract_audio_weights,
    load_encoder,
    random_weights,
)
from vision_to_sound.spectrogram import log_mel_db


@pytest.mark.parametrize("n_frames", [552, 1379, 203])
def test_cnn14_equals_msclaps_at_every_tap(msclap_cnn14, clap_checkpoint, tmp_path, n_frames):
    extract_audio_weights(clap_checkpoint, CLAP, out=tmp_path / "w", source_checksum="sha256:0")
    encoder = load_encoder(CLAP, tmp_path / "w")
    log_mels = torch.from_numpy(some_spectrograms(CLAP, 2, n_frames))
    with torch.inference_mode():
        ours, theirs = encoder(log_mels), msclap_taps(msclap_cnn14, log_mels)
    assert len(ours) == len(theirs) == 3
    for got, expected in zip(ours, theirs, strict=True):
        assert relative_error(got, expected) < 1e-5
        assert float((got - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_cnn14_equals_msclaps_from_the_waveform_on(msclap_cnn14, clap_checkpoint, tmp_path):
    extract_audio_weights(clap_checkpoint, CLAP, out=tmp_path / "w", source_checksum="sha256:0")
    encoder = load_encoder(CLAP, tmp_path / "w")
    waveforms = np.random.default_rng(0).normal(0, 0.05, (1, 44_100)).astype(np.float32)
    deepest = []
    hook = msclap_cnn14.conv_block4.register_forward_hook(lambda *call: deepest.append(call[2]))
    with torch.inference_mode():
        msclap_cnn14(torch.from_numpy(waveforms))
        ours = encoder(torch.from_numpy(log_mel_db(waveforms, CLAP.front_end, device="cpu")))
    hook.remove()
    assert relative_error(ours[-1], deepest[0].permute(0, 2, 3, 1)) < 1e-5


def test_nothing_past_the_deepest_tap_exists():
    names = {name.split(".")[0] for name, _ in ConvBlockEncoder(CLAP).named_parameters()}
    assert names == {"bn0", "conv_block1", "conv_block2", "conv_block3", "conv_block4"}
    shallow = dataclasses.replace(AISFX, blocks=AISFX.blocks[:2], tap_names=("block2",))
    names = {name.split(".")[0] for name, _ in ConvBlockEncoder(shallow).named_parameters()}
    assert names == {"conv_block1", "conv_block2"}


def test_the_network_can_be_trained():
    encoder = random_weights(AISFX, seed=0).train()
    taps = encoder(torch.from_numpy(some_spectrograms(AISFX, 2, 16)))
    sum(tap.mean() for tap in taps).backward()
    gradient = encoder.conv_block1.conv1.weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0


def test_a_wrong_number_of_mel_bands():
    with pytest.raises(ValueError, match=r"aisfx.*96.*aisfx_44k1.*\(1, 32, 64\)"):
        random_weights(AISFX, seed=0)(torch.zeros(1, 32, 64))


def load_from_wheel(wheel: Path, member: str) -> types.ModuleType:
    """One module of the wheel, without its package's __init__."""
    module = types.ModuleType(Path(member).stem)
    with zipfile.ZipFile(wheel) as archive:
        exec(compile(archive.read(member), member, "exec"), module.__dict__)
    return module


@pytest.mark.network
def test_aisfx_equals_its_package_from_the_wav_file_on(aisfx_wheel, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    time_s = np.arange(int(2.3 * 44_100)) / 44_100
    waveform = np.sin(2 * np.pi * 440 * time_s) * np.exp(-2 * time_s)
    waveform = (0.5 * waveform + rng.normal(0, 0.01, len(time_s))).astype(np.float32)
    waveform /= np.abs(waveform).max()  # its librosa variant does so by itself
    soundfile.write(tmp_path / "clip.wav", waveform, 44_100, subtype="FLOAT")

    front = load_from_wheel(aisfx_wheel, "aisfx/spectrogram/spectrogram_librosa.py")
    their_input = front.compute_spectrogram(
        tmp_path / "clip.wav", 44_100, 2048, 1024, n_mels=96, f_min=0.0, f_max=22_050.0
    )
    # (96, n_frames); its own normalisation divides by the largest value met in training
    preprocessing = load_from_wheel(aisfx_wheel, "aisfx/preprocessing.py")
    their_input = torch.tensor(preprocessing.spectrogram_normalize(their_input.T)[None])
    network_module = load_from_wheel(aisfx_wheel, "aisfx/models/cnn2d.py")
    theirs = network_module.EmbeddingNet("max", 3, 1, 64).eval()

    extract_audio_weights(aisfx_wheel, AISFX, out=tmp_path / "w", source_checksum="sha256:0")
    encoder = load_encoder(AISFX, tmp_path / "w")
    # from the archive to their network past our loader
    with zipfile.ZipFile(aisfx_wheel) as archive:
        checkpoint = io.BytesIO(archive.read("aisfx/models/checkpoint.pth"))
    allowed = [np.dtype, np.dtypes.Int64DType, np.core.multiarray.scalar]
    with torch.serialization.safe_globals(allowed):
        state, _ = torch.load(checkpoint, weights_only=True)
    prefix = "embedding_net."
    theirs.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if prefix in k})

    log_mels = log_mel_db(waveform[None], AISFX.front_end, device="cpu")
    outputs = []
    for block in (theirs.conv_block2, theirs.conv_block3, theirs.conv_block4):
        block.register_forward_hook(lambda *call: outputs.append(call[2]))
    with torch.inference_mode():
        theirs(their_input.float())
        ours = encoder(torch.from_numpy(log_mels))
    assert len(ours) == len(outputs) == 3
    for got, expected in zip(ours, outputs, strict=True):
        assert relative_error(got, expected.permute(0, 2, 3, 1)) < 1e-5

    options = {"device": "cpu", "batch_size": 1, "precision": "bfloat16"}
    (fast,) = embed(encoder, log_mels, **options)
    for got, expected in zip(fast, ours, strict=True):
        assert relative_error(got, expected) < 0.01
