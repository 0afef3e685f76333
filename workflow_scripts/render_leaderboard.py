"""Every detector on every encoder, ranked, with its cost: TSV of all, and HTML, Markdown and LaTeX of two tables."""

from vision_to_sound.files import read_table
from vision_to_sound.metrics_table import Draws
from vision_to_sound.stage import run_stage
from vision_to_sound.tables.costs import read_costs
from vision_to_sound.tables.formats import write_formats
from vision_to_sound.tables.leaderboard import (
    leaderboard_layout,
    leaderboard_rows,
    leaderboard_table,
    snr_layout,
)

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        metrics = leaderboard_rows(read_table(snakemake.input.table))
        costs = read_costs(metrics, job.settings["logs"])
        table = leaderboard_table(metrics, Draws.load(snakemake.input.draws), costs)
        by_snr = [path for path in snakemake.output if "by_snr_db" in path]
        others = [path for path in snakemake.output if path not in by_snr]
        stamp = job.settings["stamp"]
        write_formats(table, others, stamp=stamp, layout=leaderboard_layout)
        write_formats(table, by_snr, stamp=stamp, layout=snr_layout)
