"""Metrics of one experiment, a row a metric, and their bootstrap draws (see experiments.experiment_metrics)."""

from vision_to_sound.experiments import experiment_metrics
from vision_to_sound.files import read_table, save_arrays, write_table
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files = snakemake.input
        metrics, draws = experiment_metrics(
            AnomalyScores.load(files.scores),
            Truth.load(files.truth),
            read_table(files.table),
            code=job.code,
            **job.settings,
        )
        write_table(metrics, snakemake.output.metrics)
        save_arrays(snakemake.output.draws, draws)
