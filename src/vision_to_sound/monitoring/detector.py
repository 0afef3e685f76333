"""Fit on normal recordings, score others: `AnomalyDetector`, for notebooks and for the workflow alike.

detector = AnomalyDetector("padim", encoder="aisfx").fit("normal")
result = detector.score("monday.wav")
result.score, result.p_value, result.is_anomalous, result.regions
result.plot(); result.audio("anomaly")
detector.save("pump_3.npz"); AnomalyDetector.load("pump_3.npz")
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vision_to_sound.audio import BadClipError, named
from vision_to_sound.detectors import DETECTORS, create
from vision_to_sound.detectors.base import Checkpoint, EncoderSource
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.monitoring.arguments import (
    check_layers,
    check_window,
    existing_file,
    number,
    path_of,
    settings_of,
    true_or_false,
    whole_number,
)
from vision_to_sound.monitoring.conformal import (
    Conformal,
    are_whole,
    fitted_and_held_out,
    threshold_warnings,
)
from vision_to_sound.monitoring.default_settings import DEFAULT_SETTINGS
from vision_to_sound.monitoring.detector_file import loaded_detector, save_detector
from vision_to_sound.monitoring.embedding import Cut, EmbeddedClip, WindowFeatures, embed_recording
from vision_to_sound.monitoring.levels import recording_faults, unheard
from vision_to_sound.monitoring.normal_recordings import (
    Recordings,
    check_not_silent,
    content_of,
    warn,
    warn_of_faults,
)
from vision_to_sound.monitoring.regions import BandScale, find_regions
from vision_to_sound.monitoring.result import ClipResult
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.monitoring.windows import usual_window_s
from vision_to_sound.seeding import identity_rng
from vision_to_sound.settings import check_known

if TYPE_CHECKING:
    import torch
    from torch import nn


log = logging.getLogger(__name__)

# What a saved detector tells of itself, beside the encoder's name: attributes, and arguments of the constructor.
_WORDS = (
    *("method", "settings", "channel", "window_s", "overlap", "clip_s", "false_alarm_rate"),
    *("held_out_share", "seed", "precision", "about"),
)

PRECISIONS = ("float32", "bfloat16")  # as in encoders.embed, which would import torch


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
        settings: of the method, those that differ from the defaults (`default_settings`).
        channel: counted from 0, to 1023; None: the mean of all.
        window_s: what the encoder sees at once, above 0 to 60 s; None: follows from the normal recordings
            (`usual_window_s`), anew at each `fit`.
        overlap: of neighbouring windows, 0 to 0.9 of a window.
        clip_s: 1 to 3600 s; what gets one score when the workflow scores; `score` alone takes a recording as one clip.
        false_alarm_rate: share of normal clips that may be called anomalous, 0.0001 to 0.5.
        held_out_share: of the normal clips, 0.01 to 0.5, kept from fitting for the threshold; more if the rate needs
            it, never more than half.
        seed: 0 to 2^32 - 1. precision: of the encoder, "float32" or "bfloat16".
        gpu: use a graphics card if there is one. threads: of the CPU, 1 to 1024. memory_mb: for data, 1 to 10^7 MiB.

    Raises:
        ValueError: an argument that is unknown, of another kind or out of range; the message names it.
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
        self.settings = settings_of(method, settings, DEFAULT_SETTINGS[method])
        if self._needs_network:
            check_layers(self.settings, self.spec)
        self.detector = create(method, self.settings)
        self.weights = None if weights is None else existing_file("weights", weights)
        self.channel = None if channel is None else whole_number("channel", channel, 0, 1023)
        self._wanted_window_s = (
            None if window_s is None else number("window_s", window_s, 0.0, 60.0, above=True)
        )
        self.window_s = self._wanted_window_s
        if self.window_s is not None:
            check_window(self.window_s, self.spec, needs_network=self._needs_network)
        self.overlap = number("overlap", overlap, 0.0, 0.9)
        self.clip_s = number("clip_s", clip_s, 1.0, 3600.0)
        self.false_alarm_rate = number("false_alarm_rate", false_alarm_rate, 0.0001, 0.5)
        self.held_out_share = number("held_out_share", held_out_share, 0.01, 0.5)
        self.seed = whole_number("seed", seed, 0, 2**32 - 1)
        check_known(precision, PRECISIONS, what="precision")
        self.precision = precision
        self.gpu, self.threads = (
            true_or_false("gpu", gpu),
            whole_number("threads", threads, 1, 1024),
        )
        self.memory_bytes = whole_number("memory_mb", memory_mb, 1, 10**7) << 20
        self.conformal: Conformal | None = None
        self.checkpoint: Checkpoint | None = None
        self.about: dict[str, Any] = {}
        self._network: nn.Module | None = None
        self._device: torch.device | None = None

    # --- fit

    def fit(
        self,
        recordings: str | Path | Iterable[str | Path],
        *,
        on_bad_clip: str | None = None,
    ) -> Self:
        """Learn from normal recordings; what was learned before is forgotten.

        Args:
            recordings: a folder (with those below it), a file, or any number of folders and files. What is there
                twice, under two names or as a copy, is learned from once, with a warning.
            on_bad_clip: what a recording that cannot be used does: "skip" leaves it out with a warning, "stop" is an
                error that names all of them; None: skip those found in folders, stop for a file that was named.

        Raises:
            BadClipError: see on_bad_clip; and where none can be used.
            ValueError: no recordings, or fewer than two clips in all (one to learn from, one for the threshold).
        """
        found = Recordings.of(recordings, on_bad_clip=on_bad_clip)
        self.conformal = None
        highest_rate_hz = max((file.sample_rate_hz for file in found.files), default=0)
        if said := unheard(self.spec.front_end.f_max_hz, highest_rate_hz):
            warn(said)
        self.window_s = self._wanted_window_s or usual_window_s(
            [file.duration_s for file in found.files]
        )
        self.ready()
        clips, names = [], []
        first_with: dict[tuple[str, ...], Path] = {}
        for file in found.files:
            with found.noting_bad(file.path):
                of_file = list(self.embed(file))
                first = first_with.setdefault(tuple(clip.content for clip in of_file), file.path)
                if first != file.path:  # in another format, say
                    found.note_copy(file.path, first)
                    continue
                clips += of_file
                names += [str(file.path)] * len(of_file)
        found.check()
        check_not_silent(clips, names)
        warn_of_faults(clips, names)
        self.fit_clips(names, [clip.n_windows for clip in clips], clips.__getitem__)
        self.about["learned_from"] = sorted(
            found.contents[Path(name)] for name in dict.fromkeys(names)
        )
        return self

    def fit_clips(
        self,
        recordings: Sequence[str],
        n_windows: Sequence[int],
        load: Callable[[int], EmbeddedClip],
    ) -> Self:
        """`fit` on clips that are embedded already: the recording and the number of windows of each, and clip i.

        Warns where the held-out clips are too few for the false alarm rate, or do not tell it.
        """
        self.conformal, self.detector = None, create(self.method, self.settings)
        self.about = {}
        fitted, held_out = fitted_and_held_out(
            recordings,
            false_alarm_rate=self.false_alarm_rate,
            held_out_share=self.held_out_share,
            seed=self.seed,
        )
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
            if not math.isfinite(score) or not np.isfinite(anomaly_map).all():
                problem = f"its score ({score}) or map is NaN or infinite"
                raise BadClipError(recordings[i], problem, remedy="Look at its samples.")
            scores.append(score)
            maps.append(anomaly_map)
        self.conformal = Conformal(np.sort(np.array(scores)), self.false_alarm_rate)
        self.scale = BandScale.of_normal(maps)
        self.about |= {
            "n_fitted": len(fitted),
            "n_held_out": len(held_out),
            "whole_recordings_held_out": are_whole(recordings, held_out),
        }
        if self._needs_network and self.weights is not None:  # None: who embedded the clips knows
            self.about["weights"] = _digest(self.weights)
        for text in threshold_warnings(
            self.conformal,
            n_fitted=len(fitted),
            are_whole_recordings=self.about["whole_recordings_held_out"],
        ):
            warn(text)
        log.info(
            "fitted on %d clips, threshold %.4g from %d others",
            len(fitted),
            self.threshold,
            len(held_out),
        )
        return self

    # --- score

    def score(
        self, recording: str | Path, *, start_s: float = 0.0, duration_s: float | None = None
    ) -> ClipResult:
        """Score a recording, or a span of it, as one clip.

        The false alarm rate holds for clips about as long as the normal ones; a longer clip has more chances. Warns
        where the detector learned from this very recording: its score says nothing then.

        Args:
            start_s: where the span begins, seconds from the recording's start.
            duration_s: its length, above 0; None, or more than there is: to the end.

        Raises:
            RuntimeError: not fitted.
            FileNotFoundError, BadClipError: the recording is not there, or cannot be used; the message names it.
            ValueError: a folder, or a span that does not lie in the recording.
        """
        self._check_fitted()
        path = path_of("recording", recording)
        if path.is_dir():
            raise ValueError(
                f"{path} is a folder; score takes one recording: "
                "[detector.score(path) for path in sorted(folder.glob('*.wav'))]"
            )
        start_s = number("start_s", start_s, 0.0, 1e12)
        if duration_s is not None:
            duration_s = number("duration_s", duration_s, 0.0, 1e12, above=True)
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is not a file")
        if self.has_learned_from(path):
            warn(f"the detector learned from {path}: its score says nothing")
        self.ready()
        file = SoundFile.open(path)
        bounds = _span(file, start_s, duration_s)
        with named(path, failed="cannot be used", remedy="Mend it or leave it out."):
            (clip,) = self.embed(file, bounds=[bounds])
            result = self.score_clip(file, clip)
        if faults := recording_faults(clip):
            warn(f"{path}: {'; '.join(faults)}")
        return result

    def has_learned_from(self, path: str | Path) -> bool:
        """Whether `fit` was given a recording of the same content. Not known (False) of detectors of the workflow."""
        contents = self.about.get("learned_from", [])
        sizes = {content.partition(" ")[0] for content in contents}
        return str(Path(path).stat().st_size) in sizes and content_of(path) in contents

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
        excess[:, self.spec.front_end.n_bands_below(file.sample_rate_hz / 2) :] = 0.0
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
            raise RuntimeError("the detector has not been fitted: call fit or load first")
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

    def ready(self) -> None:
        """Load the encoder and choose the device now, instead of with the first recording."""
        self._encoder()
        self._encoder_source()
        _ = self.device

    def __repr__(self) -> str:
        parts = [repr(self.method), f"encoder={self.spec.name!r}"]
        if self.conformal is None:
            parts.append("not fitted")
        else:
            n_fitted, n_held_out = self.about.get("n_fitted"), len(self.conformal.held_out_scores)
            parts.append(f"fitted on {n_fitted} clips")
            parts.append(f"threshold {self.threshold:.4g} from {n_held_out} others")
        return f"<AnomalyDetector {', '.join(parts)}>"

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

    @property
    def _needs_network(self) -> bool:
        return "embeddings" in DETECTORS[self.method].needs

    def _check_same_weights(self) -> None:
        learned_with = self.about.get("weights") if self.conformal else None
        if learned_with and learned_with != _digest(self._weights()):
            raise ValueError(
                f"weights: {self._weights()} are not those that the detector was fitted with; its scores would mean "
                "nothing. Give the same file, or fit again"
            )

    def _encoder(self) -> nn.Module | None:
        if not self._needs_network:
            return None
        if self._network is None:
            from vision_to_sound.encoders.weights import load_encoder

            self._check_same_weights()
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
        if self.conformal is None:
            raise RuntimeError("the detector has not been fitted: call fit or load first")

    # --- files

    def save(self, path: str | Path) -> None:
        """Write all that was learned as one .npz without pickle; the encoder's weights stay where they are."""
        self._check_fitted()
        words = {name: getattr(self, name) for name in _WORDS}
        calibration = {
            "held_out_scores": self.conformal.held_out_scores,
            "band_median": self.scale.median,
            "band_limit": self.scale.limit,
        }
        save_detector(
            path, {**words, "encoder": self.spec.name}, calibration, self.detector.state()
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
        with loaded_detector(path) as (words, calibration, learned):
            about = words.pop("about")
            loaded = cls(words.pop("method"), **words, **where)
            loaded.about = about
            loaded.detector.load_state(learned)
            loaded.conformal = Conformal(calibration["held_out_scores"], loaded.false_alarm_rate)
            loaded.scale = BandScale(calibration["band_median"], calibration["band_limit"])
        return loaded


def _span(file: SoundFile, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """(start, stop) in samples. ValueError where nothing lies there."""
    start = round(start_s * file.sample_rate_hz)
    stop = file.n_samples
    if duration_s is not None:
        stop = min(stop, start + round(duration_s * file.sample_rate_hz))
    if start < stop:
        return start, stop
    length = "" if duration_s is None else f" for {duration_s} s"
    raise ValueError(
        f"{file.path}: nothing lies at {start_s} s{length}; it lasts {file.duration_s:.6g} s at "
        f"{file.sample_rate_hz} Hz"
    )


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
