"""Run the trainings of a sweep, in this process or in several."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dartcli._version import __version__
from dartcli.errors import DartError, TrainingError, UsageError
from dartcli.experiments.configure import configure, load_prepared, log_warnings
from dartcli.experiments.sweep import (
    Row,
    Sweep,
    SweepEntry,
    Tuned,
    check_tuning,
    claim_sweep,
    find_sweep,
)
from dartcli.experiments.sweep_plan import Plan, PlannedTraining, is_of_arm, plan_trainings
from dartcli.settings import Settings
from dartcli.storage.system import available_cores
from dartcli.training.configuration import Configuration

if TYPE_CHECKING:
    from dartcli.training.sharing import SharedStages

logger = logging.getLogger(__name__)

WEIGHT_DECAYS: Final = (1e-6, 1e-5, 1e-4)
"""Values that the weight decay of ``base`` is chosen from."""
TUNING_SEEDS: Final = (0, 1, 2)
"""Seeds used for tuning, whatever the seeds of the sweep: adding seeds changes no choice."""


class DeadWorker(str):
    """The error of a training whose process ended without one."""

    __slots__ = ()


Results = Generator[tuple[PlannedTraining, Row | str], None, None]
"""Trainings, each with its row, or the error that ended it."""


@dataclass(frozen=True)
class SweepProgress:
    """State of a sweep after a training."""

    done: int
    """Finished trainings, including those of earlier calls."""
    total: int
    """All trainings."""
    phase: str
    """What they are for."""
    latest: PlannedTraining | None = None
    """The training that finished last."""
    row: Row | None = None
    """Its row."""
    running: tuple[PlannedTraining, ...] = ()
    """The trainings in progress."""


def run_sweep(
    plan: Plan,
    name: str,
    *,
    jobs: int | None = None,
    shard: tuple[int, int] = (1, 1),
    progress: Callable[[SweepProgress], None] = lambda _progress: None,
) -> Sweep:
    """Train what is missing of ``plan`` and return the sweep ``name``.

    Parameters
    ----------
    plan
        What to train.
    name
        Name of the sweep; an existing one is resumed.
    jobs
        Processes at a time, which share the machine's cores. None = one per core on a CPU, one on
        a GPU.
    shard
        (i, n): train only part i of n; each of them tunes the baseline.
    progress
        Called at the start and after every training.

    Raises
    ------
    UsageError
        If the plan is invalid, or only one of plan and sweep has a tuned baseline.
    TrainingError
        If some trainings failed. The others are kept; the message gives their number and a cause.
    """
    if not (plan.datasets and plan.models and plan.arms and plan.seeds):
        raise UsageError("a sweep needs at least one dataset, model, strategy, and seed.")
    if plan.tune_base and not plan.tunes_base:
        raise UsageError(
            "`--tune-base` chooses training.weight_decay. Remove it from `--set`, or use "
            "`--no-tune-base`."
        )
    planned = plan_trainings(plan)
    sweep = claim_sweep(name, plan.protocol)
    cells = {(one.entry.dataset, one.entry.model) for one in planned}
    check_tuning(sweep, cells, cells if plan.tunes_base else ())
    _prepare_datasets(planned)
    workers = jobs or default_jobs(plan.device)
    tuned = _tune_base(plan, sweep, workers, progress) if plan.tunes_base else []
    if tuned:
        planned = plan_trainings(
            plan, {(one.dataset, one.model): one.weight_decay for one in tuned}
        )
    sweep.extend([training.entry for training in planned], tuned)
    run_trainings(planned[shard[0] - 1 :: shard[1]], sweep, workers, "trainings", progress)
    return sweep


def default_jobs(device: str) -> int:
    """Return the processes at a time: one per core on a CPU, one on a GPU."""
    import torch

    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return 1 if on_gpu else available_cores()


def _prepare_datasets(planned: Sequence[PlannedTraining]) -> None:
    """Prepare one split of every dataset, so that missing data end the sweep at its start."""
    datasets = {training.entry.dataset: training.configuration for training in planned}
    for configuration in datasets.values():
        log_warnings(load_prepared(configuration, configuration.settings.seeds[0]))


def _tune_base(
    plan: Plan,
    sweep: Sweep,
    workers: int,
    progress: Callable[[SweepProgress], None],
) -> list[Tuned]:
    """Choose the weight decay of each dataset and model on validation AUC, labels as recorded."""
    base = Plan(
        datasets=plan.datasets,
        models=plan.models,
        arms=("base",),
        seeds=TUNING_SEEDS,
        protocol=plan.protocol,
        grid={key: values for key, values in plan.grid.items() if not is_of_arm(key)},
        device=plan.device,
    )
    cells = dict.fromkeys((one.entry.dataset, one.entry.model) for one in plan_trainings(base))
    by_decay = {decay: plan_trainings(base, dict.fromkeys(cells, decay)) for decay in WEIGHT_DECAYS}
    every = [one for part in by_decay.values() for one in part]
    run_trainings(every, sweep, workers, "tuning", progress)
    result = []
    for dataset, model in cells:
        means = {
            decay: _mean_valid_auc(sweep, [one.entry for one in part], dataset, model)
            for decay, part in by_decay.items()
        }
        best = max(means, key=lambda decay: means[decay])
        logger.info(
            f"{dataset}, {model}: weight decay {best:g} gives base the highest validation AUC"
        )
        chosen = Tuned(
            dataset=dataset,
            model=model,
            weight_decay=best,
            valid_auc={f"{decay:g}": value for decay, value in means.items()},
            seeds=TUNING_SEEDS,
        )
        result.append(chosen)
    return result


def _mean_valid_auc(sweep: Sweep, entries: Iterable[SweepEntry], dataset: str, model: str) -> float:
    rows = [sweep.row(one.key) for one in entries if (one.dataset, one.model) == (dataset, model)]
    # it is defined for every training of base: without it, training fails
    return statistics.fmean(row.metrics.valid_auc_recorded or 0.0 for row in rows if row)


def run_trainings(
    planned: Sequence[PlannedTraining],
    sweep: Sweep,
    workers: int,
    phase: str,
    progress: Callable[[SweepProgress], None],
) -> None:
    """Train what is missing of ``planned``."""
    distinct = {training.entry.key: training for training in planned}
    missing = [training for key, training in distinct.items() if sweep.row(key) is None]
    done = len(distinct) - len(missing)
    failures: list[str] = []
    # no more processes than trainings, and none if one is enough
    count = min(workers, len(missing))
    # trainings are started in order, so the first that have not ended are in progress
    left = {training.entry.key: training for training in missing}

    def report(latest: PlannedTraining | None = None, row: Row | None = None) -> None:
        running = tuple(left.values())[:count]
        progress(SweepProgress(done, len(distinct), phase, latest, row, running))

    report()
    with contextlib.closing(train_each(missing, sweep, count)) as results:
        for training, result in results:
            del left[training.entry.key]
            if isinstance(result, Row):
                done += 1
                report(training, result)
            else:
                entry = training.entry
                failures.append(
                    f"{entry.arm}, {entry.model} on {entry.dataset}, seed {entry.seed}: {result}"
                )
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise TrainingError(
            f"{len(failures)} of {len(missing)} trainings failed: {failures[0]}{more} The others "
            "are kept; run the same command to retry."
        )


def train_each(trainings: Iterable[PlannedTraining], sweep: Sweep, count: int) -> Results:
    """Yield each training with its result as soon as it ends; write its row.

    With a ``count`` above 1, as many processes train. The next of ``trainings`` is asked for only
    when there is room for it, so it may depend on the results so far.
    """
    if count > 1:
        yield from _run_pool(trainings, sweep, count)
        return
    try:
        for training in trainings:
            try:
                yield training, _train(training.configuration, sweep)
            except DartError as error:
                yield training, str(error)
    finally:
        # under the same settings, a later sweep may start from another run
        _shared_stages.cache_clear()


def _run_pool(trainings: Iterable[PlannedTraining], sweep: Sweep, count: int) -> Results:
    """Train in ``count`` processes; one that dies costs only its own training."""
    from pebble import ProcessExpired, ProcessPool

    pool = ProcessPool(
        max_workers=count,
        initializer=_start_worker,
        initargs=[max(1, available_cores() // count)],
        context=multiprocessing.get_context("spawn"),
    )
    futures: dict[Future[str | None], PlannedTraining] = {}
    queue = iter(trainings)

    def fill() -> None:
        for training in itertools.islice(queue, count - len(futures)):
            words = [training.configuration.settings.model_dump_json(), str(sweep.folder)]
            futures[pool.schedule(_train_in_worker, args=words)] = training

    try:
        fill()
        while futures:
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                training, error = futures.pop(future), None
                try:
                    error = future.result()
                except ProcessExpired as expired:
                    error = DeadWorker(
                        "worker exited unexpectedly, probably out of memory (exit code "
                        f"{expired.exitcode}). Use fewer `--jobs`."
                    )
                row = None if error else sweep.row(training.entry.key)
                yield training, row or error or "its row cannot be read."
            fill()
    except BrokenProcessPool as error:
        raise TrainingError(
            "all processes of the sweep ended unexpectedly, probably out of memory. Finished "
            "trainings are kept; run the same command again, with fewer `--jobs`."
        ) from error
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _start_worker(threads: int) -> None:
    """Prepare a worker process: its share of the cores, and an end with its parent."""
    # Ctrl-C reaches every process of the terminal; the parent decides what happens
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train_in_worker(settings: str, folder: str) -> str | None:
    """Train one seed and write its row; return the error that ended it, if any."""
    try:
        _train(configure(Settings.model_validate_json(settings)), find_sweep(folder))
    except DartError as error:
        return str(error)
    except Exception as error:
        return f"internal error: {type(error).__name__}: {error}."
    return None


@functools.cache
def _shared_stages() -> SharedStages:
    """Return the stages that trainings of this process share."""
    from dartcli.training.sharing import SharedStages

    return SharedStages()


def _train(configuration: Configuration, sweep: Sweep) -> Row:
    """Train one seed and write its row."""
    from dartcli.experiments.initialize import make_initializer
    from dartcli.training import device as devices
    from dartcli.training.trainer import SeedTraining

    started = time.perf_counter()
    (seed,) = configuration.settings.seeds
    device = devices.resolve(configuration.settings.device)
    data = load_prepared(configuration, seed)
    initial = make_initializer(configuration, data, seed)
    training = SeedTraining(
        configuration, data, seed, device, initial=initial, shared=_shared_stages()
    )
    trained = training.finish()
    row = Row(
        program=__version__,
        device=devices.describe(device),
        data=data.folder.parent.parent.name,
        settings=configuration.settings,
        metrics=trained.metrics,
        seconds=round(time.perf_counter() - started, 3),
    )
    sweep.write(row)
    return row
