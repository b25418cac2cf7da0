"""Fetch the files of a data set: verified, whole or absent, never fetched twice.

Where a file may come from, in this order: the place that the user names (``--from``), the mirror
(``DART_MIRROR``), the data set's own addresses. A place is a directory, the file itself, a zip
archive that holds it, or a URL of either. Hashes are of the file itself; one that is not known is
recorded at the first download and checked ever after.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from dartcli import paths
from dartcli.data.dataset import Dataset, SourceFile
from dartcli.errors import DownloadError
from dartcli.files import (
    CHUNK,
    ensure_directory,
    locked,
    read_json,
    reason,
    replacing,
    sha256,
    write_json,
)

Note = Callable[[str], None]
Progress = Callable[[str, int, int | None], None]

RECORD: Final = "download.json"
TIMEOUT: Final = 60


def fetch(
    dataset: Dataset,
    source: str | None = None,
    *,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Path:
    """Return the folder with every file of ``dataset``, verified; fetch what is missing.

    Parameters
    ----------
    dataset
        What to fetch.
    source
        A directory, file or URL that is used instead of mirror and addresses, even where the
        files are here already.
    progress, note
        Called with (file name, bytes so far, bytes in all or None), and with sentences.

    Raises
    ------
    DownloadError
        If a file cannot be had from anywhere, or is not what it should be.
    """
    folder = paths.raw_data(dataset.name)
    if source is None and present(dataset):
        return folder
    if not dataset.files:
        return folder
    with locked(folder.parent / f".{dataset.name}.lock"):
        if source is None and present(dataset):
            return folder
        record = _record(folder)
        for file in dataset.files:
            if source is None and _verified(folder / file.path, record.get(file.path)):
                continue
            _obtain(dataset, file, source, folder, record, progress, note)
            write_json(folder / RECORD, record)
    return folder


def present(dataset: Dataset) -> bool:
    """Return whether every file of ``dataset`` is here and as it was when it was verified."""
    folder = paths.raw_data(dataset.name)
    record = _record(folder)
    return all(_verified(folder / file.path, record.get(file.path)) for file in dataset.files)


def source_hashes(dataset: Dataset) -> dict[str, str]:
    """Return file -> SHA-256 of the fetched files of ``dataset``."""
    record = _record(paths.raw_data(dataset.name))
    return {file.path: record[file.path]["sha256"] for file in dataset.files}


def _record(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / RECORD
    if not path.is_file():
        return {}
    record = read_json(path)
    return record if isinstance(record, dict) else {}


def _verified(path: Path, known: dict[str, Any] | None) -> bool:
    """Compare size and time with those recorded; hash the file only where they differ."""
    if known is None or not path.is_file():
        return False
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) == (known["size"], known["mtime_ns"]):
        return True
    return bool(stat.st_size == known["size"] and sha256(path) == known["sha256"])


def _obtain(
    dataset: Dataset,
    file: SourceFile,
    source: str | None,
    folder: Path,
    record: dict[str, dict[str, Any]],
    progress: Progress | None,
    note: Note | None,
) -> None:
    """Get ``file`` from the first place that has it, and record it."""
    failures: list[str] = []
    for place in _places(file, source):
        try:
            _copy(place, file, folder, record.get(file.path), progress)
        except DownloadError as error:
            if source is not None:
                raise
            failures.append(str(error).rstrip("."))
            continue
        if note:
            note(f"{dataset.name}: {file.path} from {place}")
        path = folder / file.path
        stat = path.stat()
        record[file.path] = {
            "sha256": sha256(path),
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "source": place,
        }
        return
    raise DownloadError(
        f"cannot fetch {file.path} of {dataset.name}: {'; '.join(failures)}; get it by other means "
        f"and run dart download {dataset.name} --from FILE, or set DART_MIRROR."
    )


def _places(file: SourceFile, source: str | None) -> Iterable[str]:
    if source is not None:
        return [source]
    mirror = paths.mirror()
    return [*([str(mirror)] if mirror else []), *file.urls]


def _copy(
    place: str,
    file: SourceFile,
    folder: Path,
    known: dict[str, Any] | None,
    progress: Progress | None,
) -> None:
    """Copy ``file`` from one place to the raw folder: verified first, then renamed."""
    target = folder / file.path
    if place.startswith(("http://", "https://", "ftp://")):
        arrived = ensure_directory(folder) / f".{file.name}.{os.getpid()}.part"
        try:
            _download(place, arrived, progress)
            with replacing(target) as temporary:
                _extract(arrived, file, temporary, place)
                _check(temporary, file, known, place)
        finally:
            arrived.unlink(missing_ok=True)
        return
    local = _find(Path(place).expanduser(), file)
    with replacing(target) as temporary:
        _extract(local, file, temporary, str(local))
        _check(temporary, file, known, str(local))


def _find(place: Path, file: SourceFile) -> Path:
    """Return the file, or an archive that may hold it, at or below ``place``."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise DownloadError(f"{place} does not exist.")
    archives = [url.rpartition("/")[2] for url in file.urls if url.endswith(".zip")]
    parent = file.path.rpartition("/")[0]
    for candidate in (file.path, file.name, *archives, *(f"{parent}/{name}" for name in archives)):
        if (place / candidate).is_file():
            return place / candidate
    raise DownloadError(f"{place} holds no {file.path}.")


