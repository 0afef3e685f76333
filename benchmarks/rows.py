"""What the benchmarks share: rows of the table, taking turns, the machine's own rates."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # of a peer: bars between the rows
HEADER = ("what", "peer", "peer, s", "ours, s", "ratio", "target", "met", "same result", "notes")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    peer_s, ours_s: wall seconds of the same work; peer_s None where there is no peer. target: times as fast as the
    peer, or where there is none seconds at most. exact: whether results agree, None where nothing is compared.
    """

    what: str
    peer: str
    peer_s: float | None
    ours_s: float
    target: float
    exact: bool | None
    notes: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.peer_s is None else self.peer_s / self.ours_s

    @property
    def met(self) -> bool:
        return self.ours_s <= self.target if self.ratio is None else self.ratio >= self.target

    def cells(self) -> tuple[str, ...]:
        target = f"<= {self.target:g} s" if self.ratio is None else f">= {self.target:g}"
        return (
            self.what,
            self.peer or "-",
            "-" if self.peer_s is None else f"{self.peer_s:.3g}",
            f"{self.ours_s:.3g}",
            "-" if self.ratio is None else f"{self.ratio:.1f}",
            target,
            "yes" if self.met else "no",
            {True: "yes", False: "NO", None: "-"}[self.exact],
            self.notes,
        )


def markdown(rows: Sequence[Row]) -> str:
    lines = [HEADER, ("---",) * len(HEADER), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def taking_turns(
    peer: Callable[[], Any], ours: Callable[[], Any], *, turns: int
) -> tuple[float, float, Any, Any]:
    """(seconds of the peer, of ours, results): ours before and after each turn of the peer, means over all.

    So other load hits both alike, also where one takes a hundred times as long.
    """
    seconds, of_ours = timed(ours)
    ours_s, peer_s = [seconds], []
    for _ in range(turns):
        seconds, of_peer = timed(peer)
        peer_s.append(seconds)
        seconds, of_ours = timed(ours)
        ours_s.append(seconds)
    return fmean(peer_s), fmean(ours_s), of_peer, of_ours


def product_rate(n_dimensions: int) -> float:
    """Floating point operations a second of a float32 matrix product of the inner size n_dimensions."""
    import torch

    a, b = torch.randn(2048, n_dimensions), torch.randn(1024, n_dimensions)
    best = min(timed(lambda: a @ b.T)[0] for _ in range(10))
    return 2.0 * 2048 * 1024 * n_dimensions / best


def machine() -> str:
    """ "AMD EPYC, 2 cores, AVX2, no bf16, load 0.3 before": what sets the speed, and how busy it was."""
    from vision_to_sound import stage  # not for --help

    parts = [stage.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
        parts.append("AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2")
        parts.append("bf16" if {"avx512_bf16", "amx_bf16"} & flags else "no bf16")
    return ", ".join([*parts, f"load {os.getloadavg()[0]:.1f} before"])


def options(description: str | None, *more: tuple[str, dict]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a small size that takes seconds")
    parser.add_argument("--threads", type=int, default=2, help="of both sides (default: 2)")
    for name, settings in more:
        parser.add_argument(name, **settings)
    return parser


def prepare(threads: int) -> None:
    """PyTorch as the benchmarks use it; imported late, so that --help answers at once."""
    from vision_to_sound import torch_setup  # noqa: F401  isort: skip
    import torch

    torch.set_num_threads(threads)


def run(
    measure: Callable[[argparse.Namespace], list[Row]], parser: argparse.ArgumentParser
) -> None:
    """A benchmark as a program: its rows to the screen."""
    arguments = parser.parse_args()
    print(machine(), flush=True)
    prepare(arguments.threads)
    print(markdown(measure(arguments)))
