"""The folder of one run: what is in it, how it is named, written and found.

::

    run_01/
      settings.json       the resolved settings; `--config` repeats them
      environment.json    program, libraries, machine, times
      metrics.json        the measures, and the hashes of settings and seeds; written last: without
                          it the run is not finished
      seed_0/
        metrics.json        measures of this seed, and the hash of each file beside it
        history.parquet     one row an epoch
        iterations.parquet  one row an iteration
        model.safetensors   the reported weights
        scores.parquet      the reported weights' scores: validation, test, training positives
        snapshots/          scores of validation after chosen iterations, where asked for
      checkpoints/        while it is trained, or was interrupted: where it stands
      analysis/           what `dart analyze` made

A document ends with a hash of itself, its seal. The measures vouch for settings and seeds, those of
a seed for its files, and every file is compared when it is read. Nothing is a pickle. Times are
only in ``environment.json``, so the rest of the folder is the same, byte for byte, whenever the run
is repeated.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from dartcli import paths
from dartcli.data.contained import BROKEN
from dartcli.errors import DartError, RunError, UsageError
from dartcli.files import (
    building,
    ensure_directory,
    fault,
    leftovers,
    locked,
    read_sealed,
    reason,
    remove,
    sha256,
    write_sealed,
    write_table,
    write_tensors,
)
from dartcli.settings import Options, Settings, parsed

if TYPE_CHECKING:
    from torch import Tensor, nn

METRICS = "metrics.json"
SETTINGS = "settings.json"
ENVIRONMENT = "environment.json"
HISTORY = "history.parquet"
ITERATIONS = "iterations.parquet"
MODEL = "model.safetensors"
SCORES = "scores.parquet"
SNAPSHOTS = "snapshots"
CHECKPOINTS = "checkpoints"

IDENTITY: Final = "identity"
"""Key of the hash of settings and data in a seed's ``metrics.json``."""
FILES: Final = "files"
"""Key of the hashes in ``metrics.json``."""
UNSEALED: Final = (1, 2)
"""Formats without hashes."""
FORMAT: Final = 3
"""Version of the run folder. 1: no scores, no snapshots, fewer measures. 2: no hashes."""


class SeedMetrics(Options):
    """The measures of one training; null where a measure is not defined."""

    seed: int
    """Seed of the training."""
    split_seed: int
    """Seed of the split."""
    test_auc: float | None
    """AUC on the test split, known false positives counted as negatives."""
    test_auc_without_fp: float | None
    """AUC on the test split with the known false positives left out."""
    test_log_loss: float | None
    """Mean binary cross-entropy on the test split, labels as for ``test_auc``."""
    test_auc_best_epoch: float | None
    """Test AUC of the epoch with the best validation AUC."""
    test_auc_last_epoch: float | None
    """Test AUC of the last epoch."""
    test_auc_per_user: float | None = None
    """AUC within each user, averaged over the users weighted by their rows (grouped AUC)."""
    test_auc_tail_items: float | None = None
    """AUC on the rows of the least popular items, which hold a fifth of the training positives."""
    test_auc_inactive_users: float | None = None
    """AUC on the rows of the least active users, who hold a fifth of the training positives."""
    test_calibration_error: float | None = None
    """Expected calibration error on the test split, 15 equal bins, labels as for ``test_auc``."""
    valid_auc: float | None
    """Validation AUC of the reported epoch, under the protocol's labels."""
    valid_auc_recorded: float | None = None
    """Validation AUC of the reported epoch with the labels as they were recorded."""
    valid_log_loss: float | None
    """Mean binary cross-entropy on the validation split, under the protocol's labels."""
    best_epoch: int
    """Epoch with the best validation AUC."""
    reported_epoch: int
    """Epoch whose weights were kept and measured."""
    epochs: int
    """Epochs trained."""
    iterations: int
    """Steps taken."""
    stopped: Literal["patience", "epochs"]
    """Validation stopped improving, or the epochs ran out."""
    identification_precision: float | None = None
    """Share of known false positives among what was handled in the last epoch."""
    identification_recall: float | None = None
    """Share of the known false positives that was handled in the last epoch."""


class Spread(Options):
    """A measure over seeds."""

    mean: float | None
    """Mean; null if it is not defined for some seed."""
    std: float | None
    """Sample standard deviation; null for a single seed."""


