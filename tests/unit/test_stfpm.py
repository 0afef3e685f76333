from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_features import AMPLE, CPU, TIGHT, fit_and_score

from vision_to_sound.detectors import stfpm
from vision_to_sound.detectors.base import Checkpoint, EncoderSource
from vision_to_sound.detectors.stfpm import STFPM, matching_loss, matching_maps
from vision_to_sound.embeddings import ClipFeatures
from vision_to_sound.encoders import ENCODERS, Block
from vision_to_sound.encoders.weights import extract_audio_weights, load_encoder, random_weights
from vision_to_sound.training import set_flat_weights

N_FRAMES, N_MELS = 40, 24
# CNN14 in small: taps of 10 x 6, 5 x 3 and 2 x 1 cells (the pooling drops a frame)
SPEC = replace(
    ENCODERS["panns_cnn14"],
    front_end=replace(ENCODERS["panns_cnn14"].front_end, n_mels=N_MELS),
    blocks=tuple(
        Block(name=f"block{i}", channels=channels, pool="avg", pool_size=(2, 2))
        for i, channels in enumerate((4, 8, 12, 16), start=1)
    ),
)
TAP_NAMES = [tap.name for tap in SPEC.taps]


def make_clips(n_clips: int, seed: int) -> np.ndarray:
    """Bands that swell and fade, each at its own pace, and noise; dB."""
    rng = np.random.default_rng(seed)
    mels = np.arange(N_MELS)
    phase = rng.uniform(0.0, 2.0 * np.pi, size=(n_clips, 1, 1))
    frames = np.arange(N_FRAMES)[None, :, None]
    swell = 8.0 * np.sin(frames * (0.3 + 0.05 * (mels % 5)) + phase)
    noise = rng.normal(0.0, 2.0, size=(n_clips, N_FRAMES, N_MELS))
    return (-40.0 + 10.0 * np.cos(mels / 3.0) + swell + noise).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> EncoderSource:
    """A teacher with weights on disk. Its batch norm knows the statistics of the clips, as a trained one would."""
    network = random_weights(SPEC, seed=11).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # mean over all batches
    with torch.no_grad():
        for _ in range(3):
            network(torch.from_numpy(make_clips(16, seed=5)))
    folder = tmp_path_factory.mktemp("teacher")
    torch.save({"model": network.state_dict()}, folder / "checkpoint.pth")
    path = folder / "teacher.safetensors"
    extract_audio_weights(folder / "checkpoint.pth", SPEC, out=path, source_checksum="none")
    return EncoderSource(SPEC, path)


def features_of(source: EncoderSource, spectrograms_db: np.ndarray) -> ClipFeatures:
    """Spectrograms and what the teacher makes of them, through float16 as in the cache."""
    teacher = load_encoder(source.spec, source.weights)
    with torch.inference_mode():
        taps = teacher(torch.from_numpy(spectrograms_db))
    return ClipFeatures.from_arrays(
        taps={name: tap.half().numpy() for name, tap in zip(TAP_NAMES, taps, strict=True)},
        spectrograms_db=spectrograms_db,
    )


def make_detector(source: EncoderSource | None, **changes) -> STFPM:
    settings = {
        "learning_rate": 0.4,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "epochs": 3,
        "batch_size": 4,
        "student_init": "random",
        "blur_sigma": 0.0,
        "layers": [],
    }
    detector = STFPM(**{**settings, **changes})
    detector.encoder = source
    return detector


def student_of(detector: STFPM) -> torch.nn.Module:
    student = random_weights(SPEC, seed=0)
    set_flat_weights(student, detector.student_)
    return student.eval()


def bilinear(values: np.ndarray, n_out: int) -> np.ndarray:
    """Along the first axis, cell centres aligned, the edge held: one output cell at a time."""
    n_in = len(values)
    rows = []
    for i in range(n_out):
        position = min(max((i + 0.5) * n_in / n_out - 0.5, 0.0), n_in - 1.0)
        low = int(position)
        high, weight = min(low + 1, n_in - 1), position - low
        rows.append((1.0 - weight) * values[low] + weight * values[high])
    return np.array(rows)


