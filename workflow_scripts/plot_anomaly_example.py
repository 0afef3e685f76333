"""One clip of an experiment: mixture, event, truth and the anomaly map of each method."""

import numpy as np

from vision_to_sound.figures import save_figure
from vision_to_sound.figures_maps import anomaly_example
from vision_to_sound.files import read_table
from vision_to_sound.metrics import choose_clip
from vision_to_sound.mixing import clip_set_rows
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.spectrogram import FrontEnd
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings, experiment = snakemake.input, job.settings, job.settings["experiment"]
        methods = settings["methods"]
        scores = [AnomalyScores.load(path) for path in files.scores]
        truth = Truth.load(files.truth)
        mask = truth.masks[experiment["protocol"]]
        mixtures = clip_set_rows(read_table(files.table), "mixture")
        # Best and worst are those of the first method: the others are seen on the same clip.
        row = choose_clip(
            scores[0].maps[truth.labels],
            mask[truth.labels],
            list(mixtures["clip"]),
            which=experiment["which"],
        )
        clip = np.flatnonzero(truth.labels)[row]
        mixture = mixtures.iloc[row]
        front_end = FrontEnd(**settings["front_end"])
        onset_s = mixture["onset_samples"] / settings["clip_rate_hz"]
        figure = anomaly_example(
            mixture_db=np.load(files.mixtures, mmap_mode="r")[row],
            event_db=np.load(files.events, mmap_mode="r")[row],
            mask=mask[clip],
            maps={name: score.maps[clip] for name, score in zip(methods, scores, strict=True)},
            frame_times_s=front_end.frame_times_s(mask.shape[1]),
            mel_centres_hz=front_end.mel_band_centres_hz(),
            title=(
                f"{mixture['event_category']} in {experiment['category']}, {experiment['snr']} dB, "
                f"{experiment['protocol']} ({experiment['which']}: {mixture['clip']})"
            ).replace("_", " "),
            span_s=(onset_s, onset_s + mixture["length_samples"] / settings["clip_rate_hz"]),
            frames_truth=truth.frames[clip],
            clip_scores={
                name: f"clip score above {np.mean(score.clips[~truth.labels] < score.clips[clip]):.0%} "
                "of normal clips"
                for name, score in zip(methods, scores, strict=True)
            },
            stamp=settings["stamp"],
            dpi=settings["dpi"],
        )
        save_figure(figure, snakemake.output)
