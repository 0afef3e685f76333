"""The table of archives, and fetching: network, mirror, placed by hand, package."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from archive_server import (
    CONTENT,
    HALF,
    OTHER,
    ArchiveServer,
    archive_server,
    files,
    get,
    md5,
    row_for,
    serve,
    sha256,
)

import vision_to_sound.downloads
from vision_to_sound.archive_record import ArchiveError
from vision_to_sound.archive_table import (
    ArchiveRow,
    find_in_mirror,
    read_member_list,
    read_table,
    rows_for,
)
from vision_to_sound.archives import Archive, open_archive


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with archive_server() as running:
        yield running


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


# --- Network --------------------------------------------------------------------------------------


def test_path_under_the_working_directory_is_recorded_relative(
    server: ArchiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    server.script = [serve(CONTENT)]
    assert get(row_for(server.url), tmp_path / "results").path == "results/sounds.bin"
    assert get(row_for(server.url), Path("results")).path == "results/sounds.bin"


def test_without_a_listed_checksum_the_sha256_is_recorded(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT)]
    record = get(row_for(server.url, bytes=None, checksum=""), downloads)
    assert (record.checksum, record.bytes) == (sha256(CONTENT), len(CONTENT))


def test_wrong_checksum_is_kept_aside(server: ArchiveServer, downloads: Path):
    server.script = [serve(OTHER)]
    with pytest.raises(ArchiveError, match="expected.*got") as error:
        get(row_for(server.url), downloads)
    assert md5(CONTENT) in str(error.value) and md5(OTHER) in str(error.value)
    assert (downloads / "sounds.bin.bad").read_bytes() == OTHER
    assert files(downloads) == ["sounds.bin.bad"]
    server.script = [serve(CONTENT)]
    assert get(row_for(server.url), downloads).checksum == md5(CONTENT)


def test_first_digits_of_a_checksum_are_compared_and_the_whole_one_is_recorded(
    server: ArchiveServer, downloads: Path
):
    first_digits = sha256(CONTENT)[: len("sha256:") + 8]
    row = row_for(server.url, bytes=None, checksum=first_digits)
    server.script = [serve(OTHER)]
    with pytest.raises(ArchiveError, match=f"expected any.*{first_digits}, got") as error:
        get(row, downloads)
    assert sha256(OTHER) in str(error.value)
    server.script = [serve(CONTENT)]
    assert get(row, downloads).checksum == sha256(CONTENT)
    assert get(row, downloads).source == "placed by hand"  # found again, checked again


def test_zip_without_a_checksum_has_to_be_complete(server: ArchiveServer, downloads: Path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("top/a.wav", CONTENT)
    whole = buffer.getvalue()
    row = row_for(server.url, file="sounds.zip", bytes=None, checksum="")
    server.script = [serve(whole[:HALF], declared_bytes=-1)]
    with pytest.raises(ArchiveError, match="expected a complete zip"):
        get(row, downloads)
    server.script = [serve(whole)]
    assert get(row, downloads).checksum == sha256(whole)


def test_the_log_says_what_is_not_checked(server: ArchiveServer, downloads: Path, caplog):
    first_digits = sha256(CONTENT)[: len("sha256:") + 8]
    server.script = [serve(CONTENT)]
    get(row_for(server.url, checksum=first_digits), downloads)
    assert "checked against the first 8 hex digits only" in caplog.text
    caplog.clear()
    get(row_for(server.url, checksum=""), downloads)
    assert f"no checksum; taken as it is, {sha256(CONTENT)}" in caplog.text
    caplog.clear()
    get(row_for(server.url), downloads)
    assert caplog.text == ""


# --- Member by member -----------------------------------------------------------------------------

HEADER = "name\tfile\tbytes\tchecksum\turl\tlicence\tdoi\n"
CLIPS = {"audio/a.wav": b"first", "audio/b.wav": b"second", "meta/table.csv": b"a,b\n"}


def listed_row(folder: Path, url: str = ""):
    """The row of an archive whose members CLIPS are listed beside its table."""
    lines = [f"{name}\t{md5(content)}\n" for name, content in CLIPS.items()]
    (folder / "list.tsv").write_text("member\tchecksum\n" + "".join(lines))
    table = folder / "table.tsv"
    table.write_text(HEADER + f"sounds\tsounds.zip\t\tmembers:list.tsv\t{url}\tCC0\t\n")
    return read_table(table)["sounds"]


def zipped(members: dict[str, bytes], top: str = "top/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(top + name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("top", ["top/", "ESC-50-33c8/"])
@pytest.mark.parametrize("more", [{}, {"README.md": b"text"}])
def test_an_archive_that_is_packed_anew_is_known_by_its_members(
    server: ArchiveServer, downloads: Path, tmp_path: Path, top: str, more: dict[str, bytes]
):
    content = zipped(CLIPS | more, top)
    server.script = [serve(content, declared_bytes=-1)]
    record = get(listed_row(tmp_path, server.url), downloads)
    assert record.checksum == sha256(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            zipped(CLIPS | {"audio/b.wav": b"Second"}),
            "1 of the 3 .* another content, first .audio/b",
        ),
        (zipped({"audio/a.wav": b"first"}), "2 of the 3 members .* not in it, first 'audio/b.wav'"),
        (zipped(CLIPS, top=""), "3 of the 3 members in .*list.tsv are not in it"),
        (zipped(CLIPS | {"../out": b""}), "points outside"),
        (zipped(CLIPS)[:-30], "cannot be read"),
        (CONTENT, "neither a zip nor a gzipped tar"),
    ],
    ids=["changed", "missing", "elsewhere", "outside", "cut off", "no archive"],
)
def test_an_archive_with_other_members_is_kept_aside(
    server: ArchiveServer, downloads: Path, tmp_path: Path, content: bytes, message: str
):
    server.script = [serve(content, declared_bytes=-1)]
    with pytest.raises(ArchiveError, match=message):
        get(listed_row(tmp_path, server.url), downloads)
    assert files(downloads) == ["sounds.zip.bad"]


def test_a_file_placed_by_hand_and_one_of_a_mirror_are_checked_by_their_members_too(tmp_path: Path):
    row = listed_row(tmp_path)
    for content in (zipped(CLIPS), zipped({})):
        (tmp_path / "sounds.zip").write_bytes(content)
        for how in ({"mirror": tmp_path}, {"mirror": None}):
            if content == zipped(CLIPS):
                assert get(row, tmp_path, **how).checksum == sha256(content)
            else:
                with pytest.raises(ArchiveError, match="3 of the 3 members"):
                    get(row, tmp_path, **how)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns member checksum"),
        ("checksum\tmember\n", "expected the columns member checksum"),
        ("member\tchecksum\na.wav\tmd5:12345678\n", "line 2: .*whole checksum"),
        ("member\tchecksum\na.wav\tcrc:a\n", "line 2"),
        (f"member\tchecksum\na.wav\tsha1:{40 * 'a'}\n", "line 2"),
        (f"member\tchecksum\n\tmd5:{32 * 'a'}\n", "line 2"),
        ("member\tchecksum\n" + 2 * f"a.wav\tmd5:{32 * 'a'}\n", "line 3"),
        ("member\tchecksum\na.wav\n", "line 2"),
    ],
)
def test_a_member_list_that_is_wrong_says_where(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_member_list(write(tmp_path / "list.tsv", text))


def test_the_clips_of_esc50_at_hand_are_those_of_the_list(shared_data: Path, repository: Path):
    row = read_table(repository / "config" / "datasets.tsv")["esc50"]
    expected = read_member_list(row.member_list)
    assert len(expected) == 2001 and "meta/esc50.csv" in expected
    with Archive(shared_data / "ESC-50-master.zip", max_member_bytes=1_000_000) as archive:
        clips = dict(archive.iterate(lambda name: name.endswith(".wav")))
    assert len(clips) == 88
    for name, content in clips.items():
        assert expected[name.partition("/")[2]] == md5(content), name


# --- Placed by hand, mirror -----------------------------------------------------------------------


def test_file_placed_by_hand_is_accepted(server: ArchiveServer, downloads: Path):
    downloads.mkdir()
    (downloads / "sounds.bin").write_bytes(CONTENT)
    record = get(row_for(server.url), downloads)
    assert record.source == "placed by hand" and server.requests == []


def test_a_folder_that_cannot_be_written_may_hold_the_file(downloads: Path, monkeypatch):
    downloads.mkdir()
    (downloads / "sounds.bin").write_bytes(CONTENT)

    def fail(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(vision_to_sound.downloads, "only_process_at", fail)
    assert get(row_for("http://nowhere"), downloads).source == "placed by hand"


@pytest.mark.parametrize("wrong", [OTHER, CONTENT[:-1]])
def test_wrong_file_placed_by_hand_is_neither_taken_nor_overwritten(
    server: ArchiveServer, downloads: Path, wrong: bytes
):
    downloads.mkdir()
    (downloads / "sounds.bin").write_bytes(wrong)
    with pytest.raises(ArchiveError, match="Move it away") as error:
        get(row_for(server.url), downloads)
    assert md5(CONTENT) in str(error.value) and md5(wrong) in str(error.value)
    assert (downloads / "sounds.bin").read_bytes() == wrong and server.requests == []


def test_row_without_url_says_where_to_place_the_file(downloads: Path):
    with pytest.raises(ArchiveError, match=rf"Place the file at {downloads}/sounds.bin.*10.1/x"):
        get(row_for(""), downloads)


def test_mirror_is_used_in_place(tmp_path: Path, downloads: Path, server: ArchiveServer):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "sounds.bin").write_bytes(CONTENT)
    record = get(row_for(server.url), downloads, mirror=mirror)
    assert (record.source, record.path) == ("mirror", str(mirror / "sounds.bin"))
    assert server.requests == [] and not downloads.exists()


def test_a_mirror_may_keep_files_in_folders_of_its_own(tmp_path: Path, downloads: Path):
    mirror = tmp_path / "mirror"
    for folder in ("sounds", "b", "a/deeper"):
        (mirror / folder).mkdir(parents=True)
    (mirror / "a" / "deeper" / "sounds.bin").write_bytes(CONTENT)
    assert find_in_mirror(mirror, "sounds.bin") is None  # one folder down and no further
    (mirror / "sounds" / "sounds.bin").write_bytes(CONTENT)
    assert get(row_for(""), downloads, mirror=mirror).path == str(mirror / "sounds" / "sounds.bin")
    assert find_in_mirror(mirror, "sound[s].bin") is None  # a name, no pattern
    (mirror / "sounds.bin").write_bytes(CONTENT)
    assert get(row_for(""), downloads, mirror=mirror).path == str(mirror / "sounds.bin")


def test_mirror_without_the_file_is_an_error(tmp_path: Path, downloads: Path):
    with pytest.raises(ArchiveError, match=rf"{tmp_path} has no such file. Expected sounds.bin"):
        get(row_for(""), downloads, mirror=tmp_path)
    with pytest.raises(ArchiveError, match="nowhere does not exist"):
        get(row_for(""), downloads, mirror=tmp_path / "nowhere")


def test_mirror_with_another_file_is_an_error(tmp_path: Path, downloads: Path):
    (tmp_path / "sounds.bin").write_bytes(OTHER)
    with pytest.raises(ArchiveError) as error:
        get(row_for(""), downloads, mirror=tmp_path)
    assert md5(CONTENT) in str(error.value) and md5(OTHER) in str(error.value)


# --- Packages -------------------------------------------------------------------------------------


class FakePip:
    """Stands in for the subprocess: writes `files` into --dest, or fails."""

    def __init__(self, files: dict[str, bytes], *, fails_with: str = "") -> None:
        self.files = files
        self.fails_with = fails_with
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess:
        self.commands.append(command)
        destination = Path(command[command.index("--dest") + 1])
        for name, content in self.files.items():
            (destination / name).write_bytes(content)
        return subprocess.CompletedProcess(command, bool(self.fails_with), self.fails_with)


def test_wheel_comes_through_pip(downloads: Path, monkeypatch):
    pip = FakePip({"sounds.bin": CONTENT})
    monkeypatch.setattr(subprocess, "run", pip)
    record = get(row_for("pypi:sounds==1.0"), downloads)
    assert record.source == "network" and files(downloads) == ["sounds.bin"]
    command = pip.commands[0]
    assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} < set(command) and command[-1] == "sounds==1.0"


def test_wheel_with_the_wrong_checksum_is_kept_aside(downloads: Path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", FakePip({"sounds.bin": OTHER}))
    with pytest.raises(ArchiveError, match=md5(CONTENT)):
        get(row_for("pypi:sounds==1.0"), downloads)
    assert files(downloads) == ["sounds.bin.bad"]


def test_failed_pip_shows_its_last_lines(downloads: Path, monkeypatch):
    output = "\n".join(["first line", *["noise"] * 9, "ERROR: No matching distribution"])
    monkeypatch.setattr(subprocess, "run", FakePip({}, fails_with=output))
    with pytest.raises(ArchiveError, match="No matching distribution") as error:
        get(row_for("pypi:sounds==1.0"), downloads)
    assert "first line" not in str(error.value) and files(downloads) == []


def test_another_file_from_pip_is_named(downloads: Path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", FakePip({"other.whl": CONTENT}))
    with pytest.raises(ArchiveError, match="expected sounds.bin from pip.*other.whl"):
        get(row_for("pypi:sounds==1.0"), downloads)


def test_pip_gets_nothing_but_a_pinned_name(downloads: Path, monkeypatch):
    pip = FakePip({})
    monkeypatch.setattr(subprocess, "run", pip)
    for url in ("pypi:sounds", "pypi:--index-url=http://x", "pypi:sounds==1 --pre"):
        with pytest.raises(ArchiveError, match="NAME==VERSION"):
            get(row_for(url), downloads)
    assert pip.commands == []


def local_packages(folder: Path, ran: Path) -> Path:
    """sounds 1.0 as a wheel, sounds 2.0 as a source distribution that leaves `ran` when it is built."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "sounds-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "sounds-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sounds\nVersion: 1.0\n"
        )
        wheel.writestr(
            "sounds-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("sounds-1.0.dist-info/RECORD", "")
    project = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "trap"\nbackend-path = ["."]\n',
        "trap.py": f"open({str(ran)!r}, 'w').close()\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: sounds\nVersion: 2.0\n",
    }
    with tarfile.open(folder / "sounds-2.0.tar.gz", "w:gz") as source:
        for name, text in project.items():
            (folder / name).write_text(text)
            source.add(folder / name, f"sounds-2.0/{name}")
    return folder


