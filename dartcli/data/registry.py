"""Find datasets by name: those in the catalog, and registered logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dartcli import catalog
from dartcli.data.dataset import Dataset
from dartcli.data.download import fetched_sizes
from dartcli.data.logs.labels import load_labels, register_labels
from dartcli.data.logs.registry import forget_log, list_logs, load_log, log_dataset
from dartcli.data.manifest import is_complete
from dartcli.errors import DataError, UsageError
from dartcli.settings import Options, validate
from dartcli.storage import paths
from dartcli.storage.checksums import read_document, write_document

LAST: Final = "last.json"


class Last(Options):
    """The dataset that was prepared last."""

    dataset: str
    """Its name."""


def default_dataset() -> str:
    """Return the dataset that was prepared last, or ``synthetic`` if there is none."""
    return last_prepared() or "synthetic"


def last_prepared() -> str | None:
    """Return the name of the dataset that was prepared last, or None.

    Raises
    ------
    DataError
        If its record is corrupt.
    """
    path = _record_path()
    if not path.is_file():
        return None
    try:
        return validate(Last, read_document(path), str(path)).dataset
    except UsageError as error:
        raise DataError(f"{error} Run `dart doctor --repair`.") from error


def remember_prepared(name: str) -> None:
    """Record ``name`` as the dataset that was prepared last."""
    write_document(_record_path(), {"dataset": name})


def forget_dataset(name: str) -> None:
    """Remove the description of a log, its labels, and the record that it was prepared last."""
    forget_log(name)
    register_labels(name, ())
    if last_prepared() == name:
        _record_path().unlink(missing_ok=True)


def _record_path() -> Path:
    return paths.home() / "processed" / LAST


def find_dataset(name: str) -> Dataset:
    """Return the dataset ``name``; UsageError if there is none."""
    if load_log(name) is not None:
        return log_dataset(name)
    try:
        found: Dataset = catalog.load("datasets", name)
    except UsageError as error:
        logs = list_logs()
        if not logs:
            raise
        raise UsageError(f"{error} Your own logs: {', '.join(logs)}.") from error
    return found


def list_datasets() -> list[dict[str, Any]]:
    """Return the rows of ``dart download --list``, one per dataset in the catalog.

    Returns
    -------
    list of dict
        ``name``, ``title``, ``license``, ``citation``, ``bytes`` (of the files that are here, else
        as declared; null = unknown), ``here`` (``yes``, ``in part``, ``no``, ``built in``) and
        ``complete`` (true, false, or null if unknown or not prepared yet).
    """
    return [_describe_dataset(find_dataset(name)) for name in catalog.names("datasets")]


def _describe_dataset(known: Dataset) -> dict[str, Any]:
    sizes = fetched_sizes(known)
    declared = [file.size for file in known.files]
    here = "yes" if len(sizes) == len(known.files) else "in part" if sizes else "no"
    return {
        "name": known.name,
        "title": known.title,
        "license": known.license,
        "citation": known.citation,
        "bytes": sum(sizes.values()) if sizes else _add_sizes(declared),
        "here": here if known.files else "built in",
        "complete": is_complete(known.name),
    }


def _add_sizes(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def registered_options(name: str) -> dict[str, Any]:
    """Return the registered options of ``name``: those of a log, and files of labels, if any."""
    options, labels = load_log(name), load_labels(name)
    described = {} if options is None else options.model_dump(mode="json")
    return {**described, "labels": list(labels)} if labels else described
