"""The first mixtures of an experiment as WAV, 16 bit, each with its background and event stems."""

from pathlib import Path

import numpy as np
import soundfile

from vision_to_sound.files import read_table, replacing, write_table
from vision_to_sound.mixing import STEMS, clip_set_rows, render
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        rows = clip_set_rows(read_table(snakemake.input.table), "mixture")
        rows = rows.head(job.settings["count"])
        if len(rows) < job.settings["count"]:
            raise ValueError(
                f"only {len(rows)} mixtures here; set listening.count to at most {len(rows)}"
            )
        backgrounds = np.load(snakemake.input.backgrounds, mmap_mode="r")
        events = np.load(snakemake.input.events, mmap_mode="r")
        directory = Path(snakemake.output.table).parent
        stems = {stem: render(rows, backgrounds, events, stem) for stem in STEMS}
        # WAV has a full scale: one gain for a mixture and its stems, so that they still add up.
        peak = np.max([np.abs(samples).max(axis=1) for samples in stems.values()], axis=0)
        rows["wav_gain"] = 1.0 / np.maximum(peak, 1.0)
        for stem, samples in stems.items():
            for n, gain in enumerate(rows["wav_gain"]):
                with replacing(directory / f"{n}_{stem}.wav") as path:
                    rate_hz = job.settings["sample_rate_hz"]
                    soundfile.write(path, gain * samples[n], rate_hz, subtype="PCM_16")
        write_table(rows, snakemake.output.table)
