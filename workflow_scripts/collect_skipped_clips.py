"""Clips that were left out because of on_bad_clip: skip, with the reason, from all classes."""

import pandas as pd

from vision_to_sound.files import write_table
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        skipped = pd.concat([pd.read_csv(path, sep="\t", dtype=str) for path in snakemake.input])
        write_table(skipped, snakemake.output[0])
