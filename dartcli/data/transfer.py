"""Download one file over HTTP, resuming after interruptions.

What has arrived is kept in ``<name>.part``, described by ``<name>.part.json``. A later attempt, by
this process or another, requests the rest (``Range``, ``If-Range``); a server that does not support
ranges, or whose file has changed, sends the whole file again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from dartcli.errors import DartError, DataError, DownloadError
from dartcli.storage.atomic import ensure_directory
from dartcli.storage.checksums import CHUNK, read_document, write_document

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, total bytes or None)."""

ATTEMPTS: Final = 5
"""Attempts per URL for faults that may be temporary."""
FIRST_WAIT: Final = 1.0
"""Seconds before the second attempt; doubled before each further one."""
LONGEST_WAIT: Final = 60.0
"""Longest wait in seconds, even if the server asks for more."""
RECORD_EVERY: Final = 16 << 20
"""Bytes between updates of the description of a part."""
CONNECT_TIMEOUT: Final = 15.0
READ_TIMEOUT: Final = 60.0
"""Seconds without a single byte; a slow connection may take any time in total."""
TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes after which another attempt is made."""


class TemporaryError(Exception):
    """A fault that may be gone at the next attempt."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


def part_path(folder: Path, name: str) -> Path:
    """Return where the arrived part of ``name`` is kept in ``folder``."""
    return folder / f"{name}.part"


def discard_part(part: Path) -> None:
    """Remove a part and its description."""
    part.unlink(missing_ok=True)
    _description_path(part).unlink(missing_ok=True)


def download(
    url: str,
    part: Path,
    *,
    progress: Progress | None = None,
    room: int = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Download ``url`` to ``part``, resuming from what is already there.

    Parameters
    ----------
    url
        Address of the file; redirects are followed.
    part
        Where to put it. It is kept on failure, for the next attempt.
    progress
        Called with (file name, bytes so far, total bytes or None).
    room
        Bytes that must stay free on the disk for unpacking.
    sleep
        Called with the seconds to wait between attempts.

    Raises
    ------
    DownloadError
        If the server refuses, or every attempt fails.
    DartError
        If the disk does not have enough free space.
    """
    ensure_directory(part.parent)
    name = url.rpartition("/")[2] or url
    last: TemporaryError | None = None
    for attempt in range(ATTEMPTS):
        if last is not None:
            sleep(min(last.wait or FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT))
        try:
            _attempt(url, part, name, progress, room)
        except TemporaryError as error:
            last = error
        else:
            return
    raise DownloadError(f"{url}: {last} ({ATTEMPTS} attempts)")


def _attempt(url: str, part: Path, name: str, progress: Progress | None, room: int) -> None:
    """Fetch what is missing; raise TemporaryError if another attempt may succeed."""
    import requests
    import urllib3

    known, digest = _load_description(url, part)
    have = known["have"] if known else 0
    try:
        with requests.get(
            url,
            headers=_request_headers(known, have),
            stream=True,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        ) as answer:
            if answer.status_code == 416 and _parse_total_size(answer) == have > 0:
                return
            have = _find_start(answer, part, have)
            total = _expected_total(answer, have)
            _check_room(part, total, have, room)
            writer = _PartWriter(part, _describe(url, answer), have, digest)
            writer.receive(answer, lambda done: progress and progress(name, done, total))
    except requests.Timeout as error:
        raise TemporaryError(f"no data received for {READ_TIMEOUT:.0f} seconds") from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise TemporaryError(f"no data received for {READ_TIMEOUT:.0f} seconds") from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError) as error:
        raise TemporaryError("connection lost") from error
    except requests.ConnectionError as error:
        if not have:
            # the server was never reached: try the next URL rather than wait
            raise DownloadError(f"{url}: cannot connect to the server") from error
        raise TemporaryError("cannot connect to the server") from error
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {error}") from error
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise TemporaryError(f"connection lost after {arrived:,} of {total:,} bytes")


class _PartWriter:
    """Appends to a part, and records how much of it is complete."""

    def __init__(
        self, part: Path, description: Mapping[str, Any], have: int, digest: hashlib._Hash
    ) -> None:
        self.part, self.description, self.have = part, description, have
        self.digest = digest if have else hashlib.sha256()
        self.recorded = have

    def receive(self, answer: requests.Response, report: Callable[[int], Any]) -> None:
        """Append the body of ``answer``; call ``report`` with the bytes so far."""
        report(self.have)
        with self.part.open("r+b" if self.have else "wb") as file:
            file.seek(self.have)
            file.truncate()
            try:
                # read1() returns what has arrived, so nothing is lost if the rest never does
                while block := answer.raw.read1(CHUNK):
                    file.write(block)
                    self.digest.update(block)
                    self.have += len(block)
                    report(self.have)
                    if self.have - self.recorded >= RECORD_EVERY:
                        self._record(file)
            finally:
                self._record(file)

    def _record(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        state = {"have": self.have, "sha256": self.digest.hexdigest()}
        write_document(_description_path(self.part), {**self.description, **state})
        self.recorded = self.have


def _description_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _load_description(url: str, part: Path) -> tuple[Mapping[str, Any] | None, hashlib._Hash]:
    """Return the description of a part that can be resumed from ``url``, and its hash so far."""
    digest = hashlib.sha256()
    try:
        known = read_document(_description_path(part))
        if known.get("url") != url or not known.get("validator"):
            return None, digest
        with part.open("rb") as file:
            left = known["have"]
            while left and (block := file.read(min(CHUNK, left))):
                digest.update(block)
                left -= len(block)
    except (DataError, OSError):
        return None, digest
    return (known if known["sha256"] == digest.hexdigest() else None), digest


def _request_headers(known: Mapping[str, Any] | None, have: int) -> dict[str, str]:
    # bytes of a compressed body could be neither counted nor resumed
    headers = {"Accept-Encoding": "identity"}
    if known and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": str(known["validator"])}
    return headers


def _find_start(answer: requests.Response, part: Path, have: int) -> int:
    """Return the offset at which the body of ``answer`` begins."""
    status = answer.status_code
    if status == 206:
        begin = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if begin and int(begin[1]) == have:
            return have
        discard_part(part)
        raise TemporaryError("the server sent a different range than requested")
    if status == 200:
        return 0
    cause = f"the server answered {status} {answer.reason}".rstrip()
    if status == 416:
        discard_part(part)
        raise TemporaryError(cause)
    if status in TEMPORARY:
        raise TemporaryError(cause, _parse_retry_after(answer))
    raise DownloadError(f"{answer.url}: {cause}")


def _parse_retry_after(answer: requests.Response) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _parse_total_size(answer: requests.Response) -> int:
    size = re.match(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return int(size[1]) if size else -1


def _expected_total(answer: requests.Response, have: int) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return have + int(text) if text.isdecimal() else None


def _check_room(part: Path, total: int | None, have: int, room: int) -> None:
    needed = (total or 0) - have + room
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DartError(
            f"not enough disk space in {part.parent}: downloading and unpacking need {needed:,} "
            f"bytes, {free:,} are free. Free some, or set DART_HOME to another disk."
        )


def _describe(url: str, answer: requests.Response) -> dict[str, Any]:
    tag = answer.headers.get("ETag", "")
    # a weak tag does not guarantee the same bytes
    strong = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    return {"url": url, "validator": strong}
