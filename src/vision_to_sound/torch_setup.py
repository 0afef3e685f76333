"""Let a PyTorch without CUDA work beside torchvision and torchaudio built with it.

The torchvision and torchaudio wheels of the package registry link CUDA's libraries. Beside a
PyTorch without CUDA their compiled parts do not load: torchvision then stops with "operator
torchvision::nms does not exist", torchaudio with "Could not load this library", and with them
every package that imports them. Nothing here needs those compiled parts (transforms, backbones and
filter banks are plain Python on top of torch), so this module puts stand-ins in their place.

Import it before torchaudio, torchvision, anomalib or msclap::

    from vision_to_sound import torch_setup  # noqa: F401

Importing it imports torch, and neither torchaudio nor torchvision. With a CUDA build of torch, or
where the compiled parts load, it changes nothing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_TORCHAUDIO_EXTENSION = "torchaudio._extension"
_NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# Operator definitions live as long as the object that made them.
_torchvision_library: torch.library.Library | None = None


def install_stand_ins() -> tuple[str, ...]:
    """Put stand-ins where the compiled parts cannot load; calling it again changes nothing.

    Returns:
        Names of the packages that run on a stand-in now, e.g. ("torchaudio", "torchvision").
    """
    global _torchvision_library
    if torch.version.cuda is not None:
        return ()
    if (
        _TORCHAUDIO_EXTENSION not in sys.modules
        and "torchaudio" not in sys.modules
        and not _loads("torchaudio", ("lib/_torchaudio*", "lib/libtorchaudio*"))
    ):
        sys.modules[_TORCHAUDIO_EXTENSION] = _torchaudio_extension_stand_in()
        logger.debug("torchaudio: compiled extension does not load, using a stand-in")
    if (
        _torchvision_library is None
        and "torchvision" not in sys.modules
        and not _loads("torchvision", ("_C*",))
    ):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + _NMS_SCHEMA)
        _torchvision_library = library
        logger.debug("torchvision: compiled operators do not load, declared nms and qnms")
    stand_ins = []
    if getattr(sys.modules.get(_TORCHAUDIO_EXTENSION), "is_stand_in", False):
        stand_ins.append("torchaudio")
    if _torchvision_library is not None:
        stand_ins.append("torchvision")
    return tuple(stand_ins)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Matrix products and convolutions of float32 tensors in float32 while the context is open.

    Graphics cards round the factors of convolutions to TF32 (10 bits of mantissa) by default. The
    settings found are put back at the end.
    """
    backends = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,
        torch.backends.mkldnn.matmul,
        torch.backends.mkldnn.conv,
    )
    found = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, found, strict=True):
            backend.fp32_precision = precision


@contextmanager
def one_thread() -> Iterator[None]:
    """Batched LAPACK calls on the CPU (Cholesky, triangular solves) with one thread.

    With two threads PyTorch 2.13's CPU build needs ten times as long for 300 factors of 225 x 225, and
    its batched inverse fails outright; measured on two cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def choose_device(*, gpu: int, threads: int) -> torch.device:
    """CUDA if the job was granted a GPU and there is one, else the CPU with that many threads."""
    torch.set_num_threads(max(1, threads))
    if gpu and torch.cuda.is_available():
        logger.info("device: %s", torch.cuda.get_device_name())
        return torch.device("cuda")
    if gpu:
        # On a machine without the driver the workflow has said it once; with one, something is wrong with PyTorch.
        logger.log(
            logging.WARNING if shutil.which("nvidia-smi") else logging.INFO,
            "NO GPU: this job was granted a GPU but PyTorch finds none; it runs on the CPU "
            "(%d threads). Say --resources gpu=0 to mean it.",
            threads,
        )
    else:
        logger.info("device: cpu, %d threads", threads)
    return torch.device("cpu")


def device_name(device: torch.device | None) -> str:
    """Device and version of PyTorch for result files: "cpu, torch 2.13.0"."""
    name = torch.cuda.get_device_name() if device and device.type == "cuda" else "cpu"
    return f"{name}, torch {torch.__version__.partition('+')[0]}"


def _loads(package: str, patterns: tuple[str, ...]) -> bool:
    """True if the compiled parts of a package load, or if there are none to load.

    Trying is surer than reading version suffixes: builds without CUDA carry none on some platforms.
    A part that loads here is found loaded by the package itself later on.
    """
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        return True
    folder = Path(spec.submodule_search_locations[0])
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.suffix not in (".so", ".pyd", ".dylib"):
                continue
            try:
                torch.ops.load_library(path)
            except (OSError, RuntimeError) as error:
                logger.debug("%s: %s", path.name, error)
                return False
    return True


def _torchaudio_extension_stand_in() -> types.ModuleType:
    def fail_if_no_align(function: Callable) -> Callable:
        return function

    module = types.ModuleType(_TORCHAUDIO_EXTENSION, "No compiled extension is loaded.")
    module.__spec__ = importlib.machinery.ModuleSpec(_TORCHAUDIO_EXTENSION, loader=None)
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module.fail_if_no_align = fail_if_no_align
    module.is_stand_in = True
    return module


STAND_INS = install_stand_ins()
