"""The part of a checkpoint that an encoder needs, as safetensors; wrong or unsafe files are refused."""

from pathlib import Path

from vision_to_sound.archives import ArchiveRecord, verified_path
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.encoders.weights import extract_audio_weights
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        record = ArchiveRecord.load(Path(snakemake.input[0]))
        extract_audio_weights(
            verified_path(record),
            ENCODERS[job.settings["name"]],
            out=snakemake.output[0],
            source_checksum=record.checksum,
        )
