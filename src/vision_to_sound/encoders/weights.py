"""Pretrained weights: take what an encoder needs out of a published checkpoint, load it strictly.

Checkpoints are pickles from the internet. They are read with torch's restricted unpickler only,
which builds tensors and runs no code; a checkpoint that asks for anything else is refused.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import nn

from vision_to_sound.encoders import EncoderSpec
from vision_to_sound.encoders.build import build_encoder
from vision_to_sound.files import replacing
from vision_to_sound.seals import OtherFileError, check_start, damaged

log = logging.getLogger(__name__)

_N_NAMED = 5  # keys that an error message spells out
_COUNTER = "num_batches_tracked"  # of batch norm: for training only, old checkpoints lack it
_METADATA_KEY = "vision_to_sound"
_MAX_INFLATION = 20  # of a zipped checkpoint; float32 weights reach 1.1
_HEAD = (
    f'{{"__metadata__":{{"{_METADATA_KEY}":'.encode()
)  # of a file of ours, after the header's length
_RANDOM = "random"  # first word of the source of weights that nobody trained


class WeightsError(ValueError):
    """A checkpoint that is not what the encoder expects."""


def extract_audio_weights(
    source: str | Path | BinaryIO, spec: EncoderSpec, *, out: str | Path, source_checksum: str
) -> None:
    """Write the weights up to the deepest tap as safetensors, float32, replacing `out` in one step.

    The same source gives the same bytes. Batch norm's step counters are left out.

    Args:
        source: the archive as published: a checkpoint, or where the encoder names a member, the zip
            or wheel that holds it. As a path, a checkpoint is mapped and read only where needed.
        source_checksum: what the archive was checked against; kept in the metadata.

    Raises:
        WeightsError: unreadable, would run code, other keys or shapes than the encoder's.
        ValueError: the encoder has no network.
    """
    spec.check_has_network()
    origin = _origin(source, spec)
    checkpoint = _read_checkpoint(source, spec, origin=origin)
    state = _select(_state_dict_in(checkpoint, spec, origin=origin), spec, origin=origin)
    _write(state, spec, source=source_checksum, out=Path(out))


def write_random_weights(spec: EncoderSpec, *, seed: int, out: str | Path) -> None:
    """Write `random_weights` as safetensors in place of extracted ones; the file says what they are.

    The same seed gives the same bytes. Raises ValueError for an encoder without a network.
    """
    state = random_weights(spec, seed=seed).network.state_dict()
    state = {key: state[key].contiguous() for key in sorted(state) if _COUNTER not in key}
    _write(state, spec, source=f"{_RANDOM}, seed {seed}", out=Path(out))


def _write(state: Mapping[str, torch.Tensor], spec: EncoderSpec, *, source: str, out: Path) -> None:
    known = {"encoder": spec.name, "source": source}
    provenance = json.dumps({**known, "crc32": _crc32(state, known)}, sort_keys=True)
    # one entry: the order of several is not fixed, and the bytes shall be
    content = safetensors.torch.save(dict(state), metadata={_METADATA_KEY: provenance})
    with replacing(out) as part:
        part.write_bytes(content)


def _crc32(state: Mapping[str, torch.Tensor], known: Mapping[str, str]) -> str:
    """Of all that is read from a file: the tensors, their names and shapes, and where they come from."""
    about = [(key, state[key].dtype, tuple(state[key].shape)) for key in sorted(state)]
    checksum = zlib.crc32(repr((sorted(known.items()), about)).encode())
    for key in sorted(state):
        checksum = zlib.crc32(state[key].contiguous().numpy().tobytes(), checksum)
    return f"{checksum:08x}"


def load_encoder(spec: EncoderSpec, safetensors_path: str | Path) -> nn.Module:
    """The encoder with weights from `extract_audio_weights`, on the CPU, in evaluation mode.

    Random weights (`write_random_weights`) are loaded too, with a warning in the log.

    Raises:
        FileNotFoundError: the file is not there.
        WeightsError: another kind of file, made for another encoder, damaged on disk, or keys or shapes differ in
            any way.
        ValueError: the encoder has no network.
    """
    spec.check_has_network()
    path = Path(safetensors_path)
    state, provenance = _read_extracted(path, spec)
    if provenance["source"].startswith(_RANDOM):
        log.warning(
            "UNTRAINED: the weights of encoder %s in %s are %s, as the config asks; results say "
            "nothing about this encoder",
            spec.name,
            path,
            provenance["source"],
        )
    encoder = build_encoder(spec, device="meta")
    _compare(_shapes_of(state), _shapes(encoder.network), origin=str(path), spec=spec)
    encoder.to_empty(device="cpu")
    counters = {
        key: torch.zeros_like(tensor)
        for key, tensor in encoder.network.state_dict().items()
        if _COUNTER in key
    }
    encoder.network.load_state_dict({**state, **counters}, strict=True)
    return encoder.eval()


def _read_extracted(
    path: Path, spec: EncoderSpec
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(weights, {"encoder", "source"}) of a file that `_write` wrote for this encoder."""
    expected = f"extracted weights of encoder {spec.name!r} (.safetensors)"
    try:
        check_start(path, _HEAD, expected=expected, after=8)
    except OtherFileError as error:
        raise WeightsError(str(error)) from error
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            known = json.loads(opened.metadata()[_METADATA_KEY])
            state = {key: opened.get_tensor(key) for key in opened.keys()}
        is_whole = known.pop("crc32") == _crc32(state, known)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(str(damaged(path, error))) from error
    if not is_whole:
        raise WeightsError(str(damaged(path, "checksum, or made by an earlier version")))
    if known["encoder"] != spec.name:
        raise WeightsError(
            f"{path}: expected {expected}, got those of {known['encoder']!r}; extract again from archive "
            f"{spec.weights!r}"
        )
    return state, known


