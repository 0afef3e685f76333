"""What a person sees last when jobs failed: rule, wildcards, cause and log of each, on one screen.

Standard library only: the Snakefile imports this. The causes are read from the jobs' logs, which
`stage.run_stage` ends with one ERROR record for people.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_RECORD = re.compile(r"^\d\d:\d\d:\d\d (?:DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: ", re.M)
_CAUSE = re.compile(r"^\d\d:\d\d:\d\d ERROR vision_to_sound\.stage: ", re.M)
_FINISHED = re.compile(r"^\d\d:\d\d:\d\d INFO vision_to_sound\.stage: done in ", re.M)
_N_SHOWN, _N_LINES, _WIDTH = 4, 8, 112


@dataclass(frozen=True)
class FailedJob:
    """A job that failed; log: its log file, "" for a rule without one."""

    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    log: str = ""

    @property
    def name(self) -> str:
        return " ".join([self.rule, *(f"{key}={value}" for key, value in self.wildcards.items())])


def cause_of(job: FailedJob, *, started: float) -> str:
    """Why a job failed, in its own words; what can be said if it left none.

    started: when this run began, seconds since the epoch: an older log is of an older run.
    """
    path = Path(job.log) if job.log else None
    if path is None or not path.is_file() or path.stat().st_mtime < started:
        return (
            "It ended before it could write a log: Snakemake's own words stand above. Often a package "
            "of the environment is missing, or the job was not allowed to start."
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    causes = list(_CAUSE.finditer(text))
    if causes:
        return text[causes[-1].end() :].removesuffix("\n")
    if _FINISHED.search(text):
        return "The script itself finished: what Snakemake then missed stands above."
    records = list(_RECORD.finditer(text))
    last = text[records[-1].end() :].strip().splitlines()[:1] if records else []
    return (
        "It was ended from outside, without an error of its own: by the system for want of memory, by a time "
        f"limit, or by hand. Last word in its log: {last[0] if last else 'none'}. If memory is short, run "
        "fewer jobs side by side (--cores) or lower memory_mb."
    )


def summary(jobs: Iterable[FailedJob], *, started: float) -> str:
    """The failed jobs by cause, most frequent first; at most a screen."""
    by_cause: dict[str, list[FailedJob]] = {}
    for job in sorted(jobs, key=lambda job: job.name):
        by_cause.setdefault(cause_of(job, started=started), []).append(job)
    n_failed = sum(map(len, by_cause.values()))
    lines = [
        "",
        f"{n_failed} {'JOB' if n_failed == 1 else 'JOBS'} FAILED. All that finished is kept: mend the cause and "
        "start the same command again.",
    ]
    causes = sorted(by_cause.items(), key=lambda item: -len(item[1]))
    for cause, failed in causes[:_N_SHOWN]:
        lines += ["", failed[0].name, *_indented(cause)]
        lines.append(f"    log: {failed[0].log or 'none'}")
        if len(failed) > 1:
            lines.append(
                f"    the same in {len(failed) - 1} more: {failed[1].name}"
                + ", ..." * (len(failed) > 2)
            )
    hidden = sum(len(failed) for _, failed in causes[_N_SHOWN:])
    if hidden:
        lines += ["", f"and {hidden} more with other causes; the errors above name their logs"]
    return "\n".join(f"  {line}".rstrip() for line in [*lines, ""])


def _indented(text: str) -> list[str]:
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
    if len(lines) > _N_LINES:
        lines = [*lines[: _N_LINES - 1], "... (the rest is in the log)"]
    return [f"    {line}" for line in lines]
