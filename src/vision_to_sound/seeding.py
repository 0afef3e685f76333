"""Random numbers that depend on *what* is drawn and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


def identity_rng(*identity: str | int | float) -> np.random.Generator:
    """Generator seeded by the identity of a draw, e.g. ("mixture", "leakfree", "siren", 0, 1, clip).

    The order of work, other clips and other classes change nothing. Parts are told apart by type and
    value, so ("a", 1) and ("a1",) or ("a", "1") differ.
    """
    digest = hashlib.sha256(repr(identity).encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, len(digest), 4)]
    return np.random.default_rng(np.random.SeedSequence(words))
