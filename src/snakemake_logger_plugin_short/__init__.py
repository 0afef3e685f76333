"""`snakemake --logger short`: one progress line, warnings and errors; Snakemake's own log file has all the rest.

On a terminal the line is drawn again and again; elsewhere it is written every ten seconds. What a failed job says comes
from the job and from the workflow's last words (vision_to_sound.failures), so Snakemake's block about it is left out.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

_EVERY_S = 10.0
_SAID_ELSEWHERE = (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)
_NOTHING_NEW = (
    "CalledProcessError",  # that a script failed, not why
    "Exiting because a job execution failed",
    "At least one job did not complete successfully",
)
# Informative lines that people look for; they have no event of their own.
_SHOWN = ("Nothing to be done", "Unlocking")


class LogHandler(LogHandlerBase):
    """See the module."""

    def __post_init__(self) -> None:
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        self._is_terminal = self.stream.isatty()
        self._started = self._said = time.monotonic()
        self._running: dict[int, str] = {}
        self._is_drawn = False

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            wildcards = " ".join(map(str, dict(record.wildcards or {}).values()))
            self._running[record.jobid] = f"{record.rule_name} {wildcards}".strip()
        elif event == LogEvent.JOB_FINISHED:
            self._running.pop(record.job_id, None)
        elif event == LogEvent.PROGRESS:
            self._progress(record.done, record.total)
        elif record.levelno >= logging.WARNING:
            text = record.getMessage()
            if event not in _SAID_ELSEWHERE and not any(words in text for words in _NOTHING_NEW):
                self._write(text)
        elif str(record.msg).startswith(_SHOWN):
            self._write(record.getMessage())

    def _progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        took_s = now - self._started
        line = f"{done} of {total} jobs, {_clock(took_s)}"
        if done == total:
            self._write(line)
        elif self._is_terminal:
            line += f", about {_clock(took_s * (total - done) / done)} left"
            running = ", ".join(self._running.values())
            line = f"{line}  {running}"[: shutil.get_terminal_size().columns - 1]
            self.stream.write(f"\r\033[K{line}")
            self.stream.flush()
            self._is_drawn = True
        elif now - self._said >= _EVERY_S:
            self._write(line)
            self._said = now

    def _write(self, text: str) -> None:
        start = "\r\033[K" if self._is_drawn else ""
        self._is_drawn = False
        self.stream.write(f"{start}{text}\n")
        self.stream.flush()


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
