"""Prepare a dataset: download, read, encode and split it, and cache the results as Parquet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dartcli._version import __version__
from dartcli.data.counts import (
    DataCounts,
    compare_counts,
    count_rows,
    warn_of_missing_negatives,
    warn_of_swapped_columns,
)
from dartcli.data.dataset import DataOptions, Dataset, absolute_paths
from dartcli.data.download import fetch_dataset
from dartcli.data.encode import Encoded, InvalidRowsError, encode, encode_rows
from dartcli.data.features import Field, fit_features
from dartcli.data.logs.labels import add_labels, apply_labels, register_labels
from dartcli.data.logs.registry import check_log, check_log_name, log_dataset, register_log
from dartcli.data.logs.scan import explain_unreadable
from dartcli.data.logs.schema import FileFormat, LogOptions
from dartcli.data.manifest import (
    COLUMNS,
    FORMAT,
    IDS,
    INTERACTIONS,
    MANIFEST,
    TEST_CLEAN,
    FileRecord,
    Manifest,
    Prepared,
    encoded_folder,
    load_manifest,
    read_encoded,
    split_folder,
)
from dartcli.data.registry import find_dataset, last_prepared, registered_options, remember_prepared
from dartcli.data.sources import Source, check_unchanged, find_sources
from dartcli.errors import DataError
from dartcli.settings import Protocol, find_protocol, validate
from dartcli.storage import paths
from dartcli.storage.atomic import atomic_directory
from dartcli.storage.checksums import hash_file, write_document
from dartcli.storage.locks import lock
from dartcli.storage.tables import READ_ERRORS, write_table

logger = logging.getLogger(__name__)

Tables = tuple[pl.DataFrame, pl.DataFrame | None]
"""The encoded interactions, and the clean test table, if any."""


def prepare_split(
    dataset: Dataset, options: DataOptions, protocol: Protocol, split_seed: int
) -> Prepared:
    """Return a split of ``dataset``, doing only the steps that are not cached.

    If everything is cached, only the manifests are read; the tables are not opened.

    Parameters
    ----------
    dataset, options
        What to read, and how.
    protocol
        How negatives are sampled (see :func:`dartcli.data.split.split`); also names the split.
    split_seed
        The only source of randomness.

    Raises
    ------
    DataError, DownloadError
        If the sources are missing or invalid.
    """
    sources = find_sources(dataset, options)
    hashes = {name: source.sha256 for name, source in sources.items()}
    home = encoded_folder(dataset.name, options.model_dump(mode="json"), hashes)
    folder = split_folder(home, protocol.name, split_seed)
    manifest, fresh = load_manifest(folder), False
    if manifest is None:
        with lock(home.parent / f".{home.name}.lock"):
            manifest = load_manifest(folder)  # another process may have prepared it meanwhile
            if manifest is None:
                fresh = True
                whole = load_manifest(home)
                if whole is None:
                    logger.info(f"preparing {dataset.name}")
                    whole, tables = _write_encoded(dataset, options, sources, home)
                else:
                    tables = read_encoded(home, whole)
                manifest = _write_split(
                    dataset, options, whole, tables, folder, protocol, split_seed
                )
    if last_prepared() != dataset.name:
        remember_prepared(dataset.name)
    return Prepared(folder, manifest, fresh)


def _write_encoded(
    dataset: Dataset, options: DataOptions, sources: Mapping[str, Source], home: Path
) -> tuple[Manifest, Tables]:
    """Read and encode the source files; write the result to ``home``."""
    encoded, test = _encode(dataset, options, sources)
    sizes = {name: len(ids) for name, ids in encoded.ids.items()}
    recorded = count_rows(encoded.interactions, sizes)
    complete, warnings = compare_counts(dataset, options, recorded)
    if dataset.local_files is not None:
        warnings += warn_of_swapped_columns(recorded)
    encoded, labels, unusable = apply_labels(encoded, options.labels)
    check_unchanged(dataset, sources)
    counts = count_rows(encoded.interactions, sizes)
    with atomic_directory(home) as place:
        write_table(encoded.interactions, place / INTERACTIONS)
        (place / IDS).mkdir()
        for name, ids in encoded.ids.items():
            write_table(ids, place / IDS / f"{name}.parquet")
        if test is not None:
            write_table(test, place / TEST_CLEAN)
        manifest = Manifest(
            format=FORMAT,
            program=__version__,
            dataset=dataset.name,
            title=dataset.title,
            options=options.model_dump(mode="json"),
            sources={name: source.sha256 for name, source in sources.items()},
            counts=counts,
            complete=complete,
            warnings=warnings + unusable,
            labels=labels,
            duplicates_dropped=encoded.duplicates_dropped,
            fields=tuple(Field(name=name, size=n, values=n) for name, n in sizes.items()),
            sampled_negatives=counts.impressions == 0,
            files=_hash_files(place),
        )
        write_document(place / MANIFEST, manifest.model_dump(mode="json"))
    return manifest, (encoded.interactions, test)


def _encode(
    dataset: Dataset, options: DataOptions, sources: Mapping[str, Source]
) -> tuple[Encoded, pl.DataFrame | None]:
    """Read and encode the interactions and the clean test table, if any."""
    name, columns = dataset.name, dataset.column_names(options)
    try:
        try:
            encoded = encode(dataset.read(paths.raw_data(name), options), name, columns)
        except InvalidRowsError as error:
            if dataset.locate_row is None:
                raise
            places = [dataset.locate_row(options, row) for row in error.rows]
            raise DataError(error.explain(places)) from error
        test_name = f"{name}, --test-clean"
        raw_test = dataset.read_test(options) if dataset.read_test else None
        test = None if raw_test is None else encode_rows(raw_test, encoded.ids, test_name, columns)
    except READ_ERRORS as error:
        files = [source.path for source in sources.values()] if dataset.local_files else []
        form = options if isinstance(options, FileFormat) else FileFormat()
        raise DataError(explain_unreadable(name, files, error, form)) from error
    return encoded, test


def _write_split(
    dataset: Dataset,
    options: DataOptions,
    whole: Manifest,
    tables: Tables,
    folder: Path,
    protocol: Protocol,
    split_seed: int,
) -> Manifest:
    """Split the encoded interactions; write the result to ``folder``."""
    from dartcli.data.split import split
    from dartcli.data.stream import write_columns

    interactions, test = tables
    parts: Mapping[str, pl.DataFrame] = split(
        interactions,
        whole.fields[0].values,
        whole.fields[1].values,
        negatives_first=not protocol.resample_negatives,
        seed=split_seed,
        how=options.split,
        test=test,
    )
    warnings = whole.warnings
    if whole.sampled_negatives:
        resampled = {"train"} if protocol.resample_negatives else set()
        sampled = {name: part for name, part in parts.items() if name not in resampled}
        warnings += warn_of_missing_negatives(dataset.name, sampled)
    fields = whole.fields
    if dataset.unknown_ids:
        parts, fields = fit_features(parts, fields, getattr(options, "bins", 10))
    with atomic_directory(folder) as place:
        for name, part in parts.items():
            write_table(part, place / f"{name}.parquet")
            draws = name == "train" and protocol.resample_negatives and whole.sampled_negatives
            items = fields[1].values if draws else None
            write_columns(part, [field.name for field in fields], items, place / COLUMNS / name)
        manifest = whole.model_copy(
            update={
                "protocol": protocol.name,
                "split_seed": split_seed,
                "fields": fields,
                "rows": {name: len(part) for name, part in parts.items()},
                "warnings": warnings,
                "files": _hash_files(place),
            }
        )
        write_document(place / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _hash_files(folder: Path) -> dict[str, FileRecord]:
    return {
        path.relative_to(folder).as_posix(): FileRecord(
            sha256=hash_file(path), size=path.stat().st_size
        )
        for path in sorted(folder.rglob("*.*"))
        if path.is_file()
    }


def download(
    name: str,
    source: str | None = None,
    *,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Download, verify and unpack the files of dataset ``name``; return their folder.

    Parameters
    ----------
    name
        A dataset in the catalog.
    source
        A directory, file or URL to use instead of ``DART_MIRROR`` and the dataset's URLs.
    progress
        Called with (file name, bytes so far, total bytes or None).

    Raises
    ------
    UsageError
        If there is no such dataset.
    DownloadError
        If a file cannot be downloaded, or fails its checks.
    """
    return fetch_dataset(find_dataset(name), source, progress=progress)


