"""Audio anomaly detection with vision-based algorithms: that, when and at which frequencies a sound is wrong."""

import importlib

__all__ = ["AnomalyDetector"]


def __getattr__(name: str) -> object:
    # By name and on demand: every stage imports this package, and none shall depend on all of it.
    if name == "AnomalyDetector":
        return importlib.import_module("vision_to_sound.monitoring.detector").AnomalyDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
