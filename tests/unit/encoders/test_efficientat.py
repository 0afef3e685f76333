"""EfficientAT against torchvision's MobileNetV3, a front end spelt out, and real recordings."""

from __future__ import annotations

import copy
import csv
import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_helpers import MN04, randomise, relative_error, some_spectrograms
from torch import nn

from vision_to_sound import torch_setup  # noqa: F401  (before torchvision and torchaudio)
from vision_to_sound.archive_record import file_checksum
from vision_to_sound.archive_table import find_in_mirror, read_table
from vision_to_sound.encoders import tap_shapes
from vision_to_sound.encoders.build import build_encoder
from vision_to_sound.encoders.efficientat import network_input
from vision_to_sound.encoders.embed import batch_size_for, bytes_per_clip, embed
from vision_to_sound.encoders.weights import (
    WeightsError,
    extract_audio_weights,
    load_encoder,
    random_weights,
)
from vision_to_sound.spectrogram import log_mel_db, resample

# isort: split
from torchaudio.compliance.kaldi import get_mel_banks
from torchvision.models import mobilenetv3
from torchvision.ops.misc import SqueezeExcitation

RATE_HZ = 32_000


def torchvision_network(width: float = 0.4) -> mobilenetv3.MobileNetV3:
    """torchvision's own network with all layers, for spectrograms and the 527 classes of AudioSet."""
    layers, last_channels = mobilenetv3._mobilenet_v3_conf("mobilenet_v3_large", width_mult=width)
    gate = partial(SqueezeExcitation, scale_activation=nn.Sigmoid)
    block = partial(mobilenetv3.InvertedResidual, se_layer=gate)
    network = mobilenetv3.MobileNetV3(layers, last_channels, num_classes=527, block=block)
    stem = network.features[0][0]
    network.features[0][0] = nn.Conv2d(1, stem.out_channels, 3, stride=2, padding=1, bias=False)
    return network.eval()


def renamed(key: str) -> str:
    """A name of the published checkpoint in torchvision's words."""
    for theirs, ours in (
        ("conc_se_layers.0.", ""),
        ("classifier.2", "classifier.0"),
        ("classifier.5", "classifier.3"),
    ):
        key = key.replace(theirs, ours)
    return key


