"""Fetch one archive, or accept it from a mirror or a folder; write a record of the checked file."""

from pathlib import Path

from vision_to_sound.downloads import ArchiveRow, fetch, rows_for
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        mirror = Path(job.settings["mirror"]) if job.settings["mirror"] else None
        row = ArchiveRow(**job.settings["row"])
        if snakemake.input:  # a mirror made by this workflow: its table is newer than the params
            row = rows_for(Path(snakemake.input[0]), None)[row.name]
        # How to fetch is no part of what is fetched: these settings come in through resources.
        fetch(
            row,
            downloads=Path(snakemake.resources.downloads),
            mirror=mirror,
            attempts=int(snakemake.resources.attempts),
            backoff_s=float(snakemake.resources.backoff_s),
            timeout_s=float(snakemake.resources.timeout_s),
        ).save(Path(snakemake.output[0]))
