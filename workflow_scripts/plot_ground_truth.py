"""How the truth of one clip is made: mixture, event alone, both masks, energy per frame."""

import numpy as np

from vision_to_sound.figures.style import save_figure
from vision_to_sound.figures.truth import example_event, ground_truth_figure
from vision_to_sound.files import open_array, read_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.mixing import clip_set_rows
from vision_to_sound.scores import Truth
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings, experiment = snakemake.input, job.settings, job.settings["experiment"]
        rate_hz, front_end = settings["clip_rate_hz"], FrontEnd(**settings["front_end"])
        truth = Truth.load(files.truth)
        table = clip_set_rows(read_table(files.table), "mixture")
        mixtures, events = (open_array(path) for path in (files.mixtures, files.events))
        row = example_event(table["length_samples"].to_numpy())
        clip, mixture = np.flatnonzero(truth.labels)[row], table.iloc[row]
        onset_s = mixture["onset_samples"] / rate_hz
        figure = ground_truth_figure(
            mixture_db=mixtures[row],
            event_db=events[row],
            masks={name: mask[clip] for name, mask in truth.masks.items()},
            frames_truth=truth.frames[clip],
            span_s=(onset_s, onset_s + mixture["length_samples"] / rate_hz),
            frame_times_s=front_end.frame_times_s(mixtures.shape[1]),
            mel_centres_hz=front_end.mel_band_centres_hz(),
            title=(
                f"Truth of one clip: {mixture['event_category']} in {experiment['category']}, "
                f"{experiment['snr']} dB, mixed {experiment['protocol']}"
            ).replace("_", " "),
            stamp=settings["stamp"],
            dpi=settings["dpi"],
        )
        save_figure(figure, snakemake.output)
