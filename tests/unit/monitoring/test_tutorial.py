"""docs/tutorial.md does what it says, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
from machine_sounds import write_folders

from vision_to_sound.encoders import ENCODERS
from vision_to_sound.encoders.weights import write_random_weights

TUTORIAL = Path(__file__).resolve().parents[3] / "docs" / "tutorial.md"


def test_every_block_runs(tmp_path, monkeypatch, capsys):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path)
    (tmp_path / "results" / "weights").mkdir(parents=True)
    weights = tmp_path / "results" / "weights" / "aisfx.safetensors"
    write_random_weights(ENCODERS["aisfx"], seed=0, out=weights)
    blocks = re.findall(r"^```python\n(.*?)^```", TUTORIAL.read_text(), re.M | re.S)
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, TUTORIAL.name, "exec"), names)
    assert names["worst"].file.path.name.startswith("anomaly_")
    assert (tmp_path / "worst.png").stat().st_size > 10_000
    parts = {n: soundfile.read(f"{n}.wav")[0] for n in ("original", "anomaly", "background")}
    np.testing.assert_allclose(parts["anomaly"] + parts["background"], parts["original"], atol=1e-4)
    assert "Hz" in capsys.readouterr().out
