"""Settings of the methods for recordings of one's own: those of config/config.yaml, which the workflow takes, with
smaller banks and fewer channels, since recordings are few. A test holds them against that file."""

from __future__ import annotations

from typing import Any

_ALL_TAPS: dict[str, Any] = {"blur_sigma": 4.0, "layers": []}
_SHALLOW: dict[str, Any] = {"blur_sigma": 4.0, "layers": ["shallowest"]}
_USUAL = {"usual_quantile": 0.9, "usual_share": 0.1}
_FLOW = {"n_steps": 8, "hidden_ratio": 0.5, "clamp": 2.0, "conv3x3_only": False}
_FLOW_ADAM = {"learning_rate": 0.001, "weight_decay": 1e-5}
_ADAM: dict[str, Any] = {"learning_rate": 0.001, "weight_decay": 0.0005}
_CFA = {
    "n_neighbours": 3,
    "n_hard_negatives": 3,
    "radius": 1e-5,
    "margin": 0.1,
    "nu": 0.001,
    **_ADAM,
}
_SGD = {"learning_rate": 0.4, "momentum": 0.9, "weight_decay": 0.0001}
_NETWORK = {"n_stacked": 5, "hidden_size": 128, "n_hidden": 4, "bottleneck": 8}

DEFAULT_SETTINGS: dict[str, dict[str, Any]] = {
    "patchcore": {
        "bank_size": 10_000,
        "projection_eps": 0.9,
        "search_share": 1.0,
        "n_neighbours": 9,
        **_ALL_TAPS,
    },
    "padim": {"n_channels": 100, "regularisation": 0.01, **_ALL_TAPS},
    "band_padim": {"shrinkage": 0.05, "top_share": 0.1, **_ALL_TAPS},
    "surprising_energy": {
        "shrinkage": 0.05,
        "layers": ["shallowest"],
        "map_layers": [],
        "top_share": 0.01,
        "smoothing_frames": 4.0,
        "frame_weight_db": 15.0,
        "cell_weight_db": 4.0,
        "n_folds": 5,
    },
    "band_nn": {"bank_size": 2000, "n_neighbours": 3, **_USUAL, "top_share": 0.1, **_SHALLOW},
    "fastflow": {**_FLOW, **_FLOW_ADAM, "epochs": 24, "batch_size": 4, **_SHALLOW},
    "cfa": {**_CFA, "epochs": 30, "batch_size": 4, **_ALL_TAPS},
    "stfpm": {
        **_SGD,
        "student_init": "random",
        "epochs": 30,
        "batch_size": 4,
        "blur_sigma": 0.0,
        "layers": [],
    },
    "autoencoder": {**_NETWORK, "learning_rate": 0.001, "epochs": 100, "batch_size": 512},
    "band_zscore": {"top_share": 0.01},
}
