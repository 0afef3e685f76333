"""Settings are checked before the first job: unknown key, wrong type, value out of range.

Standard library only: the Snakefile imports this. The schema (config/schema.yaml) is the one description of
what a config file may hold; Snakemake's `validate` checks types and ranges, this module adds what a person
wants to read: the path of the key, the nearest allowed name, range and unit.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def check_known(name: str, allowed: Iterable[str], *, what: str) -> None:
    """Raise ValueError with the nearest match if `name` is not among `allowed`."""
    allowed = list(allowed)
    if name in allowed:
        return
    near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}{hint} Allowed: {', '.join(sorted(allowed))}.")


def check_config(config: Mapping[str, Any], schema: Mapping[str, Any], *, path: str = "") -> None:
    """Walk a config along its schema; raise ValueError that names the key, its range and its unit.

    Checks unknown keys (nearest match), types, enum, minimum, maximum; `x-unit` of the schema is named in
    the message. Arrays are checked item by item.
    """
    properties = schema.get("properties", {})
    open_ended = schema.get("additionalProperties", True)
    for key, value in config.items():
        where = f"{path}.{key}" if path else str(key)
        if key in properties:
            _check_value(value, properties[key], where)
        elif isinstance(open_ended, Mapping):
            _check_value(value, open_ended, where)
        elif open_ended is False:
            check_known(key, properties, what=f"config key {where!r}:" if path else "config key")
    for key in schema.get("required", ()):
        if key not in config:
            raise ValueError(f"config key {f'{path}.{key}' if path else key!r} is missing")


def check_choices(config: Mapping[str, Any], detectors: Mapping[str, Any]) -> None:
    """What one key may name depends on others: ValueError where they do not fit.

    detectors: the registry, name -> entry.
    """
    envmix, mimii, figures = config["envmix"], config["mimii"], config["figures"]
    recordings = [f"{t}_id_{i:02d}" for t in mimii["machine_types"] for i in mimii["ids"]]
    for name in [*figures["example_categories"]]:
        check_known(name, envmix["backgrounds"], what="background class")
    for name in [*figures["example_recordings"]]:
        check_known(name, recordings, what="machine of figures.example_recordings:")
    for name in config["overrides"]:
        check_known(name, [*envmix["backgrounds"], *recordings], what="class or machine")
    for key, known in (("example_snr_db", "snrs_db"), ("example_seed", "seeds")):
        if figures[key] not in envmix[known]:
            raise ValueError(
                f"figures.{key} is {figures[key]}, but envmix.{known} is {envmix[known]}"
            )
    run = config["methods"] + config["controls"]
    for key, names in (
        ("faithfulness.methods", config["faithfulness"]["methods"]),
        ("listening.methods", config["listening"]["methods"]),
    ):
        for name in names:
            check_known(name, run, what=f"method of {key} (it must be among methods or controls):")
            if "truth" in detectors[name].needs or not detectors[name].needs:
                raise ValueError(f"{key}: {name!r} does not listen to clips; take it out")
    if mimii["contaminated"] and "published" not in config["protocols"]:
        raise ValueError("mimii.contaminated is for the published protocol, which is not asked for")


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (Mapping,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _check_value(value: Any, schema: Mapping[str, Any], where: str) -> None:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_a(value, kind) for kind in kinds):
        raise ValueError(
            f"config key {where}: expected {' or '.join(kinds)}, got {value!r} "
            f"({type(value).__name__}). {schema.get('description', '')}".rstrip()
        )
    unit = f" {schema['x-unit']}" if "x-unit" in schema else ""
    if "enum" in schema and value not in schema["enum"]:
        names = [str(item) for item in schema["enum"]]
        check_known(str(value), names, what=f"value for config key {where}:")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            limits = f"{'' if low is None else low} to {'' if high is None else high}"
            raise ValueError(f"config key {where}: {value}{unit} is outside {limits}{unit}")
    if isinstance(value, Mapping):
        check_config(value, schema, path=where)
    elif isinstance(value, list | tuple):
        if len(value) < schema.get("minItems", 0):
            raise ValueError(f"config key {where}: at least {schema['minItems']} values are needed")
        if schema.get("uniqueItems") and len({repr(item) for item in value}) < len(value):
            raise ValueError(f"config key {where}: a value is named twice in {list(value)}")
        for i, item in enumerate(value):
            _check_value(item, schema.get("items", {}), f"{where}[{i}]")


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])
