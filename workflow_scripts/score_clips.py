"""Scores and anomaly maps of an experiment's test clips; higher = more anomalous.

clips: float64 (n_clips,); maps: float32 (n_clips, n_frames, n_mels); frames, where the method has its own.
"""

import dataclasses
from pathlib import Path

from vision_to_sound.detectors import create
from vision_to_sound.detectors.base import EncoderSource
from vision_to_sound.embeddings import ClipSet, test_features, train_features
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.files import read_table
from vision_to_sound.scores import Truth
from vision_to_sound.seeding import identity_rng
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings = snakemake.input, job.settings
        normal = ClipSet.open(
            embeddings=files.normal_embeddings, spectrograms=files.normal_spectrograms
        )
        anomalous = ClipSet.open(
            embeddings=files.anomalous_embeddings, spectrograms=files.anomalous_spectrograms
        )
        device, name = None, "cpu"
        if not settings["entry"]["is_control"]:  # controls do without PyTorch
            from vision_to_sound.torch_setup import choose_device, device_name

            device = choose_device(gpu=job.gpu, threads=job.threads)
            name = device_name(device)
        table = read_table(files.table)
        clips = test_features(table, normal, anomalous)
        detector = create(settings["method"], settings["detector"])
        if "train_clips" in settings["entry"]["needs"]:
            detector.train_clips = train_features(table, normal, anomalous)
        if files.weights:
            spec = ENCODERS[settings["encoder"]["name"]]
            detector.encoder = EncoderSource(spec, Path(files.weights))
        if files.detector:
            detector.load(files.detector)
        else:  # learns nothing from clips
            rng = identity_rng("fit", *settings["identity"])
            detector.fit(clips, rng=rng, device=device, memory_bytes=job.memory_bytes)
        reads_truth = "truth" in settings["entry"]["needs"]
        truth = Truth.of_test_clips(files.truth, table) if reads_truth else None
        with job.timed(clips.n_clips):
            scores = detector.score(
                clips, device=device, memory_bytes=job.memory_bytes, truth=truth
            )
        dataclasses.replace(scores, device=name, code=job.code).save(snakemake.output[0])
