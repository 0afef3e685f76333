"""Scoring clips against a memory bank: PatchCore's neighbours and clip scores, against anomalib's PatchcoreModel.

Both get the same patches and the same bank, and return a distance per patch and a score per clip. Ours also knows
which patches lie in one cell of a coarser tap, and computes what they have in common once. A second row is of
patches that are compared with a share of the bank alone, which is not exact; what that loses stands in its notes.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.recordings import features_of
from benchmarks.rows import Row, options, product_rate, run, taking_turns

N_NEIGHBOURS = 9
SHARE = 0.1  # of the bank
MEMORY_BYTES = 10**9
CLAP_TAPS = {"block2": (138, 16, 128), "block3": (69, 8, 256), "block4": (34, 4, 512)}  # 4 s


def compare(what: str, features, *, n_clips: int, n_bank: int, turns: int) -> list[Row]:
    """The last n_clips against a bank of patches of the others, as they come, with noise where they are too few."""
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    from vision_to_sound.detectors.distances import near_neighbour, nearest_neighbour
    from vision_to_sound.detectors.patchcore import PatchCore
    from vision_to_sound.detectors.patches import PatchReader

    cpu = torch.device("cpu")
    reader = PatchReader(features, layers=[], pool=True, channels=None)
    n_others = features.n_clips - n_clips
    patches = reader.read(np.arange(n_others, features.n_clips), device=cpu).flatten(0, 2)
    others = np.random.default_rng(0).permutation(n_others * reader.group_size)[:n_bank]
    bank = reader.gather(others, device=cpu, memory_bytes=MEMORY_BYTES)
    detector = PatchCore(
        bank_size=n_bank,
        projection_eps=0.9,
        search_share=1.0,
        n_neighbours=N_NEIGHBOURS,
        blur_sigma=4.0,
        layers=[],
    )
    model = PatchcoreModel(
        layers=["layer1"], backbone="resnet18", pre_trained=False, num_neighbors=N_NEIGHBOURS
    )
    model.memory_bank = bank

    def peer():
        distance, nearest = model.nearest_neighbors(patches, n_neighbors=1)
        by_clip = distance.reshape(n_clips, -1), nearest.reshape(n_clips, -1)
        return distance, model.compute_anomaly_score(*by_clip, patches)

    vectors = patches.reshape(n_clips, -1, reader.n_channels)

    def ours():
        shared = reader.shared_channels(n_clips, device=cpu)
        distance, nearest = nearest_neighbour(
            patches, bank, memory_bytes=MEMORY_BYTES, shared=shared
        )
        return distance, clip_scores(distance, nearest), nearest

    def ours_near():
        distance, near = near_neighbour(patches, bank, share=SHARE, memory_bytes=MEMORY_BYTES)
        return distance, clip_scores(distance, near), near

    def clip_scores(distance, nearest):
        by_clip = distance.reshape(n_clips, -1), nearest.reshape(n_clips, -1)
        return detector._clip_scores(vectors, *by_clip, bank)

    peer_s, ours_s, expected, found = taking_turns(peer, ours, turns=turns)
    # its quick formula in float32 is off by up to a hundredth where distances are small
    same = np.allclose(found[0], expected[0], rtol=1e-3, atol=2e-2) and np.allclose(
        found[1], expected[1], rtol=1e-3
    )
    rate = product_rate(reader.n_channels)
    floor_s = 2.0 * len(patches) * len(bank) * reader.n_channels / rate
    size = f"{n_clips} clips of {reader.n_time} x {reader.n_freq} patches, bank {len(bank)}, {what}"
    name, floor = "anomalib PatchcoreModel", f"one product of all pairs at {rate / 1e9:.0f} GFLOP/s"
    exact = Row(
        f"scoring {size}", name, peer_s, ours_s, 3.0, bool(same), f"{floor}: {floor_s:.3g} s"
    )
    peer_s, near_s, _, near = taking_turns(peer, ours_near, turns=turns)
    excess = np.sort(near[0] / found[0] - 1.0)[: int((found[0] > 0).sum())]  # 0/0 is NaN, last
    loss = (
        f"the same neighbour for {(near[2] == found[2]).double().mean():.1%}; distances "
        f"{excess.mean():.2%} too large in the mean, {np.quantile(excess, 0.99):.2%} at the 99th percentile; "
        f"clip scores {np.abs(near[1] / found[1] - 1.0).max():.2%} at most"
    )
    near_row = Row(
        f"the same, a patch compared with {SHARE:.0%} of the bank",
        name,
        peer_s,
        near_s,
        3.0,
        None,
        loss,
    )
    return [exact, near_row]


def drawn(n_clips: int, taps: dict[str, tuple[int, int, int]]):
    """Taps of these shapes, drawn at random and rectified: every patch about equally far from every other."""
    from vision_to_sound.embeddings import ClipFeatures

    rng = np.random.default_rng(0)
    values = {
        name: np.maximum(rng.normal(size=(n_clips, *shape)), 0.0).astype(np.float16)
        for name, shape in taps.items()
    }
    return ClipFeatures.from_arrays(taps=values, spectrograms_db=np.zeros((n_clips, 4, 4)))


def measure(arguments: argparse.Namespace) -> list[Row]:
    quick = arguments.quick
    recordings, kind = features_of(arguments.recordings, quick=quick)
    n_clips, n_bank, turns = (2, 300, 1) if quick else (8, 10_000, 3)
    clap = drawn(3 if quick else 16, CLAP_TAPS)
    sizes = {"n_clips": n_clips, "n_bank": n_bank, "turns": turns}
    return [
        *compare(kind, recordings, **sizes),
        *compare("CLAP's shapes, random", clap, **sizes),
    ]


PARSER = options(
    __doc__,
    (
        "--recordings",
        {"default": "../shared/data/slider_recordings", "help": "folder of WAV files"},
    ),
)

if __name__ == "__main__":
    run(measure, PARSER)
