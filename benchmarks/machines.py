"""The default detector on real machines, beside the simplest control: python -m benchmarks.machines [FOLDER ...]

Each folder holds `normal` and `unsorted`; names in `unsorted` tell the truth. Without folders: those of ../shared/data.
The control: 5, 50 and 95 % quantile over time of each mel band, standardised by the normal clips; the score of a clip
is the distance to the nearest normal one. It has no threshold.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

from vision_to_sound import AnomalyDetector
from vision_to_sound.front_ends import FRONT_ENDS
from vision_to_sound.metrics import roc_auc
from vision_to_sound.monitoring.known_labels import labels_from_names
from vision_to_sound.monitoring.listing import list_recordings
from vision_to_sound.monitoring.sound_files import SoundFile
from vision_to_sound.spectrogram import log_mel_db, resample

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FRONT_END = FRONT_ENDS["aisfx_44k1"]


def quantiles(path: Path) -> np.ndarray:
    """float64 (3 * n_mels,) of a recording."""
    file = SoundFile.open(path)
    samples = file.read(0, file.n_samples)[None]
    resampled = resample(samples, from_hz=file.sample_rate_hz, to_hz=FRONT_END.sample_rate_hz)
    spectrogram_db = log_mel_db(resampled, FRONT_END, device="cpu")[0]
    return np.quantile(spectrogram_db, [0.05, 0.5, 0.95], axis=0).ravel()


def control_scores(normal: list[Path], unsorted: list[Path]) -> np.ndarray:
    """float64 (n_unsorted,)."""
    learned = np.array([quantiles(path) for path in normal])
    asked = np.array([quantiles(path) for path in unsorted])
    difference = (asked[:, None] - learned[None]) / (learned.std(axis=0) + 1e-6)
    return np.sqrt(np.square(difference).sum(axis=2)).min(axis=1)


def row_of(folder: Path) -> tuple[str, float, float, int, int, int, int]:
    """name, AUC of the default and of the control, found, anomalous, false alarms, normal."""
    normal, unsorted = (
        [folder / side / name for name in list_recordings(folder / side).recordings]
        for side in ("normal", "unsorted")
    )
    labels = labels_from_names([path.name for path in unsorted])
    unsorted = [path for path in unsorted if path.name in labels]
    is_anomalous = np.array([labels[path.name] == 1 for path in unsorted])
    detector = AnomalyDetector().fit(normal)
    results = [detector.score(path) for path in unsorted]
    called = np.array([result.is_anomalous for result in results])
    return (
        folder.name,
        100 * roc_auc(np.array([result.score for result in results]), is_anomalous),
        100 * roc_auc(control_scores(normal, unsorted), is_anomalous),
        *(int(called[is_anomalous].sum()), int(is_anomalous.sum())),
        *(int(called[~is_anomalous].sum()), int((~is_anomalous).sum())),
    )


def main() -> None:
    warnings.simplefilter("ignore")
    folders = [Path(name) for name in sys.argv[1:]]
    folders = folders or [*sorted((SHARED / "machines").iterdir()), SHARED / "slider_recordings"]
    print("| machine | AUC | control's AUC | found | false alarms |\n|---|---|---|---|---|")
    rows = []
    for folder in folders:
        rows.append(row_of(folder))
        print("| {} | {:.1f} | {:.1f} | {} of {} | {} of {} |".format(*rows[-1]), flush=True)
    means = np.mean([row[1:3] for row in rows], axis=0)
    sums = np.sum([row[3:] for row in rows], axis=0)
    print("| all | {:.1f} | {:.1f} | {} of {} | {} of {} |".format(*means, *sums))


if __name__ == "__main__":
    main()
