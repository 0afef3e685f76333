"""Single clips of an experiment: mixture, event, truth and the anomaly map of each method."""

import numpy as np

from vision_to_sound.figures import save_figure
from vision_to_sound.figures_maps import anomaly_example
from vision_to_sound.files import read_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.metrics import choose_clip
from vision_to_sound.mixing import clip_set_rows
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings, experiment = snakemake.input, job.settings, job.settings["experiment"]
        rate_hz, methods = settings["clip_rate_hz"], settings["methods"]
        front_end = FrontEnd(**settings["front_end"])
        truth = Truth.load(files.truth)
        mask = truth.masks[experiment["protocol"]]
        scores = {
            m: AnomalyScores.load(path) for m, path in zip(methods, files.scores, strict=True)
        }
        table = clip_set_rows(read_table(files.table), "mixture")
        mixtures, events = (np.load(path, mmap_mode="r") for path in (files.mixtures, files.events))
        for which, output in zip(settings["clips"], snakemake.output, strict=True):
            # Best and worst are those of the first method: the others are seen on the same clip.
            row = choose_clip(
                scores[methods[0]].maps[truth.labels],
                mask[truth.labels],
                list(table["clip"]),
                which=which,
            )
            clip = np.flatnonzero(truth.labels)[row]
            mixture = table.iloc[row]
            onset_s = mixture["onset_samples"] / rate_hz
            above = {
                m: np.mean(score.clips[~truth.labels] < score.clips[clip])
                for m, score in scores.items()
            }
            figure = anomaly_example(
                mixture_db=mixtures[row],
                event_db=events[row],
                mask=mask[clip],
                maps={method: score.maps[clip] for method, score in scores.items()},
                frame_times_s=front_end.frame_times_s(mask.shape[1]),
                mel_centres_hz=front_end.mel_band_centres_hz(),
                title=(
                    f"{mixture['event_category']} in {experiment['category']}, {experiment['snr']} dB, "
                    f"{experiment['protocol']} ({which}: {mixture['clip']})"
                ).replace("_", " "),
                span_s=(onset_s, onset_s + mixture["length_samples"] / rate_hz),
                frames_truth=truth.frames[clip],
                clip_scores={
                    m: f"clip score above {a:.0%} of normal clips" for m, a in above.items()
                },
                stamp=settings["stamp"],
                dpi=settings["dpi"],
            )
            save_figure(figure, [output])
