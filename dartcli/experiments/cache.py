"""What ``DART_HOME`` holds, how much space it takes, and what can be removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dartcli.data.logs.registry import VALID_NAME, list_logs
from dartcli.data.registry import forget_dataset
from dartcli.errors import RunError, UsageError
from dartcli.experiments.run_index import is_in_use, list_runs
from dartcli.storage import paths
from dartcli.storage.atomic import find_leftovers, remove

Part = Literal["download", "prepared data", "run", "sweep", "study", "report", "other"]
FOLDERS: dict[str, Part] = {
    "raw": "download",
    "processed": "prepared data",
    "runs": "run",
    "sweeps": "sweep",
    "studies": "study",
    "reports": "report",
}


@dataclass(frozen=True)
class Stored:
    """Files that belong together."""

    part: Part
    """What they are."""
    name: str
    """Name of the dataset, run, sweep, study, or report; of other files, their place."""
    size: int
    """Bytes."""


def list_stored() -> list[Stored]:
    """Return what is stored, by kind and name."""
    home = paths.home()
    found = [
        Stored(part, path.name, measure_size(path))
        for folder, part in FOLDERS.items()
        for path in _list_folder(home / folder)
        if part == "report" or path.is_dir()
    ]
    others = [path for path in _list_folder(home) if path.name not in FOLDERS]
    return found + [Stored("other", path.name, measure_size(path)) for path in others]


def _list_folder(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def measure_size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file())


def prune_cache() -> int:
    """Remove what is created again when it is needed; return how many bytes that freed.

    These are prepared data and the files of processes that were killed. Downloads,
    logs, runs, sweeps, studies, and reports are kept.

    Raises
    ------
    RunError
        If a run is being trained, which may need its data.
    """
    _refuse_while_training()
    home = paths.home()
    prunable = [
        *(path for path in _list_folder(home / "processed") if path.is_dir()),
        home / "matplotlib",
        *find_leftovers(home, deep=True),
    ]
    return _remove_measured(prunable)


def remove_datasets(names: Sequence[str]) -> int:
    """Remove downloads, prepared data, and registrations of datasets; return the bytes freed.

    The files of a user's own log are not touched.

    Raises
    ------
    UsageError
        If nothing of a dataset is stored.
    RunError
        If a run is being trained, which may need its data.
    """
    stored = sorted(
        {one.name for one in list_stored() if one.part in ("download", "prepared data")}
    )
    known = sorted({*stored, *list_logs()})
    for name in names:
        if not VALID_NAME.fullmatch(name) or name not in known:
            raise UsageError(
                f"nothing is stored of a dataset {name!r}. Stored datasets: "
                f"{', '.join(known) or 'none'}."
            )
    _refuse_while_training()
    freed = 0
    for name in names:
        forget_dataset(name)
        freed += _remove_measured([paths.raw_data(name), paths.processed_data(name)])
    return freed


def _remove_measured(found: Sequence[Path]) -> int:
    before = sum(measure_size(path) for path in found)
    for path in found:
        remove(path)
    return before - sum(measure_size(path) for path in found if path.exists())


def _refuse_while_training() -> None:
    for entry in list_runs():
        if entry.state != "finished" and is_in_use(paths.runs() / entry.name):
            raise RunError(f"run {entry.name} is being trained. Wait until it finishes.")
