"""Does loudness alone tell mixtures from normal clips? Prints sample ROC in percent of a clip's level, per SNR.

    PYTHONPATH=src .venv/bin/python docs/level_artefact.py results/leaderboard_subset

The clips, their split and the events are the same for both protocols (those of the leakfree split); only gains differ.
"Background alone" is the level of the mixture's background stem: what a detector could go by if it heard no event.
Means over classes and ten draws of events.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vision_to_sound.audio import rms
from vision_to_sound.files import open_array, read_table
from vision_to_sound.metrics import roc_auc
from vision_to_sound.mixing import clip_set_rows, render, synthesize_mixtures

N_DRAWS = 10


def levels(rows, backgrounds, events, stem: str) -> np.ndarray:
    return np.array(
        [20.0 * np.log10(rms(clip)) for clip in render(rows, backgrounds, events, stem)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of a finished run")
    args = parser.parse_args()
    splits = sorted(args.results.glob("splits/leakfree/envmix/*/seed0.tsv"))
    if not splits:
        parser.error(f"{args.results} holds no splits of the leakfree protocol")
    clips = args.results / "clips" / "envmix"
    events, event_table = open_array(clips / "events.npy"), read_table(clips / "events.tsv")
    print(
        "| gains | SNR | sample ROC of level | of the background alone | background over normal, dB |"
    )
    print("| :-- | --: | --: | --: | --: |")
    for protocol in ("published", "leakfree"):
        for snr_db in (6, 0, -6):
            found = []
            for path in splits:
                category = path.parent.name
                backgrounds = open_array(clips / category / "backgrounds.npy")
                for seed in range(N_DRAWS):
                    table = synthesize_mixtures(
                        read_table(path),
                        read_table(clips / category / "backgrounds.tsv"),
                        backgrounds,
                        event_table,
                        events,
                        protocol=protocol,
                        category=category,
                        snr_db=snr_db,
                        seed=seed,
                    )
                    test = table[table["role"] == "test"]
                    mixtures, normal = clip_set_rows(test, "mixture"), clip_set_rows(test, "normal")
                    labels = np.arange(len(test)) < len(mixtures)
                    usual = levels(normal, backgrounds, None, "background")
                    scores = [
                        np.append(levels(mixtures, backgrounds, events, stem), usual)
                        for stem in ("mixture", "background")
                    ]
                    gain = mixtures["background_gain"].mean() / normal["background_gain"].mean()
                    found.append([*(roc_auc(s, labels) for s in scores), 20 * np.log10(gain)])
            level, background, gain_db = np.mean(found, axis=0)
            print(
                f"| {protocol} | {snr_db} | {100 * level:.1f} | {100 * background:.1f} | {gain_db:.1f} |"
            )


if __name__ == "__main__":
    main()
