"""Greedy coreset selection against anomalib's KCenterGreedy, on the same projected features.

Both start at the same row. Where the peer would take too long it selects the first centres only: the rest is
extrapolated from its time per centre, which is constant (each centre is compared with every row), and said so.
"""

from __future__ import annotations

import argparse
import logging
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.rows import Row, options, product_rate, run, taking_turns, timed

NOISE = 0.05  # of a channel's standard deviation, where recordings are used more than once
MEMORY_BYTES = 10**9


@dataclass(frozen=True)
class Size:
    n_patches: int
    n_channels: int
    n_select: int
    of_peer: int  # centres that the peer selects


SIZES = (Size(100_000, 1536, 1000, 1000), Size(400_000, 896, 4000, 100))
QUICK = (Size(4000, 1536, 60, 60), Size(6000, 896, 300, 40))
PAPER = Size(1_633_920, 896, 30_000, 0)


class Noise:
    """Gaussian patches, drawn block by block: the worst case, all about equally far from each other."""

    group_size = 4096

    def __init__(self, size: Size) -> None:
        self.n_patches, self.n_channels = size.n_patches, size.n_channels

    def blocks(self, *, device, memory_bytes) -> Iterator[tuple[int, object]]:
        import torch

        draws = torch.Generator().manual_seed(0)
        for first in range(0, self.n_patches, self.group_size):
            n_rows = min(self.group_size, self.n_patches - first)
            yield first, torch.randn(n_rows, self.n_channels, generator=draws)


class Repeated:
    """Embeddings of recordings, after the first time round with noise on top."""

    group_size = 4096

    def __init__(self, patches: np.ndarray, n_patches: int) -> None:
        self.patches, self.n_patches, self.n_channels = patches, n_patches, patches.shape[1]

    def blocks(self, *, device, memory_bytes) -> Iterator[tuple[int, object]]:
        import torch

        draws = torch.Generator().manual_seed(0)
        spread = torch.from_numpy(self.patches[:20_000].astype(np.float32).std(0)) * NOISE
        for first in range(0, self.n_patches, self.group_size):
            rows = np.arange(first, min(first + self.group_size, self.n_patches))
            block = torch.from_numpy(self.patches[rows % len(self.patches)].astype(np.float32))
            again = torch.from_numpy(rows >= len(self.patches))[:, None]
            yield first, block + again * spread * torch.randn(block.shape, generator=draws)


def peer_selection(features, n_select: int) -> tuple[int, list[int]]:
    """(start, centres) of anomalib; a third axis is its way to leave out the projection."""
    import torch
    from anomalib.models.components import KCenterGreedy

    sampler = KCenterGreedy(features[:, :, None], sampling_ratio=(n_select + 0.5) / len(features))
    torch.manual_seed(0)
    start = int(torch.randint(high=len(features), size=(1,)))
    torch.manual_seed(0)
    return start, sampler.select_coreset_idxs()


def is_greedy_up_to_rounding(features, found: list[int], other: list[int]) -> tuple[bool, int]:
    """(whether two selections agree, centres until they part): parting is right where both rows are as far."""
    for i, (one, two) in enumerate(zip(found, other, strict=True)):
        if one != two:
            chosen = features[found[:i]].double()
            far, also = (
                float((chosen - features[row].double()).square().sum(1).min()) for row in (one, two)
            )
            return abs(far - also) <= 1e-5 * max(far, also), i
    return True, len(found)


def projected(source, seed: int = 0):
    import torch

    from vision_to_sound.detectors.coreset import project_patches

    return project_patches(
        source,
        rng=np.random.default_rng(seed),
        projection_eps=0.9,
        device=torch.device("cpu"),
        memory_bytes=6 * 10**9,
    )


