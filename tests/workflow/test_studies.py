"""The studies behind docs/findings.md, on the tiny run: tables of numbers that can be had another way too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vision_to_sound import embeddings
from vision_to_sound.files import read_table
from vision_to_sound.scores import Truth

REPOSITORY = Path(__file__).resolve().parents[2]
SNRS = ("6", "0", "-6")  # numbers of one decimal are values


def table_of(finished, study: str, *arguments: str) -> tuple[dict[tuple, list[float]], str]:
    """Rows as numbers, by their words and SNR, and all that was printed."""
    result = subprocess.run(
        [sys.executable, f"docs/{study}.py", str(finished.root / "results"), *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    rows = {}
    for line in result.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) < 4 or set(cells[0]) <= set(":- "):
            continue
        is_name = [not cell or not _is_number(cell) or cell in SNRS for cell in cells]
        names = tuple(cell for cell, own in zip(cells, is_name, strict=True) if own and cell)
        rows[names] = [float(cell) for cell, own in zip(cells, is_name, strict=True) if not own]
    return rows, result.stdout


def _is_number(cell: str) -> bool:
    return cell.replace("-", "", 1).replace(".", "", 1).isdigit()


def test_localisation_ceiling(finished):
    rows, printed = table_of(finished, "localisation_ceiling")
    assert "of the marked cells are more than 6 dB below the background" in printed
    root, found = finished.root / "results", []
    for category in ("air_conditioner", "siren"):
        part = f"leakfree/envmix/{category}"
        table = read_table(root / f"mixtures/{part}/snr0/seed0.tsv")
        sets = [
            embeddings.ClipSet.open(spectrograms=root / f"spectrograms/{part}/{where}/aisfx.npy")
            for where in ("normal", "snr0/seed0/mixture")
        ]
        clips = embeddings.test_features(table, *sets)
        spectrograms_db = clips.read_spectrograms(np.arange(clips.n_clips))
        truth = Truth.load(root / f"truth/{part}/snr0/aisfx/seed0.npz")
        found.append(
            [
                100 * roc_auc_score(truth.masks[name].ravel(), spectrograms_db.ravel())
                for name in ("published", "leakfree")
            ]
        )
    own = rows["0", "the mixture itself"]
    np.testing.assert_allclose(own[:2], np.mean(found, axis=0), atol=0.051)
    assert rows["0", "the event itself"][0] > own[0], "who knows the event finds it"


def test_level_artefact(finished):
    rows, _ = table_of(finished, "level_artefact")
    measured = {names: values for names, values in rows.items() if names[0] != "gains"}
    assert len(measured) == 6 and all(len(values) == 3 for values in measured.values())
    gains_db = {names: values[2] for names, values in measured.items()}
    assert all(gains_db["leakfree", snr] == 0 for snr in SNRS)
    assert (
        gains_db["published", "6"] < 0 == gains_db["published", "0"] < gains_db["published", "-6"]
    )
    backgrounds = {snr: measured["leakfree", snr][1] for snr in SNRS}
    assert len(set(backgrounds.values())) == 1, (
        "without an event and with equal gains the SNR is not heard"
    )
    assert measured["published", "0"][1] == backgrounds["0"]


def test_tap_study(finished):
    rows, _ = table_of(finished, "tap_study", "--encoders", "aisfx")
    taps = ("block2", "block3", "block4", "block2 + block3 + block4")
    for method in ("band_padim", "surprising_energy"):
        for tap in taps:
            assert all(0 <= value <= 100 for value in rows["aisfx", tap, method])
    alone = rows["aisfx", "block2", "surprising_energy"]
    assert rows["both", "the shallowest of each", "surprising_energy"] == alone[:1], (
        "of one encoder"
    )


@pytest.mark.parametrize("study", ["level_artefact", "localisation_ceiling", "tap_study"])
def test_a_folder_without_a_run_is_an_error_that_says_so(study, tmp_path):
    result = subprocess.run(
        [sys.executable, f"docs/{study}.py", str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and "holds no" in result.stderr
