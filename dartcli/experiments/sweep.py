"""The folder of a sweep: what it consists of, and one file per finished training.

::

    sweeps/<name>/
      sweep.json         the trainings of the sweep, and what was tuned
      rows/<key>.json    one finished training; the key is a hash of its settings
      analysis/          output of `dart analyze`

Rows are written atomically, so a sweep that is killed loses only the trainings in progress. They
are found by their settings: asking for more seeds or strategies trains only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from dartcli.errors import DartError, DataError, RunError, UsageError
from dartcli.experiments import run_index
from dartcli.settings import Options, Settings, validate
from dartcli.storage import paths
from dartcli.storage.atomic import ensure_directory, os_reason
from dartcli.storage.checksums import read_document, write_document
from dartcli.storage.locks import lock
from dartcli.training.results import SeedMetrics

DOCUMENT: Final = "sweep.json"
ROWS: Final = "rows"


class SweepEntry(Options):
    """One training of a sweep, finished or not."""

    dataset: str
    """Dataset, with the options that the sweep varies."""
    model: str
    """Model, with the options that the sweep varies."""
    arm: str
    """Strategy, with its options that differ from their defaults."""
    strategy: str
    """Name of the strategy."""
    options: dict[str, Any]
    """All options of the strategy."""
    seed: int
    """Seed of the training."""
    key: str
    """Key of its row."""


class Tuned(Options):
    """How the weight decay of one dataset and model was chosen."""

    dataset: str
    """Dataset."""
    model: str
    """Model."""
    weight_decay: float
    """The chosen value: the highest validation AUC of ``base`` against recorded labels."""
    valid_auc: dict[str, float]
    """Weight decay -> mean validation AUC over the tuning seeds."""
    seeds: tuple[int, ...]
    """The tuning seeds."""


class SweepDocument(Options):
    """``sweep.json``: what a sweep consists of."""

    format: int = 1
    """Version of this document."""
    protocol: str
    """Protocol of all its trainings."""
    entries: tuple[SweepEntry, ...] = ()
    """The trainings, in the order in which they were requested."""
    tuned: tuple[Tuned, ...] = ()
    """What was tuned."""


class Row(Options):
    """One finished training."""

    format: int = 1
    """Version of this document."""
    program: str
    """Version of the program."""
    device: str
    """Device and threads."""
    data: str
    """Key of the prepared data."""
    settings: Settings
    """Complete settings."""
    metrics: SeedMetrics
    """Metrics of the seed."""
    seconds: float
    """Wall-clock time, without stages taken over from other trainings."""


@dataclass(frozen=True, repr=False)
class Sweep:
    """A sweep on disk, finished or not."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the sweep: that of its folder."""
        return self.folder.name

    def __repr__(self) -> str:
        count, total = len(self.finished()), len(self.document.entries)
        return f"<Sweep {self.name}: {count:,} of {total:,} trainings>"

    @property
    def document(self) -> SweepDocument:
        """What the sweep consists of, as it is stored now."""
        path = self.folder / DOCUMENT
        return validate(SweepDocument, read_document(path), str(path))

    def row(self, key: str) -> Row | None:
        """Return one finished training, or None.

        A file that cannot be read counts as missing, so the training runs again.
        """
        path = self.folder / ROWS / f"{key}.json"
        try:
            row = validate(Row, read_document(path), str(path))
        except (DataError, UsageError, TypeError, ValueError):
            return None
        return row if settings_key(row.settings) == key else None

    def finished(self) -> list[tuple[SweepEntry, Row]]:
        """Return the finished entries with their rows, in the order of the sweep."""
        return [(one, row) for one in self.document.entries if (row := self.row(one.key))]

    def write(self, row: Row) -> None:
        """Write a finished training."""
        write_document(
            self.folder / ROWS / f"{settings_key(row.settings)}.json", row.model_dump(mode="json")
        )

    def extend(self, entries: Iterable[SweepEntry], tuned: Iterable[Tuned]) -> None:
        """Add trainings and tuned values; existing entries keep their place."""
        with lock(self.folder / ".lock"):
            document = self.document
            known = {
                (entry.dataset, entry.model, entry.arm, entry.seed): entry
                for entry in (*document.entries, *entries)
            }
            choices = {(one.dataset, one.model): one for one in (*document.tuned, *tuned)}
            changed = document.model_copy(
                update={"entries": tuple(known.values()), "tuned": tuple(choices.values())}
            )
            write_document(self.folder / DOCUMENT, changed.model_dump(mode="json"))


def settings_key(settings: Settings) -> str:
    """Return the key of a training: a hash of what matters of its settings."""
    without = {"device"} if settings.teaching.mode else {"device", "teaching"}
    document = settings.model_dump(mode="json", exclude=without)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:20]


def sweeps_directory() -> Path:
    """Return the directory with one folder per sweep."""
    return paths.home() / "sweeps"


def list_sweeps() -> list[str]:
    """Return the names of all sweeps, in alphabetical order."""
    return sorted(path.parent.name for path in sweeps_directory().glob(f"*/{DOCUMENT}"))


def is_sweep(name: str) -> bool:
    """Return whether ``name`` (or the path of a folder) is a sweep."""
    return (_folder(name) / DOCUMENT).is_file()


