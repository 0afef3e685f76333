"""The part of a checkpoint that an encoder needs, as safetensors; wrong or unsafe files are refused.

Where the settings say "weights: random" there is no input, and the network is an untrained one.
"""

from pathlib import Path

from vision_to_sound.archive_record import ArchiveRecord, verified_path
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.encoders.weights import extract_audio_weights, write_random_weights
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        spec = ENCODERS[job.settings["name"]]
        if job.settings["pretrained_or_random"] == "random":
            write_random_weights(spec, seed=0, out=snakemake.output[0])
        else:
            record = ArchiveRecord.load(Path(snakemake.input[0]))
            extract_audio_weights(
                verified_path(record, read_whole=True),  # torch compares no checksum
                spec,
                out=snakemake.output[0],
                source_checksum=record.checksum,
            )
