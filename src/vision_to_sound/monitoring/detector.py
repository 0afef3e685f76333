"""Fit on normal recordings, score others: `AnomalyDetector`, for notebooks and for the workflow alike.

detector = AnomalyDetector("padim", encoder="aisfx").fit(paths)
result = detector.score("monday.wav")
result.score, result.p_value, result.is_anomalous, result.regions
result.plot(); result.audio("anomaly")
detector.save("pump_3.npz"); AnomalyDetector.load("pump_3.npz")
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vision_to_sound.detectors import DETECTORS, create
from vision_to_sound.detectors.base import Checkpoint, EncoderSource
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.files import load_arrays, save_arrays
from vision_to_sound.monitoring.conformal import Conformal, held_out_units, n_held_out_for
from vision_to_sound.monitoring.default_settings import DEFAULT_SETTINGS
from vision_to_sound.monitoring.embedding import Cut, EmbeddedClip, WindowFeatures, embed_recording
from vision_to_sound.monitoring.regions import BandScale, find_regions
from vision_to_sound.monitoring.result import ClipResult
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.monitoring.windows import usual_window_s
from vision_to_sound.seals import contents_of
from vision_to_sound.seeding import identity_order, identity_rng
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    import torch
    from torch import nn


log = logging.getLogger(__name__)

FEW_HELD_OUT = 5
_FORMAT = "vision_to_sound detector 1"
_SAVED = "a detector saved by AnomalyDetector.save (.npz)"
_ARRAYS = ("held_out_scores", "band_median", "band_limit")


def check_method(method: str) -> None:
    """ValueError for a method that recordings without truth, scored one by one, cannot have."""
    check_known(method, DETECTORS, what="method")
    if not DETECTORS[method].for_recordings:
        fitting = [name for name, entry in DETECTORS.items() if entry.for_recordings]
        raise ValueError(
            f"method {method!r} needs more than recordings give; take one of {', '.join(fitting)}"
        )


class AnomalyDetector:
    """A detector with its encoder, its threshold and its map scale.

    Args:
        method: a name of the registry, but none that needs the truth or the training clips when it scores.
        encoder: name of the network that hears; a method with one of its own has that.
        weights: the encoder's extracted weights (.safetensors); None: found, or fetched (`weights.find_weights`).
        settings: of the method, those that differ from the defaults.
        channel: counted from 0; None: the mean of all.
        window_s: what the encoder sees at once; None: follows from the normal recordings (`usual_window_s`).
        clip_s: what gets one score when the workflow scores; `score` alone takes a recording as one clip.
        false_alarm_rate: share of normal clips that may be called anomalous.
        held_out_share: of the normal clips, kept from fitting for the threshold; more if the rate needs it, never
            more than half.
        gpu: use a graphics card if there is one. threads: of the CPU. memory_mb: for data.
    """

    def __init__(
        self,
        method: str = "band_padim",
        *,
        encoder: str = "aisfx",
        weights: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        channel: int | None = None,
        window_s: float | None = None,
        overlap: float = 0.5,
        clip_s: float = 60.0,
        false_alarm_rate: float = 0.05,
        held_out_share: float = 0.25,
        seed: int = 0,
        precision: str = "float32",
        gpu: bool = True,
        threads: int = 2,
        memory_mb: int = 2000,
    ) -> None:
        check_method(method)
        encoder = DETECTORS[method].own_encoder or encoder
        check_known(encoder, ENCODERS, what="encoder")
        self.method, self.spec = method, ENCODERS[encoder]
        self.settings = {**DEFAULT_SETTINGS.get(method, {}), **(settings or {})}
        self.detector = create(method, self.settings)
        self.weights = Path(weights) if weights else None
        self.channel, self.window_s, self.overlap, self.clip_s = channel, window_s, overlap, clip_s
        self.false_alarm_rate, self.held_out_share = false_alarm_rate, held_out_share
        self.seed, self.precision, self.memory_bytes = seed, precision, memory_mb << 20
        self.gpu, self.threads = gpu, threads
        self.checkpoint: Checkpoint | None = None
        self.about: dict[str, Any] = {}
        self._network: nn.Module | None = None
        self._device: torch.device | None = None

    # --- fit

    def fit(self, recordings: Iterable[str | Path]) -> Self:
        """Learn from normal recordings.

        Raises:
            ValueError: fewer than two clips in all (one to learn from, one for the threshold).
        """
        files = [SoundFile.open(path) for path in recordings]
        if not files:
            raise ValueError("no normal recordings to learn from")
        if self.window_s is None:
            self.window_s = usual_window_s([file.duration_s for file in files])
        clips, names = [], []
        for file in files:
            for clip in self.embed(file):
                clips.append(clip)
                names.append(str(file.path))
        return self.fit_clips(names, [clip.n_windows for clip in clips], clips.__getitem__)

    def fit_clips(
        self,
        recordings: Sequence[str],
        n_windows: Sequence[int],
        load: Callable[[int], EmbeddedClip],
    ) -> Self:
        """`fit` on clips that are embedded already: the recording and the number of windows of each, and clip i."""
        fitted, held_out = self._split(recordings)
        windows = [n_windows[i] for i in fitted]
        self.detector.encoder = self._encoder_source()
        self.detector.checkpoint = self.checkpoint
        self.detector.fit(
            WindowFeatures(windows, lambda i: load(fitted[i])).as_features(),
            rng=identity_rng("fit", "recordings", self.method, self.seed),
            device=self.device,
            memory_bytes=self.memory_bytes,
        )
        scores, maps = [], []
        for i in held_out:
            score, anomaly_map = self.score_and_map(load(i))
            scores.append(score)
            maps.append(anomaly_map)
        self.conformal = Conformal(np.sort(np.array(scores)), self.false_alarm_rate)
        self.scale = BandScale.of_normal(maps)
        self.about["n_fitted"], self.about["n_held_out"] = len(fitted), len(held_out)
        log.info(
            "fitted on %d clips, threshold %.4g from %d others",
            len(fitted),
            self.threshold,
            len(held_out),
        )
        return self

    def _split(self, recordings: Sequence[str]) -> tuple[list[int], list[int]]:
        """(clips to fit on, clips to hold out): whole recordings; the end of each where there are too few."""
        if len(recordings) < 2:
            raise ValueError(
                f"{len(recordings)} normal clip: one to learn from and one for the threshold are needed. Add normal "
                "recordings"
            )
        units = list(dict.fromkeys(recordings))
        members = [[i for i, name in enumerate(recordings) if name == unit] for unit in units]
        wanted = max(
            n_held_out_for(self.false_alarm_rate), round(self.held_out_share * len(recordings))
        )
        order = identity_order(units, "held out", self.seed)
        chosen = held_out_units(units, order, [len(m) for m in members], wanted)
        held_out = {i for unit in chosen for i in members[unit]}
        self.about["whole_recordings_held_out"] = len(held_out) >= min(wanted, FEW_HELD_OUT)
        if not self.about["whole_recordings_held_out"]:
            share = min(0.5, wanted / len(recordings))
            held_out = {i for m in members for i in m[len(m) - int(share * len(m)) :]} | held_out
        if not held_out:  # two recordings of one clip
            held_out = set(members[order[0]][-1:])
        return [i for i in range(len(recordings)) if i not in held_out], sorted(held_out)

    # --- score

    def score(
        self, recording: str | Path, *, start_s: float = 0.0, duration_s: float | None = None
    ) -> ClipResult:
        """Score a recording, or a span of it, as one clip.

        The false alarm rate holds for clips about as long as the normal ones; a longer clip has more chances.
        """
        file = SoundFile.open(recording)
        start = round(start_s * file.sample_rate_hz)
        length = (
            file.n_samples - start
            if duration_s is None
            else round(duration_s * file.sample_rate_hz)
        )
        stop = min(file.n_samples, start + length)
        if not 0 <= start < stop:
            raise ValueError(f"{recording}: nothing lies at {start_s} s for {duration_s} s")
        (clip,) = self.embed(file, bounds=[(start, stop)])
        return self.score_clip(file, clip)

    def score_clip(self, file: SoundFile, clip: EmbeddedClip) -> ClipResult:
        """Score a clip that is embedded already."""
        return self.result(file, clip.start_s, clip.duration_s, *self.score_and_map(clip))

    def score_and_map(self, clip: EmbeddedClip) -> tuple[float, np.ndarray]:
        """Score of a clip, that of its most anomalous window, and its map, float32 (n_frames, n_mels), as it is."""
        self.detector.encoder = self._encoder_source()
        scores = self.detector.score(
            WindowFeatures.of([clip]), device=self.device, memory_bytes=self.memory_bytes
        )
        return float(scores.clips.max()), clip.stitch(scores.maps)

    def result(
        self,
        file: SoundFile,
        start_s: float,
        duration_s: float,
        score: float,
        anomaly_map: np.ndarray,
    ) -> ClipResult:
        """What a score and a map mean: p-value, verdict, the map on the scale of normal clips, regions."""
        self._check_fitted()
        excess = self.scale.excess(anomaly_map)
        # Nothing of the recording is there; what the network sees in it comes from the bands below.
        lowest_hz = self.spec.front_end.mel_band_edges_hz()[:-1]
        excess[:, lowest_hz >= file.sample_rate_hz / 2] = 0.0
        is_anomalous = bool(self.conformal.is_anomalous(np.array(score)))
        return ClipResult(
            file=file,
            start_s=start_s,
            duration_s=duration_s,
            score=score,
            p_value=float(self.conformal.p_values(np.array(score))),
            is_anomalous=is_anomalous,
            anomaly_map=excess,
            regions=tuple(find_regions(excess, self.spec.front_end)) if is_anomalous else (),
            channel=self.channel,
            front_end=self.spec.front_end,
        )

    # --- parts

    def embed(
        self, file: SoundFile, *, bounds: Sequence[tuple[int, int]] | None = None
    ) -> Iterable[EmbeddedClip]:
        """The clips of a recording as the detector takes them, one after the other."""
        if self.window_s is None:
            raise ValueError("window_s is not known before fit")
        return embed_recording(
            file,
            Cut(self.channel, self.window_s, self.overlap, self.clip_s),
            self.spec.front_end,
            encoder=self._encoder(),
            device=self.device,
            memory_bytes=self.memory_bytes,
            precision=self.precision,
            bounds=bounds,
        )

    @property
    def threshold(self) -> float:
        """Clips that score above it are anomalous."""
        self._check_fitted()
        return self.conformal.threshold

    @property
    def device(self) -> torch.device:
        if self._device is None:
            from vision_to_sound.torch_setup import choose_device

            self._device = choose_device(gpu=self.gpu and _has_gpu(), threads=self.threads)
        return self._device

    def _encoder(self) -> nn.Module | None:
        if "embeddings" not in DETECTORS[self.method].needs:
            return None
        if self._network is None:
            from vision_to_sound.encoders.weights import load_encoder

            self._network = load_encoder(self.spec, self._weights())
        return self._network

    def _encoder_source(self) -> EncoderSource | None:
        if "encoder" not in DETECTORS[self.method].needs:
            return None
        return EncoderSource(self.spec, self._weights())

    def _weights(self) -> Path:
        if self.weights is None:
            # by name: a job has its weights given, so a change in the code of downloads is none of its business
            finder = importlib.import_module("vision_to_sound.monitoring.weights")
            self.weights = finder.find_weights(self.spec)
        return self.weights

    def _check_fitted(self) -> None:
        if not hasattr(self, "conformal"):
            raise RuntimeError("the detector has not been fitted: call fit or load first")

    # --- files

    def save(self, path: str | Path) -> None:
        """Write all that was learned as one .npz without pickle; the encoder's weights stay where they are."""
        self._check_fitted()
        words = {
            "format": _FORMAT,
            "method": self.method,
            "encoder": self.spec.name,
            "settings": self.settings,
            "channel": self.channel,
            "window_s": self.window_s,
            "overlap": self.overlap,
            "clip_s": self.clip_s,
            "false_alarm_rate": self.false_alarm_rate,
            "held_out_share": self.held_out_share,
            "seed": self.seed,
            "precision": self.precision,
            "about": self.about,
        }
        arrays = {
            "held_out_scores": self.conformal.held_out_scores,
            "band_median": self.scale.median,
            "band_limit": self.scale.limit,
        }
        learned = {f"learned_{name}": values for name, values in self.detector.state().items()}
        save_arrays(
            path, {"words": np.array(json.dumps(words, sort_keys=True)), **arrays, **learned}
        )

    @classmethod
    def load(cls, path: str | Path, **where: Any) -> AnomalyDetector:
        """Read what `save` wrote. where: weights, gpu, threads, memory_mb of this machine.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: another kind of file, or a damaged one; names it.
        """
        if unknown := set(where) - {"weights", "gpu", "threads", "memory_mb"}:
            raise TypeError(
                f"AnomalyDetector.load takes weights, gpu, threads and memory_mb, got {', '.join(sorted(unknown))}; "
                "all else comes from the file"
            )
        arrays = load_arrays(
            path,
            expected=_SAVED,
            names=("words", *_ARRAYS),
            remedy="fit and save it again (the workflow does with --forcerun fit_recordings)",
        )
        with contents_of(path, expected=_SAVED):
            words = json.loads(str(arrays.pop("words")))
            calibration = {name: arrays.pop(name) for name in _ARRAYS}
            if (found := words.pop("format")) != _FORMAT:
                raise ValueError(f"it says that it is {found!r}, this version reads {_FORMAT!r}")
            about = words.pop("about")
            loaded = cls(words.pop("method"), **words, **where)
            loaded.about = about
            loaded.detector.load_state(
                {name.removeprefix("learned_"): values for name, values in arrays.items()}
            )
            loaded.conformal = Conformal(calibration["held_out_scores"], loaded.false_alarm_rate)
            loaded.scale = BandScale(calibration["band_median"], calibration["band_limit"])
        return loaded


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
