"""Random numbers that depend on *what* is drawn and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def identity_rng(*identity: str | int | float) -> np.random.Generator:
    """Generator seeded by the identity of a draw, e.g. ("mixture", "leakfree", "siren", 0, 1, clip).

    The order of work, other clips and other classes change nothing. Parts are told apart by type and
    value, so ("a", 1) and ("a1",) or ("a", "1") differ.
    """
    digest = hashlib.sha256(repr(identity).encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, len(digest), 4)]
    return np.random.default_rng(np.random.SeedSequence(words))


def identity_order(items: Sequence[str], *identity: str | int | float) -> list[int]:
    """A random order of distinct items, as positions: each item's rank is a hash of its own identity.

    An item added or left out changes nobody else's place before or after the others.
    """
    keys = [hashlib.sha256(repr((*identity, item)).encode()).digest() for item in items]
    return sorted(range(len(items)), key=keys.__getitem__)
