"""One file over HTTP: resumed where it broke off, tried again with growing waits, never a web page.

The bytes land in a partial file. Whether they are the right ones (checksum) is the caller's
question.
"""

from __future__ import annotations

import email.utils
import http.client
import logging
import random
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vision_to_sound.archive_record import ArchiveError
from vision_to_sound.partial_file import Origin, PartialFile, check_disk, is_header_text

log = logging.getLogger(__name__)

LOG_EVERY_S = 5.0
LONGEST_WAIT_S = 600.0  # a server that asks for more gets no further request from this run
_BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 512
_WEB_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S
)
_NUMBER = "[0-9]{1,18}"
_CONTENT_RANGE = re.compile(rf"bytes (?:({_NUMBER})-{_NUMBER}|\*)/({_NUMBER}|\*)")


@dataclass(frozen=True)
class Retries:
    """attempts: consecutive tries without a new byte. backoff_s: first wait. timeout_s: silence."""

    attempts: int
    backoff_s: float
    timeout_s: float


class _TryAgain(Exception):
    """This attempt failed in a way that another may not."""

    def __init__(self, reason: str, *, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download(
    url: str,
    part: PartialFile,
    *,
    expected_bytes: int | None,
    max_bytes: int,
    can_verify: bool,
    retries: Retries,
) -> None:
    """Bring the partial file to its full length.

    expected_bytes: None takes the server's word for it, up to max_bytes. can_verify: whether a whole checksum
    of the file will be compared. Without one, bytes are continued only under the ETag that they came with;
    all others start over. Raises ArchiveError when it cannot be done; what has arrived stays for the next run.
    """
    bounds = _Bounds(expected_bytes, max_bytes if expected_bytes is None else expected_bytes)
    furthest = part.size()
    failures = 0
    while True:
        try:
            _attempt(url, part, bounds, can_verify, retries.timeout_s)
            return
        except _TryAgain as error:
            reached = part.size()
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures >= retries.attempts or error.wait_s > LONGEST_WAIT_S:
                asked = f" The server asks to wait {error.wait_s:.0f} s." if error.wait_s else ""
                raise ArchiveError(
                    f"{url}: gave up after {failures} failed attempts in a row: {error}.{asked} "
                    f"{reached} bytes are kept in {part.path}; the next run goes on from there."
                ) from error
            wait_s = retries.backoff_s * 2 ** (failures - 1) * random.uniform(0.5, 1.5)
            wait_s = min(max(wait_s, error.wait_s), LONGEST_WAIT_S)
            log.warning(
                "%s: %s. Attempt %d of %d failed; next one in %.1f s, from byte %d",
                *(url, error, failures, retries.attempts, wait_s, reached),
            )
            time.sleep(wait_s)


@dataclass(frozen=True)
class _Bounds:
    """expected: bytes that the table names, if it does. most: how many are taken at most."""

    expected: int | None
    most: int

    def out_of_bounds(self, url: str, what: str) -> ArchiveError:
        if self.expected is not None:
            return ArchiveError(
                f"{url}: expected {self.expected} bytes (the table), {what}. Is the table's url or size out "
                "of date?"
            )
        return ArchiveError(
            f"{url}: expected at most {self.most} bytes, as of any file whose size the table does not name, "
            f"{what}. If it is really that large, write its size into the table (column bytes)."
        )


def _attempt(
    url: str, part: PartialFile, bounds: _Bounds, can_verify: bool, timeout_s: float
) -> None:
    origin = part.origin(url)
    offset = part.size()
    if offset > bounds.most or not (origin.is_strong or can_verify):
        part.discard()
        offset, origin = 0, Origin()
    if offset and offset == bounds.expected:
        return
    if bounds.expected is not None:
        check_disk(part.path, bounds.expected - offset)
    headers = {"User-Agent": "vision_to_sound", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if origin.validator:
            headers["If-Range"] = origin.validator
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and offset:
                return _range_refused(url, part, error, bounds, origin, can_verify)
            raise _status_error(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ArchiveError(
                f"{url}: the server's certificate does not hold: {reason}"
            ) from error
        raise _TryAgain(f"no connection ({_words(reason)})") from error
    except ValueError as error:
        raise ArchiveError(f"{url}: not an address that can be opened ({error})") from error
    with response:
        _refuse_packed(url, part, response)
        offset, total = _start_and_total(url, response, part, offset, origin, can_verify)
        _receive(url, response, part, offset, total, bounds)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http(s) only, and never from https to http, where anybody on the way could answer."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        allowed = ("https",) if req.type == "https" else ("http", "https")
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in allowed:
            raise ArchiveError(
                f"{req.full_url}: the server sends on to {newurl}; expected an address that starts with "
                f"{' or '.join(allowed)}. Check the url in the table, or place the file by hand."
            )
        fp.close()  # its body is of no use, and may have no end
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refuse_packed(url: str, part: PartialFile, response: http.client.HTTPResponse) -> None:
    """Bytes that the server packed on the way are not those of the file."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    packed_itself = part.final_name.endswith((".gz", ".tgz"))
    if encoding in ("", "identity") or (packed_itself and encoding in ("gzip", "x-gzip")):
        return  # servers call the packing of a .tar.gz itself so
    raise ArchiveError(
        f"{url}: asked for the file as it is, the server sends it packed (Content-Encoding {encoding!r}). "
        "Place the file by hand."
    )


def _start_and_total(
    url: str,
    response: http.client.HTTPResponse,
    part: PartialFile,
    offset: int,
    origin: Origin,
    can_verify: bool,
) -> tuple[int, int | None]:
    """Where the body starts in the file, and how long the server says that the file is."""
    if response.status == 200:  # ranges ignored, or the file is another one by now: from the start
        length = response.headers.get("Content-Length", "").strip()
        return 0, int(length) if re.fullmatch(_NUMBER, length) else None
    if response.status != 206:
        raise ArchiveError(f"{url}: expected status 200 or 206, got {response.status}")
    content_range = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None or match[1] is None or int(match[1]) != offset:
        part.discard()
        raise _TryAgain(f"asked for bytes from {offset}, the server sends {content_range!r}")
    total = None if match[2] == "*" else int(match[2])
    if not _is_same_file(response, total, origin, can_verify):
        part.discard()
        raise _TryAgain("the file on the server has changed since the first bytes came")
    return offset, total


def _is_same_file(response: Any, total: int | None, origin: Origin, can_verify: bool) -> bool:
    """Whether what the server says now is about the file that the first bytes are of.

    A server that knows If-Range sends a part of no other; one that does not may name another version. Where a
    checksum will be compared, only two names of one kind that differ are another file.
    """
    tag = _validator(response)
    if can_verify:
        comparable = tag and origin.validator and tag.startswith('"') == origin.is_strong
        return not comparable or tag == origin.validator
    return tag == origin.validator and (origin.total is None or total in (None, origin.total))


def _receive(
    url: str,
    response: http.client.HTTPResponse,
    part: PartialFile,
    offset: int,
    total: int | None,
    bounds: _Bounds,
) -> None:
    head = _read(response, _HEAD_BYTES, exactly=True)
    _refuse_web_page(url, part, response.headers.get_content_type(), head, offset)
    if total is not None and total > bounds.most:
        raise bounds.out_of_bounds(url, f"the server offers {total}")
    goal = bounds.expected if bounds.expected is not None else total
    if goal is None:
        check_disk(
            part.path, bounds.most - offset, "at most; the server does not say how long the file is"
        )
    else:
        check_disk(part.path, goal - offset)
    received = offset
    try:
        with (
            part.path.open("ab" if offset else "wb") as file,
            _progress(part.path.name, offset, goal) as advance,
        ):
            if not offset:
                part.remember_origin(url, Origin(_validator(response), total))
            block = head
            while block and received <= bounds.most:
                received += len(block)
                file.write(block[: len(block) + bounds.most - received])
                advance(len(block))
                block = _read(response, _BLOCK_BYTES)
    except OSError as error:
        raise ArchiveError(
            f"{part.path}: cannot be written ({error}). What has arrived is kept; the next run goes on from there."
        ) from error
    if received > bounds.most:
        part.discard()
        raise bounds.out_of_bounds(url, "the server sends more. Stopped")
    wanted = max(total or 0, bounds.expected or 0)
    if received < wanted:
        raise _TryAgain(f"the connection ended at byte {received} of {wanted}")


def _validator(response: Any) -> str:
    tag = response.headers.get("ETag", "").strip()
    # W/"...", a weak tag, does not promise the same bytes.
    if tag.startswith('"') and is_header_text(tag):
        return tag
    date = response.headers.get("Last-Modified", "").strip()
    return date if is_header_text(date) else ""


def _read(response: http.client.HTTPResponse, n: int, *, exactly: bool = False) -> bytes:
    """Up to n bytes, what there is; with `exactly` n bytes unless the body ends. b"" at the end."""
    try:
        return response.read(n) if exactly else response.read1(n)
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgain(f"the connection broke ({_words(error)})") from error


def _refuse_web_page(url: str, part: PartialFile, kind: str, head: bytes, offset: int) -> None:
    if part.final_name.endswith((".html", ".htm")):
        return
    if kind in ("text/html", "application/xhtml+xml") or (offset == 0 and _WEB_PAGE.match(head)):
        start = " ".join(head.decode("utf-8", "replace").split())[:200]
        raise ArchiveError(
            f"{url}: expected {part.path.name.removesuffix('.part')}, got a web page (content type "
            f"{kind}), most likely one that asks for a login or for consent to a licence. Open the "
            f"address in a browser and place the file by hand. The page starts with: {start!r}"
        )


def _range_refused(
    url: str,
    part: PartialFile,
    error: urllib.error.HTTPError,
    bounds: _Bounds,
    origin: Origin,
    can_verify: bool,
) -> None:
    """Status 416: the partial file is complete, or it is no start of the server's file."""
    match = _CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", "").strip())
    total = int(match[2]) if match and match[2] != "*" else None
    size = part.size()
    if total is not None and bounds.expected is not None and total != bounds.expected:
        raise bounds.out_of_bounds(url, f"the server has {total}") from error
    if (
        bounds.expected is None
        and total == size
        and _is_same_file(error, total, origin, can_verify)
    ):
        return
    part.discard()
    raise _TryAgain(f"the server has no bytes after {size}; starting over") from error


def _status_error(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code == 429 or error.code >= 500:
        wait_s = _retry_after_s(error.headers.get("Retry-After", ""))
        return _TryAgain(f"status {error.code} ({error.reason})", wait_s=wait_s)
    return ArchiveError(
        f"{url}: the server answers {error.code} ({error.reason}). Trying again would not help: "
        "check the url in the table, or place the file by hand."
    )


def _retry_after_s(value: str) -> float:
    """Retry-After (seconds or a date) in seconds from now; 0 when absent or unreadable."""
    if re.fullmatch("[0-9]+", value.strip()):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _words(error: object) -> str:
    return str(error) or type(error).__name__


@contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator:
    """`advance(n_bytes)`: a bar on a terminal, else a log line with rate and remaining time every few seconds."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True) as bar:
            yield bar.update
        return
    began = last = time.monotonic()
    done = start

    def advance(n_bytes: int) -> None:
        nonlocal last, done
        done += n_bytes
        now = time.monotonic()
        if now - last < LOG_EVERY_S:
            return
        last = now
        rate = (done - start) / (now - began)
        left = "?" if total is None else f"{(total - done) / rate:.0f} s"
        size = "?" if total is None else f"{total / 1e6:.0f}"
        log.info("%s: %.0f of %s MB, %.1f MB/s, %s left", name, done / 1e6, size, rate / 1e6, left)

    yield advance
