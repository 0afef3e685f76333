"""Networks that see the spectrogram as an image, against torchvision and a transformer spelt out."""

from __future__ import annotations

import copy
import dataclasses
import socket
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from encoder_helpers import DEIT, WIDE, randomise, relative_error, some_spectrograms
from torch import nn
from torch.nn import functional as F

from vision_to_sound import torch_setup  # noqa: F401  (before timm and torchvision)
from vision_to_sound.encoders import EncoderSpec, tap_shapes
from vision_to_sound.encoders.build import build_encoder
from vision_to_sound.encoders.embed import batch_size_for, bytes_per_clip, embed
from vision_to_sound.encoders.weights import (
    WeightsError,
    extract_audio_weights,
    load_encoder,
    random_weights,
)

# isort: split
import timm
import torchvision

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels
BOTH = pytest.mark.parametrize("encoder", ["wide", "deit"], indirect=True)


def image_of(log_mel_db: np.ndarray) -> torch.Tensor:
    """(n, n_frames, n_mels) -> (n, 3, n_frames, n_mels): -80 dB is black, 20 dB is white."""
    grey = (log_mel_db + 80.0) / 100.0
    colours = [(grey - mean) / spread for mean, spread in zip(MEAN, SPREAD, strict=True)]
    return torch.from_numpy(np.stack(colours, axis=1).astype(np.float32))


