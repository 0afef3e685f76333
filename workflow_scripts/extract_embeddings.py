"""Embedding cache of one clip set: float16 (n_clips, all taps flat) and its description."""

from vision_to_sound.embeddings import TapShape, write_cache
from vision_to_sound.encoders import ENCODERS, tap_shapes
from vision_to_sound.encoders.embed import batch_size_for, embed
from vision_to_sound.encoders.weights import load_encoder
from vision_to_sound.files import open_array, replacing
from vision_to_sound.stage import progress, run_stage
from vision_to_sound.torch_setup import choose_device

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        spec = ENCODERS[job.settings["encoder"]["name"]]
        spectrograms = open_array(snakemake.input.spectrograms)
        shapes = tap_shapes(spec, *spectrograms.shape[1:])
        batches = embed(
            load_encoder(spec, snakemake.input.weights),
            spectrograms,
            device=choose_device(gpu=job.gpu, threads=job.threads),
            batch_size=batch_size_for(job.memory_bytes, spec, spectrograms.shape[1]),
            precision=job.settings["precision"],
        )
        with (
            replacing(snakemake.output.cache) as cache,
            replacing(snakemake.output.description) as description,
            job.timed(len(spectrograms)),
        ):
            write_cache(
                cache,
                description,
                batches,
                taps=[TapShape(t.name, *shape) for t, shape in zip(spec.taps, shapes, strict=True)],
                n_clips=len(spectrograms),
                encoder=spec.name,
                advance=progress(len(spectrograms), "embeddings"),
            )
