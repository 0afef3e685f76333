"""Table of one experiment's clips: which event goes where, at which gains (columns: see mixing.py)."""

from vision_to_sound.files import open_array, read_table, write_table
from vision_to_sound.mixing import synthesize_mixtures
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = synthesize_mixtures(
            read_table(snakemake.input.split),
            read_table(snakemake.input.background_table),
            open_array(snakemake.input.backgrounds),
            read_table(snakemake.input.event_table),
            open_array(snakemake.input.events),
            **job.settings,
        )
        write_table(table, snakemake.output[0])
