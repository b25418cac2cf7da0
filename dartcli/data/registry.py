"""Datasets by name: those of the catalog and the user's own logs; the last one prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dartcli import catalog
from dartcli.data.dataset import Dataset
from dartcli.data.download import fetched_sizes
from dartcli.data.logs.preview import describe_log
from dartcli.data.logs.reader import read_log
from dartcli.data.logs.registry import check_log_name, list_logs, load_log, log_dataset, save_log
from dartcli.data.logs.schema import LogOptions
from dartcli.data.manifest import is_complete
from dartcli.errors import DataError, UsageError
from dartcli.settings import Options, validate
from dartcli.storage import paths
from dartcli.storage.checksums import read_document

LAST: Final = "last.json"


class Last(Options):
    """The dataset that was prepared last."""

    dataset: str
    """Its name."""


def last_prepared() -> str | None:
    """Return the name of the dataset that was prepared last, or None where none was.

    Raises
    ------
    DataError
        If the note of it is not what was written.
    """
    path = _last()
    if not path.is_file():
        return None
    try:
        return validate(Last, read_document(path), str(path)).dataset
    except UsageError as error:
        raise DataError(f"{str(error)[:-1]}; remove {path}.") from error


def _last() -> Path:
    return paths.home() / "processed" / LAST


def find_dataset(name: str) -> Dataset:
    """Return what is known of dataset ``name``; UsageError if there is none."""
    if load_log(name) is not None:
        return log_dataset(name)
    try:
        found: Dataset = catalog.load("datasets", name)
    except UsageError as error:
        logs = list_logs()
        if not logs:
            raise
        raise UsageError(f"{error} Your own logs are: {', '.join(logs)}.") from error
    return found


def list_datasets() -> list[dict[str, Any]]:
    """Return what ``dart download --list`` shows, one entry a dataset.

    Returns
    -------
    list of dict
        ``name``, ``title``, ``license``, ``citation``, ``bytes`` (of what is here, else as
        declared; null = not known), ``here`` (``yes``, ``in part``, ``no``, ``built in``) and
        ``complete`` (true, false, or null where it was not prepared yet or nobody knows).
    """
    return [_entry(find_dataset(name)) for name in catalog.names("datasets")]


def _entry(known: Dataset) -> dict[str, Any]:
    sizes = fetched_sizes(known)
    declared = [file.size for file in known.files]
    here = "yes" if len(sizes) == len(known.files) else "in part" if sizes else "no"
    return {
        "name": known.name,
        "title": known.title,
        "license": known.license,
        "citation": known.citation,
        "bytes": sum(sizes.values()) if sizes else _sum(declared),
        "here": here if known.files else "built in",
        "complete": is_complete(known.name),
    }


def _sum(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def default_dataset() -> str:
    """Return the dataset that was prepared last, else ``synthetic``."""
    return last_prepared() or "synthetic"


def _described(name: str) -> dict[str, Any]:
    """Return what is kept of the log ``name``; nothing for a dataset of the catalog."""
    options = load_log(name)
    return {} if options is None else options.model_dump(mode="json")


def preview_log(options: LogOptions) -> dict[str, Any]:
    """Return how a log would be understood, without preparing anything.

    Returns
    -------
    dict
        ``files``, ``columns`` (name -> type, as found), ``rows`` (the first five as understood),
        ``counts`` (rows, users, items, positives, known false positives) and ``plan``, sentences
        that say what would happen.
    """
    return describe_log(options)


def register_log(name: str, options: LogOptions) -> None:
    """Keep the description of a log under ``name``, so that it is a dataset from then on.

    Raises
    ------
    UsageError
        If the name is taken by a dataset of this program, or cannot be a name.
    DataError
        If a file or column is missing or of the wrong type.
    """
    check_log_name(name)
    read_log(options, options.inputs)
    if options.test_clean:
        read_log(options, options.test_clean)
    save_log(name, options)
