"""Clips that were left out because of on_bad_clip: skip, with the reason, from all classes."""

import pandas as pd

from vision_to_sound.files import read_table, write_table
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        skipped = pd.concat(map(read_table, snakemake.input))
        if len(skipped) and snakemake.resources.on_bad_clip == "stop":
            raise ValueError(
                f"{len(skipped)} clips were left out by an earlier run with on_bad_clip: skip, first "
                f"{skipped['clip'].iloc[0]}; set it again, or delete the folder of extracted clips"
            )
        write_table(skipped, snakemake.output[0])
