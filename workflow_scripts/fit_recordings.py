"""Fit a detector on the clips of normal recordings, with the threshold that some of them, held out, give."""

from pathlib import Path

from vision_to_sound.detectors.base import Checkpoint
from vision_to_sound.files import read_table
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.embedding import ClipFiles
from vision_to_sound.monitoring.folders import clip_loader
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table, settings = read_table(snakemake.input.clips), job.settings
        detector = AnomalyDetector(
            settings["method"],
            encoder=settings["encoder"]["name"],
            weights=snakemake.input.weights or None,
            settings=settings["detector"],
            channel=None if settings["channel"] < 0 else settings["channel"],
            window_s=float(table["window_s"].iloc[0]),
            overlap=settings["overlap"],
            clip_s=settings["clip_s"],
            false_alarm_rate=settings["false_alarm_rate"],
            held_out_share=settings["held_out_share"],
            seed=settings["seed"],
            precision=settings["precision"],
            gpu=bool(job.gpu),
            threads=job.threads,
        )
        detector.memory_bytes = job.memory_bytes
        detector.checkpoint = Checkpoint(
            Path(snakemake.resources.checkpoint), job.key(snakemake.input)
        )
        load = clip_loader(table, ClipFiles(Path(snakemake.resources.cache) / "normal"))
        detector.fit_clips(list(table["recording"]), list(table["n_windows"]), load)
        detector.save(snakemake.output[0])
        detector.checkpoint.path.unlink(missing_ok=True)
