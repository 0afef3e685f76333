"""Time until a job's work begins: Python, what Snakemake puts in front of a script, and the script's imports.

Imports of a script count wherever they stand in it, as do the detectors, which a registry imports by name. No peer.
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import Row, options, run, timed

REPOSITORY = Path(__file__).resolve().parents[1]
BY_NAME = {"fit_detector": "patchcore", "score_clips": "patchcore", "fit_recordings": "band_padim"}
BY_NAME |= {"measure_faithfulness": "padim", "score_recordings": "band_padim"}
LIMIT_S = 3.0


def imports_of(script: Path) -> list[str]:
    """Import statements of a script, one a line, after those that Snakemake writes into it."""
    found = [
        "import pickle",
        "from snakemake.logging import logger",
        "from snakemake.iocontainers import Snakemake",
    ]
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(ast.unparse(node))
    if script.stem in BY_NAME:
        found.append(f"import vision_to_sound.detectors.{BY_NAME[script.stem]}")
    return found


def measure(arguments: argparse.Namespace) -> list[Row]:
    scripts = sorted((REPOSITORY / "workflow_scripts").glob("*.py"))
    scripts = scripts[:2] if arguments.quick else scripts
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    seconds, processor = {}, {}
    for script in scripts:
        command = [sys.executable, "-c", "\n".join(imports_of(script))]
        for _ in range(1 if arguments.quick else 4):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            wall, _ = timed(lambda c=command: subprocess.run(c, env=environment, check=True))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            seconds[script.stem] = min(wall, seconds.get(script.stem, wall))
            processor[script.stem] = min(cpu, processor.get(script.stem, cpu))
            if wall <= LIMIT_S:
                break  # above it, it may have been a cold disk or other load
    slowest = max(seconds, key=seconds.get)
    above = sorted(name for name, value in seconds.items() if value > LIMIT_S)
    middle = sorted(seconds.values())[len(seconds) // 2]
    return [
        Row(
            f"start-up of the slowest of {len(scripts)} job scripts, {slowest}",
            "",
            None,
            seconds[slowest],
            LIMIT_S,
            None,
            f"{processor[slowest]:.2g} s of CPU; median script {middle:.2g} s; {len(above)} above {LIMIT_S:g} s",
        )
    ]


PARSER = options(__doc__)

if __name__ == "__main__":
    run(measure, PARSER)