class Metrics(Options):
    """The measures of a run: what ``dart train --json`` and ``dart eval --json`` print."""

    format: int = 1
    """Version of the run folder."""
    run: str
    """Name of the run."""
    dataset: str
    """Data set."""
    protocol: str
    """Protocol in force."""
    model: str
    """Model."""
    strategy: str
    """Strategy."""
    seeds: tuple[SeedMetrics, ...]
    """One entry a seed."""
    summary: dict[str, Spread]
    """Each measure over the seeds."""
    interrupted: bool = False
    """True if the run was stopped before all its seeds were trained."""


MEASURES = (
    "test_auc",
    "test_auc_without_fp",
    "test_log_loss",
    "test_calibration_error",
    "test_auc_per_user",
    "test_auc_tail_items",
    "test_auc_inactive_users",
    "test_auc_best_epoch",
    "test_auc_last_epoch",
    "valid_auc",
    "valid_auc_recorded",
    "valid_log_loss",
    "identification_precision",
    "identification_recall",
)


def finite(value: float) -> float | None:
    """Return ``value``, or None where it is not a number."""
    return value if math.isfinite(value) else None


def spread(values: Sequence[float | None]) -> Spread:
    """Return mean and sample standard deviation of one measure over seeds."""
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return Spread(mean=None, std=None)
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(mean=statistics.fmean(numbers), std=std)


