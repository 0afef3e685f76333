"""Roles of the recordings of one machine: clip, recording, set_row, role (train, test), label (1: abnormal)."""

from vision_to_sound.files import read_table, write_table
from vision_to_sound.splits import split_recordings
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        split = split_recordings(read_table(snakemake.input[0]), **job.settings)
        write_table(split, snakemake.output[0])
