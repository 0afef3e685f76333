"""What is anomalous in an experiment's test clips: labels, both masks, frames; .npz.

Recordings have no event stems: of them only the labels are known.
"""

import numpy as np

from vision_to_sound.files import read_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.scores import Truth
from vision_to_sound.stage import run_stage
from vision_to_sound.truth import truth_of_experiment

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = read_table(snakemake.input.table)
        if snakemake.input.event_spectrograms:
            truth = truth_of_experiment(
                table,
                np.load(snakemake.input.event_spectrograms),
                front_end=FrontEnd(**job.settings["front_end"]),
                clip_rate_hz=job.settings["clip_rate_hz"],
                mask_share=job.settings["mask_share"],
            )
        else:
            truth = Truth.of_clips(table.loc[table["role"] == "test", "label"].to_numpy() == 1)
        truth.save(snakemake.output[0])