def compare(name: str, source, size: Size) -> Row:
    from vision_to_sound.detectors.coreset import greedy_selection

    features = projected(source)
    start, _ = peer_selection(features, 2)  # and the import, before the clock runs
    peer_s, ours_s, (_, expected), found = taking_turns(
        lambda: peer_selection(features, size.of_peer),
        lambda: greedy_selection(
            features, size.n_select, start=start, memory_bytes=MEMORY_BYTES
        ).tolist(),
        turns=1,
    )
    same, n_same = is_greedy_up_to_rounding(features, found[: size.of_peer], expected)
    notes = [f"first {n_same} centres identical" if n_same < size.n_select else ""]
    if n_same < size.of_peer:
        notes.append("then two rows as far up to rounding" if same else "then another")
    if size.of_peer < size.n_select:
        peer_s *= (size.n_select - 1) / (size.of_peer - 1)
        notes.append(f"peer extrapolated from {size.of_peer} centres")
    notes.append(limit(size.n_patches, size.n_select, features.shape[1]))
    return Row(
        f"coreset {size.n_patches} x {source.n_channels} ({features.shape[1]} projected) -> "
        f"{size.n_select}, {name}",
        "anomalib KCenterGreedy",
        peer_s,
        ours_s,
        20.0,
        same,
        "; ".join(note for note in notes if note),
    )


def limit(n_patches: int, n_select: int, n_dimensions: int) -> str:
    """What all distances cost as matrix products at the rate measured now: the floor without pruning."""
    rate = product_rate(n_dimensions)
    floor_s = 2.0 * n_patches * n_select * n_dimensions / rate
    return f"all distances as products at {rate / 1e9:.0f} GFLOP/s: {floor_s:.3g} s"


def paper(name: str, source, size: Size, *, minutes: float, memory_gb: float) -> Row:
    """The paper's size, projection and all, from blocks that are made on the way."""
    from vision_to_sound.detectors.coreset import greedy_selection

    began_cpu_s = time.process_time()
    project_s, features = timed(lambda: projected(source))
    select_s, found = timed(
        lambda: greedy_selection(
            features, size.n_select, start=0, memory_bytes=MEMORY_BYTES
        ).tolist()
    )
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Row(
        f"coreset {size.n_patches} x {size.n_channels} -> {size.n_select}, {name}",
        "",
        None,
        project_s + select_s,
        minutes * 60,
        len(set(found)) == size.n_select and peak_gb <= memory_gb,
        f"drawing and projecting {project_s:.0f} s, selecting {select_s:.0f} s; "
        f"{time.process_time() - began_cpu_s:.0f} s of processor time; peak {peak_gb:.1f} GB of "
        f"{memory_gb:g}; {limit(size.n_patches, size.n_select, features.shape[1])}",
    )


def measure(arguments: argparse.Namespace) -> list[Row]:
    from benchmarks.recordings import patches_of

    patches, kind = patches_of(arguments.recordings, quick=arguments.quick)
    if arguments.paper:
        logging.basicConfig(level=logging.INFO)  # how far it is
        size = Size(8000, 896, 400, 0) if arguments.quick else PAPER
        sources = {kind: Repeated(patches, size.n_patches), "noise": Noise(size)}
        chosen = kind if arguments.data == "recordings" else "noise"
        return [paper(chosen, sources[chosen], size, minutes=15.0, memory_gb=8.0)]
    rows = []
    for size in QUICK if arguments.quick else SIZES:
        rows.append(compare(kind, Repeated(patches, size.n_patches), size))
        rows.append(compare("Gaussian noise", Noise(size), size))
    return rows


PARSER = options(
    __doc__,
    (
        "--recordings",
        {"default": "../shared/data/slider_recordings", "help": "folder of WAV files"},
    ),
    ("--paper", {"action": "store_true", "help": "1.6 million x 896 -> 30 000, without the peer"}),
    ("--data", {"choices": ("recordings", "noise"), "default": "recordings", "help": "of --paper"}),
)

if __name__ == "__main__":
    run(measure, PARSER)
