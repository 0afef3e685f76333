"""The phrases that fit best what the isolated anomaly of each anomalous clip sounds like."""

from pathlib import Path

import pandas as pd

from vision_to_sound.archive_record import ArchiveRecord, verified_path
from vision_to_sound.files import read_table, write_table
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.folders import ScoredClips, stored_result
from vision_to_sound.monitoring.prompts import fit_of_prompts, load_clap, strongest_part
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, prompts, where = snakemake.input, job.settings["prompts"], snakemake.resources
        clips = read_table(files.clips)
        clips = clips[clips["verdict"] == "anomalous"]
        detector = AnomalyDetector.load(files.detector, gpu=False, threads=job.threads)
        scored = ScoredClips(where.scored, files.detector)
        model = None
        if len(clips):
            record = ArchiveRecord.load(Path(files.clap))
            model = load_clap(verified_path(record, read_whole=True))  # torch compares no checksum
        advance = progress(len(clips), "clips")
        rows = []
        for row in clips.itertuples():
            sound = strongest_part(stored_result(row, where.folder, detector, scored))
            fits = fit_of_prompts([sound], prompts, model)[0]
            rows += [
                (row.recording, row.clip, prompt, fit)
                for prompt, fit in zip(prompts, fits, strict=True)
            ]
            advance(1)
        table = pd.DataFrame(rows, columns=["recording", "clip", "prompt", "probability"])
        write_table(table, snakemake.output[0])
