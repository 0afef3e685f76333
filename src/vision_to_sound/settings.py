"""Names that a person typed: an unknown one is refused with the nearest that there is. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_known(name: str, allowed: Iterable[str], *, what: str) -> None:
    """Raise ValueError with the nearest match if `name` is not among `allowed`."""
    allowed = list(allowed)
    if name in allowed:
        return
    near = difflib.get_close_matches(str(name)[:100], allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"unknown {what} {name!r}{hint} Allowed: {', '.join(sorted(allowed))}.")
