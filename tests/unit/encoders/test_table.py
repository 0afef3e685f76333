"""The table of encoders, its taps and their shapes."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest
import torch
from encoder_helpers import AISFX, CLAP, CONV_BLOCKS, DEIT, LOGMEL, MN04, WIDE, some_spectrograms

from vision_to_sound.encoders import get_encoder_spec, tap_shapes
from vision_to_sound.encoders.build import build_encoder
from vision_to_sound.encoders.weights import (
    extract_audio_weights,
    load_encoder,
    random_weights,
    write_random_weights,
)


def test_the_table_needs_the_standard_library_only(repository):
    code = (
        f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
        "from vision_to_sound.encoders import ENCODERS, tap_shapes\n"
        "print(len(ENCODERS), sorted({'numpy', 'timm', 'torch'} & set(sys.modules)))\n"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.split(maxsplit=1) == ["7", "[]\n"]


@pytest.mark.parametrize(
    ("spec", "duration_s", "expected"),
    [
        (CLAP, 4, ((138, 16, 128), (69, 8, 256), (34, 4, 512))),
        (CLAP, 10, ((344, 16, 128), (172, 8, 256), (86, 4, 512))),
        (AISFX, 4, ((43, 24, 128), (21, 12, 256), (21, 12, 512))),
        (MN04, 4, ((101, 32, 16), (51, 16, 16), (26, 8, 48))),
        (MN04, 10, ((251, 32, 16), (126, 16, 16), (63, 8, 48))),
        (WIDE, 4, ((69, 32, 256), (35, 16, 512), (18, 8, 1024))),
        (WIDE, 10, ((173, 32, 256), (87, 16, 512), (44, 8, 1024))),
        (DEIT, 4, ((17, 8, 384),) * 3),
        (DEIT, 10, ((43, 8, 384),) * 3),
    ],
)
def test_tap_shapes_of_whole_clips(spec, duration_s, expected):
    n_frames = spec.front_end.n_frames(duration_s * spec.front_end.sample_rate_hz)
    assert tap_shapes(spec, n_frames, spec.front_end.n_mels) == expected


@CONV_BLOCKS
@pytest.mark.parametrize("n_frames", [16, 17, 23, 31, 46])
def test_tap_shapes_are_those_of_the_network(spec, n_frames):
    encoder = random_weights(spec, seed=0)
    with torch.inference_mode():
        taps = encoder(torch.from_numpy(some_spectrograms(spec, 1, n_frames)))
    expected = tap_shapes(spec, n_frames, spec.front_end.n_mels)
    assert [tuple(tap.shape) for tap in taps] == [(1, *shape) for shape in expected]
    assert all(tap.dtype == torch.float32 for tap in taps)
    for tap, (_, _, n_channels) in zip(spec.taps, expected, strict=True):
        assert tap.channels == n_channels


def test_taps_say_how_much_coarser_they_are():
    assert [(t.name, t.time_reduction, t.freq_reduction) for t in CLAP.taps] == [
        ("block2", 4, 4),
        ("block3", 8, 8),
        ("block4", 16, 16),
    ]
    assert [t.time_reduction for t in AISFX.taps] == [4, 8, 8]


def test_clips_too_short_for_the_deepest_tap():
    with pytest.raises(ValueError, match="at least 16 frames x 16 mel bands, got 15 x 64"):
        tap_shapes(CLAP, 15, 64)
    with pytest.raises(ValueError, match="at least 16 frames"):
        random_weights(CLAP, seed=0)(torch.zeros(1, 15, 64))


def test_names_and_specs_are_checked():
    with pytest.raises(ValueError, match="unknown encoder 'clap'.*clap2022_cnn14"):
        get_encoder_spec("clap")
    with pytest.raises(ValueError, match="end at the last one"):
        dataclasses.replace(CLAP, tap_names=("block2",))
    with pytest.raises(ValueError, match="'power'.*db, aisfx"):
        dataclasses.replace(CLAP, input_transform="power")
    with pytest.raises(ValueError, match="'jax'.*conv_blocks, mobilenet, timm, none"):
        dataclasses.replace(CLAP, network="jax")
    with pytest.raises(ValueError, match="field timm.*network is 'conv_blocks'"):
        dataclasses.replace(WIDE, network="conv_blocks")
    with pytest.raises(ValueError, match="field mobilenet.*network is 'timm'"):
        dataclasses.replace(WIDE, mobilenet=MN04.mobilenet)
    block = dataclasses.replace(CLAP.blocks[-1], pool="median")
    with pytest.raises(ValueError, match="block4: pool is 'median'"):
        dataclasses.replace(CLAP, blocks=(*CLAP.blocks[:-1], block))


@pytest.mark.parametrize(
    "asked",
    [
        lambda path: LOGMEL.taps,
        lambda path: tap_shapes(LOGMEL, 313, 128),
        lambda path: build_encoder(LOGMEL),
        lambda path: load_encoder(LOGMEL, path),
        lambda path: random_weights(LOGMEL, seed=0),
        lambda path: write_random_weights(LOGMEL, seed=0, out=path),
        lambda path: extract_audio_weights(path, LOGMEL, out=path, source_checksum=""),
    ],
)
def test_a_front_end_without_a_network_has_neither_taps_nor_weights(asked, tmp_path):
    with pytest.raises(ValueError, match="'logmel_dcase2020'.*without a network.*choose.*aisfx"):
        asked(tmp_path / "weights")
    assert LOGMEL.weights == "" and list(tmp_path.iterdir()) == []


def test_specs_enter_rules_as_plain_settings():
    for spec in (CLAP, MN04, WIDE, LOGMEL):
        settings = dataclasses.asdict(spec)
        assert eval(repr(settings)) == settings  # builtins only


def test_the_page_on_new_encoders_quotes_the_code(repository):
    def lines_of(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    page = (repository / "docs" / "add_an_encoder.md").read_text()
    files = (repository / "src" / "vision_to_sound" / "encoders").glob("*.py")
    code = lines_of("\n".join(path.read_text() for path in files))
    quotes = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(quotes) == 3
    for quote in quotes:
        assert lines_of(quote) in code, quote
