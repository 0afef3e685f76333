"""Audio of the background clips of one class: float32 (n_clips, n_samples), mono, at one rate."""

from pathlib import Path

from vision_to_sound.archive_record import ArchiveRecord
from vision_to_sound.archives import open_archive
from vision_to_sound.datasets import rows_of_category
from vision_to_sound.extraction import extract_backgrounds
from vision_to_sound.files import read_table
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        settings = job.settings
        rows = rows_of_category(
            read_table(snakemake.input.index),
            settings["category"],
            min_duration_s=settings["clip_s"],
        )
        record = ArchiveRecord.load(Path(snakemake.input.archive))
        with open_archive(
            record, max_member_bytes=int(snakemake.resources.max_member_mb) << 20
        ) as archive:
            clips = extract_backgrounds(
                archive,
                rows,
                sample_rate_hz=settings["sample_rate_hz"],
                clip_s=settings["clip_s"],
                max_missing_s=settings["max_missing_s"],
                on_bad_clip=snakemake.resources.on_bad_clip,
                advance=progress(len(rows), f"clips of {settings['category']}"),
            )
        out = snakemake.output
        clips.save(out.audio, out.table, out.skipped)