def as_published(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with EfficientAT's names: squeeze-and-excitation by linear layers, in a list."""
    state = {}
    for key, values in network.state_dict().items():
        if ".fc" in key:
            key = key.replace(".fc", ".conc_se_layers.0.fc")
            values = values.flatten(1) if key.endswith("weight") else values
        key = key.replace("classifier.0", "classifier.2").replace("classifier.3", "classifier.5")
        state[key] = values
    return state


def extracted(source: Path, folder: Path) -> nn.Module:
    extract_audio_weights(source, MN04, out=folder / "w", source_checksum="md5:1")
    return load_encoder(MN04, folder / "w")


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    torch.manual_seed(0)
    network = torchvision_network()
    randomise(network, seed=1)
    return network


@pytest.fixture(scope="module")
def encoder(reference, tmp_path_factory) -> nn.Module:
    folder = tmp_path_factory.mktemp("mn04")
    torch.save(as_published(reference), folder / "mn04.pt")
    return extracted(folder / "mn04.pt", folder)


@pytest.fixture(scope="module")
def real_checkpoint(shared_data, repository) -> Path:
    row = read_table(repository / "config" / "datasets.tsv")[MN04.weights]
    path = find_in_mirror(shared_data, row.file)
    if path is None:
        pytest.skip(f"no {row.file} in ../shared/data or a folder in it")
    assert path.stat().st_size == row.bytes and file_checksum(path, "md5") == row.checksum
    return path


def taps_of(encoder: nn.Module, log_mels_db: np.ndarray) -> list[torch.Tensor]:
    with torch.inference_mode():
        return encoder(torch.from_numpy(log_mels_db))


def torchvision_taps(network: nn.Module, log_mels_db: np.ndarray) -> list[torch.Tensor]:
    """Behind the third, sixth and twelfth block, from the published definition of the input on."""
    power = 10.0 ** (log_mels_db.astype(np.float64) / 10.0)
    x = torch.from_numpy((np.log(power + 1e-5) + 4.5) / 5.0).float().mT[:, None]
    outputs = []
    with torch.inference_mode():
        for layer in network.features:
            x = layer(x)  # (n, channels, n_freq, n_time)
            outputs.append(x.permute(0, 3, 2, 1))
    return [outputs[depth] for depth in (3, 6, 12)]


# --- Network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_frames", [401, 61, 16])
def test_the_network_equals_torchvisions_at_every_tap(encoder, reference, n_frames):
    log_mels_db = some_spectrograms(MN04, 2, n_frames)
    ours, theirs = taps_of(encoder, log_mels_db), torchvision_taps(reference, log_mels_db)
    assert [tuple(tap.shape[1:]) for tap in ours] == list(tap_shapes(MN04, n_frames, 128))
    assert len(ours) == len(theirs) == 3
    for got, expected in zip(ours, theirs, strict=True):
        assert got.dtype == torch.float32 and relative_error(got, expected) < 1e-5
        assert got.min() < 0 < got.max()
        # all channels are alive, so that none could be wrong unseen
        assert (got.flatten(0, 2).std(dim=0) > 1e-3 * got.std()).all()


def test_nothing_past_the_deepest_tap_exists_and_the_rest_can_be_trained():
    torch.manual_seed(3)
    student = build_encoder(MN04)
    assert len(student.network) == 13
    taps = student.train()(torch.from_numpy(some_spectrograms(MN04, 2, 32)))
    sum(tap.square().mean() for tap in taps).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in student.network[12].parameters())
    assert float(student.network[0][0].weight.grad.abs().max()) > 0


def test_untrained_taps_keep_the_level_of_their_input():
    first, again = random_weights(MN04, seed=3), random_weights(MN04, seed=3)
    taps = taps_of(first, some_spectrograms(MN04, 1, 64))
    assert all(0.1 < float(tap.std()) < 100 for tap in taps)
    assert torch.equal(taps_of(again, some_spectrograms(MN04, 1, 64))[2], taps[2])


def test_a_later_clip_gives_later_cells(encoder):
    log_mels_db = some_spectrograms(MN04, 1, 640)
    earlier, later = taps_of(encoder, log_mels_db), taps_of(encoder, np.roll(log_mels_db, 48, 1))
    errors = []
    for spec, tap, shifted in zip(MN04.taps, earlier, later, strict=True):
        n = 48 // spec.time_reduction
        inner = slice(192 // spec.time_reduction, -192 // spec.time_reduction)  # no edge in sight
        errors.append(relative_error(shifted.roll(-n, 1)[:, inner], tap[:, inner]))
        assert relative_error(shifted[:, inner], tap[:, inner]) > 0.1
    # weights by means over the clip, whose edges differ, come after the first tap
    assert errors[0] < 1e-5 and max(errors) < 0.02


def test_a_clip_is_seen_by_itself_and_at_its_own_level(encoder):
    log_mels_db = some_spectrograms(MN04, 3, 48)
    together = taps_of(encoder, log_mels_db)
    log_mels_db[0] += 10.0
    for tap, before in zip(taps_of(encoder, log_mels_db), together, strict=True):
        assert relative_error(tap[1:], before[1:]) < 1e-5
        assert relative_error(tap[:1], before[:1]) > 0.01


def test_wrong_spectrograms(encoder):
    with pytest.raises(ValueError, match=r"efficientat_mn04.*128.*efficientat_32k.*\(1, 32, 64\)"):
        encoder(torch.zeros(1, 32, 64))
    with pytest.raises(ValueError, match="at least 16 frames"):
        encoder(torch.zeros(1, 0, 128))


def test_batches_and_precision(encoder):
    log_mels_db = some_spectrograms(MN04, 3, 48)
    exact = [tap.numpy() for tap in taps_of(encoder, log_mels_db)]
    options = {"device": "cpu", "batch_size": 2}
    for precision in ("float32", "bfloat16"):  # the same, see MobileEncoder
        batches = list(embed(encoder, log_mels_db, precision=precision, **options))
        for parts, expected in zip(zip(*batches, strict=True), exact, strict=True):
            assert relative_error(np.concatenate(parts), expected) < 1e-3


def test_batch_size_from_a_memory_budget(encoder):
    per_clip = bytes_per_clip(MN04, 401)
    assert batch_size_for(10 * per_clip + 1, MN04, 401) == 10
    outputs: list[int] = []
    measured = copy.deepcopy(encoder)
    for module in measured.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *call: outputs.append(call[2].nbytes))
    taps = taps_of(measured, some_spectrograms(MN04, 1, 401))
    needed = 3 * max(outputs) + sum(tap.nbytes for tap in taps)
    assert needed < per_clip < 2 * needed


