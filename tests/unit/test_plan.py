"""What a run will cost, job by job: clip counts as printed, sizes by hand, work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plan_cases import (
    CLAP,
    EMBEDDING,
    ENVMIX,
    EXPERIMENT,
    KCELLS,
    LEAKFREE,
    MIMII,
    PUBLISHED,
    SPECTROGRAM,
    make_job,
    paper_config,
    put,
    size_of,
    work_of,
    write_index,
)

from vision_to_sound import plan
from vision_to_sound.plan import bytes_and_work, clip_counts
from vision_to_sound.scores import AnomalyScores, Truth
from vision_to_sound.splits import split_clips, split_recordings


@pytest.fixture
def config(repository, tmp_path):
    return paper_config(repository, tmp_path)


# --- Clip counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clips", "train", "test", "anomalous"),
    [
        (987, 740, 247, 123),
        (923, 692, 231, 115),
        (977, 732, 245, 122),
        (764, 573, 191, 95),
        (187, 140, 47, 23),
        (787, 590, 197, 98),
        (970, 727, 243, 121),
        (834, 625, 209, 104),
    ],
)
def test_envmix_counts_are_those_of_the_paper(config, clips, train, test, anomalous):
    for protocol in ("published", "leakfree"):
        assert clip_counts("envmix", protocol, clips, 0, config) == plan.ClipCounts(
            normal=clips, abnormal=anomalous, train=train, test=test
        )


def test_the_table_of_clip_counts_is_the_full_data_sets(repository, config):
    counts = plan.read_counts(repository / "config" / "clip_counts.tsv", config)
    assert (
        sum(normal for (dataset, _), (normal, _) in counts.items() if dataset == "envmix") == 6429
    )
    assert {category for dataset, category in counts if dataset == "envmix"} == set(
        config["envmix"]["backgrounds"]
    )
    machines = {"fan": 5550, "pump": 4205, "slider": 4094, "valve": 4170}  # recordings at one SNR
    for machine, n in machines.items():
        pairs = [pair for (_, category), pair in counts.items() if category.startswith(machine)]
        assert len(pairs) == 4 and sum(map(sum, pairs)) == n
    assert counts["mimii", "valve_id_00"] == (991, 119)


def test_mimii_counts_of_both_protocols(config):
    # int(0.3 * 407) = 122
    assert clip_counts("mimii", "published", 1011, 407, config) == plan.ClipCounts(
        normal=1011, abnormal=407, train=1011 - 122, test=244
    )
    assert clip_counts("mimii", "leakfree", 1011, 407, config) == plan.ClipCounts(
        normal=1011, abnormal=407, train=604, test=814
    )
    config["mimii"]["contaminated"] = True
    assert clip_counts("mimii", "published", 1011, 407, config).train == 1011 - 122 + 285
    assert clip_counts("mimii", "leakfree", 1011, 407, config).train == 604


@pytest.mark.parametrize("contaminated", [False, True])
@pytest.mark.parametrize("n", [(11, 4), (40, 13), (107, 20)])
def test_counts_are_those_of_the_splits(config, n, contaminated):
    normal, abnormal = n
    clips = pd.DataFrame({"clip": [f"{i}.wav" for i in range(normal)]})
    clips["recording"] = clips["clip"]  # one clip each: a split over recordings is one over clips
    names = [f"{label}_{i}" for label, k in enumerate(n) for i in range(k)]
    index = pd.DataFrame(
        {
            "clip": names,
            "recording": names,
            "category": "fan_id_00",
            "label": [int(x[0]) for x in names],
        }
    )
    config["mimii"]["contaminated"] = contaminated
    for protocol in ("published", "leakfree"):
        shares = {key: config["envmix"][key] for key in ("test_share", "anomalous_share")}
        identity = {"protocol": protocol, "category": "fan_id_00", "seed": 0}
        split = split_clips(clips, **identity, **shares)
        of_published = contaminated and protocol == "published"
        recordings = split_recordings(index, **identity, contaminated=of_published)
        for dataset, table in (("envmix", split), ("mimii", recordings)):
            planned = clip_counts(dataset, protocol, normal, abnormal, config)
            roles = table["role"].value_counts()
            assert (planned.train, planned.test) == (roles["train"], roles["test"])
        assert clip_counts("envmix", protocol, normal, 0, config).abnormal == split["label"].sum()


def test_an_index_is_believed_more_than_the_table(repository, config):
    write_index(
        config,
        "urbansound8k",
        [("a", "siren", 4.0), ("b", "siren", 3.99), ("c", "siren", 4.0), ("d", "gun_shot", 1.0)],
    )
    write_index(config, "esc50", [("e", "dog", 5.0), ("f", "dog", 0.5), ("g", "frog", 5.0)])
    write_index(
        config,
        "mimii_0_dB_fan",
        [("h", "fan_id_00", 10.0, 0), ("i", "fan_id_00", 10.0, 0), ("j", "fan_id_00", 10.0, 1)],
    )
    counts = plan.read_counts(repository / "config" / "clip_counts.tsv", config)
    assert counts["envmix", "siren"] == (2, 0), "those of at least 4 s"
    assert counts["mimii", "fan_id_00"] == (2, 1)
    assert counts["envmix", "drilling"] == (764, 0), "no index speaks of it"
    damaged = Path(config["results"], "index", "esc50.tsv")
    damaged.write_text(damaged.read_text().replace("dog", "cog"))
    path = repository / "config" / "clip_counts.tsv"
    assert ("esc50", "cog") not in plan.read_counts(path, config), "a damaged index is not believed"
    assert counts["mimii", "pump_id_00"] == (1006, 143)
    config["envmix"]["events"] = ["dog", "frog", "sheep"]  # 2, 1, and the 40 of ESC-50
    n_bytes, _ = bytes_and_work(make_job("extract_events"), config, counts)
    assert n_bytes == 43 * 4 * 44100 * 4


def test_synthetic_sets_have_the_clips_that_the_config_asks_for(repository, config):
    config["synthetic"] = {
        "clips_per_background": 20,
        "clips_per_event": 4,
        "normal_per_id": 12,
        "abnormal_per_id": 6,
    }
    counts = plan.read_counts(repository / "config" / "clip_counts.tsv", config)
    assert counts["envmix", "siren"] == (18, 0), "one in ten is too short"
    assert counts["mimii", "fan_id_02"] == (12, 6)
    n_bytes, _ = bytes_and_work(make_job("extract_events"), config, counts)
    assert n_bytes == 17 * 4 * 44100 * 4 * 4


# --- Sizes ----------------------------------------------------------------------------------------


def test_sizes_of_clips_and_spectrograms(config):
    waveform = 4 * 44100 * 4
    assert size_of(config, "extract_backgrounds", category="siren") == 834 * waveform
    assert size_of(config, "extract_events") == 17 * 40 * waveform
    normal = ("compute_normal_spectrograms", ENVMIX, CLAP)
    assert size_of(config, *normal, LEAKFREE, set_dir="") == 834 * SPECTROGRAM
    # at the levels of an experiment: the clips that get no event
    assert size_of(config, *normal, PUBLISHED, set_dir="snr0/seed0/") == 730 * SPECTROGRAM
    mixture = ("compute_mixture_spectrograms", ENVMIX, CLAP)
    for protocol in (PUBLISHED, LEAKFREE):
        size = size_of(config, *mixture, protocol, snr="0", seed="0")
        assert size == 3 * 104 * SPECTROGRAM, "mixture, event and background"
    # 10 s at 44.1 kHz are 1379 frames; both kinds in one job; the rule has no wildcard dataset
    recordings = {"category": "fan_id_00", "snr": "0"}
    for protocol in (PUBLISHED, LEAKFREE):
        size = size_of(config, "compute_recording_spectrograms", recordings, protocol, CLAP)
        assert size == (1011 + 407) * 1379 * 64 * 4
    # the autoencoder's own front end: 126 frames of 128 bands
    own = {"encoder": "logmel_dcase2020"}
    size = size_of(config, "compute_normal_spectrograms", ENVMIX, LEAKFREE, own, set_dir="")
    assert size == 834 * 126 * 128 * 4


@pytest.mark.parametrize(
    ("parts", "n_clips", "clip_bytes"),
    [
        ((ENVMIX, LEAKFREE, {"set_dir": "", "kind": "normal"}), 834, EMBEDDING),
        ((ENVMIX, PUBLISHED, {"set_dir": "snr6/seed1/", "kind": "normal"}), 730, EMBEDDING),
        ((ENVMIX, PUBLISHED, {"set_dir": "snr6/seed1/", "kind": "mixture"}), 104, EMBEDDING),
        ((ENVMIX, LEAKFREE, {"set_dir": "snr6/seed1/", "kind": "mixture"}), 104, EMBEDDING),
        (
            (MIMII, LEAKFREE, {"set_dir": "snr-6/", "kind": "normal"}),
            1011,
            (344 * 16 * 128 + 172 * 8 * 256 + 86 * 4 * 512) * 2,
        ),
        (
            (MIMII, PUBLISHED, {"set_dir": "snr-6/", "kind": "abnormal"}),
            407,
            (344 * 16 * 128 + 172 * 8 * 256 + 86 * 4 * 512) * 2,
        ),
    ],
)
def test_sizes_of_embeddings(config, parts, n_clips, clip_bytes):
    assert size_of(config, "extract_embeddings", *parts, CLAP) == n_clips * clip_bytes
    assert EMBEDDING == 987_136


@pytest.mark.parametrize(
    ("method", "n_bytes"),
    [
        # a Gaussian in each of 138 x 16 cells: half a matrix, mean and channel numbers
        ("padim", 2208 * (225 * 226 / 2 * 4 + 225 * 8)),
        ("patchcore", 30000 * 896 * 4),
        ("cfa", (896 * 898 + 896 + 2208 * 896) * 4),
        ("spade", 625 * 512 * 8),
        ("band_nn", 16 * 2000 * 896 * 4),
        # per tap and step: hidden channels times those seen and twice those changed; half of the steps 3x3
        ("fastflow", 8 * 5 * (32 * 192 + 64 * 384 + 128 * 768) * 4),
    ],
)
def test_sizes_of_detectors(config, method, n_bytes):
    size = size_of(config, "fit_detector", ENVMIX, LEAKFREE, CLAP, snr_dir="", method=method)
    assert size == pytest.approx(n_bytes, rel=1e-3)


def test_sizes_of_detectors_follow_settings_overrides_and_clips(config):
    fit = ("fit_detector", LEAKFREE, CLAP, {"snr_dir": "", "seed": "0", "method": "patchcore"})
    config["overrides"] = {"siren": {"patchcore": {"bank_size": 500}}}
    assert size_of(config, *fit, category="siren", dataset="envmix") == 500 * 896 * 4
    assert size_of(config, *fit, category="car_horn", dataset="envmix") == 30000 * 896 * 4
    greedy = put(config, patchcore={"bank_size": 10**7})
    size = size_of(greedy, *fit, category="car_horn", dataset="envmix")
    assert size == 140 * 2208 * 896 * 4, "a bank holds no more than there are patches"
    for method, encoder in (("autoencoder", "logmel_dcase2020"), ("stfpm", "aisfx")):
        job = ("fit_detector", LEAKFREE, ENVMIX, {"encoder": encoder, "method": method})
        assert 5e5 < size_of(config, *job, snr_dir="") < 5e7
    assert size_of(config, "fit_detector", LEAKFREE, ENVMIX, CLAP, snr_dir="", method="energy") == 0


def test_sizes_of_truth_and_scores(config):
    truth = ("compute_truth", CLAP, EXPERIMENT)
    # two masks of a bit per cell, a byte per frame
    assert size_of(config, *truth, ENVMIX, PUBLISHED) == 209 * (2 * 552 * 64 / 8 + 552)
    scores = ("score_clips", CLAP, EXPERIMENT, {"method": "padim"})
    assert size_of(config, *scores, ENVMIX, PUBLISHED) == 209 * SPECTROGRAM
    assert size_of(config, *scores, MIMII, PUBLISHED) == 244 * 1379 * 64 * 4
    assert size_of(config, *scores, MIMII, LEAKFREE) == 814 * 1379 * 64 * 4


def test_caches_that_are_not_kept_take_no_place(config):
    config["embeddings"]["keep"] = False
    in_set = {"set_dir": "", "kind": "normal"}
    for job in (
        ("compute_normal_spectrograms", ENVMIX, LEAKFREE, CLAP, in_set),
        ("compute_mixture_spectrograms", ENVMIX, LEAKFREE, CLAP, EXPERIMENT),
        ("compute_recording_spectrograms", MIMII, LEAKFREE, CLAP, EXPERIMENT),
        ("extract_embeddings", ENVMIX, LEAKFREE, CLAP, in_set),
    ):
        assert size_of(config, *job) == 0
        assert work_of(config, *job) > 0, "but time"
    job = ("fit_detector", ENVMIX, LEAKFREE, CLAP, {"method": "padim", "snr_dir": ""})
    assert size_of(config, *job) > 2e8
    assert size_of(config, "score_clips", ENVMIX, LEAKFREE, CLAP, EXPERIMENT, method="padim") > 0


def test_sizes_are_those_of_the_files_that_are_written(config, tmp_path):
    rng = np.random.default_rng(0)
    n_frames, n_mels, n_clips = 552, 64, 3
    masks = dict.fromkeys(("published", "leakfree"), rng.random((n_clips, n_frames, n_mels)) < 0.1)
    truth = Truth(
        labels=np.ones(n_clips, bool), masks=masks, frames=np.ones((n_clips, n_frames), bool)
    )
    truth.save(tmp_path / "truth.npz")
    scores = AnomalyScores(
        clips=np.zeros(n_clips), maps=np.zeros((n_clips, n_frames, n_mels), np.float32)
    )
    scores.save(tmp_path / "scores.npz")
    counts = {("mimii", "fan_id_00"): (3, 0), ("envmix", "siren"): (12, 0)}  # 3 of 12 are tested
    for name, rule in (("truth", "compute_truth"), ("scores", "score_clips")):
        job = make_job(rule, ENVMIX, PUBLISHED, CLAP, EXPERIMENT, method="random")
        planned, _ = bytes_and_work(job, config, counts)
        written = (tmp_path / f"{name}.npz").stat().st_size
        assert 0 <= written - planned < 2500, "headers"


# --- Time -----------------------------------------------------------------------------------------


def test_work_goes_by_cells_clips_and_epochs(config):
    fit = ("fit_detector", ENVMIX, LEAKFREE, CLAP, {"snr_dir": ""})
    assert work_of(config, *fit, method="stfpm") == pytest.approx(KCELLS * 625 * 30)
    assert work_of(config, *fit, method="energy") == pytest.approx(KCELLS * 625)
    score = ("score_clips", ENVMIX, LEAKFREE, CLAP, EXPERIMENT)
    assert work_of(config, *score, method="stfpm") == pytest.approx(KCELLS * 209)
    in_set = {"set_dir": "", "kind": "normal"}
    job = ("extract_embeddings", ENVMIX, LEAKFREE, CLAP, in_set)
    assert work_of(config, *job) == pytest.approx(KCELLS * 834)
    mixtures = work_of(config, "compute_mixture_spectrograms", ENVMIX, LEAKFREE, CLAP, EXPERIMENT)
    assert mixtures == pytest.approx(KCELLS * 312)
    assert work_of(config, "extract_backgrounds", category="siren") == 834


@pytest.mark.parametrize(
    ("method", "changes", "factor"),
    [
        ("patchcore", {"bank_size": 15000}, 1 / 2),
        ("patchcore", {"search_share": 0.1}, 1 / 10),
        ("padim", {"n_channels": 450}, 4),
        ("spade", {"n_clips": 100}, 2),
        ("stfpm", {"learning_rate": 1.0}, 1),
    ],
)
def test_time_to_score_grows_with_the_size_of_the_model(config, method, changes, factor):
    job = ("score_clips", ENVMIX, LEAKFREE, CLAP, EXPERIMENT, {"method": method})
    changed = work_of(put(config, **{method: changes}), *job)
    assert changed == pytest.approx(factor * work_of(config, *job))


def test_cells_are_compared_with_cells(config):
    """Clips that are 2.5 times as long have 2.5 times as many centroids, of CFA, and patches, of SPADE."""
    for method, base in (("cfa", 896), ("spade", 0)):
        works = []
        for dataset, n_test in ((ENVMIX, 209), (MIMII, 814)):
            job = ("score_clips", dataset, LEAKFREE, CLAP, EXPERIMENT, {"method": method})
            works.append(work_of(config, *job) / n_test)
        cells = [base + n for n in (138 * 16, 344 * 16)]
        assert works[1] / works[0] == pytest.approx(1379 / 552 * cells[1] / cells[0])


@pytest.mark.parametrize(
    ("controls", "n_scored"),
    [
        # both maskings by the method's own map; normal clips are changed by the first alone
        ([], 2 * 104 + 105),
        (["oracle"], 4 * 104 + 105),  # the truth of a normal clip masks nothing
        (["random"], 4 * 104 + 2 * 105),
        (["oracle", "random"], 6 * 104 + 2 * 105),
    ],
)
def test_faithfulness_scores_clips_again_for_every_mask(config, controls, n_scored):
    config["faithfulness"]["mask_controls"] = controls
    job = ("measure_faithfulness", ENVMIX, LEAKFREE, CLAP, EXPERIMENT, {"method": "stfpm"})
    assert work_of(config, *job) == pytest.approx(KCELLS * n_scored)


def test_of_recordings_only_the_labels_are_judged(config):
    assert work_of(config, "evaluate", MIMII, LEAKFREE, CLAP, method="padim") == 0
    # one job for all SNRs and seeds
    one = KCELLS * 209
    assert work_of(config, "compute_truth", ENVMIX, LEAKFREE, CLAP, EXPERIMENT) == pytest.approx(
        one
    )
    in_all = work_of(config, "evaluate", ENVMIX, LEAKFREE, CLAP, method="padim")
    assert in_all == pytest.approx(3 * 3 * one)
