"""Naming anomalies, with a stand-in that hears pitch and reads one word."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vision_to_sound.monitoring.prompts import fit_of_prompts, strongest_part
from vision_to_sound.monitoring.regions import Region


class StandIn:
    def __init__(self) -> None:
        self.args = SimpleNamespace(sampling_rate=44_100, duration=5)
        self.clap = SimpleNamespace(audio_encoder=self.hear)
        self.heard: list[torch.Tensor] = []

    def hear(self, sounds: torch.Tensor):
        self.heard.append(sounds)
        peak_hz = torch.fft.rfft(sounds).abs().argmax(1) / 5.0
        return torch.stack([(peak_hz < 500).float(), (peak_hz >= 500).float()], 1), None

    def get_text_embeddings(self, texts):
        return torch.tensor([[0.0, 1.0] if "whistle" in text else [1.0, 0.0] for text in texts])

    def compute_similarity(self, audio, text):
        return 5.0 * audio @ text.T


def tone(hz: float, duration_s: float, rate_hz: int = 16_000) -> tuple[np.ndarray, int]:
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * hz * t).astype(np.float32), rate_hz


@pytest.mark.parametrize("duration_s", [0.3, 5.0, 12.0])
def test_each_sound_gets_its_phrase(duration_s):
    model = StandIn()
    fits = fit_of_prompts(
        [tone(200, duration_s), tone(3000, duration_s)], ["a low hum", "a whistle"], model
    )
    np.testing.assert_allclose(fits.sum(axis=1), 1.0)
    assert fits[0].argmax() == 0 and fits[1].argmax() == 1
    assert model.heard[0].shape == (2, 5 * 44_100)
    np.testing.assert_array_equal(
        fits,
        fit_of_prompts(
            [tone(200, duration_s), tone(3000, duration_s)], ["a low hum", "a whistle"], model
        ),
    )  # no random part is taken


def test_too_few_of_either_are_refused():
    with pytest.raises(ValueError, match="no sounds"):
        fit_of_prompts([], ["a", "b"], StandIn())
    with pytest.raises(ValueError, match="at least two are needed"):
        fit_of_prompts([tone(200, 1.0)], ["a"], StandIn())


def test_the_strongest_region_is_heard_with_a_margin():
    samples = np.arange(16_000, dtype=np.float32)
    result = SimpleNamespace(
        audio=lambda source: (samples, 16_000), regions=(Region(0.5, 0.6, 100.0, 200.0, 3.0),)
    )
    part, rate_hz = strongest_part(result)
    assert rate_hz == 16_000 and part[0] == 4000 and part[-1] == 13_599
    whole, _ = strongest_part(SimpleNamespace(audio=result.audio, regions=()))
    assert len(whole) == 16_000
