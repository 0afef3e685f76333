"""Which tap carries detection, which localisation, and what do two encoders gain together? ROC in percent.

    PYTHONPATH=src .venv/bin/python docs/tap_study.py results/leaderboard_subset

Reads the caches of a finished run (`embeddings.keep: true`), leakfree EnvMix at 0 dB. Band-wise PaDiM on each tap
alone, on all of them side by side, and surprising energy with these taps for clips, frames and maps alike; other
settings as in the run's config. Fusion: the mean over encoders of its clip scores, which share one scale.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import yaml

from vision_to_sound.detectors import create
from vision_to_sound.embeddings import ClipSet, test_features, train_features
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.files import read_table
from vision_to_sound.metrics import roc_auc
from vision_to_sound.scores import PUBLISHED, AnomalyScores, Truth

CPU = torch.device("cpu")
MEMORY_BYTES = 2**30


def values(scores: AnomalyScores, truth: Truth) -> tuple[float, float, float]:
    return (
        roc_auc(scores.clips, truth.labels),
        roc_auc(scores.maps.ravel(), truth.masks[PUBLISHED].ravel()),
        roc_auc(scores.frame_scores().ravel(), truth.frames.ravel()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of a finished run")
    parser.add_argument("--encoders", nargs="+", default=["aisfx", "efficientat_mn04"])
    args = parser.parse_args()
    settings = yaml.safe_load(Path("config/config.yaml").read_text(encoding="utf-8"))["detectors"]
    tables = sorted(args.results.glob("mixtures/leakfree/envmix/*/snr0/seed*.tsv"))
    if not tables:
        parser.error(f"{args.results} holds no mixtures of the leakfree protocol at 0 dB")
    rows = defaultdict(list)
    for path in tables:
        category, seed = path.parts[-3], path.stem
        table = read_table(path)
        together = []
        for encoder in args.encoders:
            sets = []
            for where in (f"{category}/normal", f"{category}/snr0/{seed}/mixture"):
                part = Path("leakfree/envmix") / where / encoder
                cache = args.results / "embeddings" / part
                sets.append(
                    ClipSet.open(
                        embeddings=(cache.with_suffix(".npy"), cache.with_suffix(".json")),
                        spectrograms=(args.results / "spectrograms" / part).with_suffix(".npy"),
                    )
                )
            train, test = train_features(table, sets[0]), test_features(table, *sets)
            truth = Truth.load(
                args.results / "truth/leakfree/envmix" / category / "snr0" / encoder / f"{seed}.npz"
            )
            taps = [tap.name for tap in ENCODERS[encoder].taps]
            for layers in [[tap] for tap in taps] + [taps]:
                for method in ("band_padim", "surprising_energy"):
                    taps_seen = {"layers": layers}
                    if method == "surprising_energy":
                        taps_seen["map_layers"] = layers
                    detector = create(method, {**settings[method], **taps_seen})
                    detector.fit(
                        train, rng=np.random.default_rng(0), device=CPU, memory_bytes=MEMORY_BYTES
                    )
                    scores = detector.score(test, device=CPU, memory_bytes=MEMORY_BYTES)
                    rows[encoder, " + ".join(layers), method].append(values(scores, truth))
                    if method == "surprising_energy" and layers == taps[:1]:
                        together.append(scores.clips)
        fused = roc_auc(np.mean(together, axis=0), truth.labels)
        rows["both", "the shallowest of each", "surprising_energy"].append((fused, np.nan, np.nan))
    print("| encoder | taps | method | sample | spectrogram, published truth | temporal |")
    print("| :-- | :-- | :-- | --: | --: | --: |")
    for (encoder, taps, method), found in rows.items():
        cells = " | ".join("" if np.isnan(v) else f"{100 * v:.1f}" for v in np.mean(found, axis=0))
        print(f"| {encoder} | {taps} | {method} | {cells} |")


if __name__ == "__main__":
    main()
