"""A config along its schema (config/schema.yaml), before the first job: unknown key, wrong type, out of range.

Standard library only: the Snakefile imports this. The schema is the one description of what a config file
may hold. Three words of it are this project's own: `x-unit`, what a number counts, `x-expected`, what a
`pattern` means, and `x-path`, text that names files of the user and may hold any character. What one key may
hold because of another is the business of `config_choices`.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from vision_to_sound.settings import check_known


def check_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Walk a config along its schema; raise ValueError that names the key, what is allowed and the unit.

    Checks unknown keys (nearest match, or the section where the key belongs), missing keys, types, enum, pattern,
    range (NaN is in none), and that text is one line. Arrays are checked item by item.
    """
    _check_object(config, schema, path="", root=schema)


def _check_object(
    config: Mapping[str, Any], schema: Mapping[str, Any], *, path: str, root: Mapping[str, Any]
) -> None:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key, value in config.items():
        where = f"{path}.{key}" if path else str(key)
        if key in properties:
            _check_value(value, properties[key], where, root)
        elif isinstance(others, Mapping):
            _check_text(str(key), f"a key of {path}")
            _check_value(value, others, where, root)
        elif others is False:
            _refuse_key(key, properties, path=path, root=root)
    for key in schema.get("required", ()):
        if key not in config:
            raise ValueError(f"config key {f'{path}.{key}' if path else key!r} is missing")


def _refuse_key(key: Any, allowed: Mapping, *, path: str, root: Mapping[str, Any]) -> None:
    """ValueError: where the key belongs if that is another section and no name here is like it, else the nearest."""
    sections = [s for s in _sections_with(key, root) if s != path]
    if sections and not difflib.get_close_matches(str(key)[:100], allowed, n=1, cutoff=0.9):
        here = f"in {path}" if path else "at the top of the file"
        there = " or ".join(section or "the top of the file" for section in sections)
        raise ValueError(f"config key {key!r} has no meaning {here}; it belongs in {there}")
    what = f"config key '{path}.{key}':" if path else "config key"
    check_known(key, allowed, what=what)


def _sections_with(key: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    properties = schema.get("properties", {})
    if key in properties:
        yield path
    for name, part in properties.items():
        yield from _sections_with(key, part, f"{path}.{name}" if path else name)


def _check_value(value: Any, schema: Mapping[str, Any], where: str, root: Mapping) -> None:
    kind = schema.get("type")
    if kind and not _is_a(value, kind):
        raise ValueError(
            f"config key {where}: expected {kind}, got {_short(value)} ({type(value).__name__})."
            f"{_number_hint(value, kind)} {schema.get('description', '')}".rstrip()
        )
    if "enum" in schema:
        check_known(value, schema["enum"], what=f"value for config key {where}:")
    if kind in ("integer", "number"):
        _check_range(value, schema, where)
    elif kind == "string":
        if not schema.get("x-path"):
            _check_text(value, f"config key {where}")
        longest = schema.get("maxLength", math.inf)
        if len(value) > longest:
            raise ValueError(
                f"config key {where}: {len(value)} characters, at most {longest} are allowed"
            )
        if "pattern" in schema and not re.search(schema["pattern"], value):
            raise ValueError(
                f"config key {where}: {value!r} is not as expected: {schema['x-expected']}"
            )
    elif kind == "object":
        _check_object(value, schema, path=where, root=root)
    elif kind == "array":
        if len(value) < schema.get("minItems", 0):
            raise ValueError(
                f"config key {where}: at least {schema['minItems']} values are needed, got {len(value)}"
            )
        for i, item in enumerate(value):
            _check_value(item, schema["items"], f"{where}[{i}]", root)
        if schema.get("uniqueItems"):
            twice = [item for i, item in enumerate(value) if item in value[:i]]
            if twice:
                raise ValueError(f"config key {where}: {twice[0]!r} is named twice")


def _check_range(value: float, schema: Mapping[str, Any], where: str) -> None:
    low, high = schema["minimum"], schema["maximum"]
    if not low <= value <= high:  # NaN is not
        unit = f" {schema['x-unit']}"
        raise ValueError(
            f"config key {where}: {_short(value)}{unit} is outside {low} to {high}{unit}"
        )


def _check_text(text: str, what: str) -> None:
    # Line ends would break tables, lone surrogates cannot be written to any file.
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(
                f"{what}: {_short(text)} holds the character {character!r}; expected one line of text"
            )


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (Mapping,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _number_hint(value: Any, kind: str) -> str:
    """YAML takes 1e-5 for text."""
    if kind not in ("integer", "number") or not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    exact = int(number) if kind == "integer" and number.is_integer() else number
    written = re.sub(r"^(-?\d+)e", r"\1.0e", repr(exact))
    return f" To YAML this is text; write {written}, without quotes."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
