"""The data pipeline: download, read, encode, split, cached as Parquet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from dartcli._version import __version__
from dartcli.data.columns import LABEL, NOISY
from dartcli.data.dataset import Counts, DataOptions, Dataset
from dartcli.data.download import fetch_dataset, is_readable, source_hashes
from dartcli.data.features import Field
from dartcli.data.manifest import (
    FORMAT,
    IDS,
    INTERACTIONS,
    MANIFEST,
    SPLIT_FOLDER,
    TEST_CLEAN,
    DataCounts,
    FileRecord,
    Manifest,
    Prepared,
    _key,
    _manifest,
    _table,
)
from dartcli.data.registry import _described, _last, find_dataset, last_prepared
from dartcli.errors import DataError, UsageError
from dartcli.settings import PROTOCOLS, Protocol, validate
from dartcli.storage import paths
from dartcli.storage.atomic import atomic_directory
from dartcli.storage.checksums import find_mismatch, hash_file, read_document, write_document
from dartcli.storage.locks import lock
from dartcli.storage.tables import write_table

logger = logging.getLogger(__name__)

HASHES: Final = "hashes.json"


def prepare_split(
    dataset: Dataset,
    options: DataOptions,
    protocol: Protocol,
    split_seed: int,
) -> Prepared:
    """Return the split of ``dataset``, doing what is missing: fetch, encode, split.

    Where everything is there, only manifests are read and files looked at, not opened.

    Parameters
    ----------
    dataset, options
        What to read, and how.
    protocol
        Decides how negatives are drawn (see :func:`dartcli.data.split.split`) and names the split.
    split_seed
        The only source of randomness.

    Raises
    ------
    DataError, DownloadError
        If the sources cannot be had or read.
    """
    if dataset.local_files is not None:
        sources = hash_local_files(dataset.local_files(options))
    else:
        if not is_readable(dataset):
            logger.info(f"{dataset.name} is not here yet: fetching it")
            fetch_dataset(dataset)
        sources = source_hashes(dataset)
    key = _key(dataset.name, options.model_dump(mode="json"), sources)
    home = paths.processed_data(dataset.name) / key
    folder = home / SPLIT_FOLDER / f"{protocol.name}-{split_seed}"
    manifest, fresh = _manifest(folder), False
    if manifest is None:
        with lock(home.parent / f".{home.name}.lock"):
            manifest = _manifest(folder)
            if manifest is None:
                fresh = True
                whole = _manifest(home)
                if whole is None:
                    logger.info(f"preparing {dataset.name}")
                    whole = _encode(dataset, options, sources, home)
                manifest = _split(dataset, options, whole, home, folder, protocol, split_seed)
    if last_prepared() != dataset.name:
        write_document(_last(), {"dataset": dataset.name})
    return Prepared(folder, manifest, fresh)


def _encode(
    dataset: Dataset, options: DataOptions, sources: Mapping[str, str], home: Path
) -> Manifest:
    """Read and encode the source; write ``home``."""
    from dartcli.data.encode import encode, encode_rows

    encoded = encode(dataset.read(paths.raw_data(dataset.name), options), dataset.name)
    _check_sources(dataset, sources)
    sizes = {name: len(ids) for name, ids in encoded.ids.items()}
    counts = _counts(encoded.interactions, sizes)
    complete, warnings = _compared(dataset, options, counts)
    with atomic_directory(home) as place:
        write_table(encoded.interactions, place / INTERACTIONS)
        (place / IDS).mkdir()
        for name, ids in encoded.ids.items():
            write_table(ids, place / IDS / f"{name}.parquet")
        test = dataset.read_test(options) if dataset.read_test else None
        if test is not None:
            write_table(encode_rows(test, encoded.ids), place / TEST_CLEAN)
        manifest = Manifest(
            format=FORMAT,
            program=__version__,
            dataset=dataset.name,
            title=dataset.title,
            options=options.model_dump(mode="json"),
            sources=dict(sources),
            counts=counts,
            complete=complete,
            warnings=warnings,
            duplicates_dropped=encoded.duplicates_dropped,
            fields=tuple(Field(name=name, size=n, values=n) for name, n in sizes.items()),
            sampled_negatives=counts.impressions == 0,
            files=_files(place),
        )
        write_document(place / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _check_sources(dataset: Dataset, sources: Mapping[str, str]) -> None:
    """Raise DataError where what was read is not what the key is made of.

    Until here size and time of a file were enough; what is prepared of it is kept for long.
    """
    folder = paths.raw_data(dataset.name)
    for name, digest in sources.items():
        path = folder / name  # a user's own files have absolute names
        wrong = find_mismatch(path, digest)
        if wrong:
            again = "let nobody write it meanwhile, and run the command again"
            if dataset.local_files is None:
                again = f"remove it and run dart download {dataset.name} again"
            raise DataError(f"{path} is not the file that was looked at before ({wrong}); {again}.")


def _files(folder: Path) -> dict[str, FileRecord]:
    return {
        path.relative_to(folder).as_posix(): FileRecord(
            sha256=hash_file(path), size=path.stat().st_size
        )
        for path in sorted(folder.rglob("*.parquet"))
    }


def _counts(interactions: pl.DataFrame, sizes: Mapping[str, int]) -> DataCounts:
    positive = interactions.filter(pl.col(LABEL) > 0)
    false = int(positive[NOISY].sum())
    unknown = positive[NOISY].null_count()
    return DataCounts(
        users=sizes["user"],
        items=sizes["item"],
        interactions=len(interactions),
        true_positives=len(positive) - false - unknown,
        false_positives=false,
        unknown=unknown,
        impressions=len(interactions) - len(positive),
    )


def _compared(
    dataset: Dataset, options: DataOptions, counts: DataCounts
) -> tuple[bool | None, tuple[str, ...]]:
    """Compare with what the dataset should hold: complete or not, and the warnings."""
    expected = dataset.expected(options)
    if expected is None:
        return None, ()
    found = Counts(
        counts.users,
        counts.items,
        counts.true_positives,
        counts.false_positives,
        counts.interactions,
    )
    differences = found.differences(expected)
    if not differences:
        return True, ()
    for what, partial in dataset.partial.items():
        if not found.differences(partial):
            return False, (f"{dataset.name} is partial: {what} ({'; '.join(differences)}).",)
    return False, (
        f"{dataset.name} is partial, or not the dataset it should be: {'; '.join(differences)}.",
    )


def _shortage(whole: Manifest, tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    """Return a warning where too few pairs were left to draw as many negatives as positives."""
    if not whole.sampled_negatives:
        return []
    names = ("valid", "test") if protocol.resample_negatives else tuple(tables)
    labels = pl.concat([tables[name][LABEL] for name in names])
    positives = int((labels > 0).sum())
    negatives = len(labels) - positives
    if negatives == positives:
        return []
    return [
        f"{whole.dataset} is so dense that only {negatives:,} negatives could be sampled for "
        f"{positives:,} positives ({', '.join(names)})."
    ]


def _split(
    dataset: Dataset,
    options: DataOptions,
    whole: Manifest,
    home: Path,
    folder: Path,
    protocol: Protocol,
    split_seed: int,
) -> Manifest:
    """Split the encoded interactions in ``home``; write ``folder``."""
    from dartcli.data.features import fit_features
    from dartcli.data.split import split

    tables: Mapping[str, pl.DataFrame] = split(
        _table(home, INTERACTIONS, whole),
        whole.fields[0].values,
        whole.fields[1].values,
        negatives_first=not protocol.resample_negatives,
        seed=split_seed,
        how=options.split,
        test=_table(home, TEST_CLEAN, whole) if TEST_CLEAN in whole.files else None,
    )
    fields = whole.fields
    shortage = _shortage(whole, tables, protocol)
    if dataset.unknown_ids:
        tables, fields = fit_features(tables, fields, getattr(options, "bins", 10))
    with atomic_directory(folder) as place:
        for name, table in tables.items():
            write_table(table, place / f"{name}.parquet")
        manifest = whole.model_copy(
            update={
                "protocol": protocol.name,
                "split_seed": split_seed,
                "fields": fields,
                "rows": {name: len(table) for name, table in tables.items()},
                "warnings": (*whole.warnings, *shortage),
                "files": _files(place),
            }
        )
        write_document(place / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def hash_local_files(files: list[Path]) -> dict[str, str]:
    """Return path -> SHA-256 of a user's own files, hashing anew only what changed.

    Size and time of a file that was hashed before are remembered; both must be the same.
    """
    remembered = paths.home() / "own" / HASHES
    try:
        known = read_document(remembered)
    except DataError:
        known = {}
    result = {}
    for path in files:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        entry = known.get(str(path))
        if not (isinstance(entry, list) and entry[:2] == stamp):
            known[str(path)] = [*stamp, hash_file(path)]
        result[str(path)] = known[str(path)][2]
    write_document(remembered, known)
    return result


def download(
    name: str,
    source: str | None = None,
    *,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Fetch, verify and unpack the files of dataset ``name``; return their folder.

    Parameters
    ----------
    name
        A dataset of the catalog.
    source
        A directory, file or URL to take them from, instead of ``DART_MIRROR`` and the dataset's
        own addresses.
    progress
        Called with (file, bytes so far, bytes in all or None).

    Raises
    ------
    UsageError
        If there is no such dataset.
    DownloadError
        If the files cannot be had, or are not what they should be.
    """
    return fetch_dataset(find_dataset(name), source, progress=progress)


def preprocess(
    name: str,
    *,
    protocol: str = "strict",
    split_seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Prepared:
    """Encode and split dataset ``name``; what was done before is not done again.

    Parameters
    ----------
    name
        A dataset of the catalog.
    protocol
        ``strict`` or ``reference``.
    split_seed
        Seed of the split and of the negatives of validation and test.
    options
        Options of the dataset, such as ``{"tp_threshold": 3}``.

    Raises
    ------
    UsageError
        If there is no such dataset, protocol or option.
    DataError, DownloadError
        If the source cannot be had or read.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"there is no protocol {protocol!r}; choose {' or '.join(PROTOCOLS)}.")
    known = find_dataset(name)
    return prepare_split(
        known,
        validate(known.options, {**_described(name), **(options or {})}, "dataset"),
        PROTOCOLS[protocol],
        split_seed,
    )
