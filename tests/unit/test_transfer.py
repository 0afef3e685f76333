"""Over HTTP: whatever the server does, the right file arrives, or an error says what to do."""

from __future__ import annotations

import email.utils
import logging
import shutil
import time
from collections import namedtuple
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
    refuse,
    row_for,
    say_nothing,
    serve,
    sha256,
)

from vision_to_sound import transfer
from vision_to_sound.archives import ArchiveError, ArchiveRecord


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with archive_server() as running:
        yield running


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


# --- A server that behaves ------------------------------------------------------------------------


def test_download_gives_the_file_and_its_record(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT)]
    record = get(row_for(server.url), downloads)
    path = downloads / "sounds.bin"
    assert path.read_bytes() == CONTENT
    assert files(downloads) == ["sounds.bin"]
    assert record == ArchiveRecord(
        name="sounds",
        path=str(path),
        bytes=len(CONTENT),
        checksum=md5(CONTENT),
        licence="CC0",
        source="network",
        mtime_ns=path.stat().st_mtime_ns,
    )


def test_body_without_a_length_is_read_to_its_end(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT, declared_bytes=-1)]
    get(row_for(server.url, bytes=None), downloads)
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_progress_bar_shows_the_bytes(server: ArchiveServer, downloads: Path, capsys):
    server.script = [serve(CONTENT)]
    get(row_for(server.url), downloads, show_progress=True)
    assert "sounds.bin.part" in (shown := capsys.readouterr().err) and "102k" in shown


