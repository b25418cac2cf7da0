"""Many trainings for one table: what to run, in which order, in how many processes.

Data sets x models x strategies x seeds, times the values that settings are varied over. Every
finished training is kept at once (:mod:`dartcli.sweeps`), so a sweep that ends early goes on where
it stopped.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import shlex
import signal
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from dartcli import catalog, steps, sweeps
from dartcli.errors import DartError, TrainingError, UsageError
from dartcli.settings import Options, Settings, parse_assignments, parse_value, parsed
from dartcli.version import __version__

WEIGHT_DECAYS: Final = (1e-6, 1e-5, 1e-4)
"""What the base is tuned over."""
TUNING_SEEDS: Final = (0, 1, 2)
"""Seeds that the tuning looks at, whatever the sweep's own: adding seeds changes no choice."""

TABLE_2: Final = (
    "base",
    "clean",
    "bootstrap-hard",
    "bootstrap-soft",
    "lcd",
    "lcd-re",
    "adt-ce-r",
    "adt-ce-t",
    "dart-disc",
    "dart-rel",
    "dart",
)
SENSITIVITY: Final[Mapping[str, tuple[float, ...]]] = {
    "t_i": (0, 1000, 2000, 4000),
    "t_m": (5000, 10_000, 20_000, 40_000),
    "tau_m": (0.005, 0.01, 0.02, 0.04),
    "r": (0, 0.25, 0.5, 0.75, 1),
}
"""The ranges of Fig. 7; one is varied at a time."""
CENTRE: Final[Mapping[str, float]] = {"t_i": 0, "t_m": 20_000, "tau_m": 0.04, "r": 0.5}


class Preset(Options):
    """A sweep that the thesis has."""

    datasets: tuple[str, ...]
    """Data sets."""
    models: tuple[str, ...]
    """Models."""
    arms: tuple[str, ...]
    """Strategies, each with its options: ``dart tau_m=0.04``."""


def _sensitivity_arms() -> tuple[str, ...]:
    points = [{**CENTRE, name: value} for name, values in SENSITIVITY.items() for value in values]
    texts = [" ".join(f"{key}={value}" for key, value in point.items()) for point in points]
    return ("base", *dict.fromkeys(f"dart {text}" for text in texts))


PRESETS: Final[Mapping[str, Preset]] = {
    "table2": Preset(
        datasets=("movielens-100k", "adressa", "book-crossing", "jester"),
        models=("fm", "deepfm"),
        arms=(*TABLE_2, "popularity"),
    ),
    "sensitivity": Preset(datasets=("book-crossing",), models=("fm",), arms=_sensitivity_arms()),
}


@dataclass(frozen=True)
class Plan:
    """What a sweep should contain."""

    datasets: Sequence[str]
    """Names of data sets."""
    models: Sequence[str]
    """Names of models."""
    arms: Sequence[str]
    """Strategies, each with options of its own if it likes: ``dart r=0 tau_m=0.04``."""
    seeds: Sequence[int]
    """One training of each cell and arm for each."""
    protocol: str = "strict"
    """``strict`` or ``reference``."""
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Setting (``training.epochs``, ``strategy.tau_m``) -> the values it takes."""
    tune_base: bool | None = None
    """Choose each cell's weight decay for ``base`` first; none = under ``strict`` only."""
    device: str = "auto"
    """Where to train."""


@dataclass(frozen=True)
class Training:
    """One training of a sweep."""

    entry: sweeps.Entry
    settings: Settings


