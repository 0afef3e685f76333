"""Audio of the event clips of all event classes: trimmed, cut, padded at the end with zeros."""

from pathlib import Path

import pandas as pd

from vision_to_sound.archive_record import ArchiveRecord
from vision_to_sound.archives import open_archive
from vision_to_sound.datasets import rows_of_category
from vision_to_sound.extraction import extract_events
from vision_to_sound.files import read_table
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        settings = job.settings
        index = read_table(snakemake.input.index)
        rows = pd.concat(
            [rows_of_category(index, name, min_duration_s=0.0) for name in settings["categories"]],
            ignore_index=True,
        )
        record = ArchiveRecord.load(Path(snakemake.input.archive))
        with open_archive(
            record, max_member_bytes=int(snakemake.resources.max_member_mb) << 20
        ) as archive:
            clips = extract_events(
                archive,
                rows,
                sample_rate_hz=settings["sample_rate_hz"],
                clip_s=settings["clip_s"],
                max_missing_s=settings["max_missing_s"],
                on_bad_clip=snakemake.resources.on_bad_clip,
                advance=progress(len(rows), "event clips"),
            )
        out = snakemake.output
        clips.save(out.audio, out.table, out.skipped)