def summarise(seeds: Sequence[SeedMetrics]) -> dict[str, Spread]:
    """Return each measure over ``seeds``."""
    return {name: spread([getattr(seed, name) for seed in seeds]) for name in MEASURES}


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.folder.name

    @cached_property
    def settings(self) -> Settings:
        """The resolved settings."""
        path = self.folder / SETTINGS
        # those of a finished run are vouched for by its measures
        settings = parsed(Settings, read_sealed(path, required=False), str(path))
        if (self.folder / METRICS).is_file():
            self._checked(SETTINGS, self._files)
        return settings

    @cached_property
    def metrics(self) -> Metrics:
        """The measures."""
        self._checked(SETTINGS, self._files)
        document = {key: value for key, value in self._document.items() if key != FILES}
        return parsed(Metrics, {"run": self.name, **document}, str(self.folder / METRICS))

    @cached_property
    def _document(self) -> dict[str, Any]:
        """``metrics.json``."""
        path = self.folder / METRICS
        document = read_sealed(path, required=False)
        if document.get("format", 1) not in UNSEALED and not isinstance(document.get(FILES), dict):
            raise RunError(f"{path} has no hashes of the run's files; dart doctor helps.")
        return document

    @property
    def _files(self) -> Mapping[str, str] | None:
        """Name -> SHA-256 of settings and seeds; None in a run of an older version."""
        return self._document.get(FILES)

    def seed_files(self, seed: int) -> Mapping[str, str] | None:
        """Return name -> SHA-256 of the files of ``seed``; None in a run of an older version.

        Raises
        ------
        RunError
            If the document that lists them is not the one that was written.
        """
        if self._files is None:
            return None
        name = f"{self.seed_folder(seed).name}/{METRICS}"
        self._checked(name, self._files)
        files: Mapping[str, str] = read_sealed(self.folder / name)[FILES]
        return files

    def _checked(self, name: str, files: Mapping[str, str] | None, seed: int | None = None) -> Path:
        """Return the path of a file of the run, or of a seed; RunError where it is another now."""
        path = (self.folder if seed is None else self.seed_folder(seed)) / name
        if files is None:
            return path
        wrong = fault(path, files.get(name))
        if wrong:
            raise RunError(f"{path} is not what was written ({wrong}); {self._again}.")
        return path

    @property
    def _again(self) -> str:
        return f"make the run whole with dart doctor --repair and dart train --resume {self.name}"

    def check(self) -> None:
        """Compare every file of the run with what was written.

        Raises
        ------
        DartError
            If one is missing or another.
        """
        _ = self.settings, self.metrics
        for seed in self.seeds:
            files = self.seed_files(seed)
            for name in files or ():
                self._checked(name, files, seed)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Program, libraries, machine, times; empty where they cannot be read."""
        try:
            return read_sealed(self.folder / ENVIRONMENT, required=False)
        except DartError:
            return {}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were trained."""
        return tuple(seed.seed for seed in self.metrics.seeds)

    def seed_folder(self, seed: int) -> Path:
        """Return the folder of one seed."""
        return self.folder / f"seed_{seed}"

    def history(self, seed: int) -> pl.DataFrame:
        """Return the epoch records of ``seed``."""
        return self._table(seed, HISTORY)

    def iterations(self, seed: int) -> pl.DataFrame:
        """Return the iteration records of ``seed``; columns are described in ``trace.summary``."""
        return self._table(seed, ITERATIONS)

    def scores(self, seed: int) -> pl.DataFrame:
        """Return the scores of the reported weights.

        Columns: ``split`` (train, valid, test; of train only the positives), ``user``, ``item``,
        ``label``, ``noisy``, ``rating`` (null where the source has none), ``logit``, and
        ``user_positives``, ``item_positives``: training positives of the row's user and item.
        """
        return self._table(seed, SCORES)

    def snapshot(self, seed: int, iteration: int) -> pl.DataFrame:
        """Return the scores of the validation split after one iteration; columns as above."""
        known = self.snapshots(seed)
        if iteration not in known:
            kept = f"it kept {', '.join(map(str, known))}" if known else "it kept none"
            raise RunError(
                f"{self.name} kept no snapshot of iteration {iteration} (seed {seed}; {kept}); "
                f"train it again with dart train --config {self.folder / SETTINGS} "
                f"--snapshot {iteration}."
            )
        return self._table(seed, f"{SNAPSHOTS}/{iteration}.parquet")

    def snapshots(self, seed: int) -> list[int]:
        """Return the iterations of which ``seed`` kept a snapshot, in order."""
        files = self.seed_files(seed)
        if files is None:
            found = (self.seed_folder(seed) / SNAPSHOTS).glob("*.parquet")
            files = {f"{SNAPSHOTS}/{path.name}": "" for path in found}
        return sorted(int(Path(name).stem) for name in files if name.startswith(f"{SNAPSHOTS}/"))

    def weights(self, seed: int) -> dict[str, Tensor]:
        """Return the reported weights of ``seed``, on the CPU."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._checked(MODEL, self.seed_files(seed), seed)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"cannot read the weights in {path} ({error}); train the run again with "
                f"dart train --config {self.folder / SETTINGS}."
            ) from error

    def _table(self, seed: int, name: str) -> pl.DataFrame:
        path = self._checked(name, self.seed_files(seed), seed)
        if name == SCORES and self.metrics.format < 2:
            raise RunError(
                f"{self.name} was trained by an older version, which kept no scores; train it "
                f"again with dart train --config {self.folder / SETTINGS}."
            )
        try:
            return pl.read_parquet(path, glob=False)
        except BROKEN as error:
            raise RunError(
                f"cannot read {path} ({error}); train the run again with "
                f"dart train --config {self.folder / SETTINGS}."
            ) from error


def names() -> list[str]:
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


def find(name: str) -> Run:
    """Return the finished run called ``name``: its name, or the path of its folder.

    Raises
    ------
    UsageError
        If there is no such run.
    RunError
        If it was never finished.
    """
    folder = Path(name) if "/" in name else paths.runs() / name
    if not folder.is_dir():
        import difflib

        known = names()
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[-3:]
        hint = f"there are {', '.join(close)}" if close else "train one with dart train"
        raise UsageError(f"there is no run {name!r} in {folder.parent}; {hint}.")
    if not (folder / METRICS).is_file():
        raise RunError(
            f"the run {name} in {folder} was not finished: it has no {METRICS}; "
            f"wait for it, or go on with dart train --resume {folder.name}."
        )
    return Run(folder)


@dataclass(frozen=True)
class Entry:
    """What the list of runs says of one folder; None = not known."""

    name: str
    """Name of the run."""
    state: Literal["finished", "interrupted", "unfinished", "unreadable"]
    """``interrupted``: stopped before all its seeds were trained. ``unfinished``: no seed was, or
    a training still works on it. ``unreadable``: a file of it is broken or missing."""
    dataset: str | None = None
    """Data set."""
    model: str | None = None
    """Model."""
    strategy: str | None = None
    """Strategy."""
    protocol: str | None = None
    """Protocol in force."""
    seeds: tuple[int, ...] = ()
    """The seeds that were trained; of an unfinished run those that were asked for."""
    test_auc: float | None = None
    """Mean test AUC over the seeds."""
    ended: str | None = None
    """When it was finished, as ISO 8601 has it."""


def entries() -> list[Entry]:
    """Return one entry a run folder: the finished ones oldest first, then the others by name."""
    finished = names()
    return [_entry(paths.runs() / name) for name in [*finished, *sorted(_unfinished(finished))]]


def _unfinished(finished: Sequence[str]) -> set[str]:
    folder = paths.runs()
    found = folder.iterdir() if folder.is_dir() else ()
    return {path.name for path in found if _is_run(path)} - set(finished)


def _is_run(folder: Path) -> bool:
    return not folder.name.startswith(".") and (
        (folder / METRICS).is_file() or (folder / SETTINGS).is_file()
    )


def _entry(folder: Path) -> Entry:
    run = Run(folder)
    try:
        settings = run.settings
        metrics = run.metrics if (folder / METRICS).is_file() else None
    except DartError:
        return Entry(run.name, "unreadable")
    state: Literal["finished", "interrupted", "unfinished"] = "unfinished"
    if metrics is not None:
        state = "interrupted" if metrics.interrupted else "finished"
    return Entry(
        name=run.name,
        state=state,
        dataset=settings.dataset.name,
        model=settings.model.name,
        strategy=settings.strategy.name,
        protocol=settings.protocol,
        seeds=settings.seeds if metrics is None else run.seeds,
        test_auc=None if metrics is None else metrics.summary["test_auc"].mean,
        ended=run.environment.get("ended"),
    )


def flat(settings: Settings) -> dict[str, Any]:
    """Return settings as ``--set`` names them: ``{"strategy.r": 0.5, "training.epochs": 200}``."""
    found: dict[str, Any] = {}
    for key, value in settings.model_dump(mode="json", exclude={"version"}).items():
        if not isinstance(value, dict):
            found[key] = value
            continue
        for name, setting in value.items():
            inner = setting if name == "options" else {name: setting}
            found.update({f"{key}.{part}": leaf for part, leaf in inner.items()})
    return found


def differences(chosen: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ: key -> one value a run, None where it has none."""
    every = [flat(run.settings) for run in chosen]
    keys = dict.fromkeys(key for settings in every for key in settings)
    found = {key: [settings.get(key) for settings in every] for key in keys}
    return {key: values for key, values in found.items() if any(v != values[0] for v in values)}


