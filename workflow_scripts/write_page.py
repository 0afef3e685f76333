"""One HTML file of all scored clips, to look at and to listen to."""

from pathlib import Path

from vision_to_sound.files import read_table
from vision_to_sound.monitoring.detector import AnomalyDetector
from vision_to_sound.monitoring.folders import ScoredClips
from vision_to_sound.monitoring.page import write_page
from vision_to_sound.monitoring.results_page import (
    MAP_SCALE,
    header_of,
    page_clips,
    settings_of,
    warnings_of,
)
from vision_to_sound.stage import counted, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings, where = snakemake.input, job.settings, snakemake.resources
        clips, normal = read_table(files.clips), read_table(files.normal)
        detector = AnomalyDetector.load(files.detector, gpu=False, threads=job.threads)
        skipped = dict(zip(("normal", "unsorted"), map(read_table, files.skipped), strict=True))
        shown = clips.head(settings["page_clips"])
        write_page(
            snakemake.output[0],
            counted(
                page_clips(
                    shown,
                    where.folder,
                    detector,
                    ScoredClips(where.scored, files.detector),
                    read_table(files.names) if files.names else None,
                ),
                len(shown),
                "clips on the page",
            ),
            title=settings["title"] or f"Recordings in {Path(where.folder).name}",
            header=header_of(
                clips,
                normal,
                detector,
                read_table(files.metrics),
                method_label=settings["label"],
                encoder_label=settings["encoder"],
            ),
            warnings=warnings_of(
                clips, normal, detector, skipped, n_shown=len(shown), stamp=settings["stamp"]
            ),
            settings=settings_of(detector),
            threshold=detector.threshold,
            threshold_label=f"exceeded by {detector.conformal.stated_rate:.1%} of normal clips",
            map_scale=MAP_SCALE,
            band_centres_hz=detector.spec.front_end.mel_band_centres_hz(),
            hop_s=detector.spec.front_end.hop_s,
            audio_format=settings["audio_format"],
            threads=job.threads,
        )
