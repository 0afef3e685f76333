"""Extracted clips on disk: each file whole, with a checksum, under its own name."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from vision_to_sound.extraction import ExtractedClips
from vision_to_sound.files import open_array, read_table


def test_extracted_clips_come_back_from_disk(tmp_path):
    table = pd.DataFrame(
        {"clip": ["1\r", "2"], "category": "siren", "recording": "", "row": [0, 1]}
    ).assign(length_samples=[3, 2])
    skipped = pd.DataFrame([("a/=b.wav", "is silent")], columns=["clip", "problem"])
    clips = ExtractedClips(np.ones((2, 3), np.float32), table, skipped)
    clips.save(*(tmp_path / name for name in ("a.npy", "a.tsv", "a.skipped.tsv")))
    np.testing.assert_array_equal(open_array(tmp_path / "a.npy"), clips.audio)
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.tsv"), table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.skipped.tsv"), skipped)
    written = [".a.skipped.tsv.crc32", ".a.tsv.crc32", "a.npy", "a.skipped.tsv", "a.tsv"]
    assert sorted(os.listdir(tmp_path)) == written