def slow_map(teacher_taps, student_taps) -> np.ndarray:
    """Map of one clip from taps (n_time, n_freq, n_channels), cell by cell."""
    result = np.ones((N_FRAMES, N_MELS))
    for teacher, student in zip(teacher_taps, student_taps, strict=True):
        n_time, n_freq, _ = teacher.shape
        squared = np.empty((n_time, n_freq))
        for t in range(n_time):
            for f in range(n_freq):
                a, b = teacher[t, f].astype(np.float64), student[t, f].astype(np.float64)
                difference = a / np.linalg.norm(a) - b / np.linalg.norm(b)
                squared[t, f] = difference @ difference
        result *= bilinear(bilinear(squared, N_FRAMES).T, N_MELS).T
    return result


@pytest.mark.parametrize("layers", [[], ["block4", "block2"]])
def test_maps_equal_the_slow_way(source, layers):
    train, test = (features_of(source, make_clips(n, seed=n)) for n in (6, 3))
    detector = make_detector(source, layers=layers)
    scores = fit_and_score(detector, train, test)
    used = [i for i, name in enumerate(TAP_NAMES) if not layers or name in layers]
    teacher_taps = test.read_taps(np.arange(3))
    with torch.inference_mode():
        student_taps = student_of(detector)(torch.from_numpy(test.read_spectrograms(slice(None))))
    for clip in range(3):
        expected = slow_map(
            [teacher_taps[i][clip] for i in used], [student_taps[i][clip].numpy() for i in used]
        )
        np.testing.assert_allclose(scores.maps[clip], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(scores.clips, scores.maps.max(axis=(1, 2)).astype(np.float64))
    assert scores.maps.min() >= 0.0 and scores.maps.max() <= 2.0 ** len(used)
    assert scores.frames is None


def test_the_loss_is_the_mean_over_cells_and_clips():
    rng = np.random.default_rng(0)
    shapes = [(3, 5, 4, 6), (3, 2, 3, 7)]
    teacher, student = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
    expected = 0.0
    for t, s in zip(teacher, student, strict=True):
        unit_t, unit_s = (x / np.linalg.norm(x, axis=3, keepdims=True) for x in (t, s))
        expected += ((unit_t - unit_s) ** 2).sum(axis=3).mean()
    loss = matching_loss(*([torch.from_numpy(x) for x in taps] for taps in (teacher, student)))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_silent_cells_and_equal_taps_are_no_obstacle():
    taps = [torch.rand(2, 4, 3, 5), torch.zeros(2, 2, 2, 6)]
    student = [tap.clone().requires_grad_() for tap in taps]
    loss = matching_loss(taps, student)
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.isfinite(tap.grad).all() for tap in student)
    maps = matching_maps(taps, [taps[0], torch.ones(2, 2, 2, 6)], n_frames=8, n_mels=6)
    assert (maps == 0.0).all()  # the taps' product: one that agrees is enough


@pytest.fixture(scope="module")
def trained(source) -> STFPM:
    """A student that follows its teacher on normal clips."""
    detector = make_detector(source, epochs=25)
    train = features_of(source, make_clips(16, seed=0))
    return detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)


def test_the_loss_falls_from_a_random_start(trained):
    assert trained.losses_.shape == (25,) and trained.losses_.dtype == np.float64
    assert trained.losses_[0] > 0.5
    assert trained.losses_[-1] < 0.3 * trained.losses_[0]


def test_an_injected_event_is_found_where_it_is(source, trained):
    clips = make_clips(4, seed=2)
    clips[1, 8:16, 12:18] += 40.0
    scores = trained.score(features_of(source, clips), device=CPU, memory_bytes=AMPLE)
    assert scores.clips.argmax() == 1
    assert scores.clips[1] > 2.0 * np.delete(scores.clips, 1).max()
    # within a cell of the finest tap: a cell's receptive field is larger than the cell
    frame, mel = np.unravel_index(scores.maps[1].argmax(), scores.maps[1].shape)
    assert 4 <= frame < 20 and 8 <= mel < 22
    inside = np.zeros((N_FRAMES, N_MELS), dtype=bool)
    inside[8:16, 12:18] = True
    elsewhere = np.delete(scores.maps, 1, axis=0)[:, inside]  # the same cells of the normal clips
    assert scores.maps[1][inside].mean() > 10.0 * elsewhere.mean()


