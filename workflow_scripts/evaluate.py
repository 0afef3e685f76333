"""Metrics of one method on one class, a row a metric, SNR and seed, and their bootstrap draws (see experiments)."""

from vision_to_sound.experiments import metrics_of_experiments
from vision_to_sound.files import read_table, save_arrays, write_table
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files = snakemake.input
        tables = [read_table(path) for path in files.tables]
        truths = files.truths or [""] * len(tables)
        parts = (
            (AnomalyScores.load(scores), Truth.of_test_clips(truth, table), table)
            for scores, truth, table in zip(files.scores, truths, tables, strict=True)
        )
        metrics, draws = metrics_of_experiments(
            parts,
            code=job.code,
            **job.settings,
        )
        write_table(metrics, snakemake.output.metrics)
        save_arrays(snakemake.output.draws, draws)
