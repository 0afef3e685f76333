"""Log-mel spectrograms of a machine's normal and abnormal clips: float32 (n_clips, n_frames, n_mels), dB."""

from pathlib import Path

from vision_to_sound.archive_record import ArchiveRecord
from vision_to_sound.archives import open_archive
from vision_to_sound.files import read_table, replacing
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.recordings import recording_reader, recordings_of
from vision_to_sound.spectrogram import write_spectrograms
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        settings = job.settings
        index = read_table(snakemake.input.index)
        record = ArchiveRecord.load(Path(snakemake.input.archive))
        limit = int(snakemake.resources.max_member_mb) << 20
        reading = ("sample_rate_hz", "clip_s", "max_missing_s", "channel")
        with open_archive(record, max_member_bytes=limit) as archive:
            for label, kind in enumerate(("normal", "abnormal")):
                rows = recordings_of(index, settings["category"], label=label)
                read_clips = recording_reader(
                    archive, rows, threads=job.threads, **{key: settings[key] for key in reading}
                )
                with replacing(snakemake.output[kind]) as path:
                    write_spectrograms(
                        path,
                        read_clips,
                        n_clips=len(rows),
                        from_hz=settings["sample_rate_hz"],
                        front_end=FrontEnd(**settings["front_end"]),
                        advance=progress(len(rows), f"spectrograms, {kind}"),
                    )
