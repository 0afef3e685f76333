"""Faithfulness: how far a clip's score falls when what the anomaly map points at is masked.

FF = mean over the test clips of f(X) - f(X'), where X' is the masked clip and f the clip score, min-maxed jointly
over all scores before and after this masking; -1 to 1, higher is better. A mask A holds a number per cell of the
log-mel spectrogram, 0 (keep) to 1 (take out). Two maskings: ff_v1 attenuates the cells, ff_v2 puts the background
that the event was mixed into in their place. A normal clip is its own background: ff_v2 leaves it as it is.
Source: section 3.2.4 of the paper, after Parekh et al. 2022 (L2I).

Beside the detector's own map two others mask the same clips for the same detector: `..._oracle_mask`, the true
mask of the protocol, shows what a perfect map would give, `..._random_mask`, uniform cells, what a meaningless one
gives. That need not be 0: chance takes out half of the event, and its ragged holes are anomalous themselves.

Undefined values (all scores before and after are equal, no anomalous clip) are NaN with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vision_to_sound.embeddings import ClipFeatures
from vision_to_sound.scores import LEAKFREE, PUBLISHED, identified_rows, source_recordings
from vision_to_sound.seeding import identity_rng
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from vision_to_sound.detectors.base import Detector
    from vision_to_sound.scores import AnomalyScores, Truth

log = logging.getLogger(__name__)

LEVEL = "faithfulness"
VERSIONS = ("ff_v1", "ff_v2")
MASK_CONTROLS = ("oracle", "random")

FLOOR_DB = -100.0  # of every log-mel spectrogram (spectrogram.MIN_POWER)
# More clips at once were no faster; a detector should not start anew for every clip either.
_LARGEST_BLOCK = 32
# Arrays of a spectrogram's size alive at a time, in float64: clips, backgrounds, masks, what masking makes.
_ARRAYS_PER_CLIP = 8
# So many unmasked clips are scored again, and may differ by this share of the range of scores: bfloat16 rounds.
_CHECKED_CLIPS, _LARGEST_ERROR = 8, 0.01


def unit_masks(maps: np.ndarray) -> np.ndarray:
    """Maps min-maxed clip by clip: float32 (n_clips, n_frames, n_mels), 0 to 1; a constant map gives 0."""
    maps = np.asarray(maps, dtype=np.float64)
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    return ((maps - low) / np.where(spread > 0, spread, 1.0)).astype(np.float32)


def attenuate(
    spectrograms_db: np.ndarray, masks: np.ndarray, *, snr_db: float, protocol: str
) -> np.ndarray:
    """X' = X (1 - A / (1 + 10^(SNR/20))), the masking of ff_v1.

    SNR is background over event: the louder the event, the more is taken out. X is, by protocol: "published" the
    dB value itself, as coded. Most cells lie below 0 dB and come out *louder*: -60 dB becomes -30 dB where A is 1
    at SNR 0. "leakfree" the power, so that masked cells are attenuated (by 3 dB in the same case).

    Args:
        spectrograms_db: (n_clips, n_frames, n_mels), dB.
        masks: of the same shape, 0 to 1.

    Returns:
        dB, float32 (n_clips, n_frames, n_mels), at least -100.
    """
    check_known(protocol, (PUBLISHED, LEAKFREE), what="protocol")
    kept = 1.0 - np.asarray(masks, dtype=np.float64) / (1.0 + 10.0 ** (snr_db / 20.0))
    if protocol == PUBLISHED:
        masked_db = spectrograms_db * kept
    else:
        masked_db = spectrograms_db + 10.0 * np.log10(kept)  # power times kept
    return np.maximum(masked_db, FLOOR_DB).astype(np.float32)


def replace_by_background(
    spectrograms_db: np.ndarray, backgrounds_db: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    """X' = X (1 - B) + X_background B with B = [A > 0.5], the masking of ff_v2.

    Each cell is one or the other, so dB and power agree. All (n_clips, n_frames, n_mels); dB, float32.
    """
    return np.where(masks > 0.5, backgrounds_db, spectrograms_db).astype(np.float32)


def score_drops(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """f(X) - f(X') of each clip, float64 (n_clips,), -1 to 1; NaN with a warning if all scores are equal.

    before, after: raw clip scores, float64 (n_clips,). f is the score min-maxed over both together.
    """
    both = np.concatenate([before, after])
    spread = float(np.ptp(both)) if len(both) else 0.0
    if spread == 0:
        log.warning(
            "faithfulness is undefined (NaN): all scores of %d clips are equal, masked or not",
            len(before),
        )
        return np.full(len(before), np.nan)
    return (before - after) / spread


class ClipScorer:
    """Scores of spectrograms that lie in no cache: through the encoder, if the detector needs one.

    Embeddings are rounded to float16 as in the cache. Half of memory_bytes is for clips and their features, half
    for what the encoder or the detector works on.

    Args:
        detector: fitted.
        encoder: loaded network of the detector's embeddings, or None where it reads only spectrograms.
        precision: of the encoder, as for the cache.
        n_frames, n_mels: of the spectrograms.

    Attributes:
        clips_per_block: how many clips may be scored in one call.
    """

    def __init__(
        self,
        detector: Detector,
        encoder: torch.nn.Module | None,
        *,
        precision: str,
        n_frames: int,
        n_mels: int,
        device: torch.device | None,
        memory_bytes: int,
    ) -> None:
        self.detector, self.encoder = detector, encoder
        self.precision, self.device = precision, device
        self.work_bytes = memory_bytes // 2
        clip_bytes = 8 * _ARRAYS_PER_CLIP * n_frames * n_mels
        if encoder is not None:
            from vision_to_sound.encoders import tap_shapes
            from vision_to_sound.encoders.embed import batch_size_for

            self.batch_size = batch_size_for(self.work_bytes, encoder.spec, n_frames)
            # in float16 twice (batches, and joined) and in float32
            shapes = tap_shapes(encoder.spec, n_frames, n_mels)
            clip_bytes += (2 * 2 + 4) * sum(int(np.prod(shape)) for shape in shapes)
        budget = memory_bytes - self.work_bytes
        self.clips_per_block = int(max(1, min(_LARGEST_BLOCK, budget // clip_bytes)))

    def __call__(self, spectrograms_db: np.ndarray) -> np.ndarray:
        """Log-mel dB float32 (n_clips, n_frames, n_mels) -> clip scores float64 (n_clips,)."""
        taps = None if self.encoder is None else self._embed(spectrograms_db)
        features = ClipFeatures.from_arrays(taps=taps, spectrograms_db=spectrograms_db)
        return self.detector.score(features, device=self.device, memory_bytes=self.work_bytes).clips

    def _embed(self, spectrograms_db: np.ndarray) -> dict[str, np.ndarray]:
        from vision_to_sound.encoders.embed import embed

        batches = embed(
            self.encoder,
            spectrograms_db,
            device=self.device,
            batch_size=self.batch_size,
            precision=self.precision,
        )
        names = [tap.name for tap in self.encoder.spec.taps]
        batches_of_taps = zip(*batches, strict=True)
        return {
            name: np.concatenate(parts) for name, parts in zip(names, batches_of_taps, strict=True)
        }


def masked_scores(
    test: ClipFeatures,
    backgrounds: ClipFeatures,
    masks_of: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    scorer: ClipScorer,
    before: np.ndarray,
    *,
    snr_db: float,
    protocol: str,
    advance: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Clip scores after masking: metric ("ff_v1", "ff_v2_random_mask", ...) -> float64 (n_clips,).

    A clip that masking leaves as it is keeps its score and is not scored again.

    Args:
        test, backgrounds: spectrograms of the test clips and of their backgrounds, in the same order.
        masks_of: suffix of the metric -> function of clip rows that gives their masks, 0 to 1.
        before: scores of the unmasked clips, float64 (n_clips,).
    """
    after = {version + suffix: before.copy() for suffix in masks_of for version in VERSIONS}
    for first in range(0, test.n_clips, scorer.clips_per_block):
        rows = np.arange(first, min(first + scorer.clips_per_block, test.n_clips))
        clips_db, backgrounds_db = test.read_spectrograms(rows), backgrounds.read_spectrograms(rows)
        for suffix, masks in masks_of.items():
            mask = masks(rows)
            masked = (
                attenuate(clips_db, mask, snr_db=snr_db, protocol=protocol),
                replace_by_background(clips_db, backgrounds_db, mask),
            )
            for version, masked_db in zip(VERSIONS, masked, strict=True):
                changed = np.flatnonzero((masked_db != clips_db).any(axis=(1, 2)))
                if len(changed):
                    after[version + suffix][rows[changed]] = scorer(masked_db[changed])
        advance(len(rows))
    return after


def faithfulness_rows(
    test: ClipFeatures,
    backgrounds: ClipFeatures,
    scores: AnomalyScores,
    truth: Truth,
    scorer: ClipScorer,
    *,
    clips: pd.DataFrame,
    mask_controls: Sequence[str],
    experiment: Mapping[str, str],
    code: str,
    advance: Callable[[int], None] = lambda n: None,
) -> pd.DataFrame:
    """Faithfulness of one experiment, as rows of the metrics table (see experiments.experiment_metrics).

    Metrics of level "faithfulness": ff_v1 and ff_v2 (headline), the same with _oracle_mask and _random_mask as
    mask_controls ask; each over all test clips and, with the suffix _anomalous, over the anomalous ones alone.

    Args:
        test, backgrounds: spectrograms of the test clips and of their backgrounds; a normal clip is its own.
        scores: what the detector said of the test clips; its maps are the masks.
        clips: the test clips, columns clip and recording. A random mask depends on the experiment and its clip
            alone.
        mask_controls: of "oracle" and "random".
        experiment: protocol, dataset, category, snr, encoder, method, seed as they stand in paths.
        code: digest of the code that measures.

    Raises:
        ValueError: an unknown control, numbers of clips that disagree, or a truth without the protocol's mask.
    """
    import pandas as pd

    protocol = experiment["protocol"]
    for control in mask_controls:
        check_known(control, MASK_CONTROLS, what="mask control")
    counts = {
        "test clips": test.n_clips,
        "backgrounds": backgrounds.n_clips,
        "scores": len(scores.clips),
        "truth": len(truth.labels),
        "names": len(clips),
    }
    if len(set(counts.values())) > 1:
        raise ValueError(f"faithfulness: expected one of each per test clip, got {counts}")
    masks_of = {"": lambda rows: unit_masks(scores.maps[rows])}
    if "oracle" in mask_controls:
        check_known(protocol, truth.masks, what="mask of the truth")
        masks_of["_oracle_mask"] = lambda rows: truth.masks[protocol][rows].astype(np.float32)
    if "random" in mask_controls:
        names = clips["clip"].to_list()
        identity, shape = ("random mask", *sorted(experiment.items())), scores.maps.shape[1:]
        masks_of["_random_mask"] = lambda rows: np.stack(
            [identity_rng(*identity, names[row]).random(shape, dtype=np.float32) for row in rows]
        )
    _check_scorer(scorer, test, scores.clips)
    after = masked_scores(
        test,
        backgrounds,
        masks_of,
        scorer,
        scores.clips,
        snr_db=float(experiment["snr"]),
        protocol=protocol,
        advance=advance,
    )
    rows = []
    for metric, scores_after in after.items():
        drops = score_drops(scores.clips, scores_after)
        rows.append((metric, _mean(drops, metric), metric in VERSIONS))
        anomalous = f"{metric}_anomalous"
        rows.append((anomalous, _mean(drops[truth.labels], anomalous), False))
    table = pd.DataFrame(rows, columns=["metric", "value", "headline"])
    table.insert(0, "level", LEVEL)
    table.insert(1, "truth", "")
    table = table.assign(ci_low=np.nan, ci_high=np.nan)
    return identified_rows(
        table,
        scores,
        truth,
        recordings=source_recordings(clips),
        experiment=experiment,
        code=code,
    )


def _check_scorer(scorer: ClipScorer, test: ClipFeatures, before: np.ndarray) -> None:
    """Unmasked clips must score as they did; a warning where they do not."""
    rows = np.arange(min(_CHECKED_CLIPS, scorer.clips_per_block, test.n_clips))
    again = scorer(test.read_spectrograms(rows))
    error = float(np.abs(again - before[rows]).max(initial=0.0)) / (float(np.ptp(before)) or 1.0)
    log.info(
        "%d clips scored again, unmasked: off by %.2g of the range of scores", len(rows), error
    )
    if error > _LARGEST_ERROR:
        log.warning(
            "scored again, unmasked clips are off by %.2g of the range of scores (expected: %g at most), and "
            "faithfulness is no better than that. Do detector, encoder, precision and scores belong together?",
            error,
            _LARGEST_ERROR,
        )


def _mean(drops: np.ndarray, metric: str) -> float:
    if len(drops):
        return float(drops.mean())
    log.warning("%s is undefined (NaN): no clip to take the mean over", metric)
    return float("nan")
