"""Over HTTP: whatever the server does, the right file arrives, or an error says what to do."""

from __future__ import annotations

import email.utils
import errno
import fcntl
import gzip
import io
import logging
import re
import shutil
import sys
import threading
import time
import urllib.request
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
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

import vision_to_sound.downloads
from vision_to_sound import transfer
from vision_to_sound.archive_record import ArchiveError, ArchiveRecord


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


def test_progress_bar_shows_the_bytes(
    server: ArchiveServer, downloads: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    server.script = [serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert "sounds.bin.part" in (shown := capsys.readouterr().err) and "102k" in shown


def test_progress_log_tells_rate_and_remaining_time(
    server: ArchiveServer, downloads: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},) * 2,  # two versions within a second
        ({"ETag": 'W/"1"'},) * 2,
        ({"ETag": "1"},) * 2,
        ({"ETag": '"1"'}, {}),
        ({"ETag": '"1"'}, {"ETag": 'W/"1"'}),
        ({"ETag": '"1"'}, {"ETag": '"2"'}),
    ],
)
@pytest.mark.parametrize("checksum", ["", "first digits"])
def test_without_a_whole_checksum_only_the_same_strong_tag_is_continued(
    server: ArchiveServer, downloads: Path, first: dict, second: dict, checksum: str
):
    server.script = [
        serve(OTHER, headers=first, stop_after=HALF),
        serve(CONTENT, headers=second, knows_if_range=False),
    ]
    first_digits = sha256(CONTENT)[: len("sha256:") + 8]
    get(row_for(server.url, checksum=checksum and first_digits), downloads)
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_the_same_strong_tag_is_continued_without_a_checksum(
    server: ArchiveServer, downloads: Path, size: int | None
):
    server.script = [serve(CONTENT, etag='"1"', stop_after=HALF), serve(CONTENT, etag='"1"')]
    get(row_for(server.url, checksum="", bytes=size), downloads)
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.requests[1]["If-Range"] == '"1"'
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_a_date_is_enough_where_a_whole_checksum_is_compared(
    server: ArchiveServer, downloads: Path
):
    date = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    server.script = [
        serve(CONTENT, headers=date, stop_after=HALF),
        serve(CONTENT, headers=date, knows_if_range=False),
    ]
    get(row_for(server.url), downloads)
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.requests[1]["If-Range"] == date["Last-Modified"]


def test_a_total_that_changes_under_the_same_tag_starts_over(
    server: ArchiveServer, downloads: Path
):
    server.script = [
        serve(CONTENT[:-1], etag='"1"', stop_after=HALF),
        serve(CONTENT, etag='"1"'),
    ]
    get(row_for(server.url, checksum="", bytes=None), downloads)
    assert server.ranges == [None, f"bytes={HALF}-", None]
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_complete_partial_file_of_unknown_origin_is_not_taken_without_a_checksum(
    server: ArchiveServer, downloads: Path, size: int | None
):
    downloads.mkdir()
    (downloads / "sounds.bin.part").write_bytes(OTHER)
    server.script = [serve(CONTENT)]
    get(row_for(server.url, checksum="", bytes=size), downloads)
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1}', '{"validator": 5, "total": 0}'])
def test_a_damaged_note_of_the_origin_means_that_it_is_unknown(
    server: ArchiveServer, downloads: Path, text: str
):
    downloads.mkdir()
    (downloads / "sounds.bin.part").write_bytes(OTHER[:HALF])
    text = text.replace("{", f'{{"url": "{server.url}", ') if "validator" in text else text
    (downloads / "sounds.bin.part.json").write_text(text)
    server.script = [serve(CONTENT)]
    get(row_for(server.url, checksum=""), downloads)
    assert server.ranges == [None]
    assert files(downloads) == ["sounds.bin"]


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


def pour(sent: list[int], **headers: str):
    """An answer without end (to the patience of a test)."""

    def answer(handler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        while sum(sent) < 200_000_000:
            sent.append(handler.wfile.write(bytes(1_000_000)))

    return answer


def test_endless_body_of_a_file_of_unknown_size_is_cut_off(
    server: ArchiveServer, downloads: Path, monkeypatch
):
    monkeypatch.setattr(vision_to_sound.downloads, "MAX_UNKNOWN_BYTES", 3_000_000)
    sent: list[int] = []
    server.script = [pour(sent)]
    with pytest.raises(ArchiveError, match=r"at most 3000000 bytes.*sends more.*column bytes"):
        get(row_for(server.url, bytes=None, checksum=""), downloads)
    assert sum(sent) < 100_000_000 and files(downloads) == []


def test_a_huge_file_of_unknown_size_is_not_begun(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT, declared_bytes=2 << 30)]
    with pytest.raises(ArchiveError, match=r"at most 1073741824 bytes.*offers 2147483648"):
        get(row_for(server.url, bytes=None, checksum=""), downloads)
    assert files(downloads) == []


def test_a_stream_of_unknown_length_does_not_fill_a_small_disk(
    server: ArchiveServer, downloads: Path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 10**6))
    server.script = [serve(CONTENT, declared_bytes=-1)]
    with pytest.raises(ArchiveError, match=r"not enough disk.*does not say how long"):
        get(row_for(server.url, bytes=None), downloads)
    assert files(downloads) == []
    server.script = [serve(CONTENT)]
    get(row_for(server.url, bytes=None), downloads)  # says how long it is: there is room


