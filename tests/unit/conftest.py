"""Fixtures of several unit tests."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from archive_cases import MEMBERS, tar_file, write_tar, write_zip


@pytest.fixture(params=["zip", "tar.gz"])
def archive_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same members as a zip and as a tar.gz, folders included."""
    path = tmp_path / f"sounds.{request.param}"
    if request.param == "zip":
        return write_zip(path, {"top/": b"", **MEMBERS})
    folder = tar_file("top", b"", type=tarfile.DIRTYPE)
    return write_tar(path, [folder, *(tar_file(*item) for item in MEMBERS.items())])
