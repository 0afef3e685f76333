"""Names that a person typed: an unknown one is refused with the nearest that there is. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHALLOWEST = "shallowest"  # in the setting `layers`: the encoder's first tap, whatever its name


def check_known(name: str, allowed: Iterable[str], *, what: str) -> None:
    """Raise ValueError with the nearest match if `name` is not among `allowed`."""
    allowed = list(allowed)
    if name in allowed:
        return
    near = difflib.get_close_matches(str(name)[:100], allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"unknown {what} {name!r}{hint} Allowed: {', '.join(sorted(allowed))}.")


def tap_names_of(layers: Sequence[str], names: Sequence[str]) -> list[str]:
    """The setting `layers` with the first tap's name in the place of SHALLOWEST; names: shallow to deep."""
    return [names[0] if layer == SHALLOWEST else layer for layer in layers]
