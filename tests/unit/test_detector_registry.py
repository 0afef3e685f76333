from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_features import AMPLE, CPU, N_FRAMES, N_MELS, TAPS, fit_and_score, make_features

from vision_to_sound.detectors import DETECTORS, create
from vision_to_sound.detectors.base import AnomalyScores, Checkpoint, Detector, EncoderSource
from vision_to_sound.embeddings import ClipFeatures
from vision_to_sound.encoders import ENCODERS, Block, tap_shapes
from vision_to_sound.encoders.weights import extract_audio_weights, random_weights
from vision_to_sound.scores import Truth

SETTINGS = {
    "patchcore": {
        "bank_size": 20,
        "projection_eps": 0.9,
        "search_share": 1.0,
        "n_neighbours": 3,
        "blur_sigma": 1.0,
        "layers": [],
    },
    "padim": {"n_channels": 5, "regularisation": 0.01, "blur_sigma": 1.0, "layers": []},
    "band_padim": {"shrinkage": 0.05, "top_share": 0.1, "blur_sigma": 1.0, "layers": []},
    "surprising_energy": {
        "shrinkage": 0.05,
        "layers": ["shallowest"],
        "map_layers": [],
        "top_share": 0.1,
        "smoothing_frames": 2.0,
        "frame_weight_db": 15.0,
        "cell_weight_db": 4.0,
        "n_folds": 3,
    },
    "band_nn": {
        "bank_size": 20,
        "n_neighbours": 3,
        "usual_quantile": 0.9,
        "usual_share": 0.1,
        "top_share": 0.1,
        "blur_sigma": 1.0,
        "layers": [],
    },
    "fastflow": {
        "n_steps": 2,
        "hidden_ratio": 1.0,
        "clamp": 2.0,
        "conv3x3_only": False,
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "epochs": 2,
        "batch_size": 2,
        "blur_sigma": 1.0,
        "layers": [],
    },
    "cfa": {
        "n_neighbours": 3,
        "n_hard_negatives": 3,
        "radius": 1e-5,
        "margin": 0.1,
        "nu": 1e-3,
        "learning_rate": 1e-3,
        "weight_decay": 5e-4,
        "epochs": 2,
        "batch_size": 2,
        "blur_sigma": 1.0,
        "layers": [],
    },
    "stfpm": {
        "student_init": "random",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "epochs": 2,
        "batch_size": 2,
        "blur_sigma": 0.0,
        "layers": [],
    },
    "spade": {"n_clips": 2, "n_patches": 1, "blur_sigma": 1.0, "layers": []},
    "autoencoder": {
        "n_stacked": 3,
        "hidden_size": 8,
        "n_hidden": 2,
        "bottleneck": 2,
        "learning_rate": 1e-3,
        "epochs": 2,
        "batch_size": 32,
    },
    "oracle": {"mask": "leakfree"},
    "random": {},
    "energy": {},
    "band_zscore": {"top_share": 0.01},
}


