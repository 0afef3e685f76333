"""What each method loses from the published to the leakfree protocol: PNG and SVG."""

from vision_to_sound.figures.points import protocol_gap
from vision_to_sound.figures.style import save_figure
from vision_to_sound.files import read_table
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        settings = job.settings
        figure = protocol_gap(
            read_table(snakemake.input[0]),
            encoder=settings["encoder"],
            level=settings["level"],
            metric=settings["metric"],
            dataset=settings["dataset"],
            stamp=settings["stamp"],
            dpi=settings["dpi"],
        )
        save_figure(figure, snakemake.output)
