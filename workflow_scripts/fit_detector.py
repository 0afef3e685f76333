"""Fit one detector on the training clips of one experiment; its learned arrays, as .npz without pickle."""

from pathlib import Path

from vision_to_sound.detectors import create
from vision_to_sound.detectors.base import Checkpoint, EncoderSource
from vision_to_sound.embeddings import ClipSet, train_features
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.files import read_table
from vision_to_sound.seeding import identity_rng
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings = snakemake.input, job.settings
        normal = ClipSet.open(embeddings=files.embeddings, spectrograms=files.spectrograms)
        abnormal = None
        if files.abnormal_spectrograms:  # contaminated training
            abnormal = ClipSet.open(
                embeddings=files.abnormal_embeddings, spectrograms=files.abnormal_spectrograms
            )
        detector = create(settings["method"], settings["detector"])
        device, checkpoint = None, None
        if not settings["entry"]["is_control"]:  # controls do without PyTorch
            from vision_to_sound.torch_setup import choose_device

            device = choose_device(gpu=job.gpu, threads=job.threads)
            checkpoint = Checkpoint(Path(snakemake.resources.checkpoint), job.key(files))
        detector.checkpoint = checkpoint
        if files.weights:
            spec = ENCODERS[settings["encoder"]["name"]]
            detector.encoder = EncoderSource(spec, Path(files.weights))
        clips = train_features(read_table(files.table), normal, abnormal)
        rng = identity_rng("fit", *settings["identity"])
        with job.timed(clips.n_clips):
            detector.fit(clips, rng=rng, device=device, memory_bytes=job.memory_bytes)
        detector.save(snakemake.output[0])
        if checkpoint is not None:
            checkpoint.path.unlink(missing_ok=True)
