"""Encoders as data: front end, weights, blocks and taps of each pretrained network.

Standard library only, so that a workflow can read names and shapes without loading a network;
`conv_blocks` builds the networks, `weights` reads their checkpoints.

All three networks are stacks of the same block (two 3x3 convolutions, each with batch norm and
ReLU, then pooling). A *tap* is the output of one block after its pooling.
"""

from __future__ import annotations

from dataclasses import dataclass

from vision_to_sound.front_ends import FRONT_ENDS, FrontEnd

POOLS = ("avg", "max")
INPUT_TRANSFORMS = ("db", "aisfx")


@dataclass(frozen=True)
class Block:
    """One ConvBlock: output channels, then pooling over (time, frequency) cells."""

    name: str
    channels: int
    pool: str
    pool_size: tuple[int, int]


@dataclass(frozen=True)
class Tap:
    """One depth of an encoder: its channels and how much coarser than the spectrogram it is."""

    name: str
    channels: int
    time_reduction: int
    freq_reduction: int


@dataclass(frozen=True)
class EncoderSpec:
    """What there is to know about one encoder.

    weights: archive name in config/datasets.tsv.
    weights_member: member of that archive when it is a zip (a wheel is one), else "".
    state_dict_path: keys or positions that lead from the unpickled checkpoint to the state dict.
    key_prefix: what stands before "conv_block1...." in its keys.
    pickle_globals: names outside torch that its pickle needs, and that may be loaded.
    input_transform: "db" takes log-mel dB as it is, "aisfx" compresses the power again.
    has_bn0: batch norm of the input, with statistics per mel band.
    blocks: shallow to deep, up to the deepest tap; what the original network has past it is
        neither built nor stored.
    tap_names: blocks that are read, shallow to deep.
    """

    name: str
    label: str
    front_end: FrontEnd
    weights: str
    weights_member: str
    state_dict_path: tuple[str | int, ...]
    key_prefix: str
    pickle_globals: tuple[str, ...]
    input_transform: str
    has_bn0: bool
    blocks: tuple[Block, ...]
    tap_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.input_transform not in INPUT_TRANSFORMS:
            raise ValueError(
                f"encoder {self.name!r}: input_transform is {self.input_transform!r}, allowed: "
                f"{', '.join(INPUT_TRANSFORMS)}"
            )
        for block in self.blocks:
            if block.pool not in POOLS:
                raise ValueError(
                    f"encoder {self.name!r}, {block.name}: pool is {block.pool!r}, allowed: "
                    f"{', '.join(POOLS)}"
                )
        names = [block.name for block in self.blocks]
        in_order = tuple(name for name in names if name in self.tap_names)
        if not in_order or in_order != self.tap_names or in_order[-1] != names[-1]:
            raise ValueError(
                f"encoder {self.name!r}: taps {self.tap_names} must be blocks of {tuple(names)}, "
                "shallow to deep, and end at the last one"
            )

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Taps from shallow to deep."""
        taps = []
        time_reduction = freq_reduction = 1
        for block in self.blocks:
            time_reduction *= block.pool_size[0]
            freq_reduction *= block.pool_size[1]
            if block.name in self.tap_names:
                taps.append(Tap(block.name, block.channels, time_reduction, freq_reduction))
        return tuple(taps)


def tap_shapes(spec: EncoderSpec, n_frames: int, n_mels: int) -> tuple[tuple[int, int, int], ...]:
    """(n_time, n_freq, n_channels) of every tap, in the order of `spec.taps`.

    Pooling drops what does not fill a whole cell, block after block.

    Raises:
        ValueError: the spectrogram is so small that a tap would be empty.
    """
    shapes = []
    n_time, n_freq = n_frames, n_mels
    for block in spec.blocks:
        n_time //= block.pool_size[0]
        n_freq //= block.pool_size[1]
        if block.name in spec.tap_names:
            shapes.append((n_time, n_freq, block.channels))
    if n_time < 1 or n_freq < 1:
        deepest = spec.taps[-1]
        raise ValueError(
            f"encoder {spec.name!r} needs at least {deepest.time_reduction} frames x "
            f"{deepest.freq_reduction} mel bands, got {n_frames} x {n_mels}; use longer clips"
        )
    return tuple(shapes)


def get_encoder_spec(name: str) -> EncoderSpec:
    """The encoder of that name; ValueError with the names there are."""
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; there are: {', '.join(ENCODERS)}")
    return ENCODERS[name]


def _cnn14_blocks() -> tuple[Block, ...]:
    """CNN14 (PANNs, Kong 2020, Table 2) up to its fourth block."""
    return tuple(
        Block(name=f"block{i}", channels=channels, pool="avg", pool_size=(2, 2))
        for i, channels in enumerate((64, 128, 256, 512), start=1)
    )


# Rows enter rules as settings: a new one reruns nothing else (see provenance.py).
__tables__ = ("ENCODERS",)

ENCODERS: dict[str, EncoderSpec] = {
    spec.name: spec
    for spec in (
        EncoderSpec(
            name="clap2022_cnn14",
            label="CLAP 2022 (CNN14)",
            front_end=FRONT_ENDS["clap_44k1"],
            weights="clap_2022",
            weights_member="",
            state_dict_path=("model",),
            key_prefix="audio_encoder.base.",
            pickle_globals=(),
            input_transform="db",
            has_bn0=True,
            blocks=_cnn14_blocks(),
            tap_names=("block2", "block3", "block4"),
        ),
        EncoderSpec(
            name="panns_cnn14",
            label="PANNs (CNN14)",
            front_end=FRONT_ENDS["panns_32k"],
            weights="panns_cnn14",
            weights_member="",
            state_dict_path=("model",),
            key_prefix="",
            pickle_globals=(),
            input_transform="db",
            has_bn0=True,
            blocks=_cnn14_blocks(),
            tap_names=("block2", "block3", "block4"),
        ),
        EncoderSpec(
            name="aisfx",
            label="aiSFX",
            front_end=FRONT_ENDS["aisfx_44k1"],
            weights="aisfx",
            weights_member="aisfx/models/checkpoint.pth",
            state_dict_path=(0,),
            key_prefix="embedding_net.",
            pickle_globals=(
                "numpy.dtype",
                "numpy.dtypes.Int64DType",
                "numpy.core.multiarray.scalar",
            ),
            input_transform="aisfx",
            has_bn0=False,
            blocks=(
                Block(name="block1", channels=64, pool="max", pool_size=(2, 2)),
                Block(name="block2", channels=128, pool="max", pool_size=(2, 2)),
                Block(name="block3", channels=256, pool="max", pool_size=(2, 2)),
                Block(name="block4", channels=512, pool="max", pool_size=(1, 1)),
            ),
            tap_names=("block2", "block3", "block4"),
        ),
    )
}
