"""Complete values on the command line, without importing PyTorch or reading tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dartcli import catalog
from dartcli.errors import DartError
from dartcli.storage import paths

Completer = Callable[[str], list[tuple[str, str]]]
"""Takes what has been typed; returns values with descriptions. Typer drops what does not fit."""


def complete_component(kind: catalog.Kind) -> Completer:
    """Return a completer for the names of ``kind``."""

    def complete(incomplete: str) -> list[tuple[str, str]]:  # noqa: ARG001 - Typer's signature
        return list(catalog.describe(kind).items())

    return complete


def complete_choice(*choices: str) -> Completer:
    """Return a completer for fixed values."""

    def complete(incomplete: str) -> list[tuple[str, str]]:  # noqa: ARG001 - Typer's signature
        return [(choice, "") for choice in choices]

    return complete


def complete_list(one: Completer) -> Completer:
    """Return a completer for the last of several values with commas between them."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        typed, comma, last = incomplete.rpartition(",")
        return [(f"{typed}{comma}{name}", text) for name, text in one(last)]

    return complete


def complete_dataset(incomplete: str) -> list[tuple[str, str]]:
    """Return the datasets of the catalog and the registered logs."""
    logs = [(name, "your own log") for name in _list_names("own", "*.json") if name != "hashes"]
    return logs + complete_component("datasets")(incomplete)


def complete_run(incomplete: str) -> list[tuple[str, str]]:  # noqa: ARG001 - Typer's signature
    """Return the finished runs."""
    return [(name, "run") for name in _list_names("runs", "*/metrics.json")]


def complete_unfinished(
    incomplete: str,  # noqa: ARG001 - Typer's signature
) -> list[tuple[str, str]]:
    """Return the runs that can be resumed."""
    finished = set(_list_names("runs", "*/metrics.json"))
    stopped = set(_list_names("runs", "*/checkpoints"))
    names = [name for name in _list_names("runs", "*/settings.json") if name not in finished]
    return [(name, "interrupted run") for name in sorted({*names, *stopped})]


def complete_stored(incomplete: str) -> list[tuple[str, str]]:
    """Return all runs, finished or not, and the sweeps."""
    return sorted({*complete_subject(incomplete), *complete_unfinished(incomplete)})


def complete_subject(incomplete: str) -> list[tuple[str, str]]:
    """Return the finished runs and the sweeps."""
    sweeps = [(name, "sweep") for name in _list_names("sweeps", "*/sweep.json")]
    return complete_run(incomplete) + sweeps


def _list_names(folder: str, pattern: str) -> Iterator[str]:
    """Yield the names of what is stored in one folder of ``DART_HOME``."""
    try:
        found = sorted((paths.home() / folder).glob(pattern))
    except DartError:
        return
    for path in found:
        name = path.stem if "/" not in pattern else path.parent.name
        if not name.startswith("."):
            yield name
