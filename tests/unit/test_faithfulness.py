"""Masking by hand-computed numbers, and faithfulness of maps that are known to be right or wrong."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from detector_features import AMPLE, CPU, TIGHT

from vision_to_sound.detectors import create
from vision_to_sound.detectors.controls import BandZScore, Energy
from vision_to_sound.detectors.padim import PaDiM
from vision_to_sound.embeddings import ClipFeatures, ClipSet, TapShape, write_cache
from vision_to_sound.encoders import ENCODERS, tap_shapes
from vision_to_sound.encoders.embed import bytes_per_clip, embed
from vision_to_sound.encoders.weights import random_weights
from vision_to_sound.experiments import experiment_metrics
from vision_to_sound.faithfulness import (
    VERSIONS,
    ClipScorer,
    attenuate,
    faithfulness_rows,
    masked_scores,
    replace_by_background,
    score_drops,
    unit_masks,
)
from vision_to_sound.files import save_array
from vision_to_sound.monitoring.default_settings import DEFAULT_SETTINGS
from vision_to_sound.scores import AnomalyScores, Truth

CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
N_FRAMES, N_MELS = 20, 16
CONTROLS = ("oracle", "random")


def experiment(protocol: str = "leakfree", snr: int = -6, seed: int = 0) -> dict[str, str]:
    return {
        "protocol": protocol,
        "dataset": "envmix",
        "category": "siren",
        "snr": str(snr),
        "encoder": "aisfx",
        "method": "energy",
        "seed": str(seed),
    }


class World:
    """Noise around -60 dB; into the odd clips comes an event of -10 dB at frames 5 to 8, bands 3 to 6."""

    def __init__(self, n_clips: int = 12) -> None:
        rng = np.random.default_rng(0)
        backgrounds_db = rng.normal(-60.0, 2.0, (n_clips, N_FRAMES, N_MELS)).astype(np.float32)
        clips_db = backgrounds_db.copy()
        labels = np.arange(n_clips) % 2 == 1
        clips_db[labels, 5:9, 3:7] = -10.0
        mask = np.zeros(clips_db.shape, bool)
        mask[labels, 5:9, 3:7] = True
        train_db = rng.normal(-60.0, 2.0, (20, N_FRAMES, N_MELS)).astype(np.float32)
        self.clips_db, self.labels, self.mask = clips_db, labels, mask
        self.train, self.test, self.backgrounds = (
            ClipFeatures.from_arrays(taps=None, spectrograms_db=db)
            for db in (train_db, clips_db, backgrounds_db)
        )
        self.truth = Truth(labels, {"published": mask, "leakfree": mask}, mask.any(axis=2))
        names = [f"clip {i}" for i in range(n_clips)]
        self.clips = pd.DataFrame({"clip": names, "recording": ""})

    def subset(self, rows: list[int]) -> World:
        part = copy.copy(self)
        part.test, part.backgrounds = (
            ClipFeatures.from_arrays(taps=None, spectrograms_db=f.read_spectrograms(np.array(rows)))
            for f in (self.test, self.backgrounds)
        )
        mask = self.mask[rows]
        part.truth = Truth(self.labels[rows], {"leakfree": mask}, mask.any(axis=2))
        part.clips = self.clips.iloc[rows]
        return part

    def fitted(self, detector):
        return detector.fit(
            self.train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE
        )

    def rows(self, detector, *, maps=None, clip_scores=None, mask_controls=CONTROLS, **identity):
        scores = self.fitted(detector).score(self.test, device=CPU, memory_bytes=AMPLE)
        scores = AnomalyScores(
            clips=scores.clips if clip_scores is None else clip_scores,
            maps=scores.maps if maps is None else maps,
        )
        return faithfulness_rows(
            self.test,
            self.backgrounds,
            scores,
            self.truth,
            scorer_of(detector),
            clips=self.clips,
            mask_controls=mask_controls,
            experiment=experiment(**identity),
            code="abc",
        )

    def values(self, detector, **options):
        rows = self.rows(detector, **options)
        return dict(zip(rows["metric"], rows["value"], strict=True))


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def scorer_of(
    detector, *, encoder=None, n_frames=N_FRAMES, n_mels=N_MELS, memory_bytes=AMPLE, device=CPU
):
    return ClipScorer(
        detector,
        encoder,
        precision="float32",
        n_frames=n_frames,
        n_mels=n_mels,
        device=device,
        memory_bytes=memory_bytes,
    )


# --- Masks ----------------------------------------------------------------------------------------


def test_unit_masks_are_min_maxed_clip_by_clip():
    maps = np.array([[[2.0, 4.0], [3.0, 6.0]], [[-1.0, -1.0], [-1.0, -1.0]]], np.float32)
    masks = unit_masks(maps)
    assert masks.dtype == np.float32
    np.testing.assert_allclose(masks[0], [[0.0, 0.5], [0.25, 1.0]])
    np.testing.assert_array_equal(masks[1], 0.0)


def test_attenuation_by_hand():
    clips_db, masks = np.full((1, 1, 3), -60.0, np.float32), np.array([[[0.0, 0.5, 1.0]]])
    at_0_db = {
        "published": [-60.0, -45.0, -30.0],
        "leakfree": [-60.0, -60.0 + 10 * np.log10(0.75), -60.0 + 10 * np.log10(0.5)],
    }
    for protocol, expected in at_0_db.items():
        masked = attenuate(clips_db, masks, snr_db=0.0, protocol=protocol)
        assert masked.dtype == np.float32
        np.testing.assert_allclose(masked[0, 0], expected, rtol=1e-6)


def test_published_makes_quiet_cells_louder_and_leakfree_never():
    rng = np.random.default_rng(0)
    clips_db = rng.uniform(-90.0, -1.0, (3, 5, 4)).astype(np.float32)
    masks = rng.uniform(0.1, 1.0, clips_db.shape)
    assert (attenuate(clips_db, masks, snr_db=0, protocol="published") > clips_db).all()
    assert (attenuate(clips_db, masks, snr_db=0, protocol="leakfree") < clips_db).all()
    ones = np.ones((1, 1, 1))
    assert attenuate(10 * ones, ones, snr_db=0, protocol="published").item() == 5.0


def test_a_loud_event_is_taken_out_more():
    """SNR is background over event: at -6 dB the event has two thirds of the amplitude, at 6 dB one."""
    clip_db, mask = np.full((1, 1, 1), -20.0, np.float32), np.ones((1, 1, 1))
    ratio = 10 ** (6 / 20)
    for snr_db, share in ((-6, ratio / (1 + ratio)), (6, 1 / (1 + ratio))):
        masked = attenuate(clip_db, mask, snr_db=snr_db, protocol="leakfree")
        assert 10 ** (masked.item() / 10) == pytest.approx((1 - share) * 0.01, rel=1e-5)


def test_attenuation_ends_at_the_floor_and_knows_two_protocols():
    floor, ones = np.full((1, 1, 1), -99.0, np.float32), np.ones((1, 1, 1))
    assert attenuate(floor, ones, snr_db=-6, protocol="leakfree").item() == -100.0
    with pytest.raises(ValueError, match="leakfre.*did you mean 'leakfree'"):
        attenuate(floor, ones, snr_db=0, protocol="leakfre")


def test_the_background_replaces_cells_above_one_half():
    clips_db, backgrounds_db = np.full((1, 1, 4), -10.0), np.full((1, 1, 4), -70.0)
    masks = np.array([[[0.0, 0.5, 0.501, 1.0]]])
    replaced = replace_by_background(clips_db, backgrounds_db, masks)
    np.testing.assert_array_equal(replaced, np.float32([[[-10.0, -10.0, -70.0, -70.0]]]))
    in_power = np.where(masks > 0.5, 10 ** (backgrounds_db / 10), 10 ** (clips_db / 10))
    np.testing.assert_allclose(replaced, 10 * np.log10(in_power), rtol=1e-6)


def test_drops_are_min_maxed_over_scores_before_and_after(caplog):
    before, after = np.array([10.0, 30.0]), np.array([20.0, 5.0])
    drops = score_drops(before, after)
    np.testing.assert_allclose(drops, [(10 - 20) / 25, (30 - 5) / 25])
    np.testing.assert_allclose(score_drops(7 * before - 3, 7 * after - 3), drops)
    with caplog.at_level(logging.WARNING):
        assert np.isnan(score_drops(np.ones(3), np.ones(3))).all()
    assert "undefined (NaN)" in caplog.text


# --- Whole experiments ----------------------------------------------------------------------------


def test_masked_scores_equal_the_slow_way_in_any_blocks(world):
    detector = world.fitted(BandZScore(top_share=0.05))
    scores = detector.score(world.test, device=CPU, memory_bytes=AMPLE)
    masks = unit_masks(scores.maps)
    backgrounds_db = world.backgrounds.read_spectrograms(slice(None))

    def slow_score(spectrogram_db):
        z = np.sort(((spectrogram_db - detector.mean_db_) / detector.std_db_).ravel())
        return z[-round(0.05 * z.size) :].mean()

    for protocol in ("published", "leakfree"):
        expected = {"ff_v1": [], "ff_v2": []}
        for clip_db, mask, background_db in zip(world.clips_db, masks, backgrounds_db, strict=True):
            kept = 1 - mask.astype(float) / (1 + 10 ** (3 / 20))
            if protocol == "published":
                v1 = clip_db * kept
            else:
                v1 = 10 * np.log10(10 ** (clip_db.astype(float) / 10) * kept)
            v2 = clip_db * (mask <= 0.5) + background_db * (mask > 0.5)
            expected["ff_v1"].append(slow_score(np.maximum(v1, -100)))
            expected["ff_v2"].append(slow_score(v2))
        for memory_bytes in (AMPLE, TIGHT):
            advanced = []
            after = masked_scores(
                world.test,
                world.backgrounds,
                {"": lambda rows: masks[rows]},
                scorer_of(detector, memory_bytes=memory_bytes),
                scores.clips,
                snr_db=3.0,
                protocol=protocol,
                advance=advanced.append,
            )
            for version in VERSIONS:
                np.testing.assert_allclose(after[version], expected[version], rtol=1e-5)
            assert sum(advanced) == len(world.labels)
            assert len(advanced) == (1 if memory_bytes == AMPLE else len(world.labels))


@pytest.mark.parametrize("detector", [Energy(), BandZScore(top_share=0.05)])
def test_a_perfect_map_takes_the_event_out(world, detector):
    values = world.values(detector, maps=world.mask.astype(np.float32))
    assert values["ff_v2"] == values["ff_v2_oracle_mask"] > 0.4
    assert values["ff_v2_anomalous"] == pytest.approx(2 * values["ff_v2"])  # half are anomalous
    assert values["ff_v2_oracle_mask_anomalous"] > 0.9
    assert 0 < values["ff_v1_oracle_mask"] < values["ff_v2_oracle_mask"]
    # chance takes out half of the event: of its energy 3 dB, of the mean of its cells about a half
    assert 0 < values["ff_v2_random_mask"] < 0.7 * values["ff_v2_oracle_mask"]


def test_a_wrong_map_takes_nothing_out(world):
    wrong = np.zeros(world.mask.shape, np.float32)
    wrong[:, 12:16, 3:7] = 1.0
    values = world.values(BandZScore(top_share=0.05), maps=wrong)
    assert abs(values["ff_v2"]) < 0.02
    constant = np.full(world.mask.shape, 3.0, np.float32)  # says nothing: masks nothing
    values = world.values(Energy(), maps=constant)
    assert values["ff_v1"] == values["ff_v2"] == 0.0


def test_published_masking_makes_clips_more_anomalous(world):
    """As coded: on dB values masked cells get louder, so a perfect map is punished."""
    options = {"maps": world.mask.astype(np.float32), "mask_controls": ()}
    published = world.values(Energy(), protocol="published", **options)
    leakfree = world.values(Energy(), protocol="leakfree", **options)
    assert published["ff_v1"] < 0 < leakfree["ff_v1"]
    assert published["ff_v2"] == leakfree["ff_v2"]


def test_normal_clips_are_their_own_background(world):
    asked = []

    class Spy(Energy):
        def score(self, test, **options):
            asked.append(test.read_spectrograms(slice(None)))
            return super().score(test, **options)

    world.values(Spy(), mask_controls=())
    unmasked, checked, v1, v2 = asked
    np.testing.assert_array_equal(checked, unmasked[:8])  # scored again once, as a check
    assert len(v1) == len(world.labels)
    assert len(v2) == world.labels.sum()  # the others are left as they are and not scored


def test_random_masks_depend_on_experiment_and_clip_alone(world):
    straight, shuffled = world.subset([0, 1, 2, 3]), world.subset([3, 1, 0, 2])
    value = straight.values(Energy())["ff_v1_random_mask"]
    assert shuffled.values(Energy())["ff_v1_random_mask"] == pytest.approx(value, rel=1e-12)
    other_seed = straight.values(Energy(), seed=1)["ff_v1_random_mask"]
    assert other_seed != pytest.approx(value, rel=1e-6)


def test_rows_fit_the_metrics_table(world):
    rows = world.rows(Energy(), snr=6, seed=2)
    metrics = [v + m for m in ("", "_oracle_mask", "_random_mask") for v in VERSIONS]
    assert list(rows["metric"]) == [m + s for m in metrics for s in ("", "_anomalous")]
    assert set(rows.loc[rows["headline"], "metric"]) == set(VERSIONS)
    assert rows["headline"].dtype == bool
    named = "level truth snr_db seed n_clips n_recordings n_anomalous code".split()
    whose = rows[named].drop_duplicates().values.tolist()
    assert whose == [["faithfulness", "", 6, 2, 12, 12, 6, "abc"]]
    assert rows["value"].between(-1, 1).all()
    table = world.clips.assign(role="test", label=world.labels)
    others, _ = experiment_metrics(
        Energy().score(world.test, device=CPU, memory_bytes=AMPLE),
        world.truth,
        table,
        experiment=experiment(),
        fpr_limit=0.3,
        n_draws=100,
        interval=0.95,
        code="abc",
    )
    assert list(rows.columns) == list(others.columns)


def test_undefined_values_are_nan_with_a_warning(world, caplog):
    normal = World()
    mask = np.zeros(normal.mask.shape, bool)
    normal.truth = Truth(np.zeros(12, bool), {"leakfree": mask}, mask.any(axis=2))
    with caplog.at_level(logging.WARNING):
        values = normal.values(Energy(), mask_controls=("oracle",))
    assert np.isnan(values["ff_v1_anomalous"]) and values["ff_v1_oracle_mask"] == 0.0
    assert "ff_v1_anomalous is undefined (NaN)" in caplog.text


def test_misuse_is_named(world):
    with pytest.raises(ValueError, match="mask control 'orakel'"):
        world.rows(Energy(), mask_controls=("orakel",))
    with pytest.raises(ValueError, match="protocol 'strict'|mask of the truth 'strict'"):
        world.rows(Energy(), protocol="strict")
    lacking = World()
    lacking.clips = lacking.clips[1:]
    with pytest.raises(ValueError, match="'test clips': 12.*'names': 11"):
        lacking.rows(Energy())


def test_scores_of_another_detector_are_noticed(world, caplog):
    scores = world.fitted(Energy()).score(world.test, device=CPU, memory_bytes=AMPLE)
    other = scores.clips[::-1].copy()
    with caplog.at_level(logging.WARNING):
        world.rows(Energy(), clip_scores=other)
    assert "belong together" in caplog.text


@pytest.mark.parametrize(
    ("device", "rtol"), [(CPU, 2e-4), pytest.param(torch.device("cuda"), 1e-3, marks=CUDA)]
)
@pytest.mark.parametrize(
    "detector",
    [
        create("patchcore", DEFAULT_SETTINGS["patchcore"] | {"bank_size": 40}),
        PaDiM(n_channels=20, regularisation=0.01, blur_sigma=2.0, layers=[]),
    ],
    ids=["patchcore", "padim"],
)
def test_unmasked_clips_have_the_scores_of_the_cache(detector, device, rtol, tmp_path):
    """Embedded again, one by one or together, clips get the cache's scores, up to a last digit of float16 taps."""
    spec, n_frames, n_clips = ENCODERS["aisfx"], 24, 7
    shape = (n_clips, n_frames, spec.front_end.n_mels)
    spectrograms_db = np.random.default_rng(5).normal(-35.0, 12.0, shape).astype(np.float32)
    encoder = random_weights(spec, seed=0)
    shapes = tap_shapes(spec, *shape[1:])
    files = tmp_path / "cache.npy", tmp_path / "cache.json"
    write_cache(
        *files,
        embed(encoder, spectrograms_db, device=CPU, batch_size=3, precision="float32"),
        taps=[TapShape(tap.name, *size) for tap, size in zip(spec.taps, shapes, strict=True)],
        n_clips=n_clips,
        encoder=spec.name,
    )
    save_array(tmp_path / "spectrograms.npy", spectrograms_db)
    clip_set = ClipSet.open(embeddings=files, spectrograms=tmp_path / "spectrograms.npy")
    cached = ClipFeatures([clip_set], np.zeros(n_clips, int), np.arange(n_clips))
    train = ClipFeatures([clip_set], np.zeros(4, int), np.arange(4))
    detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
    before = detector.score(cached, device=CPU, memory_bytes=AMPLE).clips
    one_clip = 2 * bytes_per_clip(spec, n_frames)
    for memory_bytes in (AMPLE, one_clip):
        scorer = scorer_of(
            detector,
            encoder=encoder,
            n_frames=n_frames,
            n_mels=shape[2],
            memory_bytes=memory_bytes,
            device=device,
        )
        np.testing.assert_allclose(scorer(spectrograms_db), before, rtol=rtol)
    assert scorer.batch_size == 1
    alone = np.concatenate([scorer(clip[None]) for clip in spectrograms_db])
    np.testing.assert_allclose(alone, before, rtol=rtol)
    louder = scorer(spectrograms_db + np.float32(20.0))
    assert (np.abs(louder - before) > 1e-3 * np.abs(before)).all()  # it did look at the clips