# --- Weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: as_published(torchvision_network(0.5)),
            "shapes differ: 2.block.0.0.weight expected",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "features.12.block.2" not in k},
            "4 keys missing: 12.block.2.conc_se_layers.0.fc1.weight",
        ),
        (
            lambda s: {**s, "features.3.block.3.0.weight": torch.zeros(1)},
            "1 keys unexpected: 3.block.3.0.weight",
        ),
        (lambda s: {"model": s}, "Expected keys such as 'features.0.0.weight', got model"),
        (
            lambda s: {renamed(key): value for key, value in s.items()},
            "keys missing: 4.block.2.conc_se_layers",
        ),
    ],
)
def test_other_checkpoints_are_refused(reference, tmp_path, change, message):
    torch.save(change(as_published(reference)), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=message) as caught:
        extract_audio_weights(tmp_path / "other.pt", MN04, out=tmp_path / "w", source_checksum="")
    assert "'efficientat_mn04'" in str(caught.value) and not (tmp_path / "w").exists()


# --- Front end ------------------------------------------------------------------------------------


def published_input(waveform: np.ndarray) -> np.ndarray:
    """EfficientAT's input frame by frame in double precision: float64 (n_frames, 128)."""
    emphasised = waveform[1:].astype(np.float64) - 0.97 * waveform[:-1]
    padded = np.pad(emphasised, 512, mode="reflect")
    window = np.zeros(1024)
    window[112:912] = np.hanning(800)
    banks, _ = get_mel_banks(128, 1024, RATE_HZ, 0.0, 15_000.0, 100.0, -500.0, 1.0)  # (128, 512)
    frames = []
    for start in range(0, len(emphasised) + 1, 320):
        power = np.abs(np.fft.rfft(window * padded[start : start + 1024])) ** 2  # (513,)
        frames.append(banks.double().numpy() @ power[:512])
    return (np.log(np.stack(frames) + 1e-5) + 4.5) / 5.0


def signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    chirp = 0.3 * np.sin(2 * np.pi * (100 + 3000 * time_s) * time_s)
    made = {
        "noise": rng.normal(0, 0.1, RATE_HZ),
        "faint noise": rng.normal(0, 1e-4, RATE_HZ),
        "chirp": chirp + rng.normal(0, 1e-3, RATE_HZ),
        "clicks": (rng.random(RATE_HZ) < 1e-3) * rng.normal(0, 0.3, RATE_HZ),
        "silence": np.zeros(RATE_HZ),
        "odd length": rng.normal(0, 0.1, 20_007),
    }
    return {name: values.astype(np.float32) for name, values in made.items()}