def check_complete(name: str) -> tuple[bool | None, tuple[str, ...], DataCounts]:
    """Read a downloaded dataset with its default options, and compare its counts.

    Returns
    -------
    complete : bool or None
        None if the counts of the complete dataset are unknown.
    warnings : tuple of str
        What is missing.
    counts : DataCounts
        What the files contain.

    Raises
    ------
    DataError
        If the files cannot be read.
    """
    dataset = find_dataset(name)
    options = dataset.options()
    sources = find_sources(dataset, options)
    encoded, _ = _encode(dataset, options, sources)
    check_unchanged(dataset, sources)
    counts = count_rows(
        encoded.interactions, {field: len(ids) for field, ids in encoded.ids.items()}
    )
    return (*compare_counts(dataset, options, counts), counts)


def preprocess_log(
    name: str, log: LogOptions, *, protocol: str = "strict", split_seed: int = 0
) -> Prepared:
    """Prepare a user's own log, and register it as the dataset ``name`` if that succeeds.

    Parameters
    ----------
    name
        Its name from now on.
    log
        Its files and columns; relative paths start at the working directory. Labels are added to
        those that the dataset has.
    protocol, split_seed
        As for :func:`preprocess`.

    Raises
    ------
    UsageError
        If the name is invalid, or that of a dataset in the catalog.
    DataError
        If a file, column, or value is missing or invalid.
    """
    check_log_name(name)
    labels = add_labels(name, log.labels)
    log = log.make_absolute().model_copy(update={"labels": labels})
    check_log(log)
    prepared = prepare_split(log_dataset(name), log, find_protocol(protocol), split_seed)
    register_log(name, log)
    register_labels(name, labels)
    return prepared


def preprocess(
    name: str,
    *,
    protocol: str = "strict",
    split_seed: int = 0,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
) -> Prepared:
    """Encode and split dataset ``name``, unless the result is cached.

    Parameters
    ----------
    name
        A dataset in the catalog, or a registered log.
    protocol
        ``strict`` or ``reference``.
    split_seed
        Seed of the split, and of the negatives of valid and test.
    options
        Options of the dataset, such as ``{"tp_threshold": 3}``.
    labels
        Files of labels to add to those that the dataset has; they are remembered.

    Raises
    ------
    UsageError
        If there is no such dataset, protocol or option.
    DataError, DownloadError
        If the sources are missing or invalid.
    """
    known = find_dataset(name)
    tree = {**registered_options(name), **(options or {})}
    if labels:
        tree["labels"] = add_labels(name, absolute_paths(labels))
    chosen = validate(known.options, tree, "dataset")
    prepared = prepare_split(known, chosen, find_protocol(protocol), split_seed)
    if labels:
        register_labels(name, chosen.labels)
    return prepared
