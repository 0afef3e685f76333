"""All experiments' metrics in one long table, sorted; rows made by other code are marked stale."""

from vision_to_sound.files import read_table, write_table
from vision_to_sound.stage import run_stage
from vision_to_sound.tables import aggregate_metrics

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        metrics = aggregate_metrics([read_table(path) for path in snakemake.input], **job.settings)
        write_table(metrics, snakemake.output[0])
