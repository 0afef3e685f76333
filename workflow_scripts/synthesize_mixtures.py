"""Table of one experiment's clips: which event goes where, at which gains (columns: see mixing.py)."""

import numpy as np

from vision_to_sound.files import read_table, write_table
from vision_to_sound.mixing import synthesize_mixtures
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = synthesize_mixtures(
            read_table(snakemake.input.split),
            read_table(snakemake.input.background_table),
            np.load(snakemake.input.backgrounds, mmap_mode="r"),
            read_table(snakemake.input.event_table),
            np.load(snakemake.input.events, mmap_mode="r"),
            **job.settings,
        )
        write_table(table, snakemake.output[0])
