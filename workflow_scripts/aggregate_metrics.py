"""All experiments' metrics in one long sorted table, and their draws; rows made by other code are marked stale."""

from vision_to_sound.files import load_arrays, read_table, write_table
from vision_to_sound.metrics_table import DRAW_ARRAYS, aggregate_metrics
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files = snakemake.input
        metrics, draws = aggregate_metrics(
            [read_table(path) for path in files.metrics],
            [load_arrays(path, names=DRAW_ARRAYS) for path in files.draws],
            [read_table(path) for path in files.faithfulness],
            **job.settings,
        )
        write_table(metrics, snakemake.output.table)
        draws.save(snakemake.output.draws)