def test_blur_spreads_the_map_and_the_clip_score_is_its_maximum(source, trained):
    test = features_of(source, make_clips(2, seed=3))
    blurred = make_detector(source, blur_sigma=2.0).load_state(trained.state())
    sharp, smooth = (d.score(test, device=CPU, memory_bytes=AMPLE) for d in (trained, blurred))
    assert (smooth.clips < sharp.clips).all()
    np.testing.assert_array_equal(smooth.clips, smooth.maps.max(axis=(1, 2)).astype(np.float64))


def test_a_pretrained_student_starts_as_its_teacher(source):
    """Only batch norm by the batch instead of by running statistics is between them, and it grows with depth."""
    train = features_of(source, make_clips(8, seed=0))
    teacher = load_encoder(source.spec, source.weights)
    taps = train.read_taps(slice(None))
    with torch.inference_mode():
        student_taps = teacher(torch.from_numpy(train.read_spectrograms(slice(None))))
    same = float(matching_loss([torch.from_numpy(tap) for tap in taps], student_taps))
    assert same < 1e-5  # the cache's float16
    start = {}
    for student_init in stfpm.STUDENT_INITS:
        # a step too small to matter: the losses are those of the start
        detector = make_detector(
            source, student_init=student_init, learning_rate=1e-9, epochs=1, batch_size=8
        )
        detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
        start[student_init] = detector.losses_[0]
    assert start["pretrained"] < 0.1 * start["random"]


def test_unused_taps_are_not_learned(source):
    """With block2 alone, the blocks past it keep their weights (their batch norm sees clips all the same)."""
    train = features_of(source, make_clips(6, seed=0))
    detector = make_detector(source, layers=["block2"], student_init="pretrained")
    detector.fit(train, rng=np.random.default_rng(0), device=CPU, memory_bytes=AMPLE)
    student, teacher = student_of(detector), load_encoder(source.spec, source.weights)
    assert torch.equal(student.conv_block3.conv1.weight, teacher.conv_block3.conv1.weight)
    assert not torch.equal(student.conv_block2.conv1.weight, teacher.conv_block2.conv1.weight)


def test_a_clip_scores_the_same_in_any_company(source, trained):
    clips = make_clips(5, seed=1)
    features = features_of(source, clips)
    one = ClipFeatures.from_arrays(
        taps={
            name: tap[3:4]
            for name, tap in zip(TAP_NAMES, features.read_taps(slice(None)), strict=True)
        },
        spectrograms_db=clips[3:4],
    )
    together = trained.score(features, device=CPU, memory_bytes=AMPLE)
    alone = trained.score(one, device=CPU, memory_bytes=TIGHT)
    np.testing.assert_array_equal(alone.maps[0], together.maps[3])
    assert alone.clips[0] == together.clips[3]


