"""A local HTTP server that behaves and misbehaves as told, and a file to ask it for."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from vision_to_sound.archive_record import ArchiveRecord
from vision_to_sound.archive_table import ArchiveRow
from vision_to_sound.downloads import fetch

Answer = Callable[[BaseHTTPRequestHandler], None]


class ArchiveServer:
    """Gives the answers of `script` in turn, the last one again and again; keeps what was asked.

    requests: one dict of headers per request, in order.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: list[Answer] = []
        self.requests: list[dict[str, str]] = []

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]

    def next_answer(self, headers: dict[str, str]) -> Answer:
        self.requests.append(headers)
        return self.script[min(len(self.requests), len(self.script)) - 1]


@contextmanager
def archive_server() -> Iterator[ArchiveServer]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            with suppress(ConnectionError):  # the client may hang up
                self.server.told.next_answer(dict(self.headers))(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.told = ArchiveServer(f"http://127.0.0.1:{server.server_address[1]}/file")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.told
        finally:
            server.shutdown()
            thread.join()


def serve(
    content: bytes,
    *,
    etag: str | None = None,
    ranges: bool = True,
    knows_if_range: bool = True,
    stop_after: int | None = None,
    declared_bytes: int | None = None,
    content_type: str = "application/octet-stream",
    shifted: int = 0,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Serve `content`, with further `headers`.

    ranges: whether Range is honoured. stop_after: close the connection after so many bytes of the
    body. declared_bytes: the Content-Length, where it is a lie; -1 for none at all. shifted: start
    the range so many bytes off.
    """

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = not knows_if_range or handler.headers.get("If-Range", etag) == etag
        start = int(asked[1]) if asked and ranges and same else 0
        if start and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start += shifted if start else 0
        body = content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Type", content_type)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        if declared_bytes != -1:
            handler.send_header("Content-Length", str(declared_bytes or len(body)))
        handler.end_headers()
        handler.wfile.write(body[:stop_after])

    return answer


def refuse(status: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def say_nothing(seconds: float) -> Answer:
    """No answer until the client has surely given up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        threading.Event().wait(seconds)
        handler.close_connection = True

    return answer


# --- What it is asked for ------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 400  # no zip, no HTML: 102 400 bytes
HALF = 40_000
OTHER = CONTENT[::-1]


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def row_for(url: str, **changes) -> ArchiveRow:
    row = ArchiveRow(
        name="sounds",
        file="sounds.bin",
        bytes=len(CONTENT),
        checksum=md5(CONTENT),
        url=url,
        licence="CC0",
        doi="10.1/x",
    )
    return dataclasses.replace(row, **changes)


def get(row: ArchiveRow, downloads: Path, **changes) -> ArchiveRecord:
    settings = dict(attempts=4, backoff_s=0.001, timeout_s=5.0, mirror=None)
    return fetch(row, downloads=downloads, **(settings | changes))


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
