"""The first mixtures of an experiment as WAV, 16 bit: stems, and what each method isolates and leaves.

{n}_mixture, {n}_background, {n}_event, and for each method {n}_<method>_isolated and {n}_<method>_cleaned, which
add up to the mixture. Table: columns of the mixtures, and those of listening.export_example.
"""

from pathlib import Path

import pandas as pd

from vision_to_sound.files import open_array, read_table, write_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.listening import export_example
from vision_to_sound.mixing import STEMS, clip_set_rows, render
from vision_to_sound.scores import AnomalyScores
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, count, methods = snakemake.input, job.settings["count"], job.settings["methods"]
        table = read_table(files.table)
        rows = clip_set_rows(table, "mixture").head(count)
        if len(rows) < count:
            raise ValueError(
                f"only {len(rows)} mixtures here; set listening.count to at most {len(rows)}"
            )
        is_mixture = table.loc[table["role"] == "test", "label"].to_numpy() == 1
        scores = [AnomalyScores.load(path) for path in files.scores]
        maps = {m: s.maps[is_mixture] for m, s in zip(methods, scores, strict=True)}
        backgrounds = open_array(files.backgrounds)
        events = open_array(files.events)
        stems = {stem: render(rows, backgrounds, events, stem) for stem in STEMS}
        front_ends = {m: FrontEnd(**job.settings["front_ends"][m]) for m in methods}
        advance, examples = progress(count, "listening examples"), []
        for n in range(count):
            columns = export_example(
                Path(snakemake.output.table).parent,
                n,
                {stem: samples[n] for stem, samples in stems.items()},
                {method: maps[method][n] for method in methods},
                front_ends=front_ends,
                sample_rate_hz=job.settings["sample_rate_hz"],
            )
            examples.append(columns)
            advance(1)
        write_table(rows.join(pd.DataFrame(examples)), snakemake.output.table)
