"""How well could a map do that knew the stems? Prints, per SNR, ROC values in percent, means over classes and seeds.

    PYTHONPATH=src .venv/bin/python docs/localisation_ceiling.py results/leaderboard_subset

Reads the spectrograms of stems and the truth of a finished run under the leakfree protocol (`embeddings.keep: true`).
Nothing here can be had without the stems: these are bounds, not methods.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from vision_to_sound.files import open_array, read_table
from vision_to_sound.metrics import roc_auc
from vision_to_sound.scores import AnomalyScores, Truth

AUDIBLE_DB = -6.0  # an event this far below its background can still be heard out of it
SILENCE_DB = -150.0


def maps_from_stems(event_db, background_db, mixture_db, normal_db) -> dict[str, np.ndarray]:
    """Maps by name, float32 (n_clips, n_frames, n_mels): mixtures first, then normal clips, where there is no event."""

    def with_normal(mixtures: np.ndarray, normal: np.ndarray) -> np.ndarray:
        return np.concatenate([mixtures, normal]).astype(np.float32)

    no_event = np.full(normal_db.shape, SILENCE_DB)
    audible = event_db - background_db > AUDIBLE_DB
    return {
        "the event itself": with_normal(event_db, no_event),
        "event where audible, else 60 dB below the mixture": with_normal(
            np.where(audible, event_db, mixture_db - 60.0), normal_db - 60.0
        ),
        "event over background": with_normal(event_db - background_db, no_event),
        "mixture over background": with_normal(
            np.maximum(mixture_db - background_db, 0.0), np.zeros(normal_db.shape)
        ),
        "the mixture itself": with_normal(mixture_db, normal_db),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of a finished run")
    parser.add_argument("--encoder", default="aisfx", help="whose spectrograms (default: aisfx)")
    args = parser.parse_args()
    rows: dict[tuple[str, str], list] = defaultdict(list)
    hidden: dict[str, list] = defaultdict(list)
    tables = sorted(args.results.glob("mixtures/leakfree/envmix/*/snr*/seed*.tsv"))
    if not tables:
        parser.error(f"{args.results} holds no mixtures of the leakfree protocol")
    for table_path in tables:
        category, snr, seed = table_path.parts[-3], table_path.parts[-2], table_path.stem
        table = read_table(table_path)
        test = table[table["role"] == "test"]
        spectrograms = args.results / "spectrograms" / "leakfree" / "envmix" / category
        event_db, background_db, mixture_db = (
            open_array(spectrograms / snr / seed / stem / f"{args.encoder}.npy")
            for stem in ("event", "background", "mixture")
        )
        normal_rows = test.loc[test["label"] == 0, "set_row"].to_numpy()
        normal_db = open_array(spectrograms / "normal" / f"{args.encoder}.npy")[normal_rows]
        truth = Truth.load(
            args.results / "truth/leakfree/envmix" / category / snr / args.encoder / f"{seed}.npz"
        )
        order = np.concatenate([np.flatnonzero(truth.labels), np.flatnonzero(~truth.labels)])
        published = truth.masks["published"][order]
        marked = published[: len(event_db)]
        hidden[snr].append((event_db - background_db < AUDIBLE_DB)[marked].mean())
        for name, maps in maps_from_stems(event_db, background_db, mixture_db, normal_db).items():
            frames = AnomalyScores(clips=np.zeros(len(maps)), maps=maps).frame_scores()
            rows[snr, name].append(
                (
                    roc_auc(maps.ravel(), published.ravel()),
                    roc_auc(maps.ravel(), truth.masks["leakfree"][order].ravel()),
                    roc_auc(frames.ravel(), truth.frames[order].ravel()),
                )
            )
    print("| SNR | map | spectrogram ROC, published truth | leakfree truth | temporal ROC |")
    print("| --: | :-- | --: | --: | --: |")
    for (snr, name), values in rows.items():
        cells = " | ".join(f"{100 * value:.1f}" for value in np.mean(values, axis=0))
        print(f"| {snr.removeprefix('snr')} | {name} | {cells} |")
    for snr, shares in hidden.items():
        share = 100 * np.mean(shares)
        print(
            f"SNR {snr.removeprefix('snr')}: {share:.0f} % of the marked cells are more than 6 dB below the background"
        )


if __name__ == "__main__":
    main()