def empty(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names and shapes, as zeros that take no room in memory."""
    return {
        key: torch.zeros((), dtype=v.dtype, device="cpu").expand(v.shape)
        for key, v in state.items()
    }


def state_on_meta(create, **options) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return empty(create(**options).state_dict())


@pytest.fixture(scope="module")
def torchvision_network() -> nn.Module:
    """torchvision's own network up to layer3, all weights at random (in steps of float16)."""
    with torch.device("meta"):
        network = torchvision.models.wide_resnet50_2()
    used = nn.ModuleDict(
        {n: getattr(network, n) for n in ("conv1", "bn1", "layer1", "layer2", "layer3")}
    ).to_empty(device="cpu")
    randomise(used, seed=1)
    for tensor in used.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
        else:
            tensor.zero_()
    return network.eval()


@pytest.fixture(scope="module")
def wide_checkpoint(torchvision_network, tmp_path_factory) -> Path:
    """As published: parameters in float16, the bare state dict, in the old file format."""
    state = torchvision_network.state_dict()
    past = {k: v for k, v in state.items() if k.startswith(("layer4", "fc"))}
    state = {
        k: nn.Parameter(v.half()) if v.is_floating_point() else v
        for k, v in {**state, **empty(past)}.items()
    }
    path = tmp_path_factory.mktemp("wide") / "wide_resnet50_2-95faca4d.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def deit_state() -> dict[str, torch.Tensor]:
    """Names and shapes of the published network, weights at random."""
    generator = torch.Generator().manual_seed(2)
    state = state_on_meta(timm.create_model, model_name="deit_small_patch16_224")
    past = ("blocks.9.", "blocks.10.", "blocks.11.", "norm.", "head.")
    for key, values in state.items():
        if not key.startswith(past):
            state[key] = torch.randn(values.shape, generator=generator) * 0.04
            state[key] += float("norm" in key and key.endswith("weight"))
    return state


@pytest.fixture(scope="module")
def deit_checkpoint(deit_state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("deit") / "deit_small_patch16_224-cd65a155.pth"
    torch.save({"model": deit_state}, path)
    return path


@pytest.fixture(scope="module")
def wide(wide_checkpoint, tmp_path_factory) -> nn.Module:
    path = tmp_path_factory.mktemp("wide") / "w"
    extract_audio_weights(wide_checkpoint, WIDE, out=path, source_checksum="sha256:1")
    return load_encoder(WIDE, path)


@pytest.fixture(scope="module")
def deit(deit_checkpoint, tmp_path_factory) -> nn.Module:
    path = tmp_path_factory.mktemp("deit") / "w"
    extract_audio_weights(deit_checkpoint, DEIT, out=path, source_checksum="sha256:1")
    return load_encoder(DEIT, path)


@pytest.fixture
def encoder(request) -> nn.Module:
    return request.getfixturevalue(request.param)


def taps_of(encoder: nn.Module, log_mel_db: np.ndarray) -> list[torch.Tensor]:
    with torch.inference_mode():
        return encoder(torch.from_numpy(log_mel_db))


@pytest.mark.parametrize("n_frames", [100, 61])
def test_wide_resnet_equals_torchvisions_at_every_tap(wide, torchvision_network, n_frames):
    log_mel_db = some_spectrograms(WIDE, 2, n_frames)
    ours, theirs = taps_of(wide, log_mel_db), []
    with torch.inference_mode():
        stem = torchvision_network.conv1(image_of(log_mel_db))
        x = torchvision_network.maxpool(torchvision_network.bn1(stem).relu())
        for layer in ("layer1", "layer2", "layer3"):
            x = getattr(torchvision_network, layer)(x)
            theirs.append(x.permute(0, 2, 3, 1))
    assert [tap.shape[3] for tap in ours] == [256, 512, 1024]
    for got, expected in zip(ours, theirs, strict=True):
        assert relative_error(got, expected) < 1e-5


def transformer_blocks(state: dict[str, torch.Tensor], image: torch.Tensor) -> list[torch.Tensor]:
    """DeiT-S (Touvron 2021), block by block: (n, n_time, n_freq, 384) after each of the first nine."""
    state = {key: values.double() for key, values in state.items()}
    n, _, height, width = image.shape
    n_time, n_freq, width = height // 16, width // 16, 384
    patches = torch.stack(
        [
            image[:, :, 16 * t : 16 * (t + 1), 16 * f : 16 * (f + 1)].flatten(1)
            for t in range(n_time)
            for f in range(n_freq)
        ],
        dim=1,
    ).double()  # (n, n_time * n_freq, 768)
    x = patches @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
    positions = state["pos_embed"][:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    positions = F.interpolate(positions, size=(n_time, n_freq), mode="bicubic", antialias=True)
    x = x + positions.permute(0, 2, 3, 1).flatten(1, 2)
    x = torch.cat([(state["cls_token"] + state["pos_embed"][:, :1]).expand(n, -1, -1), x], dim=1)

    def norm(x, name):
        return F.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    outputs = []
    for i in range(9):
        block = f"blocks.{i}"
        q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=2)
        heads = []
        for h in range(6):
            part = slice(64 * h, 64 * (h + 1))
            weights = (q[..., part] @ k[..., part].transpose(1, 2) / 8.0).softmax(dim=2)
            heads.append(weights @ v[..., part])
        x = x + linear(torch.cat(heads, dim=2), f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + linear(hidden, f"{block}.mlp.fc2")
        outputs.append(x[:, 1:].unflatten(1, (n_time, n_freq)))
    return outputs


@pytest.mark.parametrize("n_frames", [100, 61])
def test_deit_equals_a_transformer_spelt_out(deit, deit_state, n_frames):
    log_mel_db = some_spectrograms(DEIT, 2, n_frames)
    ours = taps_of(deit, log_mel_db)
    theirs = transformer_blocks(deit_state, image_of(log_mel_db))
    assert len(ours) == 3
    for got, expected in zip(ours, (theirs[2], theirs[5], theirs[8]), strict=True):
        assert relative_error(got, expected) < 1e-5
        assert got.min() < 0 < got.max()


@BOTH
def test_nothing_past_the_deepest_tap_is_kept(encoder):
    names = [name for name, _ in encoder.network.named_parameters()]
    past = ("layer4", "fc", "blocks.9", "norm.", "head")
    assert not any(name.startswith(past) for name in names)
    assert any(name.startswith(("layer3.5", "blocks.8")) for name in names)


@BOTH
def test_the_table_tells_what_timm_tells(encoder):
    info = encoder.network.feature_info
    for i, tap in zip(encoder.spec.timm.tap_indices, encoder.spec.taps, strict=True):
        assert info[i]["num_chs"] == tap.channels
        assert info[i]["reduction"] == tap.time_reduction == tap.freq_reduction


@BOTH
@pytest.mark.parametrize("n_mels", [49, 32])
def test_tap_shapes_are_those_of_the_network(encoder, n_mels):
    front_end = dataclasses.replace(encoder.spec.front_end, n_mels=n_mels)
    encoder = copy.copy(encoder)
    encoder.spec, encoder.n_mels = dataclasses.replace(encoder.spec, front_end=front_end), n_mels
    for n_frames in (1, 5, 16, 23, 32, 33):
        if n_frames < encoder.spec.timm.patch_cells:
            continue
        taps = taps_of(encoder, np.zeros((1, n_frames, n_mels), np.float32))
        expected = tap_shapes(encoder.spec, n_frames, n_mels)
        assert [tuple(tap.shape[1:]) for tap in taps] == list(expected), n_frames
        assert all(tap.dtype == torch.float32 for tap in taps)


def test_a_clip_too_short_for_a_patch(deit):
    with pytest.raises(ValueError, match="at least 16 frames x 16 mel bands, got 15 x 128"):
        deit(torch.zeros(1, 15, 128))
    with pytest.raises(ValueError, match=r"128.*image_44k1.*\(1, 32, 64\)"):
        deit(torch.zeros(1, 32, 64))


@pytest.mark.parametrize(("encoder", "seen"), [("wide", 37), ("deit", 32)], indirect=["encoder"])
def test_frames_that_fill_no_patch_are_not_seen(encoder, seen):
    log_mel_db = some_spectrograms(encoder.spec, 1, 37)
    deepest = taps_of(encoder, log_mel_db)[-1]
    for frame in (seen - 1, seen):
        if frame < 37:
            changed = log_mel_db.copy()
            changed[:, frame] += 20.0
            assert torch.equal(taps_of(encoder, changed)[-1], deepest) == (frame >= seen)


@BOTH
def test_a_clip_is_seen_by_itself_and_at_its_own_level(encoder):
    log_mel_db = some_spectrograms(encoder.spec, 3, 48)
    together = taps_of(encoder, log_mel_db)
    log_mel_db[0] += 60.0  # a louder neighbour, beyond white
    for tap, reference in zip(taps_of(encoder, log_mel_db), together, strict=True):
        assert relative_error(tap[1:], reference[1:]) < 1e-6
        assert relative_error(tap[:1], reference[:1]) > 0.01
    louder = taps_of(encoder, log_mel_db[:1] + 5.0)
    assert relative_error(louder[-1], taps_of(encoder, log_mel_db[:1])[-1]) > 1e-3


@pytest.mark.parametrize("spec", [WIDE, DEIT], ids=lambda spec: spec.name)
def test_names_and_shapes_cost_neither_memory_nor_network(spec: EncoderSpec, monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    encoder = build_encoder(spec, device="meta")
    assert {tensor.device.type for tensor in encoder.state_dict().values()} == {"meta"}


def test_initial_weights_come_from_torchs_generator_and_can_be_trained():
    torch.manual_seed(3)
    student = build_encoder(DEIT)
    first = student.network.patch_embed.proj.weight
    assert torch.equal(first, random_weights(DEIT, seed=3).network.patch_embed.proj.weight)
    assert float(first.detach().std()) > 0
    taps = student.train()(torch.from_numpy(some_spectrograms(DEIT, 2, 16)))
    sum(tap.square().mean() for tap in taps).backward()
    assert float(student.network.patch_embed.proj.weight.grad.abs().max()) > 0


def test_wide_resnet_can_be_trained(wide):
    student = copy.deepcopy(wide).train()
    taps = student(torch.from_numpy(some_spectrograms(WIDE, 2, 16)))
    sum(tap.mean() for tap in taps).backward()
    assert float(student.network.conv1.weight.grad.abs().max()) > 0


# --- Weights --------------------------------------------------------------------------------------


def test_extraction_keeps_what_the_taps_need_in_float32(wide_checkpoint, deit_checkpoint, tmp_path):
    for spec, checkpoint, n_values in (
        # parameters, and mean and variance of all channels with batch norm
        (WIDE, wide_checkpoint, 24_862_528 + 2 * (64 + 1792 + 4608 + 13_312)),
        (DEIT, deit_checkpoint, 16_341_504),
    ):
        extract_audio_weights(checkpoint, spec, out=tmp_path / "w", source_checksum="sha256:1")
        state = safetensors.torch.load_file(tmp_path / "w")
        assert {values.dtype for values in state.values()} == {torch.float32}
        assert sum(values.numel() for values in state.values()) == n_values
        published = torch.load(checkpoint, weights_only=True)
        assert state.keys() < published.get("model", published).keys()


def deit_checkpoint_of(name: str) -> dict:
    return {"model": state_on_meta(timm.create_model, model_name=name)}


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        # a deeper relative: all keys that are needed, in the right shapes, and more
        (
            WIDE,
            lambda: state_on_meta(torchvision.models.wide_resnet101_2),
            "keys unexpected: layer3.6",
        ),
        (WIDE, lambda: state_on_meta(torchvision.models.resnet50), "shapes differ: layer1.0"),
        (WIDE, lambda: {"model": {}}, "keys missing: conv1.weight"),
        (
            DEIT,
            lambda: deit_checkpoint_of("deit_small_patch16_224")["model"],
            "under 'model', got keys cls_token",
        ),
        (DEIT, lambda: deit_checkpoint_of("deit_tiny_patch16_224"), "shapes differ: cls_token"),
        (
            DEIT,
            lambda: deit_checkpoint_of("deit_small_distilled_patch16_224"),
            "keys unexpected: dist_token",
        ),
    ],
)
def test_other_networks_are_refused(tmp_path, spec, make, message):
    torch.save(make(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        extract_audio_weights(tmp_path / "other.pth", spec, out=tmp_path / "w", source_checksum="")
    assert f"'{spec.name}'" in str(caught.value)
    assert not (tmp_path / "w").exists()


# --- Many clips -----------------------------------------------------------------------------------


@BOTH
def test_batch_size_and_precision(encoder):
    spectrograms_db = some_spectrograms(encoder.spec, 3, 48)
    exact = [tap.numpy() for tap in taps_of(encoder, spectrograms_db)]
    batches = list(embed(encoder, spectrograms_db, device="cpu", batch_size=2, precision="float32"))
    assert [len(batch[0]) for batch in batches] == [2, 1]
    for parts, expected in zip(zip(*batches, strict=True), exact, strict=True):
        got = np.concatenate(parts)
        assert got.dtype == np.float16 and relative_error(got, expected) < 1e-3
    (fast,) = embed(encoder, spectrograms_db, device="cpu", batch_size=3, precision="bfloat16")
    for got, expected in zip(fast, exact, strict=True):
        assert 0 < relative_error(got, expected) < 0.015


@pytest.mark.parametrize("value", [np.nan, -1e6, 1e6])
def test_values_that_float16_cannot_hold_are_an_error_whatever_their_sign(deit, value):
    encoder = copy.deepcopy(deit)
    encoder.network.pos_embed.data[:, :, 7] = value  # one of 384 channels; the others stay finite
    batches = embed(
        encoder, some_spectrograms(DEIT, 2, 32), device="cpu", batch_size=2, precision="float32"
    )
    with pytest.raises(ValueError, match="deit_small.*block3, block6, block9 of clips 0 to 1"):
        next(batches)


@BOTH
def test_batch_size_from_a_memory_budget(encoder):
    per_clip = bytes_per_clip(encoder.spec, 100)
    assert batch_size_for(10 * per_clip + 1, encoder.spec, 100) == 10
    outputs: list[int] = []
    hooks = [
        module.register_forward_hook(lambda *call: outputs.append(call[2].nbytes))
        for module in encoder.modules()
        if not list(module.children())
    ]
    taps = taps_of(encoder, some_spectrograms(encoder.spec, 1, 100))
    for hook in hooks:
        hook.remove()
    # what a layer reads and writes, and the shortcut around it
    needed = 3 * max(outputs) + sum(tap.nbytes for tap in taps)
    assert needed < per_clip < 2.5 * needed


@pytest.mark.gpu
@BOTH
def test_on_the_card(encoder):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    encoder = copy.deepcopy(encoder)
    spectrograms_db = some_spectrograms(encoder.spec, 6, 276)
    options = {"batch_size": 4, "precision": "float32"}
    on_cpu = list(embed(encoder, spectrograms_db, device="cpu", **options))
    torch.cuda.reset_peak_memory_stats()
    on_card = list(embed(encoder, spectrograms_db, device="cuda", **options))
    for batch, reference in zip(on_card, on_cpu, strict=True):
        for got, expected in zip(batch, reference, strict=True):
            assert relative_error(got, expected) < 3e-4
    weights_bytes = sum(parameter.nbytes for parameter in encoder.parameters())
    budget = 4 * bytes_per_clip(encoder.spec, 276) + weights_bytes
    assert torch.cuda.max_memory_allocated() < 1.1 * budget
