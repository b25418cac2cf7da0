"""Download the files of a dataset, each verified, and complete or absent.

A file is taken from the first of these places that has it: the one named by the user (``--from``),
the mirror (``DART_MIRROR``), the dataset's own URLs. A place is a directory, the file itself, a zip
archive that contains it, or a URL of either. Checksums are of the file, not of the archive; an
unknown one is recorded at the first download and checked from then on.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from dartcli.data.archive import extract
from dartcli.data.dataset import Dataset, SourceFile
from dartcli.data.transfer import Progress, discard_part, download, part_path
from dartcli.errors import DataError, DownloadError, UsageError
from dartcli.settings import Options, validate
from dartcli.storage import paths
from dartcli.storage.atomic import atomic_write
from dartcli.storage.checksums import hash_file, read_document, write_document
from dartcli.storage.locks import lock

logger = logging.getLogger(__name__)

RECORD: Final = "download.json"


class Fetched(Options):
    """The record of a file that was downloaded and verified."""

    sha256: str
    """Checksum of the file."""
    size: int
    """Size in bytes."""
    mtime_ns: int
    """Time of the last modification, in nanoseconds."""
    source: str
    """Where it came from."""


def fetch_dataset(
    dataset: Dataset, source: str | None = None, *, progress: Progress | None = None
) -> Path:
    """Download the missing files of ``dataset`` and return their folder.

    Parameters
    ----------
    dataset
        What to download.
    source
        A directory, file or URL to use instead of the mirror and the dataset's URLs, even if the
        files are already there. If it has the name of one of several files, it replaces only that
        one.
    progress
        Called with (file name, bytes so far, total bytes or None).

    Raises
    ------
    DownloadError
        If no place has a required file, or the file fails its checks. For an optional file, this
        is logged as a warning.
    """
    folder = paths.raw_data(dataset.name)
    if not dataset.files or (source is None and is_complete(dataset)):
        return folder
    with lock(folder.parent / f".{dataset.name}.lock"):
        record = load_record(folder)
        for file, given in _assign_source(dataset, source):
            known = record.get(file.path)
            if given is None and _is_verified(folder / file.path, known):
                continue
            try:
                record[file.path] = _fetch_file(dataset, file, given, folder, known, progress)
            except DownloadError as error:
                if file.required:
                    raise
                logger.warning(f"continuing without {file.path}: {error}")
                continue
            logger.info(f"{dataset.name}: {file.path} from {record[file.path].source}")
            write_document(folder / RECORD, {path: it.model_dump() for path, it in record.items()})
    return folder


def is_complete(dataset: Dataset) -> bool:
    """Return whether all files of ``dataset`` are there and unchanged."""
    return len(source_hashes(dataset)) == len(dataset.files)


def is_readable(dataset: Dataset) -> bool:
    """Return whether the required files of ``dataset`` are there and unchanged."""
    here = source_hashes(dataset)
    return all(file.path in here for file in dataset.files if file.required)


def fetched_sizes(dataset: Dataset) -> dict[str, int]:
    """Return file -> size in bytes, for the verified files of ``dataset``."""
    folder = paths.raw_data(dataset.name)
    return {path: (folder / path).stat().st_size for path in source_hashes(dataset)}


def source_hashes(dataset: Dataset) -> dict[str, str]:
    """Return file -> SHA-256, for the verified files of ``dataset``."""
    folder = paths.raw_data(dataset.name)
    record = load_record(folder)
    return {
        file.path: record[file.path].sha256
        for file in dataset.files
        if _is_verified(folder / file.path, record.get(file.path))
    }


def load_record(folder: Path) -> dict[str, Fetched]:
    """Return the record of downloads in ``folder``; empty if it is missing or corrupt."""
    path = folder / RECORD
    try:
        document = read_document(path)
        return {file: validate(Fetched, entry, str(path)) for file, entry in document.items()}
    except (DataError, UsageError, TypeError, ValueError):
        return {}


def _is_verified(path: Path, known: Fetched | None) -> bool:
    """Compare size and time with the record; hash the file only if the time differs."""
    if known is None or not path.is_file():
        return False
    here = path.stat()
    if here.st_size != known.size:
        return False
    if here.st_mtime_ns == known.mtime_ns:
        return True
    if hash_file(path) != known.sha256:
        return False
    with contextlib.suppress(OSError):  # so that the next check need not hash the file
        os.utime(path, ns=(known.mtime_ns, known.mtime_ns))
    return True


def _assign_source(dataset: Dataset, source: str | None) -> Iterator[tuple[SourceFile, str | None]]:
    """Yield each file with ``source``, or with None if ``source`` is another of the files."""
    names = {file.name for file in dataset.files}
    named = Path(source).name if source is not None else None
    for file in dataset.files:
        is_other = named in names and named != file.name
        yield file, None if is_other else source


def _fetch_file(
    dataset: Dataset,
    file: SourceFile,
    given: str | None,
    folder: Path,
    known: Fetched | None,
    progress: Progress | None,
) -> Fetched:
    """Copy ``file`` from the first place that has it."""
    expected = file.sha256 or (known.sha256 if known else None)
    failures: list[str] = []
    for place in _list_places(file, given):
        try:
            return _copy(place, file, folder / file.path, expected, progress)
        except DownloadError as error:
            failures.append(str(error).rstrip("."))
    causes = "; ".join(failures) or "it has no URL"
    again = (
        "" if file.sha256 or not known else f"To accept another version, remove {folder / RECORD}. "
    )
    raise DownloadError(
        f"cannot download {file.path} of {dataset.name}: {causes}. {again}Download {file.name} "
        f"manually and run `dart download {dataset.name} --from FILE`, or set DART_MIRROR to a "
        f"directory that contains {file.path}."
    )


def _list_places(file: SourceFile, given: str | None) -> Iterable[str]:
    if given is not None:
        return [given]
    mirror = paths.mirror()
    return [*([str(mirror)] if mirror else []), *file.urls]


def _copy(
    place: str, file: SourceFile, target: Path, expected: str | None, progress: Progress | None
) -> Fetched:
    """Copy ``file`` from one place to ``target``, and rename it only once it is verified."""
    if place.startswith(("http://", "https://", "ftp://")):
        arrived = part_path(target.parent, place.rpartition("/")[2] or file.name)
        download(place, arrived, progress=progress, room=file.size or 0)
        try:
            _check_archive(arrived, place, file)
            return _store(arrived, place, file, target, expected)
        finally:
            discard_part(arrived)
    local = _find_local(Path(place).expanduser(), file)
    return _store(local, str(local), file, target, expected)


def _check_archive(arrived: Path, place: str, file: SourceFile) -> None:
    """Reject an archive that does not have the declared checksum."""
    if file.archive_sha256 is None:
        return
    found = hash_file(arrived)
    if found not in {file.archive_sha256, file.sha256}:
        raise _mismatch_error(place, found, file.archive_sha256)


def _find_local(place: Path, file: SourceFile) -> Path:
    """Return the file, or an archive that may contain it, at or below ``place``."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise DownloadError(f"{place} does not exist.")
    archives = [url.rpartition("/")[2] for url in file.urls if url.endswith(".zip")]
    parent = file.path.rpartition("/")[0]
    names = (*file.aliases, *archives)
    for candidate in (file.path, file.name, *names, *(f"{parent}/{name}" for name in names)):
        if (place / candidate).is_file():
            return place / candidate
    raise DownloadError(f"{place} does not contain {file.path}.")


def _store(
    arrived: Path, place: str, file: SourceFile, target: Path, expected: str | None
) -> Fetched:
    """Extract ``file`` from what arrived, verify it and move it to ``target``."""
    with atomic_write(target) as temporary:
        found = extract(arrived, place, file, temporary)
        if expected not in {None, found}:
            raise _mismatch_error(f"{file.path} from {place}", found, expected)
    here = target.stat()
    return Fetched(sha256=found, size=here.st_size, mtime_ns=here.st_mtime_ns, source=place)


def _mismatch_error(what: str, found: str, expected: str | None) -> DownloadError:
    return DownloadError(
        f"{what} was rejected: its SHA-256 is {found}, expected {expected}; it is truncated or "
        "another version."
    )
