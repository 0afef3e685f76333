"""Which clip a picture shows."""

from __future__ import annotations

import numpy as np
import pytest

from vision_to_sound.figures.cells import choose_clip
from vision_to_sound.scores import AnomalyScores, Truth

N_FRAMES, N_MELS = 6, 8
# Test clips: normal ones lie between the anomalous ones, as in an experiment's table.
LABELS = np.array([False, True, True, False, True, True, True])
CLIPS = ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"]  # the anomalous ones
# Share of the event's cells that the map ranks above all others: "d" is found best, "b" worst.
FOUND = {"a.wav": 0.5, "b.wav": 0.0, "c.wav": 0.75, "d.wav": 1.0, "e.wav": 0.25}
CLIP_SCORES = np.array([9.0, 5.0, 4.0, 8.0, 3.0, 1.0, 2.0])  # anomalous: a 5, b 4, c 3, d 1, e 2


def make_experiment(*, masks: tuple[str, ...] = ("leakfree",)) -> tuple[AnomalyScores, Truth]:
    """Maps that find a part of their event, on top of levels that differ from clip to clip."""
    rng = np.random.default_rng(0)
    mask = np.zeros((len(LABELS), N_FRAMES, N_MELS), dtype=bool)
    mask[LABELS, 1:5, 2:6] = True  # 16 cells
    maps = rng.uniform(0.4, 0.6, size=mask.shape)
    for clip, name in zip(np.flatnonzero(LABELS), CLIPS, strict=True):
        n_found = int(FOUND[name] * 16)
        maps[clip][mask[clip]] = np.where(np.arange(16) < n_found, 0.9, 0.1)
    maps += CLIP_SCORES[:, None, None]  # a clip's own level must not count
    truth = Truth(labels=LABELS, masks=dict.fromkeys(masks, mask), frames=mask.any(axis=2))
    return AnomalyScores(clips=CLIP_SCORES, maps=maps.astype(np.float32)), truth


def chosen(which: str, experiment=None, *, protocol: str = "leakfree") -> str:
    scores, truth = experiment or make_experiment()
    return CLIPS[choose_clip(scores, truth, CLIPS, protocol=protocol, which=which)]


def test_best_typical_and_worst_by_how_well_the_map_finds_the_mask():
    assert [chosen(which) for which in ("best", "typical", "worst")] == ["d.wav", "a.wav", "b.wav"]


def test_the_protocols_own_mask_counts():
    scores, truth = make_experiment(masks=("published", "leakfree"))
    turned = Truth(
        labels=truth.labels,
        masks={**truth.masks, "published": ~truth.masks["published"]},
        frames=truth.frames,
    )
    both = (scores, turned)
    assert chosen("best", both, protocol="published") == "b.wav"
    assert chosen("best", both, protocol="leakfree") == "d.wav"


@pytest.mark.parametrize("protocol", ["published", "leakfree"])
def test_where_no_mask_is_known_the_clip_score_counts(protocol):
    scores, _ = make_experiment()
    experiment = (scores, Truth.of_clips(LABELS))
    for which, name in (("best", "a.wav"), ("typical", "c.wav"), ("worst", "d.wav")):
        assert chosen(which, experiment, protocol=protocol) == name


def test_clips_without_an_anomalous_cell_are_not_shown():
    scores, truth = make_experiment()
    masks = truth.masks["leakfree"].copy()
    masks[5] = False  # "d.wav", else the best
    frames = masks.any(axis=2)
    silent = Truth(labels=LABELS, masks={"leakfree": masks}, frames=frames)
    assert chosen("best", (scores, silent)) == "c.wav"
    assert chosen("clip-d.wav", (scores, silent)) == "d.wav", "asked for by name, it is"
    nothing = Truth(
        labels=LABELS, masks={"leakfree": np.zeros_like(masks)}, frames=np.zeros_like(frames)
    )
    with pytest.raises(ValueError, match="no clip has an anomalous cell"):
        chosen("best", (scores, nothing))


def test_a_clip_by_its_name():
    assert chosen("clip-e.wav") == "e.wav"
    scores, _ = make_experiment()
    assert chosen("clip-a.wav", (scores, Truth.of_clips(LABELS))) == "a.wav"
    with pytest.raises(ValueError, match=r"'x.wav' is not among the mixtures: a.wav, b.wav"):
        chosen("clip-x.wav")


def test_among_equals_the_choice_is_by_their_order():
    scores, truth = make_experiment()
    flat = AnomalyScores(clips=scores.clips, maps=np.zeros_like(scores.maps))
    assert chosen("worst", (flat, truth)) == "a.wav"
    assert chosen("best", (flat, truth)) == "e.wav"


def test_one_anomalous_clip_is_best_and_worst_at_once():
    scores, truth = make_experiment()
    rows = np.array([0, 2])
    one = Truth(
        labels=LABELS[rows],
        masks={"leakfree": truth.masks["leakfree"][rows]},
        frames=truth.frames[rows],
    )
    few = AnomalyScores(clips=scores.clips[rows], maps=scores.maps[rows])
    for which in ("best", "typical", "worst"):
        assert choose_clip(few, one, ["b.wav"], protocol="leakfree", which=which) == 0
