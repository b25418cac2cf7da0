"""The steps as functions: settings in, results out. Nothing here prints.

``note`` is called with one sentence whenever something happens that the caller did not ask for in
so many words (a missing step that runs by itself, a partial data set); ``progress`` is called with
each epoch record of a training.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dartcli import catalog, paths, runs, sweeps
from dartcli.data import own, store
from dartcli.data.dataset import Dataset
from dartcli.data.fetch import fetch, fetched_sizes
from dartcli.errors import DartError, RunError, UsageError
from dartcli.files import write_text
from dartcli.settings import (
    PROTOCOLS,
    Component,
    Options,
    Settings,
    merged,
    parsed,
    resolved_options,
)

if TYPE_CHECKING:
    import torch

    from dartcli.analysis import Analysis, Report
    from dartcli.report import Context, Source
    from dartcli.training.checkpoints import Every
    from dartcli.training.experiment import Trained
    from dartcli.training.loop import EpochRecord

Note = Callable[[str], None]
Split = Literal["train", "valid", "test"]
Stopping = Callable[[], AbstractContextManager[Callable[[], int]]]
"""Makes a context for the steps of one seed. What it yields is asked after every step; a number
other than 0 ends the training after a checkpoint, by a StoppedError with the exit code 128 + it."""
CHECKPOINT_EVERY = "60s"
"""A training of less than a minute writes none."""


def _silent(_sentence: str) -> None:
    return None


@contextmanager
def _never() -> Iterator[Callable[[], int]]:
    """Let a training go on to its end."""
    yield lambda: 0


def download(
    name: str,
    source: str | None = None,
    *,
    note: Note = _silent,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Fetch, verify and unpack the files of data set ``name``; return their folder.

    Parameters
    ----------
    name
        A data set of the catalogue.
    source
        A directory, file or URL to take them from, instead of ``DART_MIRROR`` and the data set's
        own addresses.
    note, progress
        Called with sentences, and with (file, bytes so far, bytes in all or None).

    Raises
    ------
    UsageError
        If there is no such data set.
    DownloadError
        If the files cannot be had, or are not what they should be.
    """
    return fetch(dataset(name), source, note=note, progress=progress)


def dataset(name: str) -> Dataset:
    """Return what is known of data set ``name``; UsageError if there is none."""
    if own.recall(name) is not None:
        return own.dataset(name)
    try:
        found: Dataset = catalog.load("datasets", name)
    except UsageError as error:
        logs = own.names()
        if not logs:
            raise
        raise UsageError(f"{error} Your own logs are: {', '.join(logs)}.") from error
    return found


def datasets() -> list[dict[str, Any]]:
    """Return what ``dart download --list`` shows, one entry a data set.

    Returns
    -------
    list of dict
        ``name``, ``title``, ``licence``, ``citation``, ``bytes`` (of what is here, else as
        declared; null = not known), ``here`` (``yes``, ``in part``, ``no``, ``built in``) and
        ``complete`` (true, false, or null where it was not prepared yet or nobody knows).
    """
    return [_entry(dataset(name)) for name in catalog.names("datasets")]


def _entry(known: Dataset) -> dict[str, Any]:
    sizes = fetched_sizes(known)
    declared = [file.size for file in known.files]
    here = "yes" if len(sizes) == len(known.files) else "in part" if sizes else "no"
    return {
        "name": known.name,
        "title": known.title,
        "licence": known.licence,
        "citation": known.citation,
        "bytes": sum(sizes.values()) if sizes else _sum(declared),
        "here": here if known.files else "built in",
        "complete": store.known_complete(known.name),
    }


