"""One metric per class and SNR, published and leakfree side by side: PNG and SVG."""

from vision_to_sound.figures.points import metric_points
from vision_to_sound.figures.style import save_figure
from vision_to_sound.files import read_table
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        settings = job.settings
        figure = metric_points(
            read_table(snakemake.input[0]),
            encoder=settings["encoder"],
            level=settings["level"],
            metric=settings["metric"],
            dataset=settings["dataset"],
            stamp=settings["stamp"],
            dpi=settings["dpi"],
        )
        save_figure(figure, snakemake.output)
