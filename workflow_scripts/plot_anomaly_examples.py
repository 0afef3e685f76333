"""Single clips of an experiment: mixture, event, truth and the anomaly map of each method.

Of recordings without stems only the clip and the maps are shown.
"""

import numpy as np

from vision_to_sound.figures.cells import choose_clip
from vision_to_sound.figures.maps import anomaly_example
from vision_to_sound.figures.style import save_figure
from vision_to_sound.files import open_array, read_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings, experiment = snakemake.input, job.settings, job.settings["experiment"]
        methods, front_end = settings["methods"], FrontEnd(**settings["front_end"])
        table = read_table(files.table)
        truth = Truth.of_test_clips(files.truth, table)
        mask = truth.masks.get(experiment["protocol"])
        scores = {
            m: AnomalyScores.load(path) for m, path in zip(methods, files.scores, strict=True)
        }
        shown = table[(table["role"] == "test") & (table["label"] == 1)].reset_index(drop=True)
        spectrograms = open_array(files.anomalous)
        events = open_array(files.events) if files.events else None
        for which, output in zip(settings["clips"], snakemake.output, strict=True):
            # Best and worst are those of the first method: the others are seen on the same clip.
            row = choose_clip(
                scores[methods[0]],
                truth,
                list(shown["clip"]),
                protocol=experiment["protocol"],
                which=which,
            )
            clip, item = np.flatnonzero(truth.labels)[row], shown.iloc[row]
            sound, span_s = experiment["category"], None
            if events is not None:
                sound = f"{item['event_category']} in {sound}"
                ends = item["onset_samples"] + np.array([0, item["length_samples"]])
                span_s = tuple(ends / settings["clip_rate_hz"])
            above = {
                m: np.mean(score.clips[~truth.labels] < score.clips[clip])
                for m, score in scores.items()
            }
            figure = anomaly_example(
                mixture_db=spectrograms[item["set_row"]],
                event_db=None if events is None else events[item["set_row"]],
                mask=None if mask is None else mask[clip],
                maps={method: score.maps[clip] for method, score in scores.items()},
                frame_times_s=front_end.frame_times_s(spectrograms.shape[1]),
                mel_centres_hz=front_end.mel_band_centres_hz(),
                title=(
                    f"{sound}, {experiment['snr']} dB, {experiment['protocol']} "
                    f"({which}: {item['clip']})"
                ).replace("_", " "),
                span_s=span_s,
                frames_truth=None if mask is None else truth.frames[clip],
                clip_scores={
                    m: f"clip score above {a:.0%} of normal clips" for m, a in above.items()
                },
                stamp=settings["stamp"],
                dpi=settings["dpi"],
            )
            save_figure(figure, [output])
