"""Embed the recordings of a folder that are not embedded yet; a table of all their clips."""

import hashlib
from pathlib import Path

import pandas as pd

from vision_to_sound.detectors import DETECTORS
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.file_names import to_text
from vision_to_sound.files import read_table, write_table
from vision_to_sound.monitoring.embedding import ClipFiles, Cut
from vision_to_sound.monitoring.folders import (
    SKIPPED_COLUMNS,
    OpenedFolder,
    embed_folder,
    file_digest,
    window_of,
    without_repeats,
)
from vision_to_sound.stage import progress, run_stage
from vision_to_sound.torch_setup import choose_device

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings = snakemake.input, job.settings
        folder = snakemake.resources.folder
        opened = OpenedFolder.of(
            folder, list(snakemake.params.recordings), on_bad_clip=settings["on_bad_clip"]
        )
        if files.normal:
            window_s = float(read_table(files.normal)["window_s"].iloc[0])
        else:
            durations_s = [file.duration_s for file in opened.files.values()]
            window_s = window_of(durations_s, settings["window_s"])
        channel = None if settings["channel"] < 0 else settings["channel"]
        spec = ENCODERS[settings["encoder"]["name"]]
        needs_network = "embeddings" in DETECTORS[settings["method"]].needs

        def load_encoder():
            from vision_to_sound.encoders.weights import load_encoder

            return load_encoder(spec, files.weights)

        made_by = (
            job.code,
            settings["precision"],
            file_digest(files.weights) if needs_network else spec.name,
        )
        clip_files = ClipFiles(Path(snakemake.resources.cache) / snakemake.wildcards.side)
        table = embed_folder(
            opened,
            Cut(channel, window_s, settings["overlap"], settings["clip_s"]),
            spec.front_end,
            clip_files,
            made_by=hashlib.sha256(repr(made_by).encode()).hexdigest(),
            load_encoder=load_encoder if needs_network else lambda: None,
            device=choose_device(gpu=job.gpu, threads=job.threads),
            memory_bytes=job.memory_bytes,
            precision=settings["precision"],
            advance=progress(len(opened.files), "recordings", unit="recording"),
        )
        opened.check(settings["on_bad_clip"])
        clip_files.keep_only(set(table["key"]))
        table, same = without_repeats(table)
        write_table(table, snakemake.output.clips)
        not_used = {**snakemake.params.not_used, **opened.problems, **same}
        rows = [(to_text(name), to_text(problem)) for name, problem in sorted(not_used.items())]
        skipped = pd.DataFrame(rows, columns=SKIPPED_COLUMNS)
        write_table(skipped, snakemake.output.skipped)