@pytest.fixture
def packages(tmp_path: Path, monkeypatch) -> Path:
    """What the real pip is offered, instead of a registry."""
    folder = local_packages(tmp_path / "packages", tmp_path / "ran")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel_row(packages: Path, version: str):
    wheel = (packages / "sounds-1.0-py3-none-any.whl").read_bytes()
    return row_for(
        f"pypi:sounds=={version}",
        file=f"sounds-{version}-py3-none-any.whl",
        bytes=len(wheel),
        checksum=sha256(wheel),
    )


def test_pip_builds_nothing(packages: Path, downloads: Path, tmp_path: Path):
    with pytest.raises(ArchiveError, match="pip could not download sounds==2.0"):
        get(wheel_row(packages, "2.0"), downloads)
    assert not (tmp_path / "ran").exists() and files(downloads) == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("NO_BINARY", ":all:"), ("EDITABLE", "{packages}"), ("REQUIREMENT", "{packages}/r.txt")],
)
def test_no_setting_of_the_machine_makes_pip_build(
    packages: Path, downloads: Path, tmp_path: Path, monkeypatch, variable: str, value: str
):
    (packages / "r.txt").write_text(f"{packages}\n")
    monkeypatch.setenv(f"PIP_{variable}", value.format(packages=packages))
    record = get(wheel_row(packages, "1.0"), downloads)
    assert record.source == "network" and not (tmp_path / "ran").exists()