def parse_grid(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Turn ``["strategy.tau_m=0.01,0.02", "training.epochs=50"]`` into setting -> values.

    Raises
    ------
    UsageError
        If one is no assignment, or has no value.
    """
    grid: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        values = [part.strip() for part in text.strip().strip("[]").split(",")]
        if not equals or not key.strip() or not all(values):
            raise UsageError(
                "--set takes KEY=VALUE or KEY=VALUE,VALUE,... such as strategy.tau_m=0.01,0.02, "
                f"but got {assignment!r}."
            )
        grid[key.strip()] = [parse_value(value) for value in values]
    return grid


def _assigned(key: str, value: object) -> dict[str, Any]:
    tree = parse_assignments([f"{key}=0"])
    branch = tree
    while isinstance(inner := branch[next(iter(branch))], dict):
        branch = inner
    branch[next(iter(branch))] = value
    return tree


def _labelled(name: str, options: Mapping[str, Any]) -> str:
    if not options:
        return name
    return f"{name} ({', '.join(f'{key}={value}' for key, value in options.items())})"


@dataclass(frozen=True)
class _Arm:
    label: str
    strategy: str
    options: dict[str, Any]


def _arms(plan: Plan) -> list[_Arm]:
    """Return the arms, those that the grid varies included; labels say what is not default."""
    varied = {key: list(plan.grid[key]) for key in plan.grid if key.startswith("strategy.")}
    unused = set(varied)
    found: dict[str, _Arm] = {}
    for text in plan.arms:
        words = shlex.split(text)
        if not words:
            raise UsageError("--arm takes a strategy and its options, such as 'dart r=0'.")
        kind = catalog.load("strategies", words[0])
        given = parse_assignments(f"strategy.{word}" for word in words[1:])
        own = given.get("strategy", {}).get("options", {})
        known = [
            key for key in varied if key.removeprefix("strategy.") in kind.Options.model_fields
        ]
        unused -= set(known)
        # what an arm sets itself the grid leaves alone
        mine = [key for key in known if key.removeprefix("strategy.") not in own]
        for values in itertools.product(*(varied[key] for key in mine)):
            grid = dict(zip((key.removeprefix("strategy.") for key in mine), values, strict=True))
            options = parsed(kind.Options, {**grid, **own}, "strategy")
            defaults = kind.Options().model_dump(mode="json")
            full = options.model_dump(mode="json")
            shown = {key: value for key, value in full.items() if value != defaults[key]}
            arm = _Arm(_labelled(words[0], shown), words[0], full)
            found.setdefault(arm.label, arm)
    for key in varied:
        if key in unused:
            raise UsageError(
                f"no strategy of this sweep has the option {key.removeprefix('strategy.')}; "
                "leave it out or add a strategy that has it."
            )
    return list(found.values())


def trainings(
    plan: Plan, tuned: Mapping[tuple[str, str], sweeps.Tuned] | None = None
) -> list[Training]:
    """Return every training of ``plan``, seed by seed, so that an early end leaves whole tables.

    ``tuned`` says which weight decay a data set and model take.

    Raises
    ------
    UsageError
        If a name, key or value does not fit.
    """
    arms = _arms(plan)
    around = {key: values for key, values in plan.grid.items() if not key.startswith("strategy.")}
    bad = [key for key in around if key.split(".")[0] not in {"dataset", "model", "training"}]
    if bad:
        raise UsageError(
            f"a sweep varies dataset., model., training. and strategy. settings, not {bad[0]!r}."
        )
    result: dict[tuple[str, str, str, int], Training] = {}
    for seed, dataset, model, values, arm in itertools.product(
        plan.seeds, plan.datasets, plan.models, itertools.product(*around.values()), arms
    ):
        chosen = dict(zip(around, values, strict=True))
        of_data = {k.partition(".")[2]: v for k, v in chosen.items() if k.startswith("dataset.")}
        others = {k: v for k, v in chosen.items() if not k.startswith("dataset.")}
        names = (
            _labelled(dataset, of_data),
            _labelled(model, {k.removeprefix("model."): v for k, v in others.items()}),
        )
        weight_decay = tuned[names].weight_decay if tuned and names in tuned else None
        settings = steps.resolve(
            {
                "protocol": plan.protocol,
                "dataset": {"name": dataset},
                "model": {"name": model},
                "strategy": {"name": arm.strategy, "options": arm.options},
                "training": {"weight_decay": weight_decay},
                "device": plan.device,
                "seeds": [seed],
            },
            *(_assigned(key, value) for key, value in chosen.items()),
        )
        entry = sweeps.Entry(
            dataset=names[0],
            model=names[1],
            arm=arm.label,
            strategy=arm.strategy,
            options=arm.options,
            seed=seed,
            key=sweeps.row_key(settings),
        )
        result.setdefault((*names, arm.label, seed), Training(entry, settings))
    return list(result.values())


@dataclass(frozen=True)
class Progress:
    """How far a sweep is."""

    done: int
    """Trainings finished, those of earlier calls included."""
    total: int
    """Trainings in all."""
    phase: str
    """What they are for."""
    latest: Training | None = None
    """The one that was finished last."""
    row: sweeps.Row | None = None
    """Its row."""


def sweep(
    plan: Plan,
    name: str,
    *,
    jobs: int | None = None,
    note: Callable[[str], None] = lambda _sentence: None,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> sweeps.Sweep:
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
    note, progress
        Called with sentences, and after every training.

    Raises
    ------
    UsageError
        If the plan cannot be.
    TrainingError
        If some trainings failed; the others are kept, and the message says how many and why.
    """
    if not (plan.datasets and plan.models and plan.arms and plan.seeds):
        raise UsageError("a sweep needs at least one data set, model, strategy and seed.")
    tune = plan.protocol == "strict" if plan.tune_base is None else plan.tune_base
    if "training.weight_decay" in plan.grid:
        if plan.tune_base:
            raise UsageError("--tune-base chooses training.weight_decay: do not --set it as well.")
        tune = False
    planned = trainings(plan)
    found = sweeps.claim(name, plan.protocol)
    _prepare(planned, note)
    workers = jobs or _default_jobs(plan.device)
    tuned: dict[tuple[str, str], sweeps.Tuned] = {}
    if tune:
        tuned = _tuned(plan, found, workers, note, progress)
        planned = trainings(plan, tuned)
    found.extend([training.entry for training in planned], tuned.values())
    _run(planned, found, workers, "trainings", progress)
    return sweeps.Sweep(found.folder)


def _default_jobs(device: str) -> int:
    import torch

    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return 1 if on_gpu else cores()


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prepare(planned: Sequence[Training], note: Callable[[str], None]) -> None:
    """Prepare one split of every data set, so that what cannot be had is known at once."""
    for settings in {training.entry.dataset: training.settings for training in planned}.values():
        steps.prepared(settings, settings.seeds[0], note=note)


def _tuned(
    plan: Plan,
    found: sweeps.Sweep,
    workers: int,
    note: Callable[[str], None],
    progress: Callable[[Progress], None],
) -> dict[tuple[str, str], sweeps.Tuned]:
    """Choose the weight decay of each data set and model on validation as recorded."""
    candidates: dict[tuple[str, str], dict[float, list[Training]]] = {}
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
        for training in trainings(base):
            settings = steps.resolve(
                training.settings.model_dump(), {"training": {"weight_decay": decay}}
            )
            key = sweeps.row_key(settings)
            entry = training.entry.model_copy(update={"key": key})
            cell = candidates.setdefault((entry.dataset, entry.model), {})
            cell.setdefault(decay, []).append(Training(entry, settings))
    every = [one for cell in candidates.values() for part in cell.values() for one in part]
    _run(every, found, workers, "tuning base", progress)
    result = {}
    for (dataset, model), cell in candidates.items():
        means = {decay: _mean_valid_auc(found, part) for decay, part in cell.items()}
        best = max(means, key=lambda decay: means[decay])
        note(f"{dataset}, {model}: weight decay {best:g} has the best validation AUC for base")
        result[dataset, model] = sweeps.Tuned(
            dataset=dataset,
            model=model,
            weight_decay=best,
            valid_auc={f"{decay:g}": value for decay, value in means.items()},
            seeds=TUNING_SEEDS,
        )
    return result


def _mean_valid_auc(found: sweeps.Sweep, part: Sequence[Training]) -> float:
    rows = [found.row(training.entry.key) for training in part]
    values = [row.metrics.valid_auc_recorded for row in rows if row is not None]
    numbers = [value for value in values if value is not None]
    return statistics.fmean(numbers) if numbers else float("-inf")


def _run(
    planned: Sequence[Training],
    found: sweeps.Sweep,
    workers: int,
    phase: str,
    progress: Callable[[Progress], None],
) -> None:
    """Run what is missing of ``planned``."""
    distinct = {training.entry.key: training for training in planned}
    missing = [training for key, training in distinct.items() if found.row(key) is None]
    done = len(distinct) - len(missing)
    progress(Progress(done, len(distinct), phase))
    failures: list[str] = []
    # no more processes than trainings, and none where one is enough
    count = min(workers, len(missing))
    stream = _here(missing, found) if count <= 1 else _in_processes(missing, found, count)
    with contextlib.closing(stream):
        for training, outcome in stream:
            if isinstance(outcome, sweeps.Row):
                done += 1
                progress(Progress(done, len(distinct), phase, training, outcome))
            else:
                failures.append(f"{_described(training)}: {outcome}")
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise TrainingError(
            f"{len(failures)} of {len(missing)} trainings failed, the others are kept; the same "
            f"command tries them again. {failures[0]}{more}"
        )


def _described(training: Training) -> str:
    entry = training.entry
    return f"{entry.arm}, {entry.model} on {entry.dataset}, seed {entry.seed}"


Outcome = sweeps.Row | str
Stream = Generator[tuple[Training, Outcome], None, None]


def _here(missing: Sequence[Training], found: sweeps.Sweep) -> Stream:
    for training in missing:
        try:
            yield training, _train(training.settings, found)
        except DartError as error:
            yield training, str(error)


def _train(settings: Settings, found: sweeps.Sweep) -> sweeps.Row:
    """Train one seed and keep its row."""
    from dartcli.training import device as devices
    from dartcli.training.experiment import train_seed

    began = time.perf_counter()
    (seed,) = settings.seeds
    device = devices.resolve(settings.device)
    data = steps.prepared(settings, seed)
    trained = steps.drained(train_seed(settings, data, seed, device), seed)
    row = sweeps.Row(
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

    def __init__(self, found: sweeps.Sweep, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.training: Training | None = None
        self.process = context.Process(
            target=_serve, args=(theirs, str(found.folder), threads), daemon=True
        )
        self.process.start()
        theirs.close()

    def send(self, training: Training) -> None:
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
        return parsed(sweeps.Row, value, "row") if kind == "row" else str(value)

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _in_processes(missing: Sequence[Training], found: sweeps.Sweep, count: int) -> Stream:
    waiting = iter(missing)
    threads = max(1, cores() // count)
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
    found = sweeps.find(folder)
    while True:
        try:
            message = _received(pipe)
        except EOFError:
            return
        try:
            row = _train(parsed(Settings, message, "settings"), found)
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
