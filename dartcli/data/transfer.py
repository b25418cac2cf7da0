"""One file over HTTP, on a bad line: resumed where it broke off, with growing waits.

What has arrived is kept as ``<name>.part``, beside ``<name>.part.json`` that says of what it is a
part. A later attempt, of this process or the next one, asks for the rest (``Range``, ``If-Range``);
a server that does not know ranges, or has another version by now, sends the whole file again.
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

ATTEMPTS: Final = 5
"""Attempts a URL, as long as the fault may pass."""
FIRST_WAIT: Final = 1.0
"""Seconds before the second attempt; each further wait is twice as long."""
LONGEST_WAIT: Final = 60.0
"""Seconds: a server that asks for more patience than this is not waited for longer."""
NOTED: Final = 16 << 20
"""Bytes after which it is written down how much has arrived."""
CONNECT_TIMEOUT: Final = 15.0
READ_TIMEOUT: Final = 60.0
"""Seconds without a single byte; a slow trickle goes on for as long as it takes."""
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class PassingError(Exception):
    """A fault that may be gone at the next attempt."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


def part_of(folder: Path, name: str) -> Path:
    """Return where the part of ``name`` that has arrived is kept in ``folder``."""
    return folder / f"{name}.part"


def forget(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _about(part).unlink(missing_ok=True)


def download(
    url: str,
    part: Path,
    *,
    progress: Progress | None = None,
    room: int = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Download ``url`` to ``part``; what is there of the same file is not fetched again.

    Parameters
    ----------
    url
        Where the file is; redirects are followed.
    part
        Where it is put. It is left in place when this fails, for the next attempt.
    progress
        Called with (file name, bytes so far, bytes in all or None).
    room
        Bytes that must stay free beside the download, for what is unpacked of it.
    sleep
        Called with the seconds to wait between attempts.

    Raises
    ------
    DownloadError
        If the server refuses, faults do not pass, or there is no room on the disk.
    """
    ensure_directory(part.parent)
    name = url.rpartition("/")[2] or url
    last: PassingError | None = None
    for attempt in range(ATTEMPTS):
        if last is not None:
            sleep(min(last.wait or FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT))
        try:
            _attempt(url, part, name, progress, room)
        except PassingError as error:
            last = error
        else:
            return
    raise DownloadError(f"{url}: {last}, {ATTEMPTS} times")


def _attempt(url: str, part: Path, name: str, progress: Progress | None, room: int) -> None:
    """Fetch what is missing; raise PassingError where it is worth another attempt."""
    import requests
    import urllib3

    about, digest = _known(url, part)
    have = about["have"] if about else 0
    try:
        with requests.get(
            url,
            headers=_headers(about, have),
            stream=True,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        ) as answer:
            if answer.status_code == 416 and _whole_size(answer) == have > 0:
                return
            have = _accepted(answer, part, have)
            total = _total(answer, have)
            _check_room(part, total, have, room)
            arriving = _Arriving(part, _description(url, answer), have, digest)
            arriving.receive(answer, lambda done: progress and progress(name, done, total))
    except requests.Timeout as error:
        raise PassingError(f"the server sent nothing for {READ_TIMEOUT:.0f} seconds") from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise PassingError(f"the server sent nothing for {READ_TIMEOUT:.0f} seconds") from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError) as error:
        raise PassingError("the connection broke off") from error
    except requests.ConnectionError as error:
        if not have:
            # never reached: the next address is worth more than patience
            raise DownloadError(f"{url}: no connection to the server") from error
        raise PassingError("no connection to the server") from error
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {error}") from error
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise PassingError(f"the connection broke off after {arrived:,} of {total:,} bytes")


class _Arriving:
    """A part that grows; how much of it is whole is written down as it does."""

    def __init__(
        self, part: Path, description: Mapping[str, Any], have: int, digest: hashlib._Hash
    ) -> None:
        self.part, self.description, self.have = part, description, have
        self.digest = digest if have else hashlib.sha256()
        self.noted = have

    def receive(self, answer: requests.Response, report: Callable[[int], Any]) -> None:
        """Append what ``answer`` brings; ``report`` is called with the bytes so far."""
        report(self.have)
        with self.part.open("r+b" if self.have else "wb") as file:
            file.seek(self.have)
            file.truncate()
            try:
                # read1() hands over what has arrived: nothing is lost when the rest never comes
                while block := answer.raw.read1(CHUNK):
                    file.write(block)
                    self.digest.update(block)
                    self.have += len(block)
                    report(self.have)
                    if self.have - self.noted >= NOTED:
                        self._note(file)
            finally:
                self._note(file)

    def _note(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        whole = {"have": self.have, "sha256": self.digest.hexdigest()}
        write_document(_about(self.part), {**self.description, **whole})
        self.noted = self.have


def _about(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _known(url: str, part: Path) -> tuple[Mapping[str, Any] | None, hashlib._Hash]:
    """Return what is known of the part, if it can go on with ``url``, and its hash so far."""
    digest = hashlib.sha256()
    try:
        about = read_document(_about(part))
        if about.get("url") != url or not about.get("validator"):
            return None, digest
        with part.open("rb") as file:
            left = about["have"]
            while left and (block := file.read(min(CHUNK, left))):
                digest.update(block)
                left -= len(block)
    except (DataError, OSError):
        return None, digest
    return (about if about["sha256"] == digest.hexdigest() else None), digest


def _headers(about: Mapping[str, Any] | None, have: int) -> dict[str, str]:
    # compressed on the way, a file could not be counted or resumed
    headers = {"Accept-Encoding": "identity"}
    if about and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": str(about["validator"])}
    return headers


def _accepted(answer: requests.Response, part: Path, have: int) -> int:
    """Return how many of the bytes that are here the answer goes on from."""
    status = answer.status_code
    if status == 206:
        begin = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if begin and int(begin[1]) == have:
            return have
        forget(part)
        raise PassingError("the server sent another part than it was asked for")
    if status == 200:
        return 0
    said = f"the server answered {status} {answer.reason}".rstrip()
    if status == 416:
        forget(part)
        raise PassingError(said)
    if status in PASSING:
        raise PassingError(said, _retry_after(answer))
    raise DownloadError(f"{answer.url}: {said}")


def _retry_after(answer: requests.Response) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _whole_size(answer: requests.Response) -> int:
    size = re.match(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return int(size[1]) if size else -1


def _total(answer: requests.Response, have: int) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return have + int(text) if text.isdecimal() else None


def _check_room(part: Path, total: int | None, have: int, room: int) -> None:
    needed = (total or 0) - have + room
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DartError(
            f"{part.parent} has {free:,} bytes free, but {needed:,} are needed for the download "
            "and what is unpacked of it; free some space or set DART_HOME to another disk."
        )


def _description(url: str, answer: requests.Response) -> dict[str, Any]:
    tag = answer.headers.get("ETag", "")
    # a weak tag does not promise the same bytes
    strong = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    return {"url": url, "validator": strong}
