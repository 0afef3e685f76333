"""One file over HTTP: resumed where it broke off, tried again with growing waits, never a web page.

The bytes land in a partial file. Whether they are the right ones (checksum) is the caller's
question.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import logging
import random
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vision_to_sound.archives import ArchiveError

log = logging.getLogger(__name__)

LOG_EVERY_S = 5.0
LONGEST_WAIT_S = 600.0  # a server that asks for more gets no further request from this run
_BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 512
_WEB_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S
)
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


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


@dataclass(frozen=True)
class PartialFile:
    """FILE.part and, beside it, what the server called that version of the file (ETag or date)."""

    path: Path

    @property
    def _origin_path(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.forget_origin()

    def remember_origin(self, url: str, validator: str) -> None:
        self._origin_path.write_text(json.dumps({"url": url, "validator": validator}), "utf-8")

    def forget_origin(self) -> None:
        self._origin_path.unlink(missing_ok=True)

    def validator(self, url: str) -> str:
        """ETag or date under which these bytes came from `url`; "" when that is not known."""
        try:
            origin = json.loads(self._origin_path.read_text("utf-8"))
            return str(origin["validator"]) if origin["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def download(
    url: str,
    part: PartialFile,
    *,
    expected_bytes: int | None,
    can_verify: bool,
    retries: Retries,
    show_progress: bool,
) -> None:
    """Bring the partial file to its full length.

    expected_bytes: None takes the server's word for it. can_verify: whether a checksum will be
    compared; only then are bytes of unknown origin continued. Raises ArchiveError when it cannot be
    done; what has arrived stays for the next run.
    """
    furthest = part.size()
    failures = 0
    while True:
        try:
            _attempt(url, part, expected_bytes, can_verify, retries.timeout_s, show_progress)
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


def _attempt(
    url: str,
    part: PartialFile,
    expected_bytes: int | None,
    can_verify: bool,
    timeout_s: float,
    show_progress: bool,
) -> None:
    validator = part.validator(url)
    offset = part.size()
    if offset and offset == expected_bytes:
        return
    if offset and ((expected_bytes or offset) < offset or not (validator or can_verify)):
        part.discard()
        offset, validator = 0, ""
    if expected_bytes is not None:
        check_disk(part.path, expected_bytes - offset)
    headers = {"User-Agent": "vision_to_sound", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and offset:
                return _range_refused(url, part, error, expected_bytes)
            raise _status_error(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ArchiveError(
                f"{url}: the server's certificate does not hold: {reason}"
            ) from error
        raise _TryAgain(f"no connection ({_words(reason)})") from error
    with response:
        offset, total = _start_and_total(url, response, part, offset, validator)
        _receive(url, response, part, offset, total, expected_bytes, show_progress)


def _start_and_total(
    url: str,
    response: http.client.HTTPResponse,
    part: PartialFile,
    offset: int,
    validator: str,
) -> tuple[int, int | None]:
    """Where the body starts in the file, and how long the server says that the file is."""
    if response.status == 200:  # ranges ignored, or the file is another one by now: from the start
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    if response.status != 206:
        raise ArchiveError(f"{url}: expected status 200 or 206, got {response.status}")
    content_range = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None or match[1] is None or int(match[1]) != offset:
        part.discard()
        raise _TryAgain(f"asked for bytes from {offset}, the server sends {content_range!r}")
    tag = _validator(response)
    if validator and tag and tag != validator:  # a server that does not know If-Range
        part.discard()
        raise _TryAgain("the file on the server has changed since the first bytes came")
    return offset, None if match[2] == "*" else int(match[2])


def _receive(
    url: str,
    response: http.client.HTTPResponse,
    part: PartialFile,
    offset: int,
    total: int | None,
    expected_bytes: int | None,
    show_progress: bool,
) -> None:
    head = _read(response, _HEAD_BYTES, exactly=True)
    _refuse_web_page(url, part, response.headers.get_content_type(), head, offset)
    if expected_bytes is not None and total is not None and total > expected_bytes:
        raise ArchiveError(
            f"{url}: expected {expected_bytes} bytes (the table), the server offers {total}. Is "
            "the table's url or size out of date?"
        )
    goal = expected_bytes if expected_bytes is not None else total
    if goal is not None:
        check_disk(part.path, goal - offset)
    received = offset
    with (
        part.path.open("ab" if offset else "wb") as file,
        _progress(part.path.name, offset, goal, show_progress) as advance,
    ):
        part.remember_origin(url, _validator(response))
        block = head
        while block:
            received += len(block)
            if expected_bytes is not None and received > expected_bytes:
                break
            try:
                file.write(block)
            except OSError as error:
                raise ArchiveError(f"{part.path}: cannot be written ({error})") from error
            advance(len(block))
            block = _read(response, _BLOCK_BYTES)
    if expected_bytes is not None and received > expected_bytes:
        part.discard()
        raise ArchiveError(
            f"{url}: expected {expected_bytes} bytes (the table), the server sends more. Stopped; "
            "is the table's url or size out of date?"
        )
    wanted = max(total or 0, expected_bytes or 0)
    if received < wanted:
        raise _TryAgain(f"the connection ended at byte {received} of {wanted}")


def _validator(response: http.client.HTTPResponse) -> str:
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):  # a weak tag does not promise the same bytes
        return tag
    return response.headers.get("Last-Modified", "")


def _read(response: http.client.HTTPResponse, n: int, *, exactly: bool = False) -> bytes:
    """Up to n bytes, what there is; with `exactly` n bytes unless the body ends. b"" at the end."""
    try:
        return response.read(n) if exactly else response.read1(n)
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgain(f"the connection broke ({_words(error)})") from error


def _refuse_web_page(url: str, part: PartialFile, kind: str, head: bytes, offset: int) -> None:
    if part.path.name.removesuffix(".part").endswith((".html", ".htm")):
        return
    if kind in ("text/html", "application/xhtml+xml") or (offset == 0 and _WEB_PAGE.match(head)):
        start = " ".join(head.decode("utf-8", "replace").split())[:200]
        raise ArchiveError(
            f"{url}: expected {part.path.name.removesuffix('.part')}, got a web page (content type "
            f"{kind}), most likely one that asks for a login or for consent to a licence. Open the "
            f"address in a browser and place the file by hand. The page starts with: {start!r}"
        )


def _range_refused(
    url: str, part: PartialFile, error: urllib.error.HTTPError, expected_bytes: int | None
) -> None:
    """Status 416: the partial file is complete, or it is no start of the server's file."""
    match = _CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", "").strip())
    total = int(match[2]) if match and match[2] != "*" else None
    size = part.size()
    if total is not None and expected_bytes is not None and total != expected_bytes:
        raise ArchiveError(
            f"{url}: expected {expected_bytes} bytes (the table), the server has {total}. Is the "
            "table's url or size out of date?"
        ) from error
    if expected_bytes is None and total == size:
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
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def check_disk(part: Path, needed: int) -> None:
    """Raises ArchiveError when the disk of `part` has less than `needed` bytes free."""
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise ArchiveError(
            f"{part.parent}: not enough disk for {part.name}: {needed} bytes needed, {free} free. "
            "Make room or point the downloads elsewhere."
        )


def _words(error: object) -> str:
    return str(error) or type(error).__name__


@contextmanager
def _progress(name: str, start: int, total: int | None, show: bool) -> Iterator:
    """`advance(n_bytes)`: a bar, or a log line with rate and remaining time every few seconds."""
    if show:
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
