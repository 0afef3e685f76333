"""Loss over the epochs of training of every detector that trains, a panel per method."""

from vision_to_sound.figures.style import save_figure
from vision_to_sound.figures.training import training_curves
from vision_to_sound.files import load_arrays
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        losses = {}
        for path, (method, label) in zip(snakemake.input, job.settings["detectors"], strict=True):
            learned = load_arrays(path, only=("losses_",))  # weights beside it are large
            losses.setdefault(method, {})[label.replace("/", ", ")] = learned["losses_"]
        figure = training_curves(
            losses,
            title=f"Training, encoder {job.settings['encoder']}",
            stamp=job.settings["stamp"],
            dpi=job.settings["dpi"],
        )
        save_figure(figure, snakemake.output)
