"""The EnvMix table of one protocol in the paper's shape: TSV, Markdown and LaTeX."""

from vision_to_sound.files import read_table
from vision_to_sound.stage import run_stage
from vision_to_sound.table_formats import write_formats
from vision_to_sound.tables import envmix_table

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        settings = job.settings
        table = envmix_table(
            read_table(snakemake.input[0]),
            protocol=settings["protocol"],
            encoder=settings["encoder"],
            by=settings["by"],
        )
        write_formats(table, snakemake.output, stamp=settings["stamp"])
