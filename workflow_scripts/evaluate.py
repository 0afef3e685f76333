"""Metrics of one experiment: a long table, one row a metric (columns: see metrics.experiment_metrics)."""

from vision_to_sound.files import write_table
from vision_to_sound.metrics import experiment_metrics
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        metrics = experiment_metrics(
            AnomalyScores.load(snakemake.input.scores),
            Truth.load(snakemake.input.truth),
            experiment=job.settings["experiment"],
            fpr_limit=job.settings["fpr_limit"],
            code=job.code,
        )
        write_table(metrics, snakemake.output[0])
