"""Run the trainings of a sweep in one process or several."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from dartcli._version import __version__
from dartcli.errors import DartError, TrainingError, UsageError
from dartcli.experiments import configure, train
from dartcli.experiments.configure import load_prepared
from dartcli.experiments.sweep import Row, Sweep, Tuned, claim_sweep, find_sweep, settings_key
from dartcli.experiments.sweep_plan import Plan, PlannedTraining, plan_trainings
from dartcli.settings import Settings, validate
from dartcli.storage.system import available_cores

logger = logging.getLogger(__name__)

WEIGHT_DECAYS: Final = (1e-6, 1e-5, 1e-4)
"""What the base is tuned over."""
TUNING_SEEDS: Final = (0, 1, 2)
"""Seeds that the tuning looks at, whatever the sweep's own: adding seeds changes no choice."""


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is."""

    done: int
    """Trainings finished, those of earlier calls included."""
    total: int
    """Trainings in all."""
    phase: str
    """What they are for."""
    latest: PlannedTraining | None = None
    """The one that was finished last."""
    row: Row | None = None
    """Its row."""


def run_sweep(
    plan: Plan,
    name: str,
    *,
    jobs: int | None = None,
    progress: Callable[[SweepProgress], None] = lambda _progress: None,
) -> Sweep:
    """Run what is missing of ``plan`` and return the sweep ``name``.

    Parameters
    ----------
    plan
        What to run.
    name
        Name of the sweep; one that exists is continued.
    jobs
        Processes at a time, which share the machine's cores; none = one a core on a CPU, 1 on a
        GPU.
    progress
        Called after every training.

    Raises
    ------
    UsageError
        If the plan cannot be.
    TrainingError
        If some trainings failed; the others are kept, and the message says how many and why.
    """
    if not (plan.datasets and plan.models and plan.arms and plan.seeds):
        raise UsageError("a sweep needs at least one dataset, model, strategy and seed.")
    tune = plan.protocol == "strict" if plan.tune_base is None else plan.tune_base
    if "training.weight_decay" in plan.grid:
        if plan.tune_base:
            raise UsageError("--tune-base chooses training.weight_decay: do not --set it as well.")
        tune = False
    planned = plan_trainings(plan)
    found = claim_sweep(name, plan.protocol)
    _prepare(planned)
    workers = jobs or _default_jobs(plan.device)
    tuned: dict[tuple[str, str], Tuned] = {}
    if tune:
        tuned = _tuned(plan, found, workers, progress)
        planned = plan_trainings(plan, tuned)
    found.extend([training.entry for training in planned], tuned.values())
    _run(planned, found, workers, "trainings", progress)
    return Sweep(found.folder)


def _default_jobs(device: str) -> int:
    import torch

    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return 1 if on_gpu else available_cores()


def _prepare(planned: Sequence[PlannedTraining]) -> None:
    """Prepare one split of every dataset, so that what cannot be had is known at once."""
    for settings in {training.entry.dataset: training.settings for training in planned}.values():
        load_prepared(settings, settings.seeds[0])


def _tuned(
    plan: Plan,
    found: Sweep,
    workers: int,
    progress: Callable[[SweepProgress], None],
) -> dict[tuple[str, str], Tuned]:
    """Choose the weight decay of each dataset and model on validation as recorded."""
    candidates: dict[tuple[str, str], dict[float, list[PlannedTraining]]] = {}
    for decay in WEIGHT_DECAYS:
        base = Plan(
            datasets=plan.datasets,
            models=plan.models,
            arms=("base",),
            seeds=TUNING_SEEDS,
            protocol=plan.protocol,
            grid={k: v for k, v in plan.grid.items() if not k.startswith("strategy.")},
            device=plan.device,
        )
        for training in plan_trainings(base):
            settings = configure.resolve(
                training.settings.model_dump(), {"training": {"weight_decay": decay}}
            )
            key = settings_key(settings)
            entry = training.entry.model_copy(update={"key": key})
            cell = candidates.setdefault((entry.dataset, entry.model), {})
            cell.setdefault(decay, []).append(PlannedTraining(entry, settings))
    every = [one for cell in candidates.values() for part in cell.values() for one in part]
    _run(every, found, workers, "tuning base", progress)
    result = {}
    for (dataset, model), cell in candidates.items():
        means = {decay: _mean_valid_auc(found, part) for decay, part in cell.items()}
        best = max(means, key=lambda decay: means[decay])
        logger.info(
            f"{dataset}, {model}: weight decay {best:g} has the best validation AUC for base"
        )
        result[dataset, model] = Tuned(
            dataset=dataset,
            model=model,
            weight_decay=best,
            valid_auc={f"{decay:g}": value for decay, value in means.items()},
            seeds=TUNING_SEEDS,
        )
    return result


def _mean_valid_auc(found: Sweep, part: Sequence[PlannedTraining]) -> float:
    rows = [found.row(training.entry.key) for training in part]
    values = [row.metrics.valid_auc_recorded for row in rows if row is not None]
    numbers = [value for value in values if value is not None]
    return statistics.fmean(numbers) if numbers else float("-inf")


def _run(
    planned: Sequence[PlannedTraining],
    found: Sweep,
    workers: int,
    phase: str,
    progress: Callable[[SweepProgress], None],
) -> None:
    """Run what is missing of ``planned``."""
    distinct = {training.entry.key: training for training in planned}
    missing = [training for key, training in distinct.items() if found.row(key) is None]
    done = len(distinct) - len(missing)
    progress(SweepProgress(done, len(distinct), phase))
    failures: list[str] = []
    # no more processes than trainings, and none where one is enough
    count = min(workers, len(missing))
    stream = _here(missing, found) if count <= 1 else _in_processes(missing, found, count)
    with contextlib.closing(stream):
        for training, outcome in stream:
            if isinstance(outcome, Row):
                done += 1
                progress(SweepProgress(done, len(distinct), phase, training, outcome))
            else:
                failures.append(f"{_described(training)}: {outcome}")
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise TrainingError(
            f"{len(failures)} of {len(missing)} trainings failed, the others are kept; the same "
            f"command tries them again. {failures[0]}{more}"
        )


def _described(training: PlannedTraining) -> str:
    entry = training.entry
    return f"{entry.arm}, {entry.model} on {entry.dataset}, seed {entry.seed}"


Outcome = Row | str
Stream = Generator[tuple[PlannedTraining, Outcome], None, None]


def _here(missing: Sequence[PlannedTraining], found: Sweep) -> Stream:
    for training in missing:
        try:
            yield training, _train(training.settings, found)
        except DartError as error:
            yield training, str(error)


def _train(settings: Settings, found: Sweep) -> Row:
    """Train one seed and keep its row."""
    from dartcli.training import device as devices
    from dartcli.training.trainer import train_seed

    began = time.perf_counter()
    (seed,) = settings.seeds
    device = devices.resolve(settings.device)
    data = load_prepared(settings, seed)
    trained = train.drained(train_seed(settings, data, seed, device), seed)
    row = Row(
        program=__version__,
        device=devices.describe(device),
        data=data.folder.parent.parent.name,
        settings=settings,
        metrics=trained.metrics,
        seconds=round(time.perf_counter() - began, 3),
    )
    found.write(row)
    return row


def _send(pipe: Connection, message: object) -> None:
    # as JSON: what Connection.send makes is a pickle
    pipe.send_bytes(json.dumps(message).encode())


def _received(pipe: Connection) -> Any:
    return json.loads(pipe.recv_bytes())


class _Worker:
    """A process that trains what it is sent, one at a time."""

    def __init__(self, found: Sweep, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.training: PlannedTraining | None = None
        self.process = context.Process(
            target=_serve, args=(theirs, str(found.folder), threads), daemon=True
        )
        self.process.start()
        theirs.close()

    def send(self, training: PlannedTraining) -> None:
        self.training = training
        _send(self.pipe, training.settings.model_dump(mode="json"))

    def receive(self) -> Outcome:
        try:
            kind, value = _received(self.pipe)
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return (
                f"its process ended without a word ({how}); the usual cause is too little memory: "
                "use fewer --jobs"
            )
        return validate(Row, value, "row") if kind == "row" else str(value)

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _in_processes(missing: Sequence[PlannedTraining], found: Sweep, count: int) -> Stream:
    waiting = iter(missing)
    threads = max(1, available_cores() // count)
    workers: list[_Worker] = []
    try:
        for training in itertools.islice(waiting, count):
            workers.append(_Worker(found, threads))
            workers[-1].send(training)
        busy = {worker.pipe: worker for worker in workers}
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)  # noqa: S101 - what was waited for
                worker = busy.pop(pipe)
                outcome, sent = worker.receive(), worker.training
                assert sent is not None  # noqa: S101 - it was sent
                following = next(waiting, None)
                if following is not None:
                    if not worker.process.is_alive():
                        worker = _Worker(found, threads)
                        workers.append(worker)
                    worker.send(following)
                    busy[worker.pipe] = worker
                yield sent, outcome
    finally:
        for worker in workers:
            worker.stop()


def _serve(pipe: Connection, folder: str, threads: int) -> None:
    """Train what comes through ``pipe`` until it is closed: the main function of a worker."""
    # Ctrl-C reaches every process of the terminal: the parent decides what becomes of us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    found = find_sweep(folder)
    while True:
        try:
            message = _received(pipe)
        except EOFError:
            return
        try:
            row = _train(validate(Settings, message, "settings"), found)
            _send(pipe, ("row", row.model_dump(mode="json")))
        except DartError as error:
            _send(pipe, ("error", str(error)))
        except Exception as error:
            _send(pipe, ("error", f"this is a fault of dartcli: {type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