def discard(chosen: Sequence[str]) -> list[str]:
    """Remove the folders of runs, finished or not; return their names.

    All names are looked at before anything is removed.

    Raises
    ------
    UsageError
        If a name is that of no run; paths of folders elsewhere are refused.
    RunError
        If one is being trained, or a folder cannot be removed.
    """
    folders = [folder_of(name) for name in dict.fromkeys(chosen)]
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(held(folder))
        for folder in folders:
            # out of sight in one step: an interrupted removal leaves no half run behind
            hidden = folder.with_name(f".{folder.name}.removed")
            try:
                shutil.rmtree(hidden, ignore_errors=True)
                folder.rename(hidden)
                if hidden.is_symlink():
                    hidden.unlink()
                else:
                    shutil.rmtree(hidden)
            except OSError as error:
                raise RunError(f"cannot remove {folder}: {reason(error)}.") from error
    return [folder.name for folder in folders]


def folder_of(name: str) -> Path:
    """Return the folder of the run called ``name``, finished or not.

    Raises
    ------
    UsageError
        If there is no such run, or ``name`` is a path.
    """
    folder = paths.runs() / name
    if Path(name).name != name or not _is_run(folder):
        import difflib

        known = [*(finished := names()), *_unfinished(finished)]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "dart runs shows them all."
        raise UsageError(f"{name!r} is not the name of a run in {paths.runs()}; {hint}")
    return folder


def last() -> Run:
    """Return the run that was finished last."""
    known = names()
    if not known:
        raise UsageError(f"there is no finished run in {paths.runs()}; train one with dart train.")
    return find(known[-1])