def test_a_folder_called_pip_is_not_pip(packages: Path, downloads: Path, tmp_path, monkeypatch):
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").write_text("")
    (tmp_path / "pip" / "__main__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    get(wheel_row(packages, "1.0"), downloads)
    assert not (tmp_path / "ran").exists()


def test_the_folder_of_a_killed_pip_is_removed(downloads: Path, monkeypatch):
    (downloads / ".pip-sounds.bin").mkdir(parents=True)
    (downloads / ".pip-sounds.bin" / "sounds.bin").write_bytes(OTHER)
    monkeypatch.setattr(subprocess, "run", FakePip({}))
    with pytest.raises(ArchiveError, match=r"expected sounds.bin from pip, got \[\]"):
        get(row_for("pypi:sounds==1.0"), downloads)
    assert files(downloads) == []


@pytest.mark.network
def test_embedded_default_weights_come_from_their_package(downloads: Path, repository: Path):
    row = read_table(repository / "config" / "datasets.tsv")["aisfx"]
    record = get(row, downloads, timeout_s=60.0)
    with open_archive(record, max_member_bytes=30_000_000) as wheel:
        assert len(wheel.read("aisfx/models/checkpoint.pth")) == 24_900_277


# --- Table ----------------------------------------------------------------------------------------

MD5 = "md5:" + 32 * "a"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_table_of_the_project_lists_all_data_and_weights(repository: Path):
    rows = read_table(repository / "config" / "datasets.tsv")
    mimii = {
        f"mimii_{snr}_dB_{machine}"
        for snr in (-6, 0, 6)
        for machine in ("fan", "pump", "slider", "valve")
    }
    weights = {"clap_2022", "panns_cnn14", "aisfx", "efficientat_mn04"}
    images = {"wide_resnet50", "deit_small"}
    assert set(rows) == mimii | weights | images | {"urbansound8k", "esc50"}
    for name, row in rows.items():
        assert row.url and row.licence, name
        assert (row.bytes and row.has_whole_checksum) or name in ("deit_small", "esc50")
    for name in images:
        assert rows[name].file == rows[name].url.rpartition("/")[2]
        digits = rows[name].checksum.removeprefix("sha256:")
        assert rows[name].file.endswith(f"-{digits[:8]}.pth")
    assert rows["esc50"].member_list.is_file()
    assert len({row.checksum for row in rows.values()}) == len(rows)
    assert rows["mimii_-6_dB_fan"].file == "-6_dB_fan.zip"
    assert sum(rows[name].bytes for name in mimii) // 10**9 == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing: .'name'"),
        ("name\tfile\tbytes\tchecksum\turl\tlicence\n", "missing: .'doi'"),
        (HEADER.replace("doi", "doi\tcolour"), "unknown: .'colour'"),
        (HEADER + f"a\ta.zip\t1\t{MD5}\t\n", "line 2: expected 7 fields, got 5"),
        (HEADER + 2 * f"a\ta.zip\t1\t{MD5}\t\t\t\n", "line 3: the name 'a' is listed twice"),
        (HEADER + f"\n\na\ta.zip\t12 MB\t{MD5}\t\t\t\n", "line 4: bytes .*'12 MB'"),
        (HEADER + f"a\ta.zip\t-5\t{MD5}\t\t\t\n", "line 2: bytes"),
        (HEADER + "a\ta.zip\t1\tcrc32:aaaa\t\t\t\n", "unknown checksum algorithm in 'crc32:aaaa'"),
        (HEADER + f"a\ta.zip\t1\t{32 * 'a'}\t\t\t\n", "unknown checksum algorithm"),
        (HEADER + "a\ta.zip\t1\tmd5:abc\t\t\t\n", "md5 has 32 hex digits"),
        (HEADER + "a\ta.zip\t1\tsha256:95faca4\t\t\t\n", "at least the first 8.*95faca4"),
        (HEADER + f"a\ta.zip\t1\t{MD5}a\t\t\t\n", "md5 has 32 hex digits"),
        (HEADER + f"a\t../a.zip\t1\t{MD5}\t\t\t\n", "plain file name, got '../a.zip'"),
        (HEADER + f"a\t\t1\t{MD5}\t\t\t\n", "plain file name"),
        (HEADER + f"a\ta.zip\t1\t{MD5}\tfile:///a\t\t\n", "url has to start with"),
        (
            HEADER + "a\ta.zip\t1\tmembers:none.tsv\t\t\t\n",
            "line 2: the list .*none.tsv.* not there",
        ),
        (HEADER + f"\ta.zip\t1\t{MD5}\t\t\t\n", "the name is empty"),
    ],
)
def test_table_that_is_wrong_says_where(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / "table.tsv", text))


