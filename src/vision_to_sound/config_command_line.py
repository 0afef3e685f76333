"""Values of `snakemake --config key=value` as the schema wants them.

Snakemake reads such values as YAML without types: 0.1 inside {...} and `false` arrive as text, a folder called
2024 as a number, and of "/data/pump #3" the part before the # alone. Here text is text as it was typed, and numbers
and booleans are what the schema says. Standard library and PyYAML: the Snakefile imports this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def typed(
    config: Mapping[str, Any],
    given: Mapping[str, Any],
    schema: Mapping[str, Any],
    *,
    arguments: Sequence[str],
) -> dict[str, Any]:
    """The config with the values that were given on the command line typed along the schema.

    given: what Snakemake understood of `--config`; it is merged into `config` already. arguments: of the command.
    A value that does not fit stays as it is: `check_config` says what is wrong with it.
    """
    found = dict(config)
    words = _as_typed(arguments)
    for key, value in given.items():
        part = schema["properties"].get(key, {})
        if part.get("type") == "string" and key in words:
            found[key] = words[key]
        elif key in found:
            found[key] = _typed(found[key], value, part)
    return found


def _as_typed(arguments: Sequence[str]) -> dict[str, str]:
    """{key: text} of the options `--config key=text`; text in quotes is what YAML says it is."""
    found: dict[str, str] = {}
    is_config = False
    for argument in arguments:
        if argument.startswith("-"):
            is_config = argument in ("--config", "-C")
            argument = argument.removeprefix("--config=") if "--config=" in argument else ""
        elif not is_config:
            continue
        key, equals, text = argument.partition("=")
        if equals:
            quoted = re.fullmatch(r"(['\"]).*\1", text, re.DOTALL)
            found[key] = str(_from_yaml(text, (str,))) if quoted else text
    return found


def _typed(value: Any, given: Any, schema: Mapping[str, Any]) -> Any:
    """value: of the merged config; given: the part of it that came from the command line."""
    kind = schema.get("type")
    if kind == "object" and isinstance(value, Mapping) and isinstance(given, Mapping):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        parts = {key: properties.get(key, others) for key in given}
        typed_parts = {
            key: _typed(value[key], given[key], part)
            for key, part in parts.items()
            if key in value and isinstance(part, Mapping)
        }
        return {**value, **typed_parts}
    if kind == "array" and isinstance(value, list) and value == given:
        return [_typed(item, item, schema["items"]) for item in value]
    if kind == "string" and given is None:
        return ""
    if kind in ("integer", "number", "boolean", "array") and isinstance(value, str):
        return _from_yaml(value, _KINDS[kind])
    return value


_KINDS = {"integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,)}


def _from_yaml(text: str, kinds: Iterable[type]) -> Any:
    """The value that a text stands for, if it is of one of these kinds; else the text."""
    import yaml

    if float in kinds:
        try:
            return float(text)  # YAML takes 1e-3 for text
        except ValueError:
            return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if type(value) in kinds else text
