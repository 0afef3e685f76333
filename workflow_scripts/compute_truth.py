"""What is anomalous in an experiment's mixtures: labels, both masks, frames; .npz."""

from vision_to_sound.files import open_array, read_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.stage import run_stage
from vision_to_sound.truth import truth_of_experiment

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = read_table(snakemake.input.table)
        truth = truth_of_experiment(
            table,
            open_array(snakemake.input.event_spectrograms),
            front_end=FrontEnd(**job.settings["front_end"]),
            clip_rate_hz=job.settings["clip_rate_hz"],
            mask_share=job.settings["mask_share"],
        )
        truth.save(snakemake.output[0])
