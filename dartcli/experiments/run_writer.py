"""Create run folders and write their files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from dartcli.errors import DartError, RunError, UsageError
from dartcli.experiments.run import (
    CHECKPOINTS,
    ENVIRONMENT,
    FILES,
    FORMAT,
    HISTORY,
    IDENTIFIED,
    IDENTITY,
    ITERATIONS,
    METRICS,
    MODEL,
    SCORES,
    SETTINGS,
    SNAPSHOTS,
    Metrics,
    Run,
)
from dartcli.experiments.run_index import check_name, find_folder, is_run, lock_run
from dartcli.settings import Settings, validate
from dartcli.storage import paths
from dartcli.storage.atomic import (
    atomic_directory,
    ensure_directory,
    find_leftovers,
    remove,
)
from dartcli.storage.checksums import find_mismatch, hash_file, read_document, write_document
from dartcli.storage.tables import write_table, write_tensors
from dartcli.training.results import SeedMetrics, SeedRecord, summarize


def check_free(name: str) -> Path:
    """Return the folder for a new run ``name``; raise UsageError if it is invalid or taken."""
    folder = paths.runs() / check_name(name)
    if folder.exists():
        unfinished = is_run(folder) and not (folder / METRICS).is_file()
        other = f", or resume it with `dart resume {name}`" if unfinished else ""
        raise UsageError(f"run {name!r} exists in {folder.parent}. Choose another `--name`{other}.")
    return folder


def _claim_folder(
    settings: Settings, environment: Mapping[str, Any], name: str | None, stack: ExitStack
) -> Path:
    """Create the folder of a new run, locked before it becomes visible, and return it."""
    parent = ensure_directory(paths.runs())
    if name is not None:
        stack.enter_context(lock_run(parent / check_name(name)))
        folder = check_free(name)
        _create_folder(folder, settings, environment)
        return folder
    numbers = [
        int(match[1])
        for path in parent.iterdir()
        if (match := re.fullmatch(r"run_(\d{1,9})", path.name))
    ]
    for number in count(max(numbers, default=0) + 1):
        folder = parent / f"run_{number:02d}"
        # skip a number that another process has just taken
        with suppress(RunError), ExitStack() as trial:
            trial.enter_context(lock_run(folder))
            if not folder.exists():
                _create_folder(folder, settings, environment)
                stack.push(trial.pop_all())
                return folder
    raise AssertionError


def _create_folder(folder: Path, settings: Settings, environment: Mapping[str, Any]) -> None:
    """Create the folder of a new run with its settings and environment."""
    with atomic_directory(folder, replace=False) as place:
        write_document(place / SETTINGS, settings.model_dump(mode="json"))
        write_document(place / ENVIRONMENT, environment)


def write_seed(folder: Path, record: SeedRecord, identity: str) -> None:
    """Write the folder of one finished seed atomically; see :func:`training_identity`."""
    weights, identified = (
        {name: value.cpu().contiguous() for name, value in tensors.items()}
        for tensors in (record.weights, record.identified)
    )
    with atomic_directory(folder / f"seed_{record.metrics.seed}") as place:
        write_table(record.history, place / HISTORY)
        write_table(record.iterations, place / ITERATIONS)
        write_tensors(weights, place / MODEL)
        if identified:
            write_tensors(identified, place / IDENTIFIED)
        write_table(record.scores, place / SCORES)
        if record.snapshots:
            (place / SNAPSHOTS).mkdir()
        for iteration, table in record.snapshots.items():
            write_table(table, place / SNAPSHOTS / f"{iteration}.parquet")
        files = {
            path.relative_to(place).as_posix(): hash_file(path)
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }
        document = {**record.metrics.model_dump(), IDENTITY: identity, FILES: files}
        write_document(place / METRICS, document)


def write_metrics(
    folder: Path, settings: Settings, seeds: Sequence[SeedMetrics], *, interrupted: bool
) -> None:
    """Write ``metrics.json``: from now on the run counts as finished."""
    metrics = Metrics(
        format=FORMAT,
        run=folder.name,
        dataset=settings.dataset.name,
        protocol=settings.protocol,
        model=settings.model.name,
        strategy=settings.strategy.name,
        seeds=tuple(seeds),
        summary=summarize(seeds),
        interrupted=interrupted,
    )
    names = [SETTINGS, *(f"seed_{seed.seed}/{METRICS}" for seed in seeds)]
    files = {name: hash_file(folder / name) for name in names}
    write_document(
        folder / METRICS, {**metrics.model_dump(mode="json", exclude={"run"}), FILES: files}
    )


def write_environment(folder: Path, environment: Mapping[str, Any], started: datetime) -> None:
    """Write versions, machine, and times: the only file of a run that contains times."""
    ended = datetime.now(UTC)
    times = {
        "began": started.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        "seconds": round((ended - started).total_seconds(), 3),
    }
    write_document(folder / ENVIRONMENT, {**environment, **times})


@contextmanager
def create_run(settings: Settings, environment: dict[str, Any], name: str | None) -> Iterator[Path]:
    """Yield the folder of a new run.

    It is removed if the block raises before a seed is finished or a checkpoint is written.
    """
    with ExitStack() as stack:
        folder = _claim_folder(settings, environment, name, stack)
        try:
            yield folder
        except KeyboardInterrupt as stop:
            if _has_results(folder):
                stop.add_note(f"Resume with `dart resume {folder.name}`.")
            raise
        finally:
            if not _has_results(folder):
                remove(folder)


def _has_results(folder: Path) -> bool:
    return (folder / METRICS).is_file() or any(folder.glob(f"{CHECKPOINTS}/*/[0-9]*"))


@contextmanager
def reopen_run(name: str) -> Iterator[Path]:
    """Yield the folder of an unfinished run, locked, to resume it.

    Raises
    ------
    UsageError
        If there is no such run, or it is finished.
    RunError
        If another process trains it, or its settings cannot be read.
    """
    folder = find_folder(name)
    with lock_run(folder):
        run = Run(folder)
        if (folder / METRICS).is_file() and not run.metrics.interrupted:
            raise UsageError(f"run {name} is finished. There is nothing to resume.")
        for place in (folder, *folder.glob(f"{CHECKPOINTS}/*")):
            for left in find_leftovers(place):
                remove(left)
        yield folder


def check_settings(folder: Path) -> None:
    """Raise DataError or UsageError if the settings of a run are corrupt or invalid."""
    path = folder / SETTINGS
    validate(Settings, read_document(path), str(path))


def repair_run(folder: Path) -> list[str]:
    """Remove the corrupt files of a run whose settings are valid; return the seeds removed.

    The run is then unfinished: resuming it trains what is missing, with the same bytes.
    """
    gone = []
    with lock_run(folder):
        remove(folder / METRICS)
        for place in sorted(folder.glob("seed_*")):
            try:
                _check_seed(place, read_document(place / METRICS))
            except DartError:
                remove(place)
                gone.append(place.name)
    return gone


def _check_seed(place: Path, document: Mapping[str, Any]) -> None:
    """Raise RunError if a file of a seed is not the one that ``document`` lists."""
    for name, digest in document.get(FILES, {}).items():
        mismatch = find_mismatch(place / name, digest)
        if mismatch:
            raise RunError(f"{place / name}: {mismatch}. Remove {place} and resume the run again.")


def read_finished_seed(folder: Path, seed: int, identity: str) -> SeedMetrics | None:
    """Return the metrics of a seed that an unfinished run has trained, or None.

    Raises
    ------
    RunError
        If a file is corrupt, or the seed was trained with different settings or data.
    """
    place = folder / f"seed_{seed}"
    path = place / METRICS
    if not place.is_dir():
        return None
    document = read_document(path)
    _check_seed(place, document)
    document.pop(FILES, None)
    if document.pop(IDENTITY, None) != identity:
        raise RunError(
            f"{place} was trained with different settings or data. Restore them, or remove the run "
            "with `dart runs remove` and train it again."
        )
    return validate(SeedMetrics, document, str(path))


def training_identity(settings: Settings, data: str) -> str:
    """Return a hash of the settings and of ``data``, the digest of the prepared data."""
    document = {"settings": settings.model_dump(mode="json", exclude={"seeds"}), "data": data}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def checkpoint_folder(folder: Path, seed: int) -> Path:
    """Return the folder of the checkpoints of one seed."""
    return folder / CHECKPOINTS / f"seed_{seed}"
