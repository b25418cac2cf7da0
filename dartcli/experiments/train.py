"""Train and resume runs."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartcli.data.manifest import Prepared
from dartcli.experiments import run_writer
from dartcli.experiments.configure import configure, load_prepared, log_warnings, resolve
from dartcli.experiments.environment import environment
from dartcli.experiments.run import CHECKPOINTS, Run
from dartcli.experiments.run_index import find_unfinished, with_window
from dartcli.settings import COMPONENTS, Settings
from dartcli.storage.system import available_memory
from dartcli.training.configuration import Configuration

if TYPE_CHECKING:
    import torch

    from dartcli.denoising.processes import Processes
    from dartcli.training.checkpoint import Interval
    from dartcli.training.epochs import EpochRecord
    from dartcli.training.results import SeedMetrics
    from dartcli.training.trainer import Trained

logger = logging.getLogger(__name__)

Stopping = Callable[[], AbstractContextManager[Callable[[], int]]]
"""Makes a context for the steps of one seed. The function that it yields is called after every
step; a number other than 0 stops the training after a checkpoint, with exit code 128 + number."""
CHECKPOINT_EVERY = "60s"
"""Default interval: a training of less than a minute writes no checkpoint."""


@contextmanager
def _never_stop() -> Iterator[Callable[[], int]]:
    yield lambda: 0


@dataclass(frozen=True)
class _Supervision:
    """What watches a training: progress, checkpoints, and a reason to stop."""

    progress: Callable[[int, EpochRecord], None] | None
    interval: Interval
    stopping: Stopping
    processes: Processes | None = None
    """The processes that train together; None = only this one."""

    def agree(self, digest: str, *decided: Any) -> Any:
        """Return what process 0 ``decided``; wait until all are ready to train on ``digest``."""
        if self.processes is None:
            return decided
        from dartcli.training.launch import wait_for_all

        wait_for_all(self.processes, digest)
        return json.loads(self.processes.broadcast(json.dumps(decided).encode()))


def _supervise(
    progress: Callable[[int, EpochRecord], None] | None, checkpoint_every: str, stopping: Stopping
) -> _Supervision:
    from dartcli.training.checkpoint import parse_interval

    return _Supervision(progress, parse_interval(checkpoint_every), stopping)


def train_run(
    settings: Configuration | Settings | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    progress: Callable[[int, EpochRecord], None] | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    stopping: Stopping = _never_stop,
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
        Called with (seed, epoch record) after every epoch.
    checkpoint_every
        How often to write a checkpoint: ``"5ep"``, ``"90s"``, ``"10m"``, ``"off"``.
    stopping
        Tells when to stop early; by default never.
    **keys
        Parts of the settings; they override ``settings``. A string for ``dataset``, ``model``, or
        ``strategy`` is its name.

    Raises
    ------
    UsageError
        If a name, key, or value is invalid.
    DataError, DownloadError, TrainingError
        If the data cannot be obtained, read, or trained on.
    """
    from dartcli.training.device import resolve as resolve_device

    configuration = _configure(settings, keys)
    # torchrun starts all processes again if one of them ends
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        before = find_unfinished(configuration.settings, name)
        if before is not None:
            return resume_run(
                before, progress=progress, checkpoint_every=checkpoint_every, stopping=stopping
            )
    if name is not None:
        run_writer.check_free(name)
    device = resolve_device(configuration.settings.device)
    supervision = _supervise(progress, checkpoint_every, stopping)
    with _lead(configuration, supervision) as supervision:
        # prepare the first seed's data before the folder: if that fails, no run is left behind
        first = load_prepared(configuration, configuration.settings.seeds[0])
        log_warnings(first)
        configuration = settle_window(configuration, first)
        _announce_stages(configuration)
        with run_writer.create_run(configuration.settings, environment(device), name) as folder:
            _train_seeds(folder, configuration, device, supervision, first)
    return Run(folder)


def _announce_stages(configuration: Configuration) -> None:
    """Log what several trainings in a row will cost."""
    if configuration.stages > 1:
        logger.info(
            f"{configuration.stages} trainings in a row for each seed, each up to as long as a "
            "single one"
        )


@contextmanager
def _lead(configuration: Configuration, supervision: _Supervision) -> Iterator[_Supervision]:
    """Join the processes that ``torchrun`` started, and tell them what to train."""
    from dartcli.training.launch import join_processes

    with join_processes() as processes:
        if processes is not None:
            processes.broadcast(configuration.settings.model_dump_json().encode())
        yield replace(supervision, processes=processes)


def settle_window(configuration: Configuration, prepared: Prepared) -> Configuration:
    """Return ``configuration`` with a window if the training table does not fit into memory."""
    from dartcli.data.stream import choose_window
    from dartcli.training.components import can_stream

    window = configuration.settings.training.window
    if window is None and can_stream(configuration):
        available = available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        window = choose_window(prepared, available)
    if window is not None:
        logger.info(
            f"reading training interactions from disk, shuffled {window:,} at a time, of "
            f"{prepared.manifest.rows['train']:,} (training.window)"
        )
    return replace(configuration, settings=with_window(configuration.settings, window))