def check_name(name: str) -> str:
    """Return ``name`` if a run may be called so.

    Raises
    ------
    UsageError
        If it has characters other than letters, digits, dot, dash and underscore, or is too long.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise UsageError(
            f"{name!r} cannot name a run: use 1 to 100 letters, digits, '_', '-' or '.', "
            "not beginning with '-' or '.'."
        )
    return name


def _claimed(
    settings: Settings, environment: Mapping[str, Any], name: str | None, stack: ExitStack
) -> Path:
    """Create the folder of a new run, held from before it can be seen, and return it."""
    parent = ensure_directory(paths.runs())
    if name is not None:
        folder = parent / check_name(name)
        stack.enter_context(held(folder))
        if folder.exists():
            unfinished = _is_run(folder) and not (folder / METRICS).is_file()
            other = f", or go on with dart train --resume {name}" if unfinished else ""
            raise UsageError(
                f"there is a run {name!r} already in {parent}; choose another --name{other}."
            )
        _begin(folder, settings, environment)
        return folder
    numbers = [
        int(match[1])
        for path in parent.iterdir()
        if (match := re.fullmatch(r"run_(\d{1,9})", path.name))
    ]
    for number in count(max(numbers, default=0) + 1):
        folder = parent / f"run_{number:02d}"
        # a number that another process has just taken is passed over
        with suppress(RunError), ExitStack() as trial:
            trial.enter_context(held(folder))
            if not folder.exists():
                _begin(folder, settings, environment)
                stack.push(trial.pop_all())
                return folder
    raise AssertionError


def _begin(folder: Path, settings: Settings, environment: Mapping[str, Any]) -> None:
    """Let the folder of a new run appear, with what is known of it."""
    with building(folder, replace=False) as place:
        write_sealed(place / SETTINGS, settings.model_dump(mode="json"))
        write_sealed(place / ENVIRONMENT, environment)


@dataclass(frozen=True)
class SeedRecord:
    """Everything that is kept of one trained seed."""

    metrics: SeedMetrics
    """The measures."""
    history: pl.DataFrame
    """One row an epoch."""
    iterations: pl.DataFrame
    """One row an iteration."""
    weights: Mapping[str, Tensor]
    """The reported weights."""
    scores: pl.DataFrame
    """As :meth:`Run.scores` returns them."""
    snapshots: Mapping[int, pl.DataFrame]
    """Iteration -> scores of the validation split."""


def write_seed(folder: Path, record: SeedRecord, identity: str) -> None:
    """Write the folder of one finished seed, whole or not at all; see :func:`identity`."""
    weights = {name: value.cpu().contiguous() for name, value in record.weights.items()}
    with building(folder / f"seed_{record.metrics.seed}") as place:
        write_table(record.history, place / HISTORY)
        write_table(record.iterations, place / ITERATIONS)
        write_tensors(weights, place / MODEL)
        write_table(record.scores, place / SCORES)
        if record.snapshots:
            (place / SNAPSHOTS).mkdir()
        for iteration, table in record.snapshots.items():
            write_table(table, place / SNAPSHOTS / f"{iteration}.parquet")
        files = {
            path.relative_to(place).as_posix(): sha256(path)
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }
        document = {**record.metrics.model_dump(), IDENTITY: identity, FILES: files}
        write_sealed(place / METRICS, document)


def write_metrics(
    folder: Path, settings: Settings, seeds: Sequence[SeedMetrics], *, interrupted: bool
) -> None:
    """Write ``metrics.json``: from then on the run counts as finished."""
    metrics = Metrics(
        format=FORMAT,
        run=folder.name,
        dataset=settings.dataset.name,
        protocol=settings.protocol,
        model=settings.model.name,
        strategy=settings.strategy.name,
        seeds=tuple(seeds),
        summary=summarise(seeds),
        interrupted=interrupted,
    )
    names = [SETTINGS, *(f"seed_{seed.seed}/{METRICS}" for seed in seeds)]
    files = {name: sha256(folder / name) for name in names}
    write_sealed(
        folder / METRICS, {**metrics.model_dump(mode="json", exclude={"run"}), FILES: files}
    )


def write_environment(folder: Path, environment: Mapping[str, Any], began: datetime) -> None:
    """Write what the run was made with, and when: the only file of a run that holds times."""
    ended = datetime.now(UTC)
    times = {
        "began": began.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        "seconds": round((ended - began).total_seconds(), 3),
    }
    write_sealed(folder / ENVIRONMENT, {**environment, **times})


def load_weights(model: nn.Module, run: Run, seed: int) -> None:
    """Load the reported weights of one seed into ``model``.

    Raises
    ------
    RunError
        If they cannot be read or do not fit the model.
    """
    try:
        model.load_state_dict(run.weights(seed))
    except RuntimeError as error:
        raise RunError(
            f"the weights in {run.seed_folder(seed) / MODEL} do not fit the model and data set "
            f"that {run.folder / SETTINGS} describes; train the run again."
        ) from error


@contextmanager
def writing(settings: Settings, environment: dict[str, Any], name: str | None) -> Iterator[Path]:
    """Yield the folder of a new run.

    It is removed if the block raises before a seed is finished or a checkpoint is written.
    """
    with ExitStack() as stack:
        folder = _claimed(settings, environment, name, stack)
        try:
            yield folder
        except KeyboardInterrupt as stop:
            if _worth_keeping(folder):
                stop.add_note(f"go on with dart train --resume {folder.name}.")
            raise
        finally:
            if not _worth_keeping(folder):
                remove(folder)


def _worth_keeping(folder: Path) -> bool:
    return (folder / METRICS).is_file() or any(folder.glob(f"{CHECKPOINTS}/*/[0-9]*"))


@contextmanager
def reopening(name: str) -> Iterator[Path]:
    """Yield the folder of a run that was not finished, to go on with it.

    Raises
    ------
    UsageError
        If there is no such run, or nothing of it is left to do.
    RunError
        If another process trains it, or its settings cannot be read.
    """
    folder = folder_of(name)
    with held(folder):
        run = Run(folder)
        if (folder / METRICS).is_file() and not run.metrics.interrupted:
            raise UsageError(f"the run {name} is finished; there is nothing to resume.")
        for place in (folder, *folder.glob(f"{CHECKPOINTS}/*")):
            for left in leftovers(place):
                remove(left)
        yield folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from training or removing the run in ``folder``, for the block.

    Raises
    ------
    RunError
        If one is at it; the message names it. The lock of a process that died is free.
    """
    busy = f"the run {folder.name} is being trained or removed"
    with locked(paths.home() / "locks" / f"{folder.name}.lock", busy=busy):
        yield


