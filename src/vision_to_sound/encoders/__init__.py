"""Encoders as data: front end, weights, blocks and taps of each pretrained network.

Standard library only, so that a workflow can read names and shapes without loading a network;
`build` makes the networks, `weights` reads their checkpoints, `embed` runs them over clips.

There are three kinds of networks: stacks of the same block (two 3x3 convolutions, each with batch
norm and ReLU, then pooling) and MobileNets, both trained on sounds, and networks of timm that see
the spectrogram as an image (trained on photographs). A *tap* is the output at one depth, as a grid
of cells over time and frequency. An entry may also have no network: its spectrograms are all that
it gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vision_to_sound.front_ends import FRONT_ENDS, FrontEnd

NETWORKS = ("conv_blocks", "mobilenet", "timm", "none")
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
class MobileNetwork:
    """EfficientAT's MobileNetV3 (see `efficientat`), one mel band and one frame a pixel.

    width: factor on the numbers of channels of MobileNetV3-Large. taps: "blockN" is what its N-th
    inverted residual block gives; the network ends at the last. maps_in_memory: as in `TimmNetwork`.
    """

    width: float
    taps: tuple[Tap, ...]
    maps_in_memory: int


@dataclass(frozen=True)
class TimmNetwork:
    """A network of timm that sees the spectrogram as an image, time downwards, frequency rightwards.

    model: name in timm. tap_indices: positions of the taps among timm's own list of depths.
    patch_cells: side of a vision transformer's patches in frames and bands, 0 for a network of
    convolutions. Frames at the end that fill no patch are not seen, as with pooling; convolutions
    with a stride see all of them.
    black_db, white_db: levels that become the pixel values 0 and 1. One scale for all clips, and
    nothing is clipped to it: spectrograms end at -100 dB below and near +40 dB above by themselves.
    maps_in_memory: maps of the largest tap's size that are held at the fullest moment (measured).
    """

    model: str
    taps: tuple[Tap, ...]
    tap_indices: tuple[int, ...]
    patch_cells: int
    black_db: float
    white_db: float
    maps_in_memory: int


@dataclass(frozen=True)
class EncoderSpec:
    """What there is to know about one encoder.

    network: "conv_blocks", "mobilenet", "timm" or "none"; which of the fields below hold.
    weights: archive name in config/datasets.tsv; "" without a network.
    weights_member: member of that archive when it is a zip (a wheel is one), else "".
    state_dict_path: keys or positions that lead from the unpickled checkpoint to the state dict.
    key_prefix: what stands before the network's own names ("conv_block1....") in its keys.
    pickle_globals: names outside torch that its pickle needs, and that may be loaded.

    Of "conv_blocks":
    input_transform: "db" takes log-mel dB as it is, "aisfx" compresses the power again.
    has_bn0: batch norm of the input, with statistics per mel band.
    blocks: shallow to deep, up to the deepest tap; what the original network has past it is
        neither built nor stored.
    tap_names: blocks that are read, shallow to deep.

    Of "mobilenet" and "timm":
    mobilenet, timm: model and taps.
    """

    name: str
    label: str
    front_end: FrontEnd
    network: str
    weights: str = ""
    weights_member: str = ""
    state_dict_path: tuple[str | int, ...] = ()
    key_prefix: str = ""
    pickle_globals: tuple[str, ...] = ()
    input_transform: str = "db"
    has_bn0: bool = False
    blocks: tuple[Block, ...] = ()
    tap_names: tuple[str, ...] = ()
    mobilenet: MobileNetwork | None = None
    timm: TimmNetwork | None = None

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(
                f"encoder {self.name!r}: network is {self.network!r}, allowed: "
                f"{', '.join(NETWORKS)}"
            )
        for kind in ("mobilenet", "timm"):
            if (self.network == kind) != (getattr(self, kind) is not None):
                raise ValueError(
                    f"encoder {self.name!r}: the field {kind} describes a network of kind {kind!r}, "
                    f"and only that; network is {self.network!r}"
                )
        if self.network == "conv_blocks":
            self._check_blocks()

    def _check_blocks(self) -> None:
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
        """Taps from shallow to deep; ValueError for an encoder without a network."""
        self.check_has_network()
        if listed := self.mobilenet or self.timm:
            return listed.taps
        taps = []
        time_reduction = freq_reduction = 1
        for block in self.blocks:
            time_reduction *= block.pool_size[0]
            freq_reduction *= block.pool_size[1]
            if block.name in self.tap_names:
                taps.append(Tap(block.name, block.channels, time_reduction, freq_reduction))
        return tuple(taps)

    def check_has_network(self) -> None:
        """ValueError for an entry that is a front end and nothing else."""
        if self.network == "none":
            raise ValueError(
                f"encoder {self.name!r} is a front end without a network: it has spectrograms, but "
                "neither weights nor taps; for embeddings choose one of "
                f"{', '.join(spec.name for spec in ENCODERS.values() if spec.network != 'none')}"
            )

    def check_spectrograms(self, shape: tuple[int, ...]) -> None:
        """ValueError unless the shape is (n, n_frames, n_mels) of this front end."""
        n_mels = self.front_end.n_mels
        if len(shape) != 3 or shape[2] != n_mels:
            raise ValueError(
                f"encoder {self.name!r}: expected spectrograms (n_clips, n_frames, {n_mels}) from "
                f"front end {self.front_end.name!r}, got {tuple(shape)}"
            )


def tap_shapes(spec: EncoderSpec, n_frames: int, n_mels: int) -> tuple[tuple[int, int, int], ...]:
    """(n_time, n_freq, n_channels) of every tap, in the order of `spec.taps`.

    Pooling and patches drop what does not fill a whole cell; convolutions with a stride keep it.

    Raises:
        ValueError: the spectrogram is so small that a tap would be empty, or there is no network.
    """
    patch_cells = spec.timm.patch_cells if spec.timm else 0
    keeps_partial_cells = spec.network in ("mobilenet", "timm") and not patch_cells

    def n_cells(n: int, reduction: int) -> int:
        return math.ceil(n / reduction) if keeps_partial_cells else n // reduction

    shapes = tuple(
        (n_cells(n_frames, tap.time_reduction), n_cells(n_mels, tap.freq_reduction), tap.channels)
        for tap in spec.taps
    )
    if 0 in shapes[-1]:
        deepest = spec.taps[-1]
        raise ValueError(
            f"encoder {spec.name!r} needs at least {deepest.time_reduction} frames x "
            f"{deepest.freq_reduction} mel bands, got {n_frames} x {n_mels}; use longer clips"
        )
    return shapes


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


# Levels of recordings in "image_44k1": means of -24, -41 and -43 dB (UrbanSound8K, ESC-50, MIMII), spread
# 22 to 32 dB. This scale gives them the mean and spread of the photographs that the networks know, 0.45 and
# 0.22. A scale that ends at 0 dB would cut off a tenth of the cells of street recordings.
_PIXELS = {"black_db": -80.0, "white_db": 20.0}

# Rows enter rules as settings: a new one reruns nothing else (see provenance.py).
__tables__ = ("ENCODERS", "_PIXELS")

ENCODERS: dict[str, EncoderSpec] = {
    spec.name: spec
    for spec in (
        EncoderSpec(
            name="clap2022_cnn14",
            label="CLAP 2022 (CNN14)",
            front_end=FRONT_ENDS["clap_44k1"],
            network="conv_blocks",
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
            network="conv_blocks",
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
            network="conv_blocks",
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
        EncoderSpec(
            name="efficientat_mn04",
            label="EfficientAT (mn04)",
            front_end=FRONT_ENDS["efficientat_32k"],
            network="mobilenet",
            weights="efficientat_mn04",
            key_prefix="features.",
            mobilenet=MobileNetwork(
                width=0.4,
                taps=(  # before each stride, where a map of that size has gone deepest
                    Tap("block3", channels=16, time_reduction=4, freq_reduction=4),
                    Tap("block6", channels=16, time_reduction=8, freq_reduction=8),
                    Tap("block12", channels=48, time_reduction=16, freq_reduction=16),
                ),
                maps_in_memory=18,
            ),
        ),
        EncoderSpec(
            name="wide_resnet50",
            label="Wide ResNet-50",
            front_end=FRONT_ENDS["image_44k1"],
            network="timm",
            weights="wide_resnet50",
            timm=TimmNetwork(
                model="wide_resnet50_2",
                taps=(
                    Tap("layer1", channels=256, time_reduction=4, freq_reduction=4),
                    Tap("layer2", channels=512, time_reduction=8, freq_reduction=8),
                    Tap("layer3", channels=1024, time_reduction=16, freq_reduction=16),
                ),
                tap_indices=(1, 2, 3),
                patch_cells=0,
                **_PIXELS,
                maps_in_memory=3,
            ),
        ),
        EncoderSpec(
            name="deit_small",
            label="DeiT-S",
            front_end=FRONT_ENDS["image_44k1"],
            network="timm",
            weights="deit_small",
            state_dict_path=("model",),
            timm=TimmNetwork(
                model="deit_small_patch16_224",
                # after a quarter, half and three quarters of its twelve blocks
                taps=tuple(
                    Tap(f"block{i}", channels=384, time_reduction=16, freq_reduction=16)
                    for i in (3, 6, 9)
                ),
                tap_indices=(2, 5, 8),
                patch_cells=16,
                **_PIXELS,
                maps_in_memory=20,
            ),
        ),
        EncoderSpec(
            name="logmel_dcase2020",
            label="DCASE 2020 log-mel",
            front_end=FRONT_ENDS["dcase2020_16k"],
            network="none",
        ),
    )
}