def test_save_and_load_give_the_same_scores(source, trained, tmp_path):
    test = features_of(source, make_clips(3, seed=1))
    scores = trained.score(test, device=CPU, memory_bytes=AMPLE)
    trained.save(tmp_path / "student.npz")
    with np.load(tmp_path / "student.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["losses_", "student_"]
        assert arrays["student_"].dtype == np.float32
    again = make_detector(source).load(tmp_path / "student.npz")
    rescored = again.score(test, device=CPU, memory_bytes=AMPLE)
    np.testing.assert_array_equal(rescored.maps, scores.maps)
    np.testing.assert_array_equal(rescored.clips, scores.clips)


def saved(path, source, train, *, seed: int, checkpoint=None, **changes) -> bytes:
    detector = make_detector(source, **changes)
    detector.checkpoint = checkpoint
    detector.fit(train, rng=np.random.default_rng(seed), device=CPU, memory_bytes=AMPLE)
    detector.save(path)
    return path.read_bytes()


def test_same_seed_same_bytes_whatever_torch_was_seeded_with(source, tmp_path):
    train = features_of(source, make_clips(6, seed=0))
    torch.manual_seed(1)
    first = saved(tmp_path / "a.npz", source, train, seed=0)
    torch.manual_seed(2)
    assert saved(tmp_path / "b.npz", source, train, seed=0) == first
    assert saved(tmp_path / "c.npz", source, train, seed=1) != first
    # the order of clips is drawn as well
    copies = [
        saved(tmp_path / "d.npz", source, train, seed=seed, student_init="pretrained")
        for seed in (0, 0, 1)
    ]
    assert copies[0] == copies[1] != copies[2]


def test_a_killed_training_goes_on_to_the_same_bytes(source, tmp_path, monkeypatch):
    train = features_of(source, make_clips(6, seed=0))
    whole = saved(tmp_path / "whole.npz", source, train, seed=0)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", key="k")
    calls = []

    def killed_in_epoch_two(teacher_taps, student_taps):
        calls.append(None)
        if len(calls) == 4:  # two batches an epoch
            raise KeyboardInterrupt
        return matching_loss(teacher_taps, student_taps)

    with monkeypatch.context() as patch:
        patch.setattr(stfpm, "matching_loss", killed_in_epoch_two)
        with pytest.raises(KeyboardInterrupt):
            saved(tmp_path / "resumed.npz", source, train, seed=0, checkpoint=checkpoint)
    assert checkpoint.path.is_file() and not (tmp_path / "resumed.npz").exists()
    resumed = saved(tmp_path / "resumed.npz", source, train, seed=0, checkpoint=checkpoint)
    assert resumed == whole


def test_misuse_is_told(source, trained):
    clips = make_clips(3, seed=0)
    features = features_of(source, clips)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        make_detector(source).score(features, device=CPU, memory_bytes=AMPLE)
    with pytest.raises(RuntimeError, match="needs the encoder"):
        fit_and_score(make_detector(None), features, features)
    with pytest.raises(ValueError, match="at least one normal clip"):
        fit_and_score(make_detector(source), features_of(source, clips[:0]), features)
    with pytest.raises(ValueError, match="'block5'"):
        fit_and_score(make_detector(source, layers=["block5"]), features, features)
    with pytest.raises(ValueError, match="'block4', 512.*'block4', 16|'block4', 16.*'block4', 512"):
        fit_and_score(
            make_detector(EncoderSource(ENCODERS["panns_cnn14"], source.weights)),
            features,
            features,
        )
    with pytest.raises(ValueError, match="same encoder"):
        state = trained.state()
        state["student_"] = state["student_"][:-1]
        make_detector(source).load_state(state).score(features, device=CPU, memory_bytes=AMPLE)
    broken = clips.copy()
    broken[1, 0, 0] = np.nan
    taps = dict(zip(TAP_NAMES, features.read_taps(slice(None)), strict=True))
    spoiled = {
        **taps,
        "block3": np.where(np.arange(3)[:, None, None, None] == 2, np.nan, taps["block3"]),
    }
    for bad, row in (
        (ClipFeatures.from_arrays(taps=taps, spectrograms_db=broken), 1),
        (ClipFeatures.from_arrays(taps=spoiled, spectrograms_db=clips), 2),
    ):
        with pytest.raises(ValueError, match=f"clip row {row}"):
            fit_and_score(make_detector(source), bad, features)
        with pytest.raises(ValueError, match=f"clip row {row}"):
            trained.score(bad, device=CPU, memory_bytes=AMPLE)
    for setting, value in (
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("epochs", 0),
        ("batch_size", 0),
        ("student_init", "teacher"),
        ("blur_sigma", -1.0),
    ):
        with pytest.raises(ValueError, match=setting):
            make_detector(source, **{setting: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives(source, trained):
    test = features_of(source, make_clips(3, seed=1))
    cuda = torch.device("cuda")
    on_cpu = trained.score(test, device=CPU, memory_bytes=AMPLE)
    on_cuda = trained.score(test, device=cuda, memory_bytes=AMPLE)
    np.testing.assert_allclose(on_cuda.clips, on_cpu.clips, rtol=1e-3)
    np.testing.assert_allclose(on_cuda.maps, on_cpu.maps, rtol=1e-2, atol=1e-6)
    train = features_of(source, make_clips(6, seed=0))
    losses = []
    for device in (CPU, cuda):
        detector = make_detector(source)
        detector.fit(train, rng=np.random.default_rng(0), device=device, memory_bytes=AMPLE)
        losses.append(detector.losses_)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
