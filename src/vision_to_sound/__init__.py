"""Audio anomaly detection with vision-based algorithms: that, when and at which frequencies a sound is wrong."""

import importlib
import sys

__all__ = ["AnomalyDetector"]


def __getattr__(name: str) -> object:
    # By name and on demand: every stage imports this package, and none shall depend on all of it.
    if name == "AnomalyDetector":
        return importlib.import_module("vision_to_sound.monitoring.detector").AnomalyDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _without_traceback(kind: type[BaseException], error: BaseException, traceback: object) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


# A job of the workflow: Ctrl-C while it still imports its modules is no error of theirs.
if hasattr(sys.modules["__main__"], "snakemake"):
    sys.excepthook = _without_traceback
