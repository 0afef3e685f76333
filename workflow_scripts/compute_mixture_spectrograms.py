"""Log-mel spectrograms of an experiment's mixtures and of their stems alone: the event tells the truth, the
background is what a perfect mask leaves.

All float32 (n_mixtures, n_frames, n_mels), dB, in the order of the table.
"""

from vision_to_sound.files import open_array, read_table, replacing
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.mixing import STEMS, clip_set_rows, render
from vision_to_sound.spectrogram import write_spectrograms
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = clip_set_rows(read_table(snakemake.input.table), "mixture")
        backgrounds = open_array(snakemake.input.backgrounds)
        events = open_array(snakemake.input.events)
        for stem in STEMS:
            with replacing(snakemake.output[stem]) as path:
                write_spectrograms(
                    path,
                    lambda rows, stem=stem: render(table[rows], backgrounds, events, stem),
                    n_clips=len(table),
                    from_hz=job.settings["clip_rate_hz"],
                    front_end=FrontEnd(**job.settings["front_end"]),
                    advance=progress(len(table), f"{stem} spectrograms"),
                )