def _sum(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def default_dataset() -> str:
    """Return the data set that was prepared last, else ``synthetic``."""
    return store.last_prepared() or "synthetic"


def preprocess(
    name: str,
    *,
    protocol: str = "strict",
    split_seed: int = 0,
    options: Mapping[str, Any] | None = None,
    note: Note = _silent,
) -> store.Prepared:
    """Encode and split data set ``name``; what was done before is not done again.

    Parameters
    ----------
    name
        A data set of the catalogue.
    protocol
        ``strict`` or ``reference``.
    split_seed
        Seed of the split and of the negatives of validation and test.
    options
        Options of the data set, such as ``{"tp_threshold": 3}``.
    note
        Called with sentences.

    Raises
    ------
    UsageError
        If there is no such data set, protocol or option.
    DataError, DownloadError
        If the source cannot be had or read.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"there is no protocol {protocol!r}; choose {' or '.join(PROTOCOLS)}.")
    known = dataset(name)
    return store.prepare(
        known,
        parsed(known.options, {**_described(name), **(options or {})}, "dataset"),
        PROTOCOLS[protocol],
        split_seed,
        note=note,
    )


def prepared(settings: Settings, seed: int, *, note: Note = _silent) -> store.Prepared:
    """Return the prepared data of one seed of a run; prepares what is missing."""
    known = dataset(settings.dataset.name)
    data = store.prepare(
        known,
        parsed(known.options, settings.dataset.options, "dataset"),
        PROTOCOLS[settings.protocol],
        seed if settings.split_seed is None else settings.split_seed,
        note=note,
    )
    for warning in data.manifest.warnings:
        note(warning)
    return data


def resolve(*trees: Mapping[str, Any]) -> Settings:
    """Return complete settings from nested mappings; later ones win.

    Every option of data set, model and strategy, and everything that the protocol decides, is
    filled in, so the result repeats a run even when defaults change.

    Raises
    ------
    UsageError
        If a name, key or value does not fit.
    """
    settings = parsed(Settings, merged(Settings().model_dump(), *trees), "settings")
    protocol = PROTOCOLS[settings.protocol]
    if not settings.seeds:
        raise UsageError("settings.seeds is empty: give at least one seed.")
    if len(set(settings.seeds)) != len(settings.seeds) or min(settings.seeds) < 0:
        raise UsageError(f"settings.seeds is {list(settings.seeds)}: give distinct numbers from 0.")
    protocol_defaults = protocol.model_dump()
    training = merged(
        {"epochs": protocol.epochs, "patience": protocol.patience},
        settings.training.model_dump(exclude_none=True),
    )
    return parsed(
        Settings,
        {
            **settings.model_dump(),
            "dataset": _filled("datasets", settings.dataset, "dataset", {}),
            "model": _filled("models", settings.model, "model", protocol_defaults),
            "strategy": _filled("strategies", settings.strategy, "strategy", {}),
            "training": training,
        },
        "settings",
    )


def _described(name: str) -> dict[str, Any]:
    """Return what is kept of the log ``name``; nothing for a data set of the catalogue."""
    options = own.recall(name)
    return {} if options is None else options.model_dump(mode="json")


def describe(options: own.OwnOptions) -> dict[str, Any]:
    """Return how a log would be understood, without preparing anything.

    Returns
    -------
    dict
        ``files``, ``columns`` (name -> type, as found), ``rows`` (the first five as understood),
        ``counts`` (rows, users, items, positives, known false positives) and ``plan``, sentences
        that say what would happen.
    """
    return own.described(options)


def register(name: str, options: own.OwnOptions) -> None:
    """Keep the description of a log under ``name``, so that it is a data set from then on.

    Raises
    ------
    UsageError
        If the name is taken by a data set of this program, or cannot be a name.
    DataError
        If a file or column is missing or of the wrong type.
    """
    own.check_name(name)
    own.understood(options, options.inputs)
    if options.test_clean:
        own.understood(options, options.test_clean)
    own.remember(name, options)


def _filled(
    kind: catalog.Kind, component: Component, where: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    if kind == "datasets":
        options: type[Options] = dataset(component.name).options
        defaults = _described(component.name)
    else:
        options = catalog.load(kind, component.name).Options
    resolved = resolved_options(options, component, where, defaults)
    return {"name": component.name, "options": resolved.model_dump(mode="json")}


def train(
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    note: Note = _silent,
    progress: Callable[[int, EpochRecord], None] | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    stopping: Stopping = _never,
    **keys: Any,
) -> runs.Run:
    """Train one run, over one seed or several, and return it.

    Parameters
    ----------
    settings
        Settings, or a nested mapping such as ``{"strategy": {"name": "dart"}}``.
    name
        Name of the run; None takes the next free ``run_01``, ``run_02``, ....
    note, progress
        Called with sentences, and with (seed, epoch record).
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
        runs.check_name(name)
    tree = settings.model_dump() if isinstance(settings, Settings) else dict(settings or {})
    resolved = resolve(tree, _named(keys))
    device = devices.resolve(resolved.device)
    how = _how(note, progress, checkpoint_every, stopping)
    # the first seed's data come before the folder: a data set that fails leaves no run behind
    first = prepared(resolved, resolved.seeds[0], note=note)
    with runs.writing(resolved, environment(device), name) as folder:
        _train_seeds(folder, resolved, device, how, first)
    return runs.Run(folder)


def resume(
    name: str,
    *,
    note: Note = _silent,
    progress: Callable[[int, EpochRecord], None] | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    stopping: Stopping = _never,
) -> runs.Run:
    """Go on with a run that was not finished, as if it had never stopped, and return it.

    Parameters
    ----------
    name
        Name of the run; its settings are those that it began with.
    note, progress, checkpoint_every, stopping
        As for :func:`train`.

    Raises
    ------
    UsageError
        If there is no such run, or it is finished.
    RunError
        If another process trains it, its files cannot be read, or the data are others now.
    """
    from dartcli.training import device as devices

    how = _how(note, progress, checkpoint_every, stopping)
    with runs.reopening(name) as folder:
        run = runs.Run(folder)
        device = devices.resolve(run.settings.device)
        for key in ("torch", "device"):
            now, then = environment(device)[key], run.environment.get(key)
            if then not in (None, now):
                note(f"the run began with {key} {then}, and goes on with {now}: digits may differ.")
        _train_seeds(folder, run.settings, device, how)
    return runs.Run(folder)


@dataclass(frozen=True)
class _How:
    """What :func:`train` and :func:`resume` take beside settings."""

    note: Note
    progress: Callable[[int, EpochRecord], None] | None
    every: Every
    stopping: Stopping


def _how(
    note: Note,
    progress: Callable[[int, EpochRecord], None] | None,
    checkpoint_every: str,
    stopping: Stopping,
) -> _How:
    from dartcli.training.checkpoints import parse_every

    return _How(note, progress, parse_every(checkpoint_every), stopping)


def _train_seeds(
    folder: Path,
    settings: Settings,
    device: torch.device,
    how: _How,
    first: store.Prepared | None = None,
) -> None:
    """Train what is missing of the run in ``folder``; ``first`` are the data of its first seed."""
    from dartcli.training import checkpoints
    from dartcli.training.experiment import train_seed

    began = datetime.now(UTC)
    finished: list[runs.SeedMetrics] = []
    # of the seeds that were trained before the run was interrupted
    engines = dict.fromkeys(runs.Run(folder).environment.get("steps", ()))
    remarks: set[str] = set()
    warned = first is not None

    def watch(seed: int, record: EpochRecord) -> None:
        if record.remark and record.remark not in remarks:
            remarks.add(record.remark)
            how.note(record.remark)
        if how.progress is not None:
            how.progress(seed, record)

    try:
        for seed in settings.seeds:
            # what there is to say of the data is said once
            data = first or prepared(settings, seed, note=_silent if warned else how.note)
            first, warned = None, True
            identity = runs.identity(settings, data.digest)
            done = runs.finished_seed(folder, seed, identity)
            if done is not None:
                finished.append(done)
                continue
            place = runs.checkpoints(folder, seed)
            words = f"go on with dart train --resume {folder.name}"
            position = checkpoints.latest(place, identity, device, how.note)
            if position is not None:
                how.note(f"seed {seed} goes on after iteration {position.iteration:,}.")
            with how.stopping() as asked:
                keeper = checkpoints.Keeper(place, identity, how.every, asked, words)
                stream = train_seed(settings, data, seed, device, keeper=keeper, resume=position)
                trained = drained(stream, seed, watch)
                engines.update(dict.fromkeys(record.engine for record in trained.epochs))
                runs.write_seed(folder, trained.record, identity)
                shutil.rmtree(place, ignore_errors=True)
                finished.append(trained.metrics)
    finally:
        if finished:
            complete = len(finished) == len(settings.seeds)
            made_with = {**environment(device), "steps": list(engines)}
            runs.write_environment(folder, made_with, began)
            runs.write_metrics(folder, settings, finished, interrupted=not complete)
            if complete:
                shutil.rmtree(folder / runs.CHECKPOINTS, ignore_errors=True)


def _named(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {"name": value}
        if key in {"dataset", "model", "strategy"} and isinstance(value, str)
        else value
        for key, value in keys.items()
    }


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


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Return what a run is made with: program, libraries, machine."""
    import numpy as np
    import polars as pl
    import torch

    import dartcli
    from dartcli.training.device import describe

    return {
        "dartcli": dartcli.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "polars": pl.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": describe(device or torch.device("cpu")),
        "command": sys.argv,
    }


def evaluate(
    run: runs.Run | str, split: Split = "test", *, device: str = "auto", note: Note = _silent
) -> dict[str, Any]:
    """Measure the reported weights of every seed of a finished run on one split.

    Returns
    -------
    dict
        ``{"run", "dataset", "protocol", "model", "strategy", "split", "seeds": [...],
        "summary": ...}`` with, for each seed, ``<split>_auc``, ``<split>_auc_without_fp`` and
        ``<split>_log_loss`` against clean labels.

    Raises
    ------
    UsageError, RunError
        If there is no such run or split, or its files cannot be read.
    """
    from dartcli.data.batches import table_from
    from dartcli.training import device as devices
    from dartcli.training.evaluate import logits, measures
    from dartcli.training.experiment import make_model

    if split not in ("train", "valid", "test"):
        raise UsageError(f"there is no split {split!r}; choose train, valid or test.")
    run = runs.find(run) if isinstance(run, str) else run
    target = devices.resolve(device)
    seeds = []
    for seed in run.seeds:
        data = prepared(run.settings, seed, note=note)
        with devices.explained(target):
            model = make_model(run.settings, data, seed, target)
            runs.load_weights(model, run, seed)
            table = table_from(data.split(split), data.fields, target)
            found = measures(logits(model, table), table)
        seeds.append(
            {"seed": seed}
            | {f"{split}_{measure}": runs.finite(value) for measure, value in found.items()}
        )
    names = [key for key in seeds[0] if key != "seed"]
    summary = {key: runs.spread([entry[key] for entry in seeds]).model_dump() for key in names}
    return {
        "run": run.name,
        "dataset": run.metrics.dataset,
        "protocol": run.metrics.protocol,
        "model": run.metrics.model,
        "strategy": run.metrics.strategy,
        "split": split,
        "seeds": seeds,
        "summary": summary,
    }


def analyze(
    what: str,
    chosen: Sequence[runs.Run | sweeps.Sweep | str],
    options: Mapping[str, Any] | None = None,
) -> Report:
    """Run one analysis over finished runs and write its files.

    They go to the folder ``analysis/<what>/`` of the first run (or sweep): each figure as PNG and
    SVG, the tables as Markdown, LaTeX and CSV, and ``numbers.json``.

    Raises
    ------
    UsageError
        If there is no such analysis or run.
    RunError
        If a run lacks what the analysis needs; the message says which command makes it.
    """
    from dartcli import analysis
    from dartcli.comparison import subject

    kind: analysis.Analysis = catalog.load("analyses", what)
    found = [subject(name) if isinstance(name, str) else name for name in chosen]
    if not found:
        raise UsageError(f"dart analyze {what} needs the name of a run; see dart train.")
    wrong = [one.name for one in found if isinstance(one, sweeps.Sweep) and not kind.takes_sweeps]
    if wrong:
        raise UsageError(
            f"dart analyze {what} looks at runs, but {wrong[0]} is a sweep, which keeps measures "
            "only; train a run with dart train."
        )
    if not kind.takes_runs and not all(isinstance(one, sweeps.Sweep) for one in found):
        raise UsageError(
            f"dart analyze {what} looks at sweeps, not at runs; see dart sweep --help."
        )
    report = kind.answer(found, options)
    analysis.save(report, found[0].folder / "analysis" / what)
    return report


@dataclass(frozen=True)
class Page:
    """A page that :func:`report` wrote."""

    path: Path
    """Where it is."""
    summary: tuple[str, ...]
    """Its main sentences."""
    analyses: tuple[str, ...]
    """The analyses in it."""
    absent: Mapping[str, str]
    """What is not in it -> why."""


def report(chosen: Sequence[runs.Run | sweeps.Sweep | str], output: Path | None = None) -> Page:
    """Write one HTML page about runs or sweeps: what was run, measures, every analysis that fits.

    Parameters
    ----------
    chosen
        Runs or sweeps, or their names; not both kinds.
    output
        Where to write it; None takes ``reports/`` of ``DART_HOME``, named after the runs.

    Raises
    ------
    UsageError, RunError
        If there is no such run, or its files cannot be read.
    """
    from dartcli import report as pages
    from dartcli import summaries
    from dartcli.comparison import subject

    found = [subject(run) if isinstance(run, str) else run for run in chosen]
    swept = [one for one in found if isinstance(one, sweeps.Sweep)]
    if swept and len(swept) < len(found):
        raise UsageError("dart report takes runs or sweeps, not both on one page.")
    if not found:
        raise UsageError("dart report needs the name of a run; see dart runs.")
    reports: list[Report] = []
    questions: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name in catalog.names("analyses"):
        try:
            kind: Analysis = catalog.load("analyses", name)
            if not (kind.takes_sweeps if swept else kind.takes_runs):
                continue
            made, missing = _examined(kind, found)
        except DartError as error:
            absent[name] = str(error)
            continue
        reports.append(made)
        questions[made.name] = kind.question
        absent.update({f"{name} of {run}": sentence for run, sentence in missing.items()})
    context = _context(found, reports, questions, absent)
    if swept:
        # the first table leads the page
        reports = [
            replace(one, tables=one.tables[1:]) if one.name == "compare" else one for one in reports
        ]
    path = output or paths.reports() / summaries.file_name(found)
    if path.is_dir():
        raise UsageError(f"--output {path} is a directory; name a file in it.")
    write_text(path, pages.page(context, reports))
    return Page(path, context.summary, tuple(made.name for made in reports), absent)


def _context(
    found: Sequence[runs.Run | sweeps.Sweep],
    reports: Sequence[Report],
    questions: Mapping[str, str],
    absent: Mapping[str, str],
) -> Context:
    from dartcli import summaries

    swept = [one for one in found if isinstance(one, sweeps.Sweep)]
    if not swept:
        trained = [one for one in found if isinstance(one, runs.Run)]
        names = [run.metrics.dataset for run in trained]
        return summaries.context(trained, _sources(names), questions, absent)
    comparison = next((one for one in reports if one.name == "compare"), None)
    if comparison is None:
        raise RunError(absent.get("compare", "there is nothing to compare."))
    names = [row.settings.dataset.name for one in swept for _, row in one.finished()]
    return summaries.of_sweeps(swept, _sources(names), questions, absent, comparison)


def _examined(
    kind: Analysis, found: Sequence[runs.Run | sweeps.Sweep]
) -> tuple[Report, dict[str, str]]:
    """Return the report of all runs, else of those that the analysis can take, and why not all."""
    try:
        return kind.answer(found), {}
    except DartError:
        fit, missing = [], {}
        for run in found:
            try:
                kind.answer([run])
                fit.append(run)
            except DartError as error:
                missing[run.name] = str(error)
        if not fit or not missing:
            raise
        return kind.answer(fit), missing


def _sources(names: Sequence[str]) -> list[Source]:
    from dartcli.report import Source

    sources = []
    for name in dict.fromkeys(names):
        try:
            known = dataset(name)
        except UsageError:
            sources.append(Source(name, "not known on the machine that made this page"))
            continue
        if own.recall(name) is not None:
            sources.append(Source(name, "a log of one's own; its description is in the settings"))
            continue
        citation = "" if known.citation.startswith("none") else known.citation
        partial = store.known_complete(name) is False
        sources.append(Source(name, known.title, known.licence, citation, partial))
    return sources


def bench(what: str, **options: Any) -> dict[str, Any]:
    """Run one benchmark and return its document; see :mod:`dartcli.benchmarks`.

    Raises
    ------
    UsageError
        If there is no such benchmark or option value.
    """
    from dartcli.measuring import Benchmark

    found: Benchmark = catalog.load("benchmarks", what)
    return {
        "benchmark": what,
        "title": found.title,
        "environment": environment(),
        **found.measure(options),
    }