def _extract(archive: Path, file: SourceFile, target: Path, place: str) -> None:
    """Copy ``archive``, or the one member of it that is ``file``, to ``target``."""
    try:
        if not zipfile.is_zipfile(archive):
            if place.endswith(".zip"):
                raise DownloadError(
                    f"{place} is no zip archive, or a truncated one "
                    f"({archive.stat().st_size:,} bytes)."
                )
            with archive.open("rb") as source:
                _copy_limited(source, target, file, place)
            return
        with zipfile.ZipFile(archive) as opened:
            members = [name for name in opened.namelist() if name in {file.path, file.name}]
            if not members:
                members = [m for m in opened.namelist() if m.rpartition("/")[2] == file.name]
            if not members:
                raise DownloadError(f"the archive {place} holds no {file.path}.")
            with opened.open(members[0]) as source:
                _copy_limited(source, target, file, place)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"the archive {place} is broken ({error}).") from error
    except OSError as error:
        raise DownloadError(f"cannot read {place}: {reason(error)}.") from error


def _copy_limited(source: Any, target: Path, file: SourceFile, place: str) -> None:
    written = 0
    with target.open("wb") as output:
        while block := source.read(CHUNK):
            written += len(block)
            if written > file.limit:
                raise DownloadError(
                    f"{file.path} in {place} is larger than {file.limit:,} bytes, which is more "
                    "than this data set can have; it was not unpacked."
                )
            output.write(block)


def _check(path: Path, file: SourceFile, known: dict[str, Any] | None, place: str) -> None:
    """Compare the hash with the declared one, or with that of the first download."""
    expected = file.sha256 or (known or {}).get("sha256")
    if expected is None:
        return
    found = sha256(path)
    if found != expected:
        raise DownloadError(
            f"{file.path} from {place} has the SHA-256 {found}, but {expected} was expected; "
            "it was not kept: the file is truncated, or another version."
        )


def _download(url: str, target: Path, progress: Progress | None) -> None:
    """Download ``url`` to ``target``."""
    import pooch
    import requests

    class Bar:
        """What pooch expects of a progress bar."""

        total: int | None = None
        done = 0

        def update(self, amount: int) -> None:
            self.done += amount
            if progress:
                progress(url.rpartition("/")[2], self.done, self.total or None)

        def reset(self) -> None:
            self.done = 0

        def close(self) -> None:
            return None

    downloader = pooch.HTTPDownloader(progressbar=Bar(), chunk_size=CHUNK, timeout=TIMEOUT)
    try:
        downloader(url, str(target), None)
    except (requests.RequestException, OSError, ValueError) as error:
        raise DownloadError(f"{url}: {_why(error)}") from error


def _why(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    if isinstance(error, requests.Timeout):
        return f"the server did not answer within {TIMEOUT} seconds"
    return str(error)
