"""The folder of a sweep: what was asked for, and one file for each finished training.

::

    sweeps/<name>/
      sweep.json         the trainings that the sweep consists of, and what was tuned
      rows/<key>.json    one finished training; the key is a hash of its settings
      analysis/          what `dart analyze` made

A row is written whole or not at all, so whatever ends a sweep loses only the trainings in hand.
Rows are found by their settings: asking for more seeds or strategies runs what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dartcli.errors import DataError, RunError, UsageError
from dartcli.experiments import run_index
from dartcli.settings import Options, Settings, validate
from dartcli.storage import paths
from dartcli.storage.atomic import ensure_directory
from dartcli.storage.checksums import read_document, write_document
from dartcli.storage.locks import lock
from dartcli.training.results import SeedMetrics

DOCUMENT: Final = "sweep.json"
ROWS: Final = "rows"


class SweepEntry(Options):
    """One training that belongs to a sweep, finished or not."""

    dataset: str
    """Dataset, with the options that the sweep sets."""
    model: str
    """Model, with the options that the sweep sets."""
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
    """The choice: the highest validation AUC of ``base``, labels as recorded."""
    valid_auc: dict[str, float]
    """Weight decay -> mean validation AUC over the tuning seeds."""
    seeds: tuple[int, ...]
    """Seeds that were looked at."""


class SweepDocument(Options):
    """What a sweep consists of: ``sweep.json``."""

    format: int = 1
    """Version of this document."""
    protocol: str
    """Protocol of all its trainings."""
    entries: tuple[SweepEntry, ...] = ()
    """The trainings, in the order in which they were asked for."""
    tuned: tuple[Tuned, ...] = ()
    """What was tuned."""


class Row(Options):
    """One finished training."""

    format: int = 1
    """Version of this document."""
    program: str
    """Version of the program."""
    device: str
    """Where it ran."""
    data: str
    """Key of the prepared data."""
    settings: Settings
    """Everything that determined it."""
    metrics: SeedMetrics
    """Its measures."""
    seconds: float
    """Wall-clock time."""


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk, finished or not."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the sweep: that of its folder."""
        return self.folder.name

    @cached_property
    def document(self) -> SweepDocument:
        """What it consists of."""
        path = self.folder / DOCUMENT
        return validate(SweepDocument, read_document(path), str(path))

    def row(self, key: str) -> Row | None:
        """Return one finished training; None if there is none.

        A file that cannot be read counts as none: the training runs again.
        """
        path = self.folder / ROWS / f"{key}.json"
        try:
            row = validate(Row, read_document(path), str(path))
        except (DataError, UsageError, TypeError, ValueError):
            return None
        return row if settings_key(row.settings) == key else None

    def finished(self) -> list[tuple[SweepEntry, Row]]:
        """Return the entries that are finished with their rows, in the sweep's order."""
        found = ((entry, self.row(entry.key)) for entry in self.document.entries)
        return [(entry, row) for entry, row in found if row is not None]

    def write(self, row: Row) -> None:
        """Keep a finished training."""
        write_document(
            self.folder / ROWS / f"{settings_key(row.settings)}.json", row.model_dump(mode="json")
        )

    def extend(self, entries: Iterable[SweepEntry], tuned: Iterable[Tuned]) -> None:
        """Add to what the sweep consists of; what is there already keeps its place."""
        with lock(self.folder / ".lock"):
            self.__dict__.pop("document", None)
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
            self.__dict__.pop("document", None)


def settings_key(settings: Settings) -> str:
    """Return the key of one training: a hash of its settings, the device left out."""
    document = settings.model_dump(mode="json", exclude={"device"})
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:20]


def sweeps_directory() -> Path:
    """Return the directory that holds one folder a sweep."""
    return paths.home() / "sweeps"


def list_sweeps() -> list[str]:
    """Return the names of all sweeps, in alphabetical order."""
    return sorted(path.parent.name for path in sweeps_directory().glob(f"*/{DOCUMENT}"))


def is_sweep(name: str) -> bool:
    """Return whether ``name`` (or the path of a folder) is a sweep."""
    return (_folder(name) / DOCUMENT).is_file()


def find_sweep(name: str) -> Sweep:
    """Return the sweep called ``name``: its name, or the path of its folder.

    Raises
    ------
    UsageError
        If there is none.
    """
    if not is_sweep(name):
        known = ", ".join(list_sweeps()) or "none yet; make one with dart sweep"
        raise UsageError(f"there is no sweep {name!r} in {sweeps_directory()}; there are: {known}.")
    return Sweep(_folder(name))


def claim_sweep(name: str, protocol: str) -> Sweep:
    """Return the sweep ``name``, new or to be continued.

    Raises
    ------
    UsageError
        If it cannot be called so, or was begun under another protocol.
    """
    folder = ensure_directory(sweeps_directory()) / run_index.check_name(name)
    sweep = Sweep(ensure_directory(folder))
    ensure_directory(folder / ROWS)
    with lock(folder / ".lock"):
        if not (folder / DOCUMENT).is_file():
            write_document(
                folder / DOCUMENT, SweepDocument(protocol=protocol).model_dump(mode="json")
            )
    if sweep.document.protocol != protocol:
        raise UsageError(
            f"the sweep {name} in {folder} was begun under the protocol "
            f"{sweep.document.protocol}; give this one another --name."
        )
    return sweep


def _folder(name: str) -> Path:
    return Path(name) if "/" in name else sweeps_directory() / name


def check_same_data(sweep: Sweep, rows: Iterable[Row]) -> None:
    """Raise RunError if trainings on one split of a dataset saw different data.

    The source files of a log may change while a sweep goes on.
    """
    seen: dict[tuple[str, str, int], str] = {}
    for row in rows:
        options: Mapping[str, Any] = row.settings.dataset.options
        where = (row.settings.dataset.name, json.dumps(options), row.metrics.split_seed)
        if seen.setdefault(where, row.data) != row.data:
            raise RunError(
                f"the dataset {where[0]} changed while the sweep {sweep.name} was going on: some "
                f"of its trainings saw other data than others; start a sweep with another --name, "
                f"or remove {sweep.folder}."
            )
