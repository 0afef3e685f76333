"""Log-mel spectrograms of one clip set: float32 (n_clips, n_frames, n_mels), dB."""

import numpy as np

from vision_to_sound.files import read_table
from vision_to_sound.mixing import clip_set_rows, render
from vision_to_sound.spectrogram import FrontEnd, write_spectrograms
from vision_to_sound.stage import progress, replacing, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = read_table(snakemake.input.table)
        kind = job.settings["kind"]
        backgrounds, *events = (np.load(path, mmap_mode="r") for path in snakemake.input.audio)
        if "label" in table:
            rows = clip_set_rows(table, kind)
            stem = "event" if kind == "event" else "mixture"
            blocks = lambda block: render(rows[block], backgrounds, events[0], stem)  # noqa: E731
        else:  # all clips of a class, untouched
            rows = table["row"].to_numpy()
            blocks = lambda block: backgrounds[rows[block]]  # noqa: E731
        with replacing(snakemake.output[0]) as path:
            write_spectrograms(
                path,
                blocks,
                n_clips=len(rows),
                from_hz=job.settings["clip_rate_hz"],
                front_end=FrontEnd(**job.settings["front_end"]),
                device=job.device,
                advance=progress(len(rows), "spectrograms"),
            )
