"""A mirror with an aiSFX wheel of the true structure and random weights: no network is needed."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import torch

from vision_to_sound.archive_table import rows_for
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.encoders.weights import random_weights

directory = Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
spec = ENCODERS["aisfx"]
state = {
    spec.key_prefix + key: tensor
    for key, tensor in random_weights(spec, seed=0).state_dict().items()
}
checkpoint = io.BytesIO()
torch.save((state, {}), checkpoint)
row = rows_for(Path("config/datasets.tsv"), None)["aisfx"]
with zipfile.ZipFile(directory / row.file, "w") as wheel:
    wheel.writestr(spec.weights_member, checkpoint.getvalue())
data = (directory / row.file).read_bytes()
(directory / "datasets.tsv").write_text(
    "name\tfile\tbytes\tchecksum\turl\tlicence\n"
    f"aisfx\t{row.file}\t{len(data)}\tsha256:{hashlib.sha256(data).hexdigest()}\t\trandom weights\n"
)
