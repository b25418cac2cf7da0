"""Find, list, lock, and remove runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dartcli.errors import DartError, RunError, UsageError
from dartcli.experiments.run import METRICS, SETTINGS, Run
from dartcli.settings import Settings
from dartcli.storage import paths
from dartcli.storage.atomic import os_reason
from dartcli.storage.locks import lock


def list_finished() -> list[str]:
    """Return the names of the finished runs, oldest first."""
    folder = paths.runs()
    if not folder.is_dir():
        return []
    finished = [
        path
        for path in folder.iterdir()
        if (path / METRICS).is_file() and not path.name.startswith(".")
    ]
    return [
        path.name for path in sorted(finished, key=lambda path: (path / METRICS).stat().st_mtime_ns)
    ]


def find_run(name: str) -> Run:
    """Return the finished run ``name``: a name, or the path of a folder.

    Raises
    ------
    UsageError
        If there is no such run.
    RunError
        If it is not finished.
    """
    folder = Path(name) if "/" in name else paths.runs() / name
    if not folder.is_dir():
        import difflib

        known = list_finished()
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[-3:]
        hint = f"Existing runs: {', '.join(close)}." if close else "Train one with `dart train`."
        raise UsageError(f"no run {name!r} in {folder.parent}. {hint}")
    if not (folder / METRICS).is_file():
        raise RunError(
            f"run {name} is not finished: {folder} has no {METRICS}. Wait for it, or resume it "
            f"with `dart resume {folder.name}`."
        )
    return Run(folder)


@dataclass(frozen=True)
class RunListing:
    """One line of the list of runs; None = unknown."""

    name: str
    """Name of the run."""
    state: Literal["finished", "interrupted", "unfinished", "unreadable"]
    """``interrupted``: stopped before all its seeds were trained. ``unfinished``: no seed was
    trained, or a process is training it. ``unreadable``: a file is corrupt or missing."""
    dataset: str | None = None
    """Dataset."""
    model: str | None = None
    """Model."""
    strategy: str | None = None
    """Strategy."""
    protocol: str | None = None
    """Protocol."""
    seeds: tuple[int, ...] = ()
    """The seeds that were trained; of an unfinished run, those that were requested."""
    test_auc: float | None = None
    """Mean test AUC over the seeds."""
    ended: str | None = None
    """When it ended, in ISO 8601."""
    seconds: float | None = None
    """How long it took, from the start or the last resumption."""


def list_runs() -> list[RunListing]:
    """Return one entry per run: finished runs from oldest to newest, then the others by name."""
    finished = list_finished()
    return [
        _read_listing(paths.runs() / name)
        for name in [*finished, *sorted(_list_unfinished(finished))]
    ]


def _list_unfinished(finished: Sequence[str]) -> set[str]:
    folder = paths.runs()
    found = folder.iterdir() if folder.is_dir() else ()
    return {path.name for path in found if is_run(path)} - set(finished)


def is_run(folder: Path) -> bool:
    """Return whether ``folder`` is a run, finished or not."""
    return not folder.name.startswith(".") and (
        (folder / METRICS).is_file() or (folder / SETTINGS).is_file()
    )


def _read_listing(folder: Path) -> RunListing:
    run = Run(folder)
    try:
        settings = run.settings
        metrics = run.metrics if (folder / METRICS).is_file() else None
    except DartError:
        return RunListing(run.name, "unreadable")
    state: Literal["finished", "interrupted", "unfinished"] = "unfinished"
    if metrics is not None:
        state = "interrupted" if metrics.interrupted else "finished"
    return RunListing(
        name=run.name,
        state=state,
        dataset=settings.dataset.name,
        model=settings.model.name,
        strategy=settings.strategy.name,
        protocol=settings.protocol,
        seeds=settings.seeds if metrics is None else run.seeds,
        test_auc=None if metrics is None else metrics.summary["test_auc"].mean,
        ended=run.environment.get("ended"),
        seconds=run.environment.get("seconds"),
    )


def with_window(settings: Settings, window: int | None) -> Settings:
    """Return ``settings`` with another ``training.window``."""
    training = settings.training.model_copy(update={"window": window})
    return settings.model_copy(update={"training": training})


def find_unfinished(settings: Settings, name: str | None) -> str | None:
    """Return the last run, or that called ``name``, with these settings that can be resumed."""
    for listing in reversed(list_runs()):
        if listing.state in {"interrupted", "unfinished"} and name in {None, listing.name}:
            folder = paths.runs() / listing.name
            # what did not fit into memory then may fit now
            found = with_window(Run(folder).settings, settings.training.window)
            if found == settings and not is_in_use(folder):
                return listing.name
    return None


def flatten_settings(settings: Settings) -> dict[str, Any]:
    """Return settings by their ``--set`` names: ``{"strategy.r": 0.5, "training.epochs": 200}``."""
    found: dict[str, Any] = {}
    for key, value in settings.model_dump(mode="json", exclude={"version"}).items():
        if not isinstance(value, dict):
            found[key] = value
            continue
        for name, setting in value.items():
            inner = setting if name == "options" else {name: setting}
            found.update({f"{key}.{part}": leaf for part, leaf in inner.items()})
    return found


def find_differences(chosen: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ: key -> one value per run, None if it lacks it."""
    every = [flatten_settings(run.settings) for run in chosen]
    keys = dict.fromkeys(key for settings in every for key in settings)
    found = {key: [settings.get(key) for settings in every] for key in keys}
    return {key: values for key, values in found.items() if any(v != values[0] for v in values)}


