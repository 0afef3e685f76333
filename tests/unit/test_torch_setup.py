"""A PyTorch without CUDA beside torchvision and torchaudio built with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vision_to_sound import torch_setup


def run_python(code: str, repository: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_importing_it_imports_neither_package(repository):
    out = run_python(
        "import sys\n"
        "from vision_to_sound import torch_setup\n"
        "print(sorted({'torchaudio', 'torchvision'} & set(sys.modules)))\n"
        "print(torch_setup.install_stand_ins() == torch_setup.STAND_INS)\n",
        repository,
    )
    assert out.split() == ["[]", "True"]


def test_the_packages_work_afterwards(repository):
    # one process for all of them: each takes seconds to import
    out = run_python(
        "from vision_to_sound import torch_setup\n"
        "import torch, torchaudio, torchvision\n"
        "torch.set_num_threads(1)\n"
        "print(torchaudio.transforms.Resample(16000, 44100)(torch.zeros(1, 160)).shape[1])\n"
        "print(torchaudio.transforms.MelSpectrogram(16000)(torch.zeros(1, 1600)).shape[1])\n"
        "backbone = torchvision.models.resnet18(weights=None).eval()\n"
        "print(backbone(torch.zeros(1, 3, 64, 64)).shape[1])\n"
        "import anomalib.models.components, msclap\n"
        "print(torch_setup.install_stand_ins() == torch_setup.STAND_INS)\n",
        repository,
    )
    assert out.split() == ["441", "128", "1000", "True"]


def test_with_a_cuda_build_nothing_is_replaced(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch_setup, "_loads", lambda *_: pytest.fail("looked at the packages"))
    assert torch_setup.install_stand_ins() == ()


def test_a_package_whose_compiled_part_loads_or_is_absent_is_left_alone(tmp_path, monkeypatch):
    for name in ("pure", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "broken" / "_C.so").write_bytes(b"not a library")
    monkeypatch.syspath_prepend(tmp_path)

    assert torch_setup._loads("pure", ("_C*",))
    assert torch_setup._loads("no_such_package_anywhere", ("_C*",))
    assert not torch_setup._loads("broken", ("_C*",))


def test_exact_float32_puts_the_settings_back():
    convolution = torch.backends.cudnn.conv
    found = convolution.fp32_precision
    convolution.fp32_precision = "tf32"
    try:
        with pytest.raises(RuntimeError, match="inside"), torch_setup.exact_float32():
            assert convolution.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            raise RuntimeError("inside")
        assert convolution.fp32_precision == "tf32"
    finally:
        convolution.fp32_precision = found


def test_device_is_the_cpu_without_a_grant():
    assert torch_setup.choose_device(gpu=0, threads=1).type == "cpu"
    assert torch.get_num_threads() == 1
    assert torch_setup.choose_device(gpu=0, threads=2).type == "cpu"
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("driver", "level"), [("/usr/bin/nvidia-smi", "WARNING"), (None, "INFO")])
def test_a_grant_without_a_gpu_is_said_loudly_where_there_should_be_one(
    monkeypatch, caplog, driver, level
):
    """Without a driver the workflow says it once, for all jobs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch_setup.shutil, "which", lambda name: driver)
    caplog.set_level("INFO")
    assert torch_setup.choose_device(gpu=1, threads=2).type == "cpu"
    assert [record.levelname for record in caplog.records] == [level]
    assert "NO GPU" in caplog.text


def test_device_name_tells_device_and_version():
    name = torch_setup.device_name(torch.device("cpu"))
    assert name.startswith("cpu, torch ") and "+" not in name


def test_one_thread_ends_with_the_block():
    torch.set_num_threads(2)
    with torch_setup.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
