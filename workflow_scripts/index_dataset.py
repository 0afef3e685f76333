"""Clip index of a data set: clip, member, category, recording, duration_s (s), for MIMII label; one row a clip."""

from pathlib import Path

from vision_to_sound.archive_record import ArchiveRecord
from vision_to_sound.archives import open_archive
from vision_to_sound.datasets import index_dataset
from vision_to_sound.files import write_table
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        record = ArchiveRecord.load(Path(snakemake.input.archive))
        with open_archive(
            record, max_member_bytes=int(snakemake.resources.max_member_mb) << 20
        ) as archive:
            index = index_dataset(archive, **job.settings)
        write_table(index, snakemake.output[0])
