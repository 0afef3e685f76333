"""Clip scores of one experiment, normal against anomalous, a panel per method."""

from vision_to_sound.figures.maps import score_histogram
from vision_to_sound.figures.style import save_figure
from vision_to_sound.files import read_table
from vision_to_sound.metrics import roc_auc
from vision_to_sound.scores import AnomalyScores
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        experiment = job.settings["experiment"]
        table = read_table(snakemake.input.table)
        labels = table.loc[table["role"] == "test", "label"].to_numpy() == 1
        scores = {
            method: AnomalyScores.load(path).clips
            for method, path in zip(job.settings["methods"], snakemake.input.scores, strict=True)
        }
        figure = score_histogram(
            scores,
            labels,
            clip_notes={m: f"ROC {100 * roc_auc(s, labels):.1f}" for m, s in scores.items()},
            title=(
                f"{experiment['category']}, {experiment['snr']} dB, {experiment['protocol']}, "
                f"seed {experiment['seed']}"
            ).replace("_", " "),
            stamp=job.settings["stamp"],
            dpi=job.settings["dpi"],
        )
        save_figure(figure, snakemake.output)
