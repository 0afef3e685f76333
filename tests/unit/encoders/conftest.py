"""The networks and checkpoints that the encoders are compared with."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from encoder_helpers import full_state, randomise

from vision_to_sound import torch_setup  # noqa: F401  (before msclap)

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def msclap_cnn14() -> torch.nn.Module:
    """msclap's own CNN14, built as for CLAP 2022, weights at random.

    Its package's __init__ imports text models for seconds, so only the audio module is loaded.
    """
    found = importlib.util.find_spec("msclap")
    if found is None:
        pytest.skip("msclap is not installed")
    folder = Path(found.submodule_search_locations[0])
    with pytest.MonkeyPatch.context() as patch:
        for name, path in (("msclap", folder), ("msclap.models", folder / "models")):
            package = types.ModuleType(name)
            package.__path__ = [str(path)]
            patch.setitem(sys.modules, name, package)
        before = set(sys.modules)
        audio = importlib.import_module("msclap.models.audio")
        for name in set(sys.modules) - before:
            if name.startswith("msclap."):
                del sys.modules[name]
    network = audio.Cnn14(44_100, 1024, 320, 64, 50, 14_000, classes_num=527, out_emb=2048)
    randomise(network, seed=1)
    # statistics of dB values for the input's own batch norm
    network.bn0.running_mean.uniform_(-45, -25, generator=torch.Generator().manual_seed(2))
    network.bn0.running_var.uniform_(80, 200, generator=torch.Generator().manual_seed(3))
    return network.eval()


@pytest.fixture(scope="session")
def clap_checkpoint(msclap_cnn14, tmp_path_factory) -> Path:
    """A checkpoint of the published structure: audio network, projections and text network."""
    model = full_state(msclap_cnn14, prefix="audio_encoder.base.")
    model |= {
        "audio_encoder.projection.linear1.weight": torch.zeros(1024, 2048),
        "caption_encoder.base.embeddings.word_embeddings.weight": torch.zeros(100, 768),
        "caption_encoder.projection.linear1.weight": torch.zeros(1024, 768),
        "logit_scale": torch.tensor(1.0),
    }
    path = tmp_path_factory.mktemp("clap") / "CLAP_weights_2022.pth"
    torch.save({"model": model, "epoch": 1}, path)
    return path


@pytest.fixture(scope="session")
def aisfx_wheel(tmp_path_factory) -> Path:
    """The wheel that holds aiSFX's weights, fetched by pip without its dependencies."""
    folder = tmp_path_factory.mktemp("aisfx_wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--retries", "1", "--dest", str(folder)]
    try:
        result = subprocess.run(
            [*command, "aisfx==0.1.2"], capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pip did not fetch aisfx==0.1.2 within two minutes")
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"pip cannot fetch aisfx==0.1.2: {reason}")
    return next(folder.glob("*.whl"))
