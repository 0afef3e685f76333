"""One of the paper's tables for one protocol, in the paper's shape: HTML, TSV, Markdown and LaTeX."""

import io

import pandas as pd

from vision_to_sound.files import read_table
from vision_to_sound.metrics_table import Draws
from vision_to_sound.stage import run_stage
from vision_to_sound.tables.formats import write_formats
from vision_to_sound.tables.paper import envmix_table, faithfulness_table, mimii_table

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        settings = job.settings
        metrics = read_table(snakemake.input.table)
        draws = Draws.load(snakemake.input.draws)
        names = {"protocol": settings["protocol"], "encoder": settings["encoder"]}
        if settings["table"] == "envmix":
            table = envmix_table(metrics, draws, by=settings["by"], **names)
        elif settings["table"] == "mimii":
            paper_values = pd.read_csv(io.StringIO(settings["paper_values"]), sep="\t")
            table = mimii_table(metrics, draws, paper_values, by=settings["by"], **names)
        else:
            table = faithfulness_table(metrics, draws, **names)
        write_formats(table, snakemake.output, stamp=settings["stamp"])
