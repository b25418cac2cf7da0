"""Train and resume runs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartcli.data.manifest import Prepared
from dartcli.experiments import run_index, run_writer
from dartcli.experiments.configure import _named, load_prepared, resolve
from dartcli.experiments.environment import environment
from dartcli.experiments.run import CHECKPOINTS, Run
from dartcli.experiments.run_writer import (
    checkpoint_folder,
    create_run,
    read_finished_seed,
    reopen_run,
    training_identity,
)
from dartcli.settings import (
    Settings,
)
from dartcli.training.results import SeedMetrics

if TYPE_CHECKING:
    import torch

    from dartcli.training.checkpoint import Interval
    from dartcli.training.epochs import EpochRecord
    from dartcli.training.trainer import Trained

logger = logging.getLogger(__name__)

Stopping = Callable[[], AbstractContextManager[Callable[[], int]]]
"""Makes a context for the steps of one seed. What it yields is asked after every step; a number
other than 0 ends the training after a checkpoint, by a StoppedError with the exit code 128 + it."""
CHECKPOINT_EVERY = "60s"
"""A training of less than a minute writes none."""


@contextmanager
def _never() -> Iterator[Callable[[], int]]:
    """Let a training go on to its end."""
    yield lambda: 0


def train_run(
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    progress: Callable[[int, EpochRecord], None] | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    stopping: Stopping = _never,
    **keys: Any,
) -> Run:
    """Train one run, over one seed or several, and return it.

    Parameters
    ----------
    settings
        Settings, or a nested mapping such as ``{"strategy": {"name": "dart"}}``.
    name
        Name of the run; None takes the next free ``run_01``, ``run_02``, ....
    progress
        Called with (seed, epoch record).
    checkpoint_every
        How often a checkpoint is written: ``"5ep"``, ``"90s"``, ``"10m"``, ``"off"``.
    stopping
        Says when to stop early; by default never.
    **keys
        Parts of the settings; they win over ``settings``. A string for ``dataset``, ``model`` or
        ``strategy`` is its name.

    Raises
    ------
    UsageError
        If a name, key or value does not fit.
    DataError, DownloadError, TrainingError
        If the data cannot be had or trained on.
    """
    from dartcli.training import device as devices

    if name is not None:
        run_index.check_name(name)
    tree = settings.model_dump() if isinstance(settings, Settings) else dict(settings or {})
    resolved = resolve(tree, _named(keys))
    device = devices.resolve(resolved.device)
    how = _how(progress, checkpoint_every, stopping)
    # the first seed's data come before the folder: a dataset that fails leaves no run behind
    first = load_prepared(resolved, resolved.seeds[0])
    with create_run(resolved, environment(device), name) as folder:
        _train_seeds(folder, resolved, device, how, first)
    return Run(folder)


def resume_run(
    name: str,
    *,
    progress: Callable[[int, EpochRecord], None] | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    stopping: Stopping = _never,
) -> Run:
    """Go on with a run that was not finished, as if it had never stopped, and return it.

    Parameters
    ----------
    name
        Name of the run; its settings are those that it began with.
    progress, checkpoint_every, stopping
        As for :func:`train`.

    Raises
    ------
    UsageError
        If there is no such run, or it is finished.
    RunError
        If another process trains it, its files cannot be read, or the data are others now.
    """
    from dartcli.training import device as devices

    how = _how(progress, checkpoint_every, stopping)
    with reopen_run(name) as folder:
        run = Run(folder)
        device = devices.resolve(run.settings.device)
        for key in ("torch", "device"):
            now, then = environment(device)[key], run.environment.get(key)
            if then not in (None, now):
                logger.warning(
                    f"the run began with {key} {then}, and goes on with {now}: digits may differ."
                )
        _train_seeds(folder, run.settings, device, how)
    return Run(folder)


@dataclass(frozen=True)
class _How:
    """What :func:`train` and :func:`resume` take beside settings."""

    progress: Callable[[int, EpochRecord], None] | None
    every: Interval
    stopping: Stopping


def _how(
    progress: Callable[[int, EpochRecord], None] | None,
    checkpoint_every: str,
    stopping: Stopping,
) -> _How:
    from dartcli.training.checkpoint import parse_interval

    return _How(progress, parse_interval(checkpoint_every), stopping)


def _train_seeds(
    folder: Path,
    settings: Settings,
    device: torch.device,
    how: _How,
    first: Prepared | None = None,
) -> None:
    """Train what is missing of the run in ``folder``; ``first`` are the data of its first seed."""
    from dartcli.training.checkpoint import CheckpointWriter, load_latest
    from dartcli.training.trainer import train_seed

    began = datetime.now(UTC)
    finished: list[SeedMetrics] = []
    # of the seeds that were trained before the run was interrupted
    engines = dict.fromkeys(Run(folder).environment.get("steps", ()))
    remarks: set[str] = set()

    def watch(seed: int, record: EpochRecord) -> None:
        if record.remark and record.remark not in remarks:
            remarks.add(record.remark)
            logger.info(record.remark)
        if how.progress is not None:
            how.progress(seed, record)

    try:
        for seed in settings.seeds:
            # what there is to say of the data is said once
            data = first or load_prepared(settings, seed)
            first = None
            identity = training_identity(settings, data.digest)
            done = read_finished_seed(folder, seed, identity)
            if done is not None:
                finished.append(done)
                continue
            place = checkpoint_folder(folder, seed)
            words = f"go on with dart train --resume {folder.name}"
            position = load_latest(place, identity, device)
            if position is not None:
                logger.info(f"seed {seed} goes on after iteration {position.iteration:,}.")
            with how.stopping() as asked:
                keeper = CheckpointWriter(place, identity, how.every, asked, words)
                stream = train_seed(settings, data, seed, device, keeper=keeper, resume=position)
                trained = drained(stream, seed, watch)
                engines.update(dict.fromkeys(record.engine for record in trained.epochs))
                run_writer.write_seed(folder, trained.record, identity)
                shutil.rmtree(place, ignore_errors=True)
                finished.append(trained.metrics)
    finally:
        if finished:
            complete = len(finished) == len(settings.seeds)
            made_with = {**environment(device), "steps": list(engines)}
            run_writer.write_environment(folder, made_with, began)
            run_writer.write_metrics(folder, settings, finished, interrupted=not complete)
            if complete:
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def drained(
    stream: Iterator[EpochRecord],
    seed: int,
    progress: Callable[[int, EpochRecord], None] | None = None,
) -> Trained:
    """Run a training to its end, report every epoch, and return what came of it."""
    while True:
        try:
            record = next(stream)
        except StopIteration as end:
            trained: Trained = end.value
            return trained
        if progress is not None:
            progress(seed, record)