def random_weights(spec: EncoderSpec, *, seed: int) -> nn.Module:
    """The encoder with weights drawn at random; evaluation mode.

    Glorot for blocks of convolutions (as PANNs), what `build_encoder` draws for the others. The same
    seed gives the same weights; torch's own generator is left as it was. Only for whoever asks for an
    untrained network by name: nothing falls back to it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(spec)
    if spec.network == "conv_blocks":
        generator = torch.Generator().manual_seed(seed)
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, generator=generator)
    return encoder.eval()


def _read_checkpoint(source: str | Path | BinaryIO, spec: EncoderSpec, *, origin: str) -> Any:
    """Unpickle tensors on the CPU, allowing `spec.pickle_globals` and nothing else."""
    mapped = False
    try:
        if spec.weights_member:
            file = io.BytesIO(_read_member(source, spec, origin=origin))
        elif isinstance(source, str | Path):
            # Zipped checkpoints can be mapped: of 2.3 GB only the audio part is then read.
            # Older ones (a bare pickle) cannot.
            mapped = zipfile.is_zipfile(source)
            file = str(source)
        else:
            file = source
        with torch.serialization.safe_globals(_resolve(spec.pickle_globals)):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except (FileNotFoundError, WeightsError):
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{origin}: refused; expected a checkpoint of encoder {spec.name!r} that can be read "
            f"without running code from the file, got one that cannot ({_refusal(error)}). Allowed "
            f"beyond tensors: {', '.join(spec.pickle_globals) or 'nothing'}. Get the file from its "
            "publisher and check its checksum"
        ) from error
    except Exception as error:  # no list of what a damaged or hostile file can provoke is complete
        raise WeightsError(_unreadable(origin, spec, error)) from error


def _read_member(source: str | Path | BinaryIO, spec: EncoderSpec, *, origin: str) -> bytes:
    with zipfile.ZipFile(source) as archive:
        try:
            info = archive.getinfo(spec.weights_member)
        except KeyError as error:
            raise WeightsError(
                f"{origin}: the archive of encoder {spec.name!r} must hold {spec.weights_member!r}, "
                "but does not; check that it is the right archive"
            ) from error
        if info.file_size > _MAX_INFLATION * info.compress_size:
            raise WeightsError(
                f"{origin}: refused; expected the weights of encoder {spec.name!r}, which hardly compress, got "
                f"{info.compress_size} bytes that would become {info.file_size}. Get the file from its "
                "publisher and check its checksum"
            )
        with archive.open(info) as member:
            return member.read(info.file_size + 1)  # no more than it declares, checksum included


def _unreadable(origin: str, spec: EncoderSpec, error: Exception) -> str:
    return (
        f"{origin}: expected a checkpoint of encoder {spec.name!r}, but it cannot be read "
        f"({type(error).__name__}: {_first_line(error)}); download it again and check its checksum"
    )


def _state_dict_in(
    checkpoint: Any, spec: EncoderSpec, *, origin: str
) -> Mapping[str, torch.Tensor]:
    found = checkpoint
    for step in spec.state_dict_path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError) as error:
            what = (
                f"keys {_name_some(found)}"
                if isinstance(found, Mapping)
                else f"a {type(found).__name__}"
            )
            raise WeightsError(
                f"{origin}: expected the weights of encoder {spec.name!r} under {step!r}, got "
                f"{what}; this is another kind of checkpoint"
            ) from error
    if not isinstance(found, Mapping):
        raise WeightsError(
            f"{origin}: expected the weights of encoder {spec.name!r} as a mapping of names to "
            f"tensors under {spec.state_dict_path}, got a {type(found).__name__}"
        )
    return found


def _select(
    state: Mapping[str, torch.Tensor], spec: EncoderSpec, *, origin: str
) -> dict[str, torch.Tensor]:
    """Keep what the encoder needs, less the key prefix, after a strict comparison.

    A checkpoint of timm's kind has to be the published network, layer for layer, with what lies past
    the deepest tap: a deeper relative may hold all that is needed and still be another network. Of
    the others, keys of modules past the deepest tap, of front ends and of text encoders are passed
    over; a key inside one of the encoder's own modules that it does not know is an error.
    """
    prefix = spec.key_prefix
    needed = expected = _shapes(build_encoder(spec, device="meta").network)
    got = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if isinstance(key, str) and key.startswith(prefix) and not key.endswith(_COUNTER)
    }
    if spec.network == "timm":
        from vision_to_sound.encoders.timm_networks import whole_network

        with torch.device("meta"):
            expected = _shapes(whole_network(spec))
    else:
        modules = {key.split(".", 1)[0] for key in expected} | {"bn0"}
        got = {key: value for key, value in got.items() if key.split(".", 1)[0] in modules}
    if not got:
        raise WeightsError(
            f"{origin}: not the weights of encoder {spec.name!r} ({spec.label}). Expected keys "
            f"such as {prefix + next(iter(expected))!r}, got {_name_some(state)}"
        )
    _compare(_shapes_of(got), expected, origin=origin, spec=spec)
    return {key: got[key].detach().to(torch.float32).contiguous() for key in sorted(needed)}


def _shapes_of(state: Mapping[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {key: tuple(value.shape) if _is_array(value) else None for key, value in state.items()}


def _is_array(value: Any) -> bool:
    """A tensor of numbers that are all there: not sparse, quantised or without content (meta)."""
    if not isinstance(value, torch.Tensor) or value.is_quantized:
        return False
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_complex()


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...] | None]:
    return {k: tuple(v.shape) for k, v in network.state_dict().items() if _COUNTER not in k}


def _compare(
    got: Mapping[str, tuple[int, ...] | None],
    expected: Mapping[str, tuple[int, ...] | None],
    *,
    origin: str,
    spec: EncoderSpec,
) -> None:
    problems = []
    missing = [key for key in expected if key not in got]
    unexpected = [key for key in got if key not in expected]
    if missing:
        problems.append(f"{len(missing)} keys missing: {_name_some(missing)}")
    if unexpected:
        problems.append(f"{len(unexpected)} keys unexpected: {_name_some(unexpected)}")
    differing = [
        f"{key} expected {shape} got {got[key] or 'no tensor'}"
        for key, shape in expected.items()
        if key in got and got[key] != shape
    ]
    if differing:
        problems.append(f"{len(differing)} shapes differ: {_name_some(differing)}")
    if problems:
        raise WeightsError(
            f"{origin}: not the weights of encoder {spec.name!r} ({spec.label}). "
            + "; ".join(problems)
        )


def _resolve(names: Iterable[str]) -> list[tuple[Any, str]]:
    """Objects of allow-listed names, each under the name that the pickle uses."""
    resolved: list[tuple[Any, str]] = []
    for name in names:
        module, attribute = name.rsplit(".", 1)
        resolved.append((getattr(importlib.import_module(module), attribute), name))
    return resolved


def _origin(source: str | Path | BinaryIO, spec: EncoderSpec) -> str:
    name = source if isinstance(source, str | Path) else getattr(source, "name", "checkpoint")
    return f"{name}:{spec.weights_member}" if spec.weights_member else str(name)


def _name_some(names: Iterable[Any]) -> str:
    names = [str(name) for name in names]
    more = f", ... ({len(names) - _N_NAMED} more)" if len(names) > _N_NAMED else ""
    return ", ".join(names[:_N_NAMED]) + more if names else "none"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _refusal(error: Exception) -> str:
    """What the pickle asked for; torch's own text advises to read the file without care."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found:
        return f"it asks for {found[1]}"
    found = re.search(r"Unsupported (?:operand|class)[^.\n]*", str(error))
    return found[0].lower() if found else "not the pickle of plain tensors"
