"""ROC, F1 and AU-PRO of anomaly maps, against scikit-learn (ROC, F1) and anomalib (AU-PRO) together."""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.rows import Row, options, run, taking_turns

FPR_LIMIT = 0.3


def maps_and_masks(n_clips: int, *, fine: bool) -> tuple[np.ndarray, np.ndarray]:
    """float32 and bool (n_clips, 552, 64): smooth maps, a region in every other clip, where they are higher.

    fine: hardly two cells alike; else 1000 levels.
    """
    from scipy import ndimage

    rng = np.random.default_rng(0)
    maps = rng.normal(size=(n_clips, 552, 64)).astype(np.float32)
    maps = ndimage.gaussian_filter(maps, (0, 4, 4)) * 10
    masks = np.zeros(maps.shape, dtype=bool)
    for clip in range(0, n_clips, 2):
        time, freq = rng.integers(400), rng.integers(40)
        masks[clip, time : time + 120, freq : freq + 20] = True
    maps += masks
    return (maps if fine else np.round(maps * 100) / 100), masks


def compare(name: str, maps: np.ndarray, masks: np.ndarray, *, turns: int) -> Row:
    import torch
    from anomalib.metrics.aupro import _AUPRO
    from sklearn.metrics import precision_recall_curve, roc_auc_score

    from vision_to_sound.metrics import Ranking, label_regions

    def peer() -> list[float]:
        truth, scores = masks.ravel(), maps.ravel()
        precision, recall, _ = precision_recall_curve(truth, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        metric = _AUPRO(fpr_limit=FPR_LIMIT)
        metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
        return [roc_auc_score(truth, scores), float(f1.max()), float(metric.compute())]

    def ours() -> list[float]:
        curve = Ranking(maps).curve(label_regions(masks), regions=True)
        au_pro = curve.au_pro(fpr_limit=FPR_LIMIT, normalisation="standard")
        return [curve.roc_auc(), curve.best_f1(), au_pro]

    peer_s, ours_s, expected, found = taking_turns(peer, ours, turns=turns)
    # anomalib sums in float32
    same = np.allclose(found[:2], expected[:2], rtol=1e-10) and np.isclose(
        found[2], expected[2], rtol=2e-3
    )
    return Row(
        f"ROC, F1, AU-PRO of {' x '.join(map(str, maps.shape))} cells, {name}",
        "scikit-learn + anomalib AUPRO",
        peer_s,
        ours_s,
        10.0,
        bool(same),
        f"AU-PRO differs by {abs(found[2] - expected[2]):.1g} (anomalib sums in float32)",
    )


def measure(arguments: argparse.Namespace) -> list[Row]:
    n_clips, turns = (6, 1) if arguments.quick else (200, 3)
    return [
        compare(name, *maps_and_masks(n_clips, fine=fine), turns=turns)
        for name, fine in (("all distinct", True), ("1000 levels", False))
    ]


PARSER = options(__doc__)

if __name__ == "__main__":
    run(measure, PARSER)
