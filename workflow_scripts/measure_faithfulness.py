"""Faithfulness of one experiment's anomaly maps: rows of the metrics table (see faithfulness.faithfulness_rows)."""

from pathlib import Path

from vision_to_sound.detectors import create
from vision_to_sound.detectors.base import EncoderSource
from vision_to_sound.embeddings import ClipSet, test_features, train_features
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.faithfulness import ClipScorer, faithfulness_rows
from vision_to_sound.files import read_table, write_table
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.seeding import identity_rng
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings = snakemake.input, job.settings
        table = read_table(files.table)
        normal = ClipSet.open(
            embeddings=files.normal_embeddings, spectrograms=files.normal_spectrograms
        )
        clips = test_features(table, normal, ClipSet.open(spectrograms=files.mixture_spectrograms))
        background = ClipSet.open(spectrograms=files.background_spectrograms)
        detector = create(settings["method"], settings["detector"])
        device, network = None, None
        if not settings["entry"]["is_control"]:  # controls do without PyTorch
            from vision_to_sound.torch_setup import choose_device

            device = choose_device(gpu=job.gpu, threads=job.threads)
        if "train_clips" in settings["entry"]["needs"]:
            detector.train_clips = train_features(table, normal)
        if files.weights:
            from vision_to_sound.encoders.weights import load_encoder

            spec = ENCODERS[settings["encoder"]["name"]]
            network = load_encoder(spec, files.weights)
            detector.encoder = EncoderSource(spec, Path(files.weights))
        if files.detector:
            detector.load(files.detector)
        else:  # learns nothing from clips
            rng = identity_rng("fit", *settings["identity"])
            detector.fit(clips, rng=rng, device=device, memory_bytes=job.memory_bytes)
        rows = faithfulness_rows(
            clips,
            test_features(table, normal, background),
            AnomalyScores.load(files.scores),
            Truth.load(files.truth),
            ClipScorer(
                detector,
                network,
                precision=settings["precision"],
                n_frames=clips.n_frames,
                n_mels=clips.n_mels,
                device=device,
                memory_bytes=job.memory_bytes,
            ),
            clips=table[table["role"] == "test"],
            mask_controls=settings["mask_controls"],
            experiment=settings["experiment"],
            code=job.code,
            advance=progress(clips.n_clips, "masked clips"),
        )
        write_table(rows, snakemake.output[0])
