"""Score, p-value, verdict and regions of every clip of the unsorted recordings; label tracks for Audacity."""

from pathlib import Path

from vision_to_sound.files import read_table, write_table
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.embedding import ClipFiles
from vision_to_sound.monitoring.folders import (
    ScoredClips,
    clip_loader,
    metrics_of,
    result_tables,
    score_folder,
)
from vision_to_sound.monitoring.known_labels import known_labels
from vision_to_sound.monitoring.regions import write_label_tracks
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, where = snakemake.input, snakemake.resources
        table = read_table(files.clips)
        detector = AnomalyDetector.load(
            files.detector, weights=files.weights or None, gpu=bool(job.gpu), threads=job.threads
        )
        detector.memory_bytes = job.memory_bytes
        labels = known_labels(list(table["recording"].unique()), job.settings["labels"])
        scored = ScoredClips(where.scored, files.detector)
        results = score_folder(
            table,
            where.folder,
            detector,
            clip_loader(table, ClipFiles(Path(where.cache) / "unsorted")),
            scored,
            advance=progress(len(table), "clips"),
        )
        clips, regions = result_tables(table, list(results), labels)
        scored.keep_only(table)
        write_table(clips, snakemake.output.clips)
        write_table(regions, snakemake.output.regions)
        write_table(metrics_of(clips), snakemake.output.metrics)
        write_label_tracks(regions, snakemake.output.audacity)
