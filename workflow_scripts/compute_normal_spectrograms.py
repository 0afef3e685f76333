"""Log-mel spectrograms of a set of normal clips: float32 (n_clips, n_frames, n_mels), dB."""

from vision_to_sound.files import open_array, read_table, replacing
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.mixing import clip_set_rows, render
from vision_to_sound.spectrogram import write_spectrograms
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table = read_table(snakemake.input.table)
        backgrounds = open_array(snakemake.input.backgrounds)
        if "label" in table:  # clips of one experiment, at its levels
            table = clip_set_rows(table, "normal")
            read_clips = lambda rows: render(table[rows], backgrounds, None, "background")  # noqa: E731
        else:  # all clips of a class, untouched
            read_clips = lambda rows: backgrounds[table["row"].to_numpy()[rows]]  # noqa: E731
        with replacing(snakemake.output[0]) as path:
            write_spectrograms(
                path,
                read_clips,
                n_clips=len(table),
                from_hz=job.settings["clip_rate_hz"],
                front_end=FrontEnd(**job.settings["front_end"]),
                advance=progress(len(table), "spectrograms"),
            )
