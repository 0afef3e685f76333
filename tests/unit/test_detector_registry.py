from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest
from detector_features import AMPLE, CPU, fit_and_score, make_features

from vision_to_sound.detectors import DETECTORS, create
from vision_to_sound.detectors.base import AnomalyScores, Detector
from vision_to_sound.embeddings import ClipFeatures
from vision_to_sound.scores import Truth

SETTINGS = {
    "patchcore": {
        "bank_size": 20,
        "projection_eps": 0.9,
        "n_neighbours": 3,
        "blur_sigma": 1.0,
        "layers": [],
    },
    "padim": {"n_channels": 5, "regularisation": 0.01, "blur_sigma": 1.0, "layers": []},
    "oracle": {"mask": "leakfree"},
    "random": {},
    "energy": {},
    "band_zscore": {"top_share": 0.01},
}


def test_every_entry_is_tested_here():
    assert set(SETTINGS) == set(DETECTORS)


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_can_be_created_fitted_saved_and_asked(name, tmp_path):
    detector = create(name, SETTINGS[name])
    assert isinstance(detector, Detector)
    for setting, value in SETTINGS[name].items():
        assert getattr(detector, setting) == value
    train, test = make_features(4, seed=0), make_features(3, seed=1)
    truth = Truth.of_clips(np.array([False, True, True]))
    scores = fit_and_score(detector, train, test, truth=truth)
    assert isinstance(scores, AnomalyScores)
    detector.save(tmp_path / "detector.npz")
    loaded = create(name, SETTINGS[name]).load(tmp_path / "detector.npz")
    again = loaded.score(test, device=CPU, memory_bytes=AMPLE, truth=truth)
    np.testing.assert_array_equal(again.clips, scores.clips)
    np.testing.assert_array_equal(again.maps, scores.maps)
    assert all(attribute.endswith("_") for attribute in detector.state())


@pytest.mark.parametrize("name", list(DETECTORS))
def test_a_detector_reads_only_what_its_entry_says(name):
    """The workflow leaves out the files that an entry does not name."""
    needs = DETECTORS[name].needs
    whole = make_features(4, seed=0)

    class Watched(ClipFeatures):
        def read_taps(self, rows):
            assert "embeddings" in needs
            return super().read_taps(rows)

        def read_spectrograms(self, rows):
            assert "spectrograms" in needs
            return super().read_spectrograms(rows)

    watched = Watched(whole._sets, whole._set_index, whole._rows)
    truth = Truth.of_clips(np.zeros(4, dtype=bool)) if "truth" in needs else None
    scores = fit_and_score(create(name, SETTINGS[name]), watched, watched, truth=truth)
    assert len(scores.clips) == 4


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
    assert set(DETECTORS[name].needs) <= {"embeddings", "spectrograms", "truth"}


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
