"""Register logs by name, and find them again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import ValidationError

from dartcli import catalog
from dartcli.data.dataset import DataOptions, Dataset
from dartcli.data.logs.reader import read_details, read_log
from dartcli.data.logs.scan import expand_patterns, locate_row
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError, UsageError
from dartcli.settings import explain_error
from dartcli.storage import paths
from dartcli.storage.checksums import read_document, write_document

NAME: Final = "name"
"""Key of a log's name in its file."""
VALID_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
HASHES: Final = "hashes.json"
"""File beside the registered logs: the checksums of the users' own files."""


def log_dataset(name: str) -> Dataset:
    """Return the dataset of a log; its options say what to read."""
    return Dataset(
        name=name,
        title="your own log",
        license="yours",
        citation="none",
        homepage="none",
        files=(),
        options=LogOptions,
        read=_read,
        local_files=_list_files,
        read_test=_read_test,
        column_names=_column_names,
        locate_row=_locate_row,
        read_details=_read_details,
        unknown_ids=True,
    )


def _read(_folder: Path, options: DataOptions) -> pl.LazyFrame:
    assert isinstance(options, LogOptions)  # noqa: S101 - options of log_dataset
    return read_log(options, options.inputs)


def _read_test(options: DataOptions) -> pl.LazyFrame | None:
    assert isinstance(options, LogOptions)  # noqa: S101 - options of log_dataset
    return read_log(options, options.test_clean) if options.test_clean else None


def _read_details(_folder: Path, options: DataOptions, names: Sequence[str]) -> pl.LazyFrame:
    assert isinstance(options, LogOptions)  # noqa: S101 - options of log_dataset
    return read_details(options, names)


def _list_files(options: DataOptions) -> list[Path]:
    assert isinstance(options, LogOptions)  # noqa: S101 - options of log_dataset
    test = expand_patterns(options.test_clean, options) if options.test_clean else []
    return [*expand_patterns(options.inputs, options), *test]


def _locate_row(options: DataOptions, row: int) -> str:
    assert isinstance(options, LogOptions)  # noqa: S101 - options of log_dataset
    return locate_row(row, expand_patterns(options.inputs, options), options)


def _column_names(options: DataOptions) -> Mapping[str, str]:
    assert isinstance(options, LogOptions)  # noqa: S101 - options of log_dataset
    return options.column_names()


def register_log(name: str, options: LogOptions) -> None:
    """Save the description of a log, so that ``name`` is a dataset from now on.

    Raises
    ------
    UsageError
        If the name is invalid, or that of a dataset in the catalog.
    """
    check_log_name(name)
    # labels are registered separately, for logs and other datasets alike
    described = options.model_dump(mode="json", exclude={"labels"})
    write_document(_log_path(name), {NAME: name, **described})


def check_log(options: LogOptions) -> None:
    """Raise DataError or UsageError if files or columns are missing or have the wrong type."""
    read_log(options, options.inputs)
    _read_test(options)


def check_log_name(name: str) -> None:
    """Raise UsageError if ``name`` is invalid, or that of a dataset in the catalog."""
    if not VALID_NAME.fullmatch(name):
        raise UsageError(
            f"invalid dataset name {name!r}. Use 1 to 64 letters, digits, `_`, `-`, or `.`, and "
            "do not start with `-` or `.`."
        )
    try:
        catalog.load("datasets", name)
    except UsageError:
        return
    raise UsageError(f"{name!r} is a built-in dataset. Choose another `--name`.")


def load_log(name: str) -> LogOptions | None:
    """Return the description of the log ``name``, or None if it is not registered."""
    path = _log_path(name)
    if not VALID_NAME.fullmatch(name) or not path.is_file():
        return None
    document = read_document(path)
    if document.pop(NAME, None) != name:
        raise DataError(f"{path} describes a different log. Run `dart preprocess --input` again.")
    try:
        return LogOptions.model_validate(document)
    except ValidationError as error:
        found = explain_error(error, LogOptions, str(path)).rstrip(".")
        raise DataError(f"{found}. Run `dart preprocess --input` again.") from error


def forget_log(name: str) -> None:
    """Remove the description of the log ``name``, if there is one, but none of its files."""
    _log_path(name).unlink(missing_ok=True)


def list_logs() -> list[str]:
    """Return the names of all registered logs."""
    found = (paths.home() / "own").glob("*.json")
    return sorted(path.stem for path in found if path.name != HASHES)


def _log_path(name: str) -> Path:
    return paths.home() / "own" / f"{name}.json"
