"""Surprising energy against its witnesses written out one by one, and its scale against known probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detector_features import AMPLE, CPU, TIGHT, fit_and_score, make_features, random_taps

from vision_to_sound.detectors.band_padim import BandPaDiM
from vision_to_sound.detectors.surprising_energy import SurpriseScale, SurprisingEnergy, _Words
from vision_to_sound.embeddings import ClipFeatures

SETTINGS = {
    "shrinkage": 0.05,
    "layers": ["shallowest"],
    "map_layers": [],
    "top_share": 0.1,
    "smoothing_frames": 2.0,
    "frame_weight_db": 15.0,
    "cell_weight_db": 4.0,
    "n_folds": 3,
}


def make_detector(**changes) -> SurprisingEnergy:
    return SurprisingEnergy(**{**SETTINGS, **changes})


def smoothed(values, sigma: float):
    """Gaussian cut at four sigma, the clip mirrored at its ends; (n_frames,)."""
    half = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    mirrored = np.pad(values, half, mode="symmetric")
    return np.convolve(mirrored, weights / weights.sum(), mode="valid")


def witnesses_written_out(train: ClipFeatures, clips: ClipFeatures, n_top: int):
    """(clips (n, 4), frames (n, n_frames, 4), cells (n, n_frames, n_mels, 4)) with plain loops."""
    normal, heard = train.read_spectrograms(slice(None)), clips.read_spectrograms(slice(None))
    normal, heard = normal.astype(np.float64), heard.astype(np.float64)
    n_mels = normal.shape[2]
    own_normal, own = np.median(normal, axis=1), np.median(heard, axis=1)
    unusual, in_map = (
        fit_and_score(
            BandPaDiM(shrinkage=0.05, top_share=0.1, blur_sigma=0.0, layers=layers), train, clips
        ).maps
        for layers in (["block2"], [])
    )
    cells = np.empty((*heard.shape, 4))
    for clip in range(len(heard)):
        loudness = np.median([own[clip, b] - normal[:, :, b].mean() for b in range(n_mels)])
        for band in range(n_mels):
            above = heard[clip, :, band] - normal[:, :, band].mean() - loudness
            cells[clip, :, band, 0] = above / normal[:, :, band].std()
            residual = np.stack(
                [normal[i, :, band] - own_normal[i, band] for i in range(len(normal))]
            )
            cells[clip, :, band, 1] = (heard[clip, :, band] - own[clip, band]) / residual.std()
        cells[clip, :, :, 2], cells[clip, :, :, 3] = unusual[clip], in_map[clip]
    of_clips, of_frames = np.empty((len(heard), 4)), np.empty((*heard.shape[:2], 4))
    for clip in range(len(heard)):
        for witness in range(4):
            said = cells[clip, :, :, witness]
            of_clips[clip, witness] = np.sort(said.ravel())[-n_top:].mean()
            of_frames[clip, :, witness] = smoothed(np.sort(said, axis=1)[:, -5:].mean(1), 2.0)
    return of_clips, of_frames, cells


def test_scores_are_those_of_the_witnesses_written_out():
    train, test = make_features(7, seed=0), make_features(3, seed=1)
    scores = fit_and_score(make_detector(), train, test)
    n_top = round(0.1 * test.n_frames * test.n_mels)
    parts = [np.array([0, 1, 2]), np.array([3, 4]), np.array([5, 6])]
    held_out = [
        witnesses_written_out(
            train.subset(np.setdiff1d(np.arange(7), part)), train.subset(part), n_top
        )
        for part in parts
    ]
    centres, scales = [], []
    for level in range(3):
        said = np.concatenate([words[level].reshape(-1, 4) for words in held_out])
        centres.append(said.mean(0))
        scales.append(said.std(0))

    def answers(words, energy_db):
        clip, frame, cell = ((said - centres[i]) / scales[i] for i, said in enumerate(words))
        in_frame, in_cell = (
            (said[..., 0] + said[..., 1] + said[..., 3]) / 3 for said in (frame, cell)
        )
        surprise_db = 15.0 * in_frame[:, :, None] + 4.0 * in_cell
        return clip[..., :3].mean(-1), frame[..., :3].mean(-1), energy_db + surprise_db

    normal = [
        answers(words, train.read_spectrograms(part))
        for part, words in zip(parts, held_out, strict=True)
    ]
    tested = answers(witnesses_written_out(train, test, n_top), test.read_spectrograms(slice(None)))
    for level, got in enumerate((scores.clips, scores.frames, scores.maps)):
        scale = SurpriseScale.fit(np.concatenate([n[level].ravel() for n in normal]))
        np.testing.assert_allclose(got, scale(tested[level]), rtol=2e-3, atol=2e-3)


@pytest.fixture
def with_event():
    """(train, test): in the last test clip frames 12 to 17 of bands 6 to 9 are 40 dB louder, and its patches odd."""
    taps, rng = random_taps(2, seed=1), np.random.default_rng(5)
    taps["block2"][1, 3:5, 2] += 5.0
    spectrograms_db = rng.normal(-40.0, 10.0, size=(2, 36, 20)).astype(np.float32)
    spectrograms_db[1, 12:18, 6:10] += 40.0
    test = ClipFeatures.from_arrays(taps=taps, spectrograms_db=spectrograms_db)
    return make_features(12, seed=0), test


def test_clips_and_frames_hear_their_own_taps_and_maps_theirs(with_event):
    """Each as a detector that has these taps for all; the same taps twice are one embedding."""
    mixed = fit_and_score(make_detector(layers=["block2"], map_layers=["block3"]), *with_event)
    shallow, deep = (
        fit_and_score(make_detector(layers=[tap], map_layers=[tap]), *with_event)
        for tap in ("block2", "block3")
    )
    np.testing.assert_array_equal(mixed.clips, shallow.clips)
    np.testing.assert_array_equal(mixed.frames, shallow.frames)
    np.testing.assert_array_equal(mixed.maps, deep.maps)
    assert (shallow.maps != deep.maps).any() and (shallow.clips != deep.clips).any()


def test_an_event_is_found_in_clip_time_and_frequency(with_event):
    scores = fit_and_score(make_detector(smoothing_frames=1.0), *with_event)
    assert scores.clips[1] > 1.3 > scores.clips[0], "of 12 normal clips not one scores like that"
    assert set(np.argsort(scores.frames[1])[-4:]) <= set(range(12, 18))
    time, band = np.divmod(np.argsort(scores.maps[1].ravel())[-20:], 20)
    assert time.min() >= 12 and time.max() < 18
    assert ((band >= 6) & (band < 10)).sum() >= 14, "of 20 cells; by chance 4"


def test_without_weights_the_map_is_the_energy_in_its_order(with_event):
    train, test = with_event
    scores = fit_and_score(make_detector(frame_weight_db=0.0, cell_weight_db=0.0), train, test)
    energy_db = test.read_spectrograms(slice(None))
    assert (np.argsort(scores.maps, axis=None) == np.argsort(energy_db, axis=None)).all()


def test_a_clip_that_is_louder_as_a_whole_is_no_surprise_but_in_the_map():
    train, test = make_features(8, seed=0), make_features(3, seed=1)
    louder = ClipFeatures.from_arrays(
        taps=random_taps(3, seed=1), spectrograms_db=test.read_spectrograms(slice(None)) + 12.0
    )
    detector = make_detector()
    straight = fit_and_score(detector, train, test)
    loud = detector.score(louder, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(loud.clips, straight.clips, atol=1e-4)
    np.testing.assert_allclose(loud.frames, straight.frames, atol=1e-4)
    assert (loud.maps > straight.maps).all()


def test_blocks_and_company_change_nothing():
    train, test = make_features(7, seed=0), make_features(3, seed=1)
    ample, tight = (
        fit_and_score(make_detector(), train, test, memory_bytes=memory_bytes)
        for memory_bytes in (AMPLE, TIGHT)
    )
    np.testing.assert_allclose(ample.maps, tight.maps, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ample.clips, tight.clips, rtol=1e-4, atol=1e-4)
    detector = make_detector().fit(
        train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE
    )
    alone = detector.score(test.subset(np.array([2])), device=CPU, memory_bytes=AMPLE)
    np.testing.assert_allclose(alone.maps[0], ample.maps[2], rtol=1e-5, atol=1e-5)


def test_only_some_cells_calibrate_where_there_are_many(monkeypatch):
    train, test = make_features(12, seed=0), make_features(3, seed=1)
    all_cells = fit_and_score(make_detector(), train, test)
    monkeypatch.setattr(
        "vision_to_sound.detectors.surprising_energy._MAX_CALIBRATION_CELLS", 12 * 36 * 20 // 7
    )
    some = fit_and_score(make_detector(), train, test)
    np.testing.assert_array_equal(some.clips, all_cells.clips)
    assert 0 < np.abs(some.maps - all_cells.maps).max()
    assert np.abs(some.maps - all_cells.maps).mean() < 0.1


@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT])
def test_the_cells_that_calibrate_are_of_all_bands_and_do_not_depend_on_blocks(
    monkeypatch, memory_bytes
):
    """Every 20th cell of 20 bands would be one band alone, and that of the first clip of each block."""
    monkeypatch.setattr(
        "vision_to_sound.detectors.surprising_energy._MAX_CALIBRATION_CELLS", 60 * 36
    )
    seen = []
    thinned = _Words.thinned

    def watched(words, stride):
        few = thinned(words, stride)
        assert (few.cells[:, 2].size, stride) == (len(words.rows) * 36, 20)
        seen.append(few.energy_db)
        return few

    monkeypatch.setattr(_Words, "thinned", watched)
    train = make_features(60, seed=0)
    make_detector(n_folds=2).fit(
        train, rng=np.random.default_rng(0), device=CPU, memory_bytes=memory_bytes
    )
    spectrograms_db = train.read_spectrograms(slice(None))
    chosen = np.concatenate(seen)
    expected = [
        spectrograms_db[first + row].ravel()[row % 20 :: 20]
        for first in (0, 30)
        for row in range(30)
    ]
    np.testing.assert_array_equal(chosen, np.concatenate(expected))
    for band in range(20):
        assert np.isin(chosen, spectrograms_db[:, :, band]).sum() >= 36


def test_on_normal_clips_one_frame_in_ten_reaches_the_value_one():
    scores = fit_and_score(make_detector(), make_features(60, seed=0), make_features(60, seed=1))
    assert 0.07 < (scores.frames >= 1.0).mean() < 0.13
    assert 0.08 < (scores.maps >= 1.0).mean() < 0.12
    assert 0.007 < (scores.maps >= 2.0).mean() < 0.013


def test_a_band_that_is_silent_in_training_gives_finite_scores():
    spectrograms_db = np.random.default_rng(0).normal(-40, 10, (5, 36, 20)).astype(np.float32)
    spectrograms_db[:, :, 15:] = -100.0
    train = ClipFeatures.from_arrays(taps=random_taps(5, 0), spectrograms_db=spectrograms_db)
    scores = fit_and_score(make_detector(), train, make_features(2, seed=1))
    assert np.isfinite(scores.maps).all() and scores.clips.min() > 1.0


@pytest.mark.parametrize("n", [1, 2, 3, 15, 1000, 100_000])
def test_the_scale_rises_strictly_over_the_whole_line(n):
    scale = SurpriseScale.fit(np.random.default_rng(n).normal(size=n))
    values = scale(np.linspace(-30.0, 30.0, 4001))
    assert (np.diff(values) > 0).all() and np.isfinite(values).all()


def test_the_scale_takes_ties():
    scale = SurpriseScale.fit(np.array([0.0] * 50 + [1.0] * 50))
    assert (np.diff(scale(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]))) > 0).all()
    assert scale(np.array([0.0])) == pytest.approx(0.0, abs=0.01)  # all are as high
    assert scale(np.array([1.0])) >= 0.3


def test_the_scale_is_the_probability_of_fresh_scores_far_into_the_tail():
    rng = np.random.default_rng(0)
    scale = SurpriseScale.fit(rng.exponential(size=20_000))
    for probability in (0.5, 0.1, 0.01, 1e-3, 1e-6):
        value = scale(np.array([-np.log(probability)]))[0]
        assert value == pytest.approx(-np.log10(probability), rel=0.1)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("shrinkage", 0.0),
        ("top_share", 0.0),
        ("n_folds", 1),
        ("smoothing_frames", -1.0),
        ("frame_weight_db", -1.0),
        ("cell_weight_db", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        make_detector(**{setting: value})


def test_one_clip_is_not_enough_and_other_bands_are_refused():
    with pytest.raises(ValueError, match="at least two normal clips"):
        fit_and_score(make_detector(), make_features(1, seed=0), make_features(1, seed=1))
    detector = make_detector().fit(
        make_features(3, seed=0), rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE
    )
    taps, wide = random_taps(1, seed=1), np.zeros((1, 36, 21), dtype=np.float32)
    clips = ClipFeatures.from_arrays(taps=taps, spectrograms_db=wide)
    with pytest.raises(ValueError, match="20 mel bands.*21"):
        detector.score(clips, device=CPU, memory_bytes=AMPLE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_scores_are_those_of_the_cpu():
    train, test = make_features(7, seed=0), make_features(3, seed=1)
    on_cpu = fit_and_score(make_detector(), train, test)
    on_cuda = fit_and_score(make_detector(), train, test, device=torch.device("cuda"))
    np.testing.assert_allclose(on_cuda.maps, on_cpu.maps, rtol=1e-3, atol=1e-3)
