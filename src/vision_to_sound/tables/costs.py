"""What detectors cost, from the logs of their jobs.

Logs, because the benchmark files that Snakemake writes beside them are of whole jobs and sampled: start-up and imports
take longer than scoring a dozen clips, and of a job of half a second they may hold a tenth of its memory. A cost is
different each time it is measured, so it never stands in a file that a metric or a table of the paper comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from vision_to_sound.labels import reads_embeddings

# As stage.py writes them.
_TIMED = re.compile(r"timed (\d+) clips: ([\d.]+) s, ([\d.]+) s of CPU; (.+)$", re.M)
_PEAK = re.compile(r"peak memory (\d+) MiB$", re.M)


def read_costs(experiments: pd.DataFrame, logs: Mapping[str, str]) -> pd.DataFrame:
    """Costs of every detector on every encoder, without start-up, reading audio and spectrograms.

    Seconds are of CPU where scores were computed on one, so that other work on the machine does not count and two
    threads count double; on a GPU they are of wall time. A fit that was killed and went on counts its last part alone.

    Args:
        experiments: rows of the metrics table; columns method, encoder, category, snr_db, seed, device.
        logs: path of the log of a fit, of an embedding of normal clips and of a scoring job, "fit", "embed", "score",
            with the columns' names in braces (snr for snr_db).

    Returns:
        A row per method and encoder: fit_s (mean of its detectors), embed_s, score_s (per clip), clip_s (their sum),
        peak_mb (the largest of its jobs, MiB), machine ("; " between several). NaN and "" where no log says it;
        embed_s is 0 for a method that reads no embeddings.
    """
    records = []
    for (method, encoder), rows in experiments.groupby(["method", "encoder"], sort=True):
        named = rows.rename(columns={"snr_db": "snr"}).to_dict("records")
        on_cpu = bool(rows["device"].str.startswith("cpu").all())
        paths = {part: {path.format(**row) for row in named} for part, path in logs.items()}
        if not reads_embeddings(method):
            paths["embed"] = set()
        found = {part: _of_logs(paths[part], on_cpu=on_cpu) for part in logs}
        fits, embeddings, scores = (found[part] for part in ("fit", "embed", "score"))
        record = {"method": method, "encoder": encoder}
        record["fit_s"] = fits["s"].mean() if len(fits) else np.nan
        record["embed_s"] = _per_clip(embeddings) if paths["embed"] else 0.0
        record["score_s"] = _per_clip(scores)
        record["clip_s"] = record["embed_s"] + record["score_s"]
        record["peak_mb"] = max(
            (jobs["peak_mb"].max() for jobs in found.values() if len(jobs)), default=np.nan
        )
        machines = {machine for jobs in found.values() for machine in jobs["machine"]}
        record["machine"] = "; ".join(sorted(machines))
        records.append(record)
    return pd.DataFrame.from_records(records)


def _of_logs(paths: Iterable[str], *, on_cpu: bool) -> pd.DataFrame:
    """Clips, seconds, peak memory and machine of the jobs whose logs are there and complete."""
    found = []
    for path in sorted(paths):
        text = Path(path).read_text(encoding="utf-8") if Path(path).is_file() else ""
        timed, peak = _TIMED.search(text), _PEAK.search(text)
        if timed and peak:
            seconds = float(timed[3] if on_cpu else timed[2])
            found.append((int(timed[1]), seconds, int(peak[1]), timed[4]))
    return pd.DataFrame(found, columns=["clips", "s", "peak_mb", "machine"])


def _per_clip(jobs: pd.DataFrame) -> float:
    return jobs["s"].sum() / jobs["clips"].sum() if jobs["clips"].sum() else np.nan
