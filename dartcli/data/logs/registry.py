"""Logs by name: save, load and list their descriptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import ValidationError

from dartcli import catalog
from dartcli.data.dataset import DataOptions, Dataset
from dartcli.data.logs.reader import read_log
from dartcli.data.logs.scan import expand_patterns
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError, UsageError
from dartcli.settings import explain_error
from dartcli.storage import paths
from dartcli.storage.checksums import read_document, write_document

NAME: Final = "name"
"""Key of a log's name in its description."""


def read(_folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return the log in this program's columns: user, item, label, noisy, rating, time, fields."""
    assert isinstance(options, LogOptions)  # noqa: S101 - the store passes what DATASET declares
    return read_log(options, options.inputs)


def _files_of(options: DataOptions) -> list[Path]:
    assert isinstance(options, LogOptions)  # noqa: S101 - the store passes what DATASET declares
    return [
        *expand_patterns(options.inputs),
        *(expand_patterns(options.test_clean) if options.test_clean else []),
    ]


def _read_test(options: DataOptions) -> pl.LazyFrame | None:
    assert isinstance(options, LogOptions)  # noqa: S101 - the store passes what DATASET declares
    return read_log(options, options.test_clean) if options.test_clean else None


def log_dataset(name: str) -> Dataset:
    """Return the dataset of a log called ``name``, whatever its description says."""
    return Dataset(
        name=name,
        title="your own log",
        license="yours",
        citation="none",
        homepage="none",
        files=(),
        options=LogOptions,
        read=read,
        local_files=_files_of,
        read_test=_read_test,
        unknown_ids=True,
    )


def _registry(name: str) -> Path:
    return paths.home() / "own" / f"{name}.json"


def check_log_name(name: str) -> str:
    """Return ``name`` if a log may be called so.

    Raises
    ------
    UsageError
        If it is a dataset of the catalog, or has other characters than a file name may have.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise UsageError(
            f"{name!r} cannot name a dataset: use 1 to 64 letters, digits, '_', '-' or '.'."
        )
    try:
        catalog.load("datasets", name)
    except UsageError:
        return name
    raise UsageError(f"{name!r} is a dataset of this program; choose another --name.")


def save_log(name: str, options: LogOptions) -> None:
    """Keep the description of the log ``name``: ``dart train NAME`` finds it."""
    document = {NAME: check_log_name(name), **options.model_dump(mode="json")}
    write_document(_registry(name), document)


def load_log(name: str) -> LogOptions | None:
    """Return the description of the log ``name``, or None if there is none."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        return None
    path = _registry(name)
    if not path.is_file():
        return None
    try:
        document = read_document(path)
        if document.pop(NAME, None) != name:
            raise DataError(f"{path} describes another log; run dart preprocess --input again.")
        return LogOptions.model_validate(document)
    except ValidationError as error:
        found = explain_error(error, LogOptions, str(path)).rstrip(".")
        raise DataError(f"{found}. Run `dart preprocess --input` again.") from error


def list_logs() -> list[str]:
    """Return the names of the logs that were described."""
    found = (paths.home() / "own").glob("*.json")
    return sorted(path.stem for path in found if path.name != "hashes.json")