@pytest.mark.parametrize("length", ["-5", "\u00b2", "0x10", "1" * 5000, "12, 13"])
def test_a_length_that_is_no_number_is_none(server: ArchiveServer, downloads: Path, length: str):
    def answer(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(CONTENT)
        handler.close_connection = True

    server.script = [answer]
    get(row_for(server.url, bytes=None), downloads, attempts=1)
    assert (downloads / "sounds.bin").read_bytes() == CONTENT


def test_a_disk_that_fills_up_midway_is_an_error_that_names_the_file(
    server: ArchiveServer, downloads: Path, monkeypatch
):
    class Full(io.BytesIO):
        def write(self, block: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    original = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", **k: Full() if mode == "wb" else original(path, mode, **k),
    )
    server.script = [serve(CONTENT)]
    with pytest.raises(ArchiveError, match=r"sounds.bin.part: cannot be written .*No space left"):
        get(row_for(server.url), downloads)


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


def test_a_file_that_is_packed_on_the_way_is_not_taken(server: ArchiveServer, downloads: Path):
    packed = gzip.compress(CONTENT)
    server.script = [serve(packed, headers={"Content-Encoding": "gzip"})]
    with pytest.raises(ArchiveError, match="sends it packed .Content-Encoding 'gzip'"):
        get(row_for(server.url, bytes=None, checksum=""), downloads)
    assert files(downloads) == []
    assert server.requests[0]["Accept-Encoding"] == "identity"


def test_a_tar_gz_that_is_called_packed_is_the_file_itself(server: ArchiveServer, downloads: Path):
    server.script = [serve(CONTENT, headers={"Content-Encoding": "x-gzip"})]
    assert get(row_for(server.url, file="sounds.tar.gz"), downloads).bytes == len(CONTENT)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://["]
)
def test_a_redirect_to_another_kind_of_address_is_not_followed(
    server: ArchiveServer, downloads: Path, target: str
):
    server.script = [refuse(302, Location=target)]
    with pytest.raises(ArchiveError, match=re.escape(server.url)):
        get(row_for(server.url), downloads)
    assert files(downloads) == [] and len(server.requests) == 1


def test_a_redirect_is_followed_and_its_endless_body_is_not_read(
    server: ArchiveServer, downloads: Path
):
    sent: list[int] = []

    def redirect(handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", server.url + "/further")
        handler.end_headers()
        while sum(sent) < 200_000_000:
            sent.append(handler.wfile.write(bytes(1_000_000)))

    server.script = [redirect, serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert (downloads / "sounds.bin").read_bytes() == CONTENT and sum(sent) < 100_000_000


def test_from_https_no_redirect_leads_to_http():
    request = urllib.request.Request("https://example.org/a.zip")
    redirects = transfer._Redirects()
    for url in ("http://example.org/a.zip", "ftp://example.org/a.zip"):
        with pytest.raises(ArchiveError, match="expected an address that starts with https"):
            redirects.redirect_request(request, io.BytesIO(), 302, "Found", {}, url)
    url = "https://elsewhere.org/a.zip"
    assert redirects.redirect_request(request, io.BytesIO(), 302, "", {}, url).full_url == url


@pytest.mark.parametrize("endless", [b"X: y\r\n" * 1000, b"X: " + b"y" * 200_000])
def test_headers_without_end_are_given_up(server: ArchiveServer, downloads: Path, endless: bytes):
    server.script = [lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + endless)]
    with pytest.raises(ArchiveError, match="gave up after 2 failed attempts.*got more than"):
        get(row_for(server.url), downloads, attempts=2)


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


@pytest.mark.parametrize("value", ["\u00b2", "soon", "Fri, 31 Dec 99999 23:59:59 GMT", "-1"])
def test_retry_after_that_says_nothing_is_passed_over(
    server: ArchiveServer, downloads: Path, value: str
):
    server.script = [refuse(503, Retry_After=value), serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert len(server.requests) == 2


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


# --- Two runs at once -----------------------------------------------------------------------------


def test_two_runs_that_want_one_file_fetch_it_once(server: ArchiveServer, downloads: Path, caplog):
    def slowly(handler) -> None:
        threading.Event().wait(0.3)
        serve(CONTENT)(handler)

    server.script = [slowly]
    with ThreadPoolExecutor(2) as runs:
        records = list(runs.map(lambda _: get(row_for(server.url), downloads), range(2)))
    assert len(server.requests) == 1 and files(downloads) == ["sounds.bin"]
    assert {record.source for record in records} == {"network", "placed by hand"}
    assert "another process is fetching" in caplog.text


def test_the_lock_of_a_killed_run_holds_nobody_up(server: ArchiveServer, downloads: Path):
    downloads.mkdir()
    (downloads / ".sounds.bin.lock").write_bytes(b"")
    server.script = [serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert files(downloads) == ["sounds.bin"]


def test_a_disk_without_locks_still_works(server: ArchiveServer, downloads, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    server.script = [serve(CONTENT)]
    get(row_for(server.url), downloads)
    assert "one run at a time" in caplog.text
