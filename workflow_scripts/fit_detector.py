"""Fit one detector on the training clips of one experiment; its learned arrays, as .npz without pickle."""

from vision_to_sound.detectors import create
from vision_to_sound.embeddings import ClipSet, train_features
from vision_to_sound.files import read_table
from vision_to_sound.seeding import identity_rng
from vision_to_sound.stage import run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        normal = ClipSet.open(
            embeddings=snakemake.input.embeddings, spectrograms=snakemake.input.spectrograms
        )
        device = None
        if not job.settings["entry"]["is_control"]:  # controls do without PyTorch
            from vision_to_sound.torch_setup import choose_device

            device = choose_device(gpu=job.gpu, threads=job.threads)
        detector = create(job.settings["method"], job.settings["detector"])
        detector.fit(
            train_features(read_table(snakemake.input.table), normal),
            rng=identity_rng("fit", *job.settings["identity"]),
            device=device,
            memory_bytes=job.memory_bytes,
        )
        detector.save(snakemake.output[0])
