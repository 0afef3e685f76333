"""Clip index of a data set: clip, member, category, recording, duration_s (s), one row a clip."""

from pathlib import Path

from vision_to_sound.archives import ArchiveRecord, open_archive
from vision_to_sound.datasets import INDEXERS
from vision_to_sound.files import write_table
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        record = ArchiveRecord.load(Path(snakemake.input.archive))
        with open_archive(
            record, max_member_bytes=int(snakemake.resources.max_member_mb) << 20
        ) as archive:
            index = INDEXERS[job.settings["source"]](archive)
        write_table(index, snakemake.output[0])
