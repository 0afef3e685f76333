"""What every script starts with: log, settings, memory budget, checked source, atomic writes.

    with run_stage(snakemake) as job:
        ...

First line of a log: rule, wildcards, settings. Last line: wall time and peak memory, or the error in
words for people. The screen shows warnings, errors without their tracebacks, and the progress of long work.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import logging
import os
import platform
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_to_sound.provenance import changed_code, fingerprint_digest

log = logging.getLogger(__name__)
progress_log = logging.getLogger(f"{__name__}.progress")


@dataclass
class Job:
    """One running job of a rule, as its script sees it."""

    rule: str
    settings: dict[str, Any]
    fingerprint: dict[str, str]
    gpu: int
    threads: int
    memory_bytes: int

    @property
    def code(self) -> str:
        """Digest of the code that this job runs; goes into metrics files."""
        return fingerprint_digest(self.fingerprint)

    @contextlib.contextmanager
    def timed(self, n_clips: int) -> Iterator[None]:
        """Log what the block takes, without start-up and imports, for so many clips; `tables.costs` reads that line."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        log.info("timed %d clips: %.6f s, %.6f s of CPU; %s", n_clips, wall_s, cpu_s, machine())

    def key(self, inputs: Iterable[str]) -> str:
        """Digest of all that a result depends on: settings, code and the input files as they lie there now."""
        files = [(str(path), *_size_and_time(path)) for path in inputs]
        return hashlib.sha256(repr((self.settings, self.code, files)).encode()).hexdigest()


@contextlib.contextmanager
def run_stage(snakemake: Any) -> Iterator[Job]:
    """Set up a script: logging and fingerprint check; report time and memory at its end.

    Raises RuntimeError if the source changed since the workflow was started: the result would carry the
    fingerprint of code that did not make it.
    """
    log_path = Path(str(snakemake.log[0])) if snakemake.log else None
    _set_up_logging(log_path)
    started = time.monotonic()
    wildcards = dict(snakemake.wildcards.items())
    job = Job(
        rule=snakemake.rule,
        settings=dict(snakemake.params.get("settings", {})),
        fingerprint=dict(snakemake.params.get("code", {})),
        gpu=int(snakemake.resources.get("gpu", 0)),
        threads=int(snakemake.threads),
        memory_bytes=_working_memory(int(snakemake.resources.get("budget_mb", 1000))),
    )
    try:
        log.info("rule %s, wildcards %s", job.rule, wildcards)
        log.info(
            "settings %s, threads %d, gpu %d, memory for data %d MiB",
            job.settings,
            job.threads,
            job.gpu,
            job.memory_bytes >> 20,
        )
        if job.fingerprint:
            _check_source(job, Path(snakemake.scriptdir))
        yield job
    except KeyboardInterrupt:
        log.info("stopped by Ctrl-C; the next run goes on from what is there")
        sys.exit(130)
    except Exception as error:
        log.error("rule %s %s failed", job.rule, wildcards or "", exc_info=True)
        log.error("%s", in_words(error))
        if log_path:
            print(f"log: {log_path}", file=sys.stderr)
        sys.exit(1)
    # Linux gives kilobytes.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    log.info("done in %.1f s, peak memory %.0f MiB", time.monotonic() - started, peak_mb)


def in_words(error: Exception) -> str:
    """An error for people: its own message, or for one that nobody foresaw what kind it is."""
    text = str(error).encode("utf-8", "backslashreplace").decode()  # file names may hold any bytes
    if isinstance(error, MemoryError):
        return (
            f"out of memory ({text or 'no more is known'}). Run fewer jobs side by side (--cores), or lower "
            "memory_mb, so that more is done in parts."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full_disk(text, error)
    if isinstance(error, ValueError | RuntimeError | OSError) and text:
        return text
    return f"{type(error).__name__}: {text}. Nobody foresaw this error; the log says where it happened."


def _full_disk(text: str, error: OSError) -> str:
    """The file by the name that it would have got, what it needs if that is known, and what to do."""
    if not error.filename:
        # Every `replacing` on the way out puts its own file in front: the last one named had no room.
        text = ": ".join(text.removeprefix(f"[Errno {error.errno}] ").split(": ")[-2:])
    # the names that `seals.replacing` writes to
    text = re.sub(r"(/|^|')\.([^/]+)\.[0-9a-f]{8}-\d+(\.\w+)", r"\1\2\3", text)
    return (
        f"{text}. Free some space on that disk, or put `results` on a larger one; nothing that finished "
        "is made again."
    )


def machine() -> str:
    """Model of the processor and cores that this process may use: "AMD EPYC, 2 cores"."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{found[1].strip() if found else platform.machine()}, {n_cores} cores"


def _size_and_time(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns


def progress(
    total: int, what: str, *, unit: str = "clip", every_s: float = 10.0
) -> Callable[[int], None]:
    """`advance(n)` that draws a bar on a terminal and else logs rate and remaining time now and then."""
    started = last = time.monotonic()
    done = 0
    bar = None
    if sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=total, desc=what, unit=unit)

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        if bar is not None:
            bar.update(n)
            if done >= total:
                bar.close()
            return
        now = time.monotonic()
        is_last = done >= total and now - started > 1.0
        if is_last or now - last >= every_s:
            last = now
            rate = done / max(now - started, 1e-9)
            left_s = (total - done) / max(rate, 1e-9)
            line = f"{what}: {done} of {total}, {rate:.1f} {unit}/s, {left_s:.0f} s left"
            (log if is_last else progress_log).info("%s", line)

    return advance


def counted(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """The items, with progress."""
    advance = progress(total, what)
    for item in items:
        yield item
        advance(1)


def _working_memory(budget_mb: int) -> int:
    """What is left for data in a job of budget_mb: Python and PyTorch hold up to 500 MiB themselves."""
    return max(budget_mb - 500, budget_mb // 2) << 20


def _set_up_logging(log_path: Path | None) -> None:
    layout = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    screen = logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [screen]
    if log_path is not None:
        screen.setFormatter(_WithoutTraceback("%(message)s"))
        screen.addFilter(_for_the_screen)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # what a file name or message holds beyond UTF-8 shall not hide the error that names it
        handlers.append(
            logging.FileHandler(log_path, mode="w", encoding="utf-8", errors="backslashreplace")
        )
    logging.basicConfig(
        level=logging.INFO, format=layout, datefmt="%H:%M:%S", handlers=handlers, force=True
    )
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}"
    logging.captureWarnings(True)


def _for_the_screen(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name == progress_log.name


class _WithoutTraceback(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)
        record.exc_info = record.exc_text = None
        return super().format(record)


def _check_source(job: Job, script_directory: Path) -> None:
    changed = changed_code(
        job.fingerprint,
        script_directory=script_directory,
        source_root=Path(__file__).resolve().parents[1],
    )
    if changed:
        raise RuntimeError(
            f"the source changed while the workflow was running: {', '.join(changed)}. "
            "Start snakemake again; finished jobs of unchanged stages are kept."
        )
