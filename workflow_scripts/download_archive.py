"""Fetch one archive, or accept it from a mirror or a folder; write a record of the checked file."""

from pathlib import Path

from vision_to_sound.archive_table import rows_for
from vision_to_sound.downloads import fetch
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        how = snakemake.resources
        mirror = None if how.mirror == "none" else Path(how.mirror)
        fetch(
            rows_for(Path(how.table), mirror)[job.settings["name"]],
            downloads=Path(how.downloads),
            mirror=mirror,
            attempts=int(how.attempts),
            backoff_s=float(how.backoff_s),
            timeout_s=float(how.timeout_s),
        ).save(Path(snakemake.output[0]))
