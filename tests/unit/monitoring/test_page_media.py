"""Scales of anomaly maps: which values are seen, and how strongly."""

from __future__ import annotations

import numpy as np
import pytest

from vision_to_sound.monitoring.page_media import MapScale


def test_scores_grow_stronger_upwards():
    scale = MapScale("score", faint=2.0, strong=4.0)
    assert scale.strength(np.array([-1.0, 2.0, 3.0, 4.0, 9.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_p_values_grow_stronger_downwards_by_their_logarithm():
    scale = MapScale("p", faint=0.1, strong=0.001, log=True)
    np.testing.assert_allclose(
        scale.strength(np.array([1.0, 0.1, 0.01, 0.001, 0.0])), [0, 0, 0.5, 1, 1], atol=1e-12
    )


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"faint": 1.0, "strong": 1.0}, "both 1.0"),
        ({"faint": 0.0, "strong": 1.0, "log": True}, "log needs positive ends"),
        ({"faint": float("nan"), "strong": 1.0}, "must be finite"),
    ],
)
def test_scales_that_draw_nothing(ends, message):
    with pytest.raises(ValueError, match=message):
        MapScale("x", **ends)
