"""From waveforms to the taps of CLAP's CNN14, against msclap's own module, with the same random weights.

msclap's module goes on to its last layer, which nothing here needs; ours ends at the deepest tap.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.rows import Row, options, run, taking_turns

BATCH_SIZE = 4


def measure(arguments: argparse.Namespace) -> list[Row]:
    import torch
    from msclap.models.audio import Cnn14

    from vision_to_sound.encoders import ENCODERS
    from vision_to_sound.encoders.build import build_encoder
    from vision_to_sound.encoders.embed import embed
    from vision_to_sound.spectrogram import log_mel_db

    n_clips, seconds, turns = (2, 1, 1) if arguments.quick else (8, 5, 3)
    spec = ENCODERS["clap2022_cnn14"]
    front_end = spec.front_end
    torch.manual_seed(0)
    network = Cnn14(
        sample_rate=front_end.sample_rate_hz,
        window_size=front_end.n_fft,
        hop_size=front_end.hop_samples,
        mel_bins=front_end.n_mels,
        fmin=front_end.f_min_hz,
        fmax=front_end.f_max_hz,
        classes_num=527,
        out_emb=2048,
    ).eval()
    encoder = build_encoder(spec)
    state = network.state_dict()
    encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    shape = (n_clips, front_end.sample_rate_hz * seconds)
    waveforms = np.random.default_rng(0).normal(0.0, 0.05, shape).astype(np.float32)

    def peer() -> None:
        with torch.inference_mode():
            for first in range(0, n_clips, BATCH_SIZE):
                network(torch.from_numpy(waveforms[first : first + BATCH_SIZE]))

    def ours(precision: str) -> np.ndarray:
        spectrograms_db = log_mel_db(waveforms, front_end, device="cpu")
        batches = embed(
            encoder, spectrograms_db, device="cpu", batch_size=BATCH_SIZE, precision=precision
        )
        return np.concatenate([taps[-1] for taps in batches])

    deepest = []
    hook = network.conv_block4.register_forward_hook(lambda *call: deepest.append(call[2]))
    peer()
    hook.remove()
    expected = torch.cat(deepest).permute(0, 2, 3, 1).numpy()
    rows = []
    for precision, target, most in (("float32", 2.0, 1e-3), ("bfloat16", 3.0, 2e-2)):
        peer_s, ours_s, _, found = taking_turns(
            peer, lambda p=precision: ours(p), turns=turns if precision == "float32" else 1
        )
        error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        rows.append(
            Row(
                f"embedding {n_clips} clips of {seconds} s, {precision}",
                "msclap Cnn14, float32",
                peer_s,
                ours_s,
                target,
                error < most,
                f"{n_clips / peer_s:.3g} and {n_clips / ours_s:.3g} clips/s; deepest tap, kept as float16, "
                f"differs by {error:.1g}",
            )
        )
    return rows


PARSER = options(__doc__)

if __name__ == "__main__":
    run(measure, PARSER)