def find_sweep(name: str) -> Sweep:
    """Return the sweep ``name``: a name, or the path of a folder.

    Raises
    ------
    UsageError
        If there is none.
    """
    if not is_sweep(name):
        known = ", ".join(list_sweeps()) or "none"
        raise UsageError(f"no sweep {name!r} in {sweeps_directory()}. Existing sweeps: {known}.")
    return Sweep(_folder(name))


@dataclass(frozen=True)
class SweepListing:
    """One line of the list of sweeps; None = unknown."""

    name: str
    """Name of the sweep."""
    state: Literal["finished", "unfinished", "unreadable"]
    """``unfinished``: some trainings are missing. ``unreadable``: its document is corrupt."""
    datasets: tuple[str, ...] = ()
    """Datasets, with the options that the sweep varies."""
    protocol: str | None = None
    """Protocol."""
    finished: int = 0
    """Trainings that are finished."""
    total: int = 0
    """All trainings that were requested."""
    ended: str | None = None
    """When the last of them ended, in ISO 8601."""
    seconds: float | None = None
    """Time of all trainings together."""


def list_sweep_entries() -> list[SweepListing]:
    """Return one entry per sweep, by name."""
    return [_read_listing(find_sweep(name)) for name in list_sweeps()]


def _read_listing(sweep: Sweep) -> SweepListing:
    try:
        document, rows = sweep.document, sweep.finished()
    except DartError:
        return SweepListing(sweep.name, "unreadable")
    files = [sweep.folder / ROWS / f"{entry.key}.json" for entry, _ in rows]
    last = max((file.stat().st_mtime for file in files), default=None)
    return SweepListing(
        name=sweep.name,
        state="finished" if len(rows) == len(document.entries) else "unfinished",
        datasets=tuple(dict.fromkeys(entry.dataset for entry in document.entries)),
        protocol=document.protocol,
        finished=len(rows),
        total=len(document.entries),
        ended=None if last is None else datetime.fromtimestamp(last, UTC).isoformat("T", "seconds"),
        seconds=sum(row.seconds for _, row in rows) if rows else None,
    )


def remove_sweep(name: str) -> None:
    """Remove the folder of a sweep.

    Raises
    ------
    UsageError
        If there is no such sweep, or ``name`` is a path.
    RunError
        If it cannot be removed.
    """
    if Path(name).name != name:
        raise UsageError(f"{name!r} is a path. Give the name of a sweep.")
    folder = find_sweep(name).folder
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise RunError(f"cannot remove {folder}: {os_reason(error)}.") from error


def claim_sweep(name: str, protocol: str) -> Sweep:
    """Create the sweep ``name``, or open it if it exists.

    Raises
    ------
    UsageError
        If the name is invalid, or the sweep exists under another protocol.
    """
    folder = ensure_directory(sweeps_directory()) / run_index.check_name(name)
    sweep = claim_trainings(folder, protocol)
    if sweep.document.protocol != protocol:
        raise UsageError(
            f"sweep {name} in {folder} uses protocol {sweep.document.protocol}. Choose another "
            "`--name`."
        )
    return sweep


def claim_trainings(folder: Path, protocol: str) -> Sweep:
    """Make ``folder`` one that can hold trainings, unless it is."""
    ensure_directory(ensure_directory(folder) / ROWS)
    with lock(folder / ".lock"):
        if not (folder / DOCUMENT).is_file():
            write_document(
                folder / DOCUMENT, SweepDocument(protocol=protocol).model_dump(mode="json")
            )
    return Sweep(folder)


def _folder(name: str) -> Path:
    return Path(name) if "/" in name else sweeps_directory() / name


def check_tuning(
    sweep: Sweep, cells: Iterable[tuple[str, str]], tuned: Container[tuple[str, str]]
) -> None:
    """Raise UsageError if only some trainings of a dataset and model would be tuned.

    Parameters
    ----------
    cells
        Datasets and models whose trainings are to be added to ``sweep``.
    tuned
        Those of them whose weight decay was chosen, or will be.
    """
    document = sweep.document
    chosen = {(one.dataset, one.model) for one in document.tuned}
    for cell in sorted({(entry.dataset, entry.model) for entry in document.entries} & {*cells}):
        if (cell in chosen) != (cell in tuned):
            option = "--tune-base" if cell in chosen else "--no-tune-base"
            raise UsageError(
                f"the trainings of sweep {sweep.name} on {cell[0]} with {cell[1]} were made with "
                f"`{option}`. Use it for all of them, or choose another `--name`."
            )


def check_same_data(sweep: Sweep, rows: Iterable[Row]) -> None:
    """Raise RunError if trainings on one split of a dataset saw different data.

    The source files of a log may change while a sweep runs.
    """
    seen: dict[tuple[str, int], str] = {}
    for row in rows:
        dataset = row.settings.dataset
        where = (dataset.model_dump_json(), row.metrics.split_seed)
        if seen.setdefault(where, row.data) != row.data:
            raise RunError(
                f"dataset {dataset.name} changed during sweep {sweep.name}: trainings used "
                f"different data. Start a sweep with another `--name`, or remove {sweep.folder}."
            )