def follow_run(*, stopping: Stopping = _never_stop) -> None:
    """Train, as one of several processes, what process 0 trains; write nothing."""
    from dartcli.training.device import resolve as resolve_device
    from dartcli.training.launch import join_processes

    with join_processes() as processes:
        assert processes is not None  # noqa: S101 - a process that follows is not alone
        configuration = configure(Settings.model_validate_json(processes.broadcast()))
        device = resolve_device(configuration.settings.device)
        supervision = replace(_supervise(None, "off", stopping), processes=processes)
        for seed in configuration.settings.seeds:
            data = load_prepared(configuration, seed)
            is_done, window = supervision.agree(data.digest)
            settings = with_window(configuration.settings, window)
            configuration = replace(configuration, settings=settings)
            if not is_done:
                identity = run_writer.training_identity(settings, data.digest)
                _train_seed(None, configuration, data, seed, device, supervision, identity)


def _configure(
    settings: Configuration | Settings | Mapping[str, Any] | None, keys: Mapping[str, Any]
) -> Configuration:
    if isinstance(settings, Configuration):
        if not keys:
            return settings
        settings = settings.settings
    tree = settings.model_dump() if isinstance(settings, Settings) else dict(settings or {})
    return resolve(tree, name_components(keys))


def name_components(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``tree`` with ``{"name": NAME}`` for a component that is given by its name."""
    return {
        key: {"name": value} if key in COMPONENTS and isinstance(value, str) else value
        for key, value in tree.items()
    }


def resume_run(
    name: str,
    *,
    progress: Callable[[int, EpochRecord], None] | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    stopping: Stopping = _never_stop,
) -> Run:
    """Resume a run as if it had never stopped, and return it.

    Parameters
    ----------
    name
        Name of the run; its settings are those that it started with.
    progress, checkpoint_every, stopping
        As for :func:`train_run`.

    Raises
    ------
    UsageError
        If there is no such run, or it is finished.
    RunError
        If another process trains it, its files cannot be read, or the data have changed.
    """
    from dartcli.training.device import resolve as resolve_device

    supervision = _supervise(progress, checkpoint_every, stopping)
    with run_writer.reopen_run(name) as folder:
        run = Run(folder)
        configuration = configure(run.settings)
        device = resolve_device(configuration.settings.device)
        for key in ("torch", "device", "processes"):
            now, before = environment(device)[key], run.environment.get(key)
            if before not in (None, now):
                logger.warning(
                    f"the run started with {key} {before} and resumes with {now}. Results may "
                    "differ in the last digits."
                )
        with _lead(configuration, supervision) as supervision:
            first = load_prepared(configuration, configuration.settings.seeds[0])
            log_warnings(first)
            _train_seeds(folder, configuration, device, supervision, first)
    return Run(folder)


def _train_seeds(
    folder: Path,
    configuration: Configuration,
    device: torch.device,
    supervision: _Supervision,
    first: Prepared,
) -> None:
    """Train the seeds that the run in ``folder`` lacks; ``first`` is the data of the first."""
    settings = configuration.settings
    started = datetime.now(UTC)
    finished: list[SeedMetrics] = []
    # includes seeds that were trained before an interruption
    before = Run(folder).environment
    engines = dict.fromkeys(before.get("steps", ()))
    speed = dict(before.get("speed", {}))
    try:
        for index, seed in enumerate(settings.seeds):
            data = load_prepared(configuration, seed) if index else first
            identity = run_writer.training_identity(settings, data.digest)
            done = run_writer.read_finished_seed(folder, seed, identity)
            supervision.agree(data.digest, done is not None, settings.training.window)
            if done is None:
                trained = _train_seed(
                    folder, configuration, data, seed, device, supervision, identity
                )
                engines.update(dict.fromkeys(record.engine for record in trained.epochs))
                speed[str(seed)] = trained.measure_speed()
                done = trained.metrics
            finished.append(done)
    finally:
        if finished:
            complete = len(finished) == len(settings.seeds)
            made_with = {**environment(device), "steps": list(engines), "speed": speed}
            run_writer.write_environment(folder, made_with, started)
            run_writer.write_metrics(folder, settings, finished, interrupted=not complete)
            if complete:
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _train_seed(
    folder: Path | None,
    configuration: Configuration,
    data: Prepared,
    seed: int,
    device: torch.device,
    supervision: _Supervision,
    identity: str,
) -> Trained:
    """Train one seed from its latest checkpoint; write to ``folder``, or nothing if it is None."""
    from dartcli.experiments.initialize import make_initializer
    from dartcli.training.checkpoint import CheckpointWriter, load_latest
    from dartcli.training.launch import share_position
    from dartcli.training.trainer import SeedTraining

    place = None if folder is None else run_writer.checkpoint_folder(folder, seed)
    position = None if place is None else load_latest(place, identity, device)
    processes = supervision.processes
    if processes is not None:
        position = share_position(processes, position, identity, device)
    if position is not None:
        logger.info(f"resuming seed {seed} after iteration {position.iteration:,}")
    remarks: set[str] = set()
    with supervision.stopping() as stop_signal:
        hint = "" if folder is None else f"Resume with `dart resume {folder.name}`."
        if processes is not None:
            # all of them stop after the same step
            processes.poll = stop_signal
        stop = stop_signal if processes is None else lambda: processes.signal
        writer = CheckpointWriter(place, identity, supervision.interval, stop, hint)
        training = SeedTraining(
            configuration,
            data,
            seed,
            device,
            writer=writer,
            position=position,
            initial=make_initializer(configuration, data, seed),
            processes=processes,
        )
        for record in training:
            if record.remark and record.remark not in remarks:
                remarks.add(record.remark)
                logger.info(record.remark)
            if supervision.progress is not None:
                supervision.progress(seed, record)
        if folder is not None and place is not None:
            run_writer.write_seed(folder, training.outcome.record(), identity)
            shutil.rmtree(place, ignore_errors=True)
    return training.outcome
