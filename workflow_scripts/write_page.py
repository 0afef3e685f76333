"""One HTML file of all scored clips, to look at and to listen to."""

import logging

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

log = logging.getLogger("write_page")

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings, where = snakemake.input, job.settings, snakemake.resources
        clips, normal = read_table(files.clips), read_table(files.normal)
        detector = AnomalyDetector.load(files.detector, gpu=False, threads=job.threads)
        skipped = dict(zip(("normal", "unsorted"), map(read_table, files.skipped), strict=True))
        shown = clips.head(settings["page_clips"])
        n_bands = detector.spec.front_end.n_bands_below(shown["sample_rate_hz"].max() / 2)
        warnings = warnings_of(
            clips, normal, detector, skipped, n_shown=len(shown), stamp=settings["stamp"]
        )
        for warning in warnings:
            log.warning("%s", warning)
        write_page(
            snakemake.output[0],
            counted(
                page_clips(
                    shown,
                    where.folder,
                    detector,
                    ScoredClips(where.scored, files.detector),
                    read_table(files.names) if files.names else None,
                    n_bands=n_bands,
                ),
                len(shown),
                "clips on the page",
            ),
            title=settings["title"],
            header=header_of(
                clips,
                normal,
                detector,
                read_table(files.metrics),
                method_label=settings["label"],
                encoder_label=settings["encoder"],
            ),
            warnings=warnings,
            settings=settings_of(detector),
            threshold=detector.threshold,
            threshold_label=f"exceeded by {detector.conformal.stated_rate:.1%} of normal clips",
            map_scale=MAP_SCALE,
            band_centres_hz=detector.spec.front_end.mel_band_centres_hz()[:n_bands],
            hop_s=detector.spec.front_end.hop_s,
            audio_format=settings["audio_format"],
            threads=job.threads,
        )