def remove_runs(chosen: Sequence[str]) -> list[str]:
    """Remove the folders of runs, finished or not; return their names.

    Nothing is removed if a name is invalid or a run is in use.

    Raises
    ------
    UsageError
        If a name is not the name of a run; paths are not accepted.
    RunError
        If a run is in use, or a folder cannot be removed.
    """
    folders = [find_folder(name) for name in dict.fromkeys(chosen)]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(lock_run(folder))
        for folder in folders:
            # rename first: an interrupted removal leaves no partial run behind
            hidden = folder.with_name(f".{folder.name}.removed")
            try:
                shutil.rmtree(hidden, ignore_errors=True)
                folder.rename(hidden)
                if hidden.is_symlink():
                    hidden.unlink()
                else:
                    shutil.rmtree(hidden)
            except OSError as error:
                raise RunError(f"cannot remove {folder}: {os_reason(error)}.") from error
    return [folder.name for folder in folders]


def find_folder(name: str) -> Path:
    """Return the folder of the run ``name``, finished or not.

    Raises
    ------
    UsageError
        If there is no such run, or ``name`` is a path.
    """
    folder = paths.runs() / name
    if Path(name).name != name or not is_run(folder):
        import difflib

        known = [*(finished := list_finished()), *_list_unfinished(finished)]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else "List them with `dart runs`."
        raise UsageError(f"no run {name!r} in {paths.runs()}. {hint}")
    return folder


def last_run() -> Run:
    """Return the run that finished last."""
    known = list_finished()
    if not known:
        raise UsageError(f"no finished run in {paths.runs()}. Train one with `dart train`.")
    return find_run(known[-1])


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid name of a run.

    Raises
    ------
    UsageError
        If it is too long or has characters other than letters, digits, dot, dash, underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise UsageError(
            f"{name!r} is not a valid name. Use 1 to 100 letters, digits, '_', '-', or '.', and "
            "do not start with '-' or '.'."
        )
    return name


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Keep other processes from training or removing the run in ``folder``.

    Raises
    ------
    RunError
        If another process holds the lock; the message names it. Dead processes hold no lock.
    """
    busy = f"run {folder.name} is being trained or removed"
    with lock(paths.home() / "locks" / f"{folder.name}.lock", busy=busy):
        yield


def is_in_use(folder: Path) -> bool:
    """Return whether a process is training or removing the run in ``folder``."""
    try:
        with lock_run(folder):
            return False
    except RunError:
        return True