@pytest.mark.parametrize("name", signals())
def test_the_input_equals_the_published_one_from_the_waveform_on(name):
    waveform = signals()[name]
    log_mels_db = log_mel_db(waveform[None], MN04.front_end, device="cpu")
    ours = network_input(torch.from_numpy(log_mels_db))[0, 0].mT.numpy()
    exact = published_input(waveform)
    assert len(ours) == len(waveform) // 320 + 1 and len(ours) - len(exact) in (0, 1)
    inner = len(waveform) // 320 - 2  # frames beyond see the end, where a sample is lost there
    np.testing.assert_allclose(ours[:inner], exact[:inner], rtol=0, atol=2e-4)
    assert name == "silence" or np.ptp(exact[:inner]) > 0.5


def test_mel_bands_are_kaldis():
    banks, centres_hz = get_mel_banks(128, 1024, RATE_HZ, 0.0, 15_000.0, 100.0, -500.0, 1.0)
    weights = MN04.front_end.mel_weights()  # (513, 128)
    np.testing.assert_allclose(weights[:512].T, banks.numpy(), atol=5e-5)  # kaldi's are float32
    assert (weights[512] == 0).all()
    np.testing.assert_allclose(MN04.front_end.mel_band_centres_hz(), centres_hz[:, 0], rtol=1e-4)


# --- Real weights, real recordings ----------------------------------------------------------------


@pytest.fixture(scope="module")
def published_network(real_checkpoint) -> nn.Module:
    network = torchvision_network()
    state = torch.load(real_checkpoint, weights_only=True)
    for key in [key for key in state if ".fc" in key and key.endswith("weight")]:
        state[key] = state[key][:, :, None, None]
    network.load_state_dict({renamed(key): values for key, values in state.items()})
    return network


@pytest.fixture(scope="module")
def published_encoder(real_checkpoint, tmp_path_factory) -> nn.Module:
    return extracted(real_checkpoint, tmp_path_factory.mktemp("published"))


def test_the_published_weights_equal_torchvisions_at_every_tap(
    published_encoder, published_network
):
    log_mels_db = some_spectrograms(MN04, 2, 100)
    ours = taps_of(published_encoder, log_mels_db)
    theirs = torchvision_taps(published_network, log_mels_db)
    for got, expected in zip(ours, theirs, strict=True):
        assert relative_error(got, expected) < 1e-5


def test_the_published_classifier_names_recordings_behind_our_deepest_tap(
    published_encoder, published_network, shared_data
):
    soundfile = pytest.importorskip("soundfile")
    audioset = {"dog": 74, "coughing": 47, "sneezing": 49, "snoring": 43}
    with zipfile.ZipFile(shared_data / "ESC-50-master.zip") as archive:
        (table,) = (name for name in archive.namelist() if name.endswith("meta/esc50.csv"))
        rows = list(csv.DictReader(io.StringIO(archive.read(table).decode())))
        rows = [row for row in rows if row["category"] in audioset]
        folder = table.replace("meta/esc50.csv", "audio/")
        files = [io.BytesIO(archive.read(folder + row["filename"])) for row in rows]
    waveforms = np.stack([soundfile.read(file, dtype="float32")[0] for file in files])
    waveforms = resample(waveforms, from_hz=44_100, to_hz=RATE_HZ)
    tap = taps_of(published_encoder, log_mel_db(waveforms, MN04.front_end, device="cpu"))[-1]
    with torch.inference_mode():
        deepest = published_network.features[13:](tap.permute(0, 3, 2, 1))
        logits = published_network.classifier(deepest.mean(dim=(2, 3)))  # (n_clips, 527)
    classes = [audioset[row["category"]] for row in rows]
    assert sorted(classes) == sorted(5 * list(audioset.values()))
    # a class stands behind those that hold it ("Animal", "Domestic animals, pets") and nothing else
    places = [int((clip > clip[n]).sum()) for clip, n in zip(logits, classes, strict=True)]
    assert max(places) <= 2 and places.count(0) >= 15, places
