"""Arguments that a person typed, checked when they are given: an error says name, what was expected and what came.

Numbers of NumPy are taken and become Python's, so that they can be saved.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_to_sound.encoders import EncoderSpec, tap_shapes
from vision_to_sound.settings import check_known, tap_names_of


def number(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """A finite number from low to high. above: low itself is not allowed.

    Raises:
        ValueError: text, True, NaN, or outside.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and low <= value <= high and not (above and value == low):
        return float(value)
    expected = f"above {low:g}, at most {high:g}" if above else f"from {low:g} to {high:g}"
    raise ValueError(f"{name}: expected a number {expected}, got {value!r}")


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """An integer from low to high.

    Raises:
        ValueError: text, True, a fraction, or outside.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if is_whole and low <= value <= high:
        return int(value)
    raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")


def true_or_false(name: str, value: object) -> bool:
    """A bool. Raises ValueError for anything else: "no" would pass for yes."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"{name}: expected True or False, got {value!r}")


def path_of(name: str, value: object) -> Path:
    """A path from text, bytes or a path object. Raises ValueError for anything else, empty text, or a zero byte."""
    if isinstance(value, str | bytes | os.PathLike):
        text = os.fsdecode(value)
        if text and "\0" not in text:
            return Path(text)
    raise ValueError(f"{name}: expected a path, got {value!r}")


def existing_file(name: str, value: object) -> Path:
    """A path to a file that is there. Raises ValueError if it is not."""
    path = path_of(name, value)
    if not path.is_file():
        raise ValueError(f"{name}: there is no file {path}")
    return path


def settings_of(method: str, given: object, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings: the defaults, and what was given in their place, of the same kind as they are.

    Raises:
        ValueError: no mapping, an unknown name (says the nearest), or a value of another kind.
    """
    if given is None:
        return dict(defaults)
    if not isinstance(given, Mapping):
        raise ValueError(f"settings: expected a dict like {{'name': value}}, got {given!r}")
    for name in given:
        check_known(name, defaults, what=f"setting of method {method!r}:")
    return {**defaults, **{name: _like(defaults[name], name, given[name]) for name in given}}


def _like(default: Any, name: str, value: object) -> Any:
    name = f"settings: {name}"
    if isinstance(default, bool):
        return true_or_false(name, value)
    if isinstance(default, int):
        return whole_number(name, value, -(2**53), 2**53)
    if isinstance(default, float):
        return number(name, value, -1e300, 1e300)
    if isinstance(default, str):
        if isinstance(value, str):
            return str(value)
        raise ValueError(f"{name}: expected text, got {value!r}")
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(item, str) for item in value):
            return list(value)
    raise ValueError(f"{name}: expected a list of names, got {value!r}")


def check_window(window_s: float, spec: EncoderSpec, *, needs_network: bool) -> None:
    """ValueError for a window that is too short for the front end or the encoder."""
    front_end = spec.front_end
    n_frames = front_end.n_frames(round(window_s * front_end.sample_rate_hz))
    try:
        if (n_frames - 1) * front_end.hop_samples <= front_end.n_fft // 2:
            raise ValueError(f"{n_frames} frames; more than half an FFT is needed")
        if needs_network:
            tap_shapes(spec, n_frames, front_end.n_mels)
    except ValueError as error:
        raise ValueError(f"window_s: {window_s} s are too short: {error}") from None


def check_layers(settings: Mapping[str, Any], spec: EncoderSpec) -> None:
    """ValueError for the name of a tap that the encoder does not have."""
    names = [tap.name for tap in spec.taps]
    for setting in ("layers", "map_layers"):
        for layer in tap_names_of(settings.get(setting, []), names):
            check_known(layer, names, what=f"tap in the setting {setting!r}:")
