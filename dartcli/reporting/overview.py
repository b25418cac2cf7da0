"""Describe runs for a page: metrics, settings, and environment."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any, Final

from dartcli.experiments.run import Run
from dartcli.experiments.run_index import find_differences
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.page import PageContent
from dartcli.reporting.phrases import METRIC_HEADS, THESIS, join_words, list_options
from dartcli.reporting.summary import format_spread, summarize_runs
from dartcli.reporting.table import Cell, Table
from dartcli.settings import seeds_text

MAX_NAME: Final = 100
VERSIONS: Final = {
    "dartcli": "dartcli",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "polars": "Polars",
    "platform": "Platform",
    "device": "Device",
}
"""Key in ``environment.json`` -> label."""


def _describe_speed(runs: Sequence[Run]) -> dict[str, str]:
    speeds = {run.name: speed for run in runs if (speed := run.describe_speed()) is not None}
    if not speeds:
        return {}
    texts = speeds.values() if len(runs) == 1 else (f"{n}: {s}" for n, s in speeds.items())
    return {"Speed": "; ".join(texts)}


def describe_runs(runs: Sequence[Run]) -> PageContent:
    """Return the content of a page about one or more runs, besides the analyses."""
    names = [run.name for run in runs]
    strategies, datasets, protocols, models = (
        join_words(getattr(run.metrics, key) for run in runs)
        for key in ("strategy", "dataset", "protocol", "model")
    )
    facts = {
        label: join_words(str(run.environment.get(key, "unknown")) for run in runs)
        for key, label in VERSIONS.items()
    }
    return PageContent(
        title=f"{strategies} on {datasets}",
        subtitle=(
            names[0] if len(runs) == 1 else f"{len(runs)} runs",
            f"protocol {protocols}",
            f"model {models}",
            f"seeds {join_words(seeds_text(run.seeds) for run in runs)}",
        ),
        summary=summarize_runs(runs),
        metrics=_metrics(runs),
        seed_metrics=_seed_metrics(runs),
        setup=_setup(runs),
        facts=facts
        | _describe_speed(runs)
        | describe_protocols([run.metrics.protocol for run in runs]),
        commands=(
            *(shlex.join(["dart", "train", "--config", f"{n}.json", "--name", n]) for n in names),
            shlex.join(["dart", "report", *names]),
        ),
        documents={f"{run.name}.json": _settings_json(run) for run in runs},
        made_on=_last_end(runs),
    )


def describe_protocols(protocols: Sequence[str]) -> dict[str, str]:
    """Return label -> source of the protocol ``reference``; empty if it was not used."""
    if "reference" not in protocols:
        return {}
    return {"Protocol reference": f"follows {THESIS}."}


def file_name(subjects: Sequence[Run | Sweep]) -> str:
    """Return the name of the page's file: letters, digits, dots, dashes, and underscores."""
    names = [re.sub(r"[^A-Za-z0-9_.-]", "_", one.name).lstrip(".") for one in subjects]
    joined = "-".join(names)
    if len(joined) > MAX_NAME:
        joined = f"{names[0][:60]}-and-{len(names) - 1}-more"
    return f"{joined}.html"


def _metrics(runs: Sequence[Run]) -> Table:
    shown = [
        name
        for name in METRIC_HEADS
        if any(run.metrics.summary[name].mean is not None for run in runs)
    ]
    return Table(
        title=(
            "Mean ± standard deviation over seeds. FP: known false positives; precision and "
            "recall: of the interactions flagged in the reported epoch."
        ),
        columns=("run", "strategy", "seeds", *(METRIC_HEADS[name] for name in shown)),
        rows=tuple(
            (
                run.name,
                run.metrics.strategy,
                len(run.seeds),
                *(format_spread(run.metrics.summary[name]) for name in shown),
            )
            for run in runs
        ),
    )


def _seed_metrics(runs: Sequence[Run]) -> Table | None:
    """Return the metrics of each seed; None if every run has one seed."""
    if all(len(run.seeds) == 1 for run in runs):
        return None
    seeds = [(run.name, seed) for run in runs for seed in run.metrics.seeds]
    shown = [
        name for name in METRIC_HEADS if any(getattr(seed, name) is not None for _, seed in seeds)
    ]
    return Table(
        title="Metrics of every seed",
        columns=("run", "seed", *(METRIC_HEADS[n] for n in shown), "reported epoch", "epochs"),
        rows=tuple(
            (
                run,
                str(seed.seed),
                *(getattr(seed, name) for name in shown),
                seed.reported_epoch,
                seed.epochs,
            )
            for run, seed in seeds
        ),
    )


def _setup(runs: Sequence[Run]) -> tuple[Table, ...]:
    """Return the main settings, and those in which the runs differ."""
    main = Table(
        title="Runs",
        columns=("run", "dataset", "model", "strategy", "options", "protocol", "seeds"),
        rows=tuple(
            (
                run.name,
                run.metrics.dataset,
                run.metrics.model,
                run.metrics.strategy,
                list_options(run.settings.strategy.options) or None,
                run.metrics.protocol,
                seeds_text(run.seeds) + (" (interrupted)" if run.metrics.interrupted else ""),
            )
            for run in runs
        ),
    )
    if not (differences := find_differences(runs)):
        return (main,)
    rows = tuple((key, *map(_setting_cell, values)) for key, values in differences.items())
    return (
        main,
        Table("Settings that differ", ("setting", *(run.name for run in runs)), rows),
    )


def _setting_cell(value: Any) -> Cell:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _settings_json(run: Run) -> str:
    document = run.settings.model_dump(mode="json")
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)


def _last_end(runs: Sequence[Run]) -> str:
    """Return when the last run ended: the only date on a page, so that pages can be repeated."""
    ended = max((str(run.environment.get("ended", "")) for run in runs), default="")
    return ended[:16].replace("T", " ") + " UTC" if ended else ""
