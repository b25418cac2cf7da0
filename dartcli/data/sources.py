"""The source files of a dataset and their checksums."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartcli.data.dataset import DataOptions, Dataset
from dartcli.data.download import fetch_dataset, is_readable, source_hashes
from dartcli.data.logs.registry import HASHES
from dartcli.errors import DataError
from dartcli.storage import paths
from dartcli.storage.checksums import hash_file, read_document, write_document

logger = logging.getLogger(__name__)

Stamp = tuple[int, int]
"""Size in bytes, and time of the last modification in nanoseconds."""


@dataclass(frozen=True)
class Source:
    """A source file as it was when its checksum became known."""

    path: Path
    sha256: str
    stamp: Stamp
    hashed_now: bool
    """Whether this process read the bytes; false if the checksum was recorded earlier."""


def find_sources(dataset: Dataset, options: DataOptions) -> dict[str, Source]:
    """Return name -> source file; download missing files of the catalog.

    Names are absolute for a user's own files, labels included, else relative to the raw folder.

    Raises
    ------
    DataError, DownloadError
        If a file is missing.
    """
    for file in options.labels:
        if not Path(file).is_file():
            raise DataError(
                f"no labels of {dataset.name} in {file}: no such file. Restore it, or run "
                f"`dart label {dataset.name} --forget`."
            )
    labels = hash_local_files([Path(file) for file in options.labels])
    if dataset.local_files is not None:
        return hash_local_files(dataset.local_files(options)) | labels
    if not is_readable(dataset):
        logger.info(f"downloading {dataset.name}")
        fetch_dataset(dataset)
    folder = paths.raw_data(dataset.name)
    fetched = {
        name: Source(folder / name, sha256, _read_stamp(folder / name), hashed_now=False)
        for name, sha256 in source_hashes(dataset).items()
    }
    return fetched | labels


def hash_local_files(files: Sequence[Path]) -> dict[str, Source]:
    """Return path -> source for a user's files, hashing only those that changed.

    Checksums are recorded with size and time, which must both be the same.
    """
    record = paths.home() / "own" / HASHES
    try:
        known = read_document(record)
    except DataError:
        known = {}
    sources = {}
    for path in files:
        stamp, name = _read_stamp(path), str(path)
        entry = known.get(name)
        is_recorded = isinstance(entry, list) and entry[:2] == list(stamp)
        if not is_recorded:
            known[name] = [*stamp, hash_file(path)]
        sources[name] = Source(path, known[name][2], stamp, hashed_now=not is_recorded)
    if any(source.hashed_now for source in sources.values()):
        write_document(record, known)
    return sources


def check_unchanged(dataset: Dataset, sources: Mapping[str, Source]) -> None:
    """Verify, after reading, that the bytes read have the checksums in the cache key.

    A file hashed by this process needs only its size and time compared; any other is hashed now.
    Either way its bytes are read twice in total: once to hash them, once to encode them.

    Raises
    ------
    DataError
        If a file has changed or disappeared.
    """
    for name, source in sources.items():
        try:
            is_same = _read_stamp(source.path) == source.stamp and (
                source.hashed_now or hash_file(source.path) == source.sha256
            )
        except OSError:
            is_same = False
        if not is_same:
            remedy = f"Remove it and run `dart download {dataset.name}`."
            if Path(name).is_absolute():
                remedy = "Run the command again when no other program writes to it."
            raise DataError(f"{source.path} changed since it was last verified. {remedy}")


def _read_stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