# A network whose taps have the shapes of the made-up features.
SPEC = replace(
    ENCODERS["panns_cnn14"],
    front_end=replace(ENCODERS["panns_cnn14"].front_end, n_mels=N_MELS),
    blocks=tuple(
        Block(name=f"block{i}", channels=channels, pool="max", pool_size=pool_size)
        for i, (channels, pool_size) in enumerate(
            ((4, (2, 2)), (6, (2, 2)), (8, (2, 2)), (10, (1, 1))), start=1
        )
    ),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> EncoderSource:
    assert tap_shapes(SPEC, N_FRAMES, N_MELS) == tuple(TAPS.values())
    folder = tmp_path_factory.mktemp("encoder")
    torch.save({"model": random_weights(SPEC, seed=3).state_dict()}, folder / "checkpoint.pth")
    path = folder / "encoder.safetensors"
    extract_audio_weights(folder / "checkpoint.pth", SPEC, out=path, source_checksum="none")
    return EncoderSource(SPEC, path)


def make_detector(name: str, source: EncoderSource, train: ClipFeatures) -> Detector:
    """With what the workflow sets from outside, and nothing that the entry does not name."""
    detector = create(name, SETTINGS[name])
    if "encoder" in DETECTORS[name].needs:
        detector.encoder = source
    if "train_clips" in DETECTORS[name].needs:
        detector.train_clips = train
    return detector


def test_every_entry_is_tested_here():
    assert set(SETTINGS) == set(DETECTORS)


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_can_be_created_fitted_saved_and_asked(name, source, tmp_path):
    train, test = make_features(4, seed=0), make_features(3, seed=1)
    detector = make_detector(name, source, train)
    assert isinstance(detector, Detector)
    for setting, value in SETTINGS[name].items():
        assert getattr(detector, setting) == value
    truth = Truth.of_clips(np.array([False, True, True]))
    scores = fit_and_score(detector, train, test, truth=truth)
    assert isinstance(scores, AnomalyScores)
    detector.save(tmp_path / "detector.npz")
    loaded = make_detector(name, source, train).load(tmp_path / "detector.npz")
    again = loaded.score(test, device=CPU, memory_bytes=AMPLE, truth=truth)
    np.testing.assert_array_equal(again.clips, scores.clips)
    np.testing.assert_array_equal(again.maps, scores.maps)
    assert all(attribute.endswith("_") for attribute in detector.state())


@pytest.mark.parametrize("name", list(DETECTORS))
def test_a_detector_reads_what_its_entry_says_and_nothing_else(name, source, monkeypatch):
    """The workflow leaves out the files that an entry does not name, and waits for those that it names."""
    read = set()
    whole = make_features(4, seed=0)

    class Watched(ClipFeatures):
        def read_taps(self, rows):
            read.add("embeddings")
            return super().read_taps(rows)

        def read_spectrograms(self, rows):
            read.add("spectrograms")
            return super().read_spectrograms(rows)

    def watched_attribute(attribute, value):
        return property(lambda detector: (read.add(attribute), value)[1])

    clips = Watched(whole._sets, whole._set_index, whole._rows)
    detector = create(name, SETTINGS[name])
    for attribute, value in (("encoder", source), ("train_clips", clips)):
        watched = watched_attribute(attribute, value)
        monkeypatch.setattr(type(detector), attribute, watched, raising=False)
    needs = set(DETECTORS[name].needs)
    truth = Truth.of_clips(np.zeros(4, dtype=bool)) if "truth" in needs else None
    detector.fit(clips, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
    assert bool(read) == DETECTORS[name].learns, "the job that scores fits those that learn nothing"
    scores = detector.score(clips, device=CPU, memory_bytes=AMPLE, truth=truth)
    assert len(scores.clips) == 4
    assert read == needs - {"truth"}


@pytest.mark.parametrize("name", list(DETECTORS))
def test_those_that_train_keep_a_loss_per_epoch_and_a_checkpoint(name, source, tmp_path):
    train = make_features(4, seed=0)
    detector = make_detector(name, source, train)
    detector.checkpoint = Checkpoint(tmp_path / "checkpoint.pt", key="k")
    detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
    assert ("losses_" in detector.state()) == DETECTORS[name].trains
    assert detector.checkpoint.path.exists() == DETECTORS[name].trains
    if DETECTORS[name].trains:
        assert detector.losses_.shape == (SETTINGS[name]["epochs"],)
        assert np.isfinite(detector.losses_).all()


@pytest.mark.parametrize("name", list(DETECTORS))
def test_an_entry_does_not_contradict_itself(name):
    entry = DETECTORS[name]
    assert entry.own_encoder in ("", *ENCODERS)
    if entry.own_encoder and ENCODERS[entry.own_encoder].network == "none":
        assert not {"embeddings", "encoder"} & set(entry.needs)
    if entry.is_control:  # they do without PyTorch
        assert not entry.trains and not {"embeddings", "encoder"} & set(entry.needs)


def test_names_and_settings_are_checked_with_the_nearest_match():
    with pytest.raises(ValueError, match="unknown detector 'patch_core'; did you mean 'patchcore'"):
        create("patch_core", {})
    with pytest.raises(ValueError, match="'padim'.*'n_channel'; did you mean 'n_channels'"):
        create("padim", {**SETTINGS["padim"], "n_channel": 3})
    with pytest.raises(ValueError, match="'padim' lacks the settings n_channels, layers"):
        create("padim", {"regularisation": 0.01, "blur_sigma": 1.0})
    with pytest.raises(ValueError, match="setting of detector 'random'"):
        create("random", {"seed": 1})


@pytest.mark.parametrize("name", list(DETECTORS))
def test_targets_exist_and_take_settings_by_keyword_only(name):
    module, class_name = DETECTORS[name].target.split(":")
    detector_class = getattr(importlib.import_module(module), class_name)
    if SETTINGS[name]:
        with pytest.raises(TypeError):
            detector_class(*SETTINGS[name].values())
    assert len(set(DETECTORS[name].needs)) == len(DETECTORS[name].needs)
    assert set(DETECTORS[name].needs) <= {
        "embeddings",
        "spectrograms",
        "truth",
        "encoder",
        "train_clips",
    }


def test_the_table_needs_the_standard_library_only(repository):
    code = (
        "import sys, vision_to_sound.detectors\n"
        "heavy = {'numpy', 'torch', 'pandas', 'sklearn', 'anomalib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(repository / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