def test_progress_log_tells_rate_and_remaining_time(
    server: ArchiveServer, downloads: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    monkeypatch.setattr(transfer, "LOG_EVERY_S", 0.0)
    caplog.set_level(logging.INFO)
    server.script = [serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert any("MB/s" in line and "s left" in line for line in caplog.messages)


# --- A connection that breaks off -----------------------------------------------------------------


def test_broken_connection_is_resumed_at_the_byte_where_it_broke(
    server: ArchiveServer, downloads: Path
):
    server.script = [serve(CONTENT, stop_after=HALF), serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_next_run_goes_on_where_the_last_one_gave_up(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT, stop_after=HALF)]
    with pytest.raises(ArchiveError, match=rf"{HALF} bytes are kept in .*sounds.bin.part"):
        get(row_for(server.url), downloads, attempts=1)
    assert not (downloads / "sounds.bin").exists()
    server.script = [serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_attempts_that_bring_new_bytes_do_not_use_up_the_attempts(
    server: ArchiveServer, downloads: Path
):
    server.script = [serve(CONTENT, stop_after=10_000)]
    get(row_for(server.url), downloads, attempts=2)
    assert len(server.requests) == 11
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_server_that_ignores_ranges_sends_it_all_again(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT, stop_after=HALF), serve(CONTENT, ranges=False)]
    get(row_for(server.url), downloads)
    assert server.ranges[1] == f"bytes={HALF}-"
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_server_that_ignores_ranges_and_always_breaks_off_ends(
    server: ArchiveServer, downloads: Path
):
    server.script = [serve(CONTENT, stop_after=HALF, ranges=False)]
    with pytest.raises(ArchiveError, match="gave up after 3 failed attempts"):
        get(row_for(server.url), downloads, attempts=3)
    assert len(server.requests) == 3


def test_range_from_another_byte_is_not_appended(server: ArchiveServer, downloads: Path):
    server.script = [
        serve(CONTENT, stop_after=HALF),
        serve(CONTENT, shifted=7),
        serve(CONTENT),
    ]
    get(row_for(server.url), downloads)
    assert server.ranges == [None, f"bytes={HALF}-", None]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_silent_server_times_out_and_is_asked_again(server: ArchiveServer, downloads: Path):
    server.script = [say_nothing(0.6), serve(CONTENT)]
    get(row_for(server.url), downloads, timeout_s=0.2)
    assert len(server.requests) == 2


def test_no_server_at_all_is_an_error_after_the_attempts(downloads: Path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with archive_server() as stopped:
        url = stopped.url
    with pytest.raises(ArchiveError, match="gave up after 2 .*no connection"):
        get(row_for(url), downloads, attempts=2)


# --- Content that changes between the attempts ----------------------------------------------------


def test_changed_content_is_not_glued_to_the_old_start(server: ArchiveServer, downloads: Path):
    server.script = [serve(OTHER, etag='"old"', stop_after=HALF), serve(CONTENT, etag='"new"')]
    get(row_for(server.url), downloads)
    assert server.requests[1]["If-Range"] == '"old"'
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_changed_content_is_seen_by_its_tag_when_the_server_ignores_if_range(
    server: ArchiveServer, downloads: Path
):
    server.script = [
        serve(OTHER, etag='"old"', stop_after=HALF),
        serve(CONTENT, etag='"new"', knows_if_range=False),
    ]
    get(row_for(server.url), downloads)
    assert server.ranges == [None, f"bytes={HALF}-", None]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_changed_content_without_a_tag_is_caught_by_the_checksum(
    server: ArchiveServer, downloads: Path
):
    server.script = [serve(OTHER, stop_after=HALF), serve(CONTENT)]
    glued = OTHER[:HALF] + CONTENT[HALF:]
    with pytest.raises(ArchiveError) as error:
        get(row_for(server.url), downloads)
    assert md5(CONTENT) in str(error.value) and md5(glued) in str(error.value)
    assert files(downloads) == ["sounds.bin.bad"]


def test_bytes_of_unknown_origin_are_not_continued_without_a_checksum(
    server: ArchiveServer, downloads: Path
):
    downloads.mkdir()
    (downloads / "sounds.bin.part").write_bytes(OTHER[:HALF])
    server.script = [serve(CONTENT)]
    get(row_for(server.url, checksum=""), downloads)
    assert server.ranges == [None]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


# --- Lengths that lie -----------------------------------------------------------------------------


def test_body_shorter_than_declared_is_resumed(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT[:HALF], declared_bytes=len(CONTENT)), serve(CONTENT)]
    get(row_for(server.url, bytes=None), downloads)
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_declared_length_below_the_table_is_resumed(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT, declared_bytes=HALF), serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_file_that_really_is_shorter_than_the_table_is_an_error(
    server: ArchiveServer, downloads: Path
):
    server.script = [serve(CONTENT[:HALF])]
    with pytest.raises(
        ArchiveError, match=rf"expected {len(CONTENT)} bytes.*the server has {HALF}"
    ):
        get(row_for(server.url), downloads)
    assert len(server.requests) == 2


def test_file_longer_than_the_table_is_not_begun(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT + b"more")]
    with pytest.raises(ArchiveError, match=rf"expected {len(CONTENT)} bytes.*offers 102404"):
        get(row_for(server.url), downloads)
    assert files(downloads) == [] and len(server.requests) == 1


def test_body_longer_than_the_table_without_a_length_is_stopped(
    server: ArchiveServer, downloads: Path
):
    server.script = [serve(CONTENT + b"more", declared_bytes=-1)]
    with pytest.raises(ArchiveError, match="sends more. Stopped"):
        get(row_for(server.url), downloads)
    assert files(downloads) == [] and len(server.requests) == 1


def test_endless_body_is_cut_off(server: ArchiveServer, downloads: Path):
    sent = []

    def pour(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while sum(sent) < 200_000_000:
            sent.append(handler.wfile.write(bytes(1_000_000)))

    server.script = [pour]
    with pytest.raises(ArchiveError, match="sends more. Stopped"):
        get(row_for(server.url), downloads)
    assert sum(sent) < 100_000_000


def test_complete_partial_file_needs_no_request(server: ArchiveServer, downloads: Path):
    downloads.mkdir()
    (downloads / "sounds.bin.part").write_bytes(CONTENT)
    get(row_for(server.url), downloads)
    assert server.requests == [] and files(downloads) == ["sounds.bin"]


def test_complete_partial_file_of_unknown_length_is_told_by_status_416(
    server: ArchiveServer, downloads: Path
):
    downloads.mkdir()
    (downloads / "sounds.bin.part").write_bytes(CONTENT)
    server.script = [serve(CONTENT)]
    get(row_for(server.url, bytes=None), downloads)
    assert server.ranges == [f"bytes={len(CONTENT)}-"] and files(downloads) == ["sounds.bin"]


@pytest.mark.parametrize("table_bytes", [None, len(CONTENT)])
def test_partial_file_longer_than_the_file_starts_over(
    server: ArchiveServer, downloads: Path, table_bytes: int | None
):
    downloads.mkdir()
    (downloads / "sounds.bin.part").write_bytes(CONTENT + b"more")
    server.script = [serve(CONTENT)]
    get(row_for(server.url, bytes=table_bytes), downloads)
    assert server.ranges[-1] is None and (downloads / "sounds.bin").read_bytes() == CONTENT


# --- Answers that are no file ---------------------------------------------------------------------

PAGE = b"\n<!DOCTYPE html><html><title>Please log in</title></html>"


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_web_page_in_place_of_the_archive_is_shown(
    server: ArchiveServer, downloads: Path, content_type: str
):
    server.script = [serve(PAGE, content_type=content_type)]
    with pytest.raises(ArchiveError, match="login.*licence.*Please log in"):
        get(row_for(server.url, bytes=None, checksum=""), downloads)
    assert files(downloads) == [] and len(server.requests) == 1


def test_web_page_on_resuming_leaves_the_partial_file_alone(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT, stop_after=HALF), serve(PAGE, ranges=False)]
    with pytest.raises(ArchiveError, match="Please log in"):
        get(row_for(server.url), downloads)
    assert (downloads / "sounds.bin.part").read_bytes() == CONTENT[:HALF]


def test_html_file_may_be_html(server: ArchiveServer, downloads: Path):
    server.script = [serve(PAGE, content_type="text/html")]
    row = row_for(server.url, file="notes.html", bytes=len(PAGE), checksum=sha256(PAGE))
    assert get(row, downloads).bytes == len(PAGE)


def test_busy_server_is_asked_again(server: ArchiveServer, downloads: Path):
    server.script = [refuse(503), refuse(503), serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert len(server.requests) == 3


def test_waits_grow_and_vary(server: ArchiveServer, downloads: Path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    server.script = [refuse(500)]
    with pytest.raises(ArchiveError, match="gave up after 4 failed attempts in a row: status 500"):
        get(row_for(server.url), downloads, backoff_s=2.0)
    assert len(server.requests) == 4 and len(waits) == 3
    for wait, nominal in zip(waits, (2, 4, 8), strict=True):
        assert 0.5 * nominal <= wait <= 1.5 * nominal and wait != nominal


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(server: ArchiveServer, downloads: Path, monkeypatch, as_date):
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    after = email.utils.formatdate(time.time() + 30, usegmt=True) if as_date else "30"
    server.script = [refuse(429, Retry_After=after), serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert 28 <= waits[0] <= 30


def test_retry_after_an_hour_is_left_to_a_later_run(server: ArchiveServer, downloads: Path):
    server.script = [refuse(503, Retry_After="3600")]
    with pytest.raises(ArchiveError, match="asks to wait 3600 s"):
        get(row_for(server.url), downloads)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [404, 403, 401])
def test_refusal_is_final(server: ArchiveServer, downloads: Path, status: int):
    server.script = [refuse(status)]
    with pytest.raises(ArchiveError, match=f"answers {status}.*place the file by hand"):
        get(row_for(server.url), downloads)
    assert len(server.requests) == 1


# --- Disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("known_from_table", [True, False])
def test_full_disk_is_an_error_before_the_first_byte(
    server: ArchiveServer, downloads: Path, monkeypatch, known_from_table: bool
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5000, 5000))
    server.script = [serve(CONTENT)]
    row = row_for(server.url, bytes=len(CONTENT) if known_from_table else None)
    with pytest.raises(ArchiveError, match=rf"{len(CONTENT)} bytes needed, 5000 free"):
        get(row, downloads)
    assert files(downloads) == [] and len(server.requests) == (not known_from_table)


def test_only_the_missing_bytes_need_disk(server: ArchiveServer, downloads: Path, monkeypatch):
    downloads.mkdir()
    (downloads / "sounds.bin.part").write_bytes(CONTENT[:HALF])
    usage = namedtuple("usage", "total used free")
    free = len(CONTENT) - HALF
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, free))
    server.script = [serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert (downloads / "sounds.bin").read_bytes() == CONTENT