def in_use(folder: Path) -> bool:
    """Return whether a process trains or removes the run in ``folder``."""
    try:
        with held(folder):
            return False
    except RunError:
        return True


def check_settings(folder: Path) -> None:
    """Raise DataError or UsageError where the settings of a run are not what was written."""
    path = folder / SETTINGS
    parsed(Settings, read_sealed(path), str(path))


def mend(folder: Path) -> list[str]:
    """Remove what is broken of a run whose settings are whole; return the names of broken seeds.

    The run is then unfinished: resuming it trains what is missing, to the same bytes.
    """
    gone = []
    with held(folder):
        remove(folder / METRICS)
        for place in sorted(folder.glob("seed_*")):
            try:
                _check_seed(place, read_sealed(place / METRICS))
            except DartError:
                remove(place)
                gone.append(place.name)
    return gone


def _check_seed(place: Path, document: Mapping[str, Any]) -> None:
    """Raise RunError where a file of a seed is not the one that ``document`` lists."""
    for name, digest in document.get(FILES, {}).items():
        wrong = fault(place / name, digest)
        if wrong:
            raise RunError(
                f"{place / name} is not what was written ({wrong}); remove {place}, and resume "
                "the run again."
            )


def finished_seed(folder: Path, seed: int, identity: str) -> SeedMetrics | None:
    """Return the measures of a seed that is done in an unfinished run, else None.

    Raises
    ------
    RunError
        If a file of it is not what was written, or it is of other settings or data.
    """
    place = folder / f"seed_{seed}"
    path = place / METRICS
    if not place.is_dir():
        return None
    document = read_sealed(path)
    _check_seed(place, document)
    document.pop(FILES, None)
    if document.pop(IDENTITY, None) != identity:
        raise RunError(
            f"{place} was trained with other settings or data than there are now; restore them, "
            "or remove the run and train it again."
        )
    return parsed(SeedMetrics, document, str(path))


def identity(settings: Settings, data: str) -> str:
    """Return a hash of what determines a training: its settings and the digest of its data."""
    document = {"settings": settings.model_dump(mode="json", exclude={"seeds"}), "data": data}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def checkpoints(folder: Path, seed: int) -> Path:
    """Return where the checkpoints of one seed are."""
    return folder / CHECKPOINTS / f"seed_{seed}"
