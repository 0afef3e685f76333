"""Why a target would be made again: which module, setting or file, and what follows from it.

    python -m vision_to_sound.why --configfile config/demo.yaml tables      (make why CONFIG=... TARGET=tables)

Snakemake's dry run gives a reason for each job; here they are put together by cause. Standard library only, but
for the config.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vision_to_sound.dry_run import PlannedJob, planned_jobs

# Snakemake's reasons: what stands before the colon, and a word for it. Values may hold anything, so
# that of a change of params is cut out first.
_PARAMS = re.compile(
    r"Params have changed since last execution: .*? before: (.*?)\s*"
    r"(?:; Software environment definition has changed since last execution)?$"
)
_NOTHING = "<nothing exclusive>"
_FOLLOWS = "Input files updated by another job"
_FILES = {
    "Missing output files": "missing",
    "Incomplete output files": "left incomplete by a job that was killed",
    "Updated input files": "newer than what was made from it",
}
_WORDS = {
    "Set of input files has changed since last execution": "other input files than before",
    "Forced execution": "asked for by force",
}
_EXAMPLES = 3


def causes(job: PlannedJob) -> list[str]:
    """What makes a job run, in words; [] if it only follows from other jobs."""
    reason, found = job.reason, []
    if match := _PARAMS.search(reason):
        reason = reason[: match.start()]
        before, now = _params_before_and_now(match[1])
        found += _code_changes(*(_pick(params, is_code=True) for params in (before, now)))
        found += _setting_changes(*(_pick(params, is_code=False) for params in (before, now)))
        found = found or ["other params than before"]
    others = []
    for part in filter(None, (part.strip() for part in reason.split(";"))):
        title, _, files = part.partition(": ")
        if title in _FILES:
            # a job whose inputs are made again has its outputs made again: that is no cause of its own
            others += [f"{name}: {_FILES[title]}" for name in files.split(", ") if name]
        elif title != _FOLLOWS:
            others.append(_WORDS.get(part, part))
    return found + others


def explain(jobs: Iterable[PlannedJob]) -> str:
    """Causes, each with the jobs that it makes run, and the jobs that follow from those."""
    jobs = [job for job in jobs if _makes_something(job)]
    if not jobs:
        return "Nothing would run: all of it is up to date."
    by_cause: dict[str, Counter[str]] = {}
    following: Counter[str] = Counter()
    for job in jobs:
        found = causes(job)
        for cause in found:
            by_cause.setdefault(cause, Counter())[job.rule] += 1
        if not found:
            following[job.rule] += 1
    lines = [f"{len(jobs)} jobs would run."]
    for rules, same in _together(by_cause).items():
        shown = (
            same
            if len(same) <= _EXAMPLES
            else [*same[:_EXAMPLES], f"and {len(same) - _EXAMPLES} more"]
        )
        lines += ["", *shown, f"    -> {_listed(rules)}"]
    if following:
        lines += ["", "what follows from these", f"    -> {_listed(following.items())}"]
    return "\n".join(lines)


def _makes_something(job: PlannedJob) -> bool:
    return "Rules with neither input nor output" not in job.reason and job.rule != "all"


def _together(by_cause: Mapping[str, Counter[str]]) -> dict[tuple[tuple[str, int], ...], list[str]]:
    """Causes that make the same number of jobs of the same rules run, in the order of their first one."""
    groups: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for cause, rules in by_cause.items():
        groups.setdefault(tuple(rules.items()), []).append(cause)
    return groups


def _listed(rules: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{rule} {n}" for rule, n in rules)


# --- params: one dict of settings and one of code, as Snakemake writes them


def _params_before_and_now(text: str) -> tuple[list[Any], list[Any]]:
    """Values that only the last run had, and those that only this one has; ([], []) if they are no plain values."""
    for match in re.finditer(r" now: ", text):  # the words may stand in a setting, too
        parts = text[: match.start()], text[match.end() :]
        try:
            before, now = (ast.literal_eval(f"[{part.replace(_NOTHING, '')}]") for part in parts)
        except (ValueError, SyntaxError):
            continue
        return before, now
    return [], []


def _pick(params: Iterable[Any], *, is_code: bool) -> dict[str, Any]:
    for value in params:
        if (
            isinstance(value, Mapping)
            and any(str(k).startswith("script:") for k in value) == is_code
        ):
            return dict(value)
    return {}


def _code_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if not before:
        return
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"code: {name} is no longer used"
        elif name not in before:
            yield f"code: {name} is new here"
        elif before[name] != now[name]:
            yield f"code: {name} changed"


def _setting_changes(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            path = f"{key}.{name}" if key else str(name)
            yield from _setting_changes(before.get(name), now.get(name), path)
    elif before != now:
        yield f"setting: {key}: {before!r} -> {now!r}"


def main() -> None:
    """Say which module, setting or file would make targets run again, and which jobs."""
    parser = argparse.ArgumentParser(prog="why", description=main.__doc__)
    parser.add_argument("--configfile", help="config file on top of config/config.yaml")
    parser.add_argument("targets", nargs="*", help="rules or files; everything by default")
    given = parser.parse_args()
    print(explain(planned_jobs(given.configfile, *given.targets)))


if __name__ == "__main__":
    main()
