"""What an anomaly sounds like: the isolated anomaly against a list of phrases, by CLAP (Elizalde et al. 2023).

The score of a phrase is its probability among the list, as in zero-shot classification with CLAP: it says which of
these phrases fits best, not that it fits. A phrase for ordinary sound in the list ("a machine running normally") helps
to see when none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vision_to_sound.monitoring.windows import repeated_to

if TYPE_CHECKING:
    from vision_to_sound.monitoring.result import ClipResult

_MARGIN_S = 0.25  # of sound kept before and behind a region


class TextAndAudioModel(Protocol):
    """The parts of msclap's wrapper that are used."""

    args: Any  # sampling_rate in Hz, duration in s
    clap: Any

    def get_text_embeddings(self, class_labels: list[str]) -> Any: ...

    def compute_similarity(self, audio_embeddings: Any, text_embeddings: Any) -> Any: ...


def load_clap(weights: str | Path) -> TextAndAudioModel:
    """CLAP 2022 with its text encoder, from the whole checkpoint.

    Raises:
        OSError: the text encoder (bert-base-uncased) is neither cached nor can it be fetched.
    """
    from vision_to_sound import torch_setup

    torch_setup.install_stand_ins()
    from msclap import CLAP

    return CLAP(model_fp=str(weights), version="2022", use_cuda=False)


def strongest_part(result: ClipResult) -> tuple[np.ndarray, int]:
    """(float32 samples, rate in Hz) of the isolated anomaly around the strongest region; the whole clip without one."""
    samples, rate_hz = result.audio("anomaly")
    if not result.regions:
        return samples, rate_hz
    region = result.regions[0]
    first = max(0, round((region.start_s - _MARGIN_S) * rate_hz))
    return samples[first : round((region.end_s + _MARGIN_S) * rate_hz)], rate_hz


def fit_of_prompts(
    sounds: Sequence[tuple[np.ndarray, int]], prompts: Sequence[str], model: TextAndAudioModel
) -> np.ndarray:
    """Probability of each prompt for each sound, float64 (n_sounds, n_prompts), rows adding up to 1.

    sounds: (float32 (n_samples,), rate in Hz). Short ones are repeated to what the model hears at once, of long ones
    the middle is taken; msclap's own loader would take a random part.

    Raises:
        ValueError: no sounds, or fewer than two prompts, of which one would always be certain.
    """
    if not len(sounds):
        raise ValueError("no sounds to name")
    if len(prompts) < 2:
        raise ValueError(f"{len(prompts)} prompt: at least two are needed to choose between")
    import torch

    from vision_to_sound.spectrogram import resample

    rate_hz = model.args.sampling_rate
    n_samples = rate_hz * model.args.duration
    heard = np.empty((len(sounds), n_samples), np.float32)
    for row, (samples, from_hz) in enumerate(sounds):
        resampled = resample(samples[None], from_hz=from_hz, to_hz=rate_hz)[0]
        first = max(0, (len(resampled) - n_samples) // 2)
        heard[row] = repeated_to(resampled[first : first + n_samples], n_samples)
    with torch.inference_mode():
        audio = model.clap.audio_encoder(torch.from_numpy(heard))[0]
        text = model.get_text_embeddings(list(prompts))
        similarity = model.compute_similarity(audio, text)
    return torch.softmax(similarity.double(), dim=1).cpu().numpy()
