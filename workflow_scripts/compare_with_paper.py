"""The paper's printed numbers beside ours under both protocols: HTML, TSV, Markdown and LaTeX."""

import io

import pandas as pd

from vision_to_sound.files import read_table
from vision_to_sound.metrics_table import Draws
from vision_to_sound.stage import run_stage
from vision_to_sound.tables.comparison import compare_with_paper
from vision_to_sound.tables.formats import write_formats

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        paper_values = pd.read_csv(io.StringIO(job.settings["paper_values"]), sep="\t")
        table = compare_with_paper(
            read_table(snakemake.input.table),
            Draws.load(snakemake.input.draws),
            paper_values,
            encoder=job.settings["encoder"],
        )
        write_formats(table, snakemake.output, stamp=job.settings["stamp"])