def test_table_survives_an_editor(tmp_path: Path):
    text = HEADER + f"a\ta.zip\t1\t{MD5.upper().replace('MD5', 'md5')}\t\tCC0\n"
    rows = read_table(write(tmp_path / "table.tsv", text.replace("\n", "\r\n")))
    assert rows["a"] == ArchiveRow("a", "a.zip", 1, MD5, "", "CC0", "")


def test_table_in_the_mirror_replaces_rows_of_the_same_name(tmp_path: Path):
    table = write(
        tmp_path / "table.tsv",
        HEADER + f"a\ta.zip\t1\t{MD5}\thttps://x/a\tCC0\td\nb\tb.zip\t1\t{MD5}\t\tCC0\td\n",
    )
    mirror = tmp_path / "mirror"
    assert rows_for(table, None) == rows_for(table, mirror) == read_table(table)
    mirror.mkdir()
    assert rows_for(table, mirror) == read_table(table)
    header_without_doi = HEADER.replace("\tdoi", "")
    write(mirror / "datasets.tsv", header_without_doi + "a\tsmall.zip\t\t\t\tCC BY\n")
    rows = rows_for(table, mirror)
    assert rows["a"] == ArchiveRow("a", "small.zip", None, "", "", "CC BY", "")
    assert rows["b"] == read_table(table)["b"]


# --- Real archives --------------------------------------------------------------------------------


def test_real_recordings_come_from_a_mirror(
    shared_data: Path, repository: Path, downloads: Path, monkeypatch
):
    monkeypatch.chdir(repository)
    mirror = Path(os.path.relpath(shared_data, repository))
    rows = rows_for(repository / "config" / "datasets.tsv", mirror)
    record = get(rows["esc50"], downloads, mirror=mirror)
    assert record.path == "../shared/data/ESC-50-master.zip" and record.source == "mirror"
    assert record.checksum == "md5:04dbc079c0af484a8cac4d41dc3c2cd0"
