"""Scores and anomaly maps of an experiment's test clips; higher = more anomalous.

clips: float64 (n_clips,); maps: float32 (n_clips, n_frames, n_mels); frames, where the method has its own.
"""

import dataclasses

from vision_to_sound.detectors import create
from vision_to_sound.embeddings import ClipSet, test_features
from vision_to_sound.files import read_table
from vision_to_sound.scores import Truth
from vision_to_sound.seeding import identity_rng
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files = snakemake.input
        normal = ClipSet.open(
            embeddings=files.normal_embeddings, spectrograms=files.normal_spectrograms
        )
        mixture = ClipSet.open(
            embeddings=files.mixture_embeddings, spectrograms=files.mixture_spectrograms
        )
        device, name = None, "cpu"
        if not job.settings["entry"]["is_control"]:  # controls do without PyTorch
            from vision_to_sound.torch_setup import choose_device, device_name

            device = choose_device(gpu=job.gpu, threads=job.threads)
            name = device_name(device)
        clips = test_features(read_table(files.table), normal, mixture)
        detector = create(job.settings["method"], job.settings["detector"])
        if files.detector:
            detector.load(files.detector)
        else:  # learns nothing from clips
            rng = identity_rng("fit", *job.settings["identity"])
            detector.fit(clips, rng=rng, device=device, memory_bytes=job.memory_bytes)
        scores = detector.score(
            clips,
            device=device,
            memory_bytes=job.memory_bytes,
            truth=Truth.load(files.truth) if files.truth else None,
        )
        dataclasses.replace(scores, device=name, code=job.code).save(snakemake.output[0])
