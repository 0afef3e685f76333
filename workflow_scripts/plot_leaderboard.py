"""The leaderboard as a picture, quality against cost, at one level: PNG and SVG."""

from vision_to_sound.figures.leaderboard import quality_against_cost
from vision_to_sound.figures.style import save_figure
from vision_to_sound.files import read_table
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = read_table(snakemake.input[0])
        save_figure(quality_against_cost(table, **job.settings), snakemake.output)
