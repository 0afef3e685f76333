"""The framework on one clip: waveform, spectrogram, embeddings, detector, anomaly map, scores."""

import numpy as np

from vision_to_sound.embeddings import EmbeddingCache
from vision_to_sound.figures.cells import choose_clip
from vision_to_sound.figures.framework import framework_figure
from vision_to_sound.figures.style import save_figure
from vision_to_sound.files import open_array, read_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.mixing import clip_set_rows, render
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings, experiment = snakemake.input, job.settings, job.settings["experiment"]
        front_end = FrontEnd(**settings["front_end"])
        truth, scores = Truth.load(files.truth), AnomalyScores.load(files.scores[0])
        table = clip_set_rows(read_table(files.table), "mixture")
        row = choose_clip(
            scores,
            truth,
            list(table["clip"]),
            protocol=experiment["protocol"],
            which=settings["clip"],
        )
        clip, mixture = np.flatnonzero(truth.labels)[row], table.iloc[row]
        backgrounds, events, mixtures = (
            open_array(path) for path in (files.backgrounds, files.events, files.mixtures)
        )
        cache = EmbeddingCache(*files.embeddings)
        figure = framework_figure(
            waveform=render(table.iloc[[row]], backgrounds, events, "mixture")[0],
            sample_rate_hz=settings["clip_rate_hz"],
            spectrogram_db=mixtures[row],
            taps={
                tap.name: values[0]
                for tap, values in zip(cache.taps, cache.read(np.array([row])), strict=True)
            },
            anomaly_map=scores.maps[clip],
            frame_scores=scores.frame_scores()[clip],
            frames_truth=truth.frames[clip],
            clip_score=scores.clips[clip],
            normal_scores=scores.clips[~truth.labels],
            method=settings["method"],
            encoder_label=settings["encoder_label"],
            frame_times_s=front_end.frame_times_s(mixtures.shape[1]),
            mel_centres_hz=front_end.mel_band_centres_hz(),
            title=(
                f"From a sound to its scores: {mixture['event_category']} in {experiment['category']}, "
                f"{experiment['snr']} dB, {experiment['protocol']}"
            ).replace("_", " "),
            stamp=settings["stamp"],
            dpi=settings["dpi"],
        )
        save_figure(figure, snakemake.output)
