"""What a page says of finished runs besides the analyses: main result, measures, settings."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dartcli.experiments.run import Run
from dartcli.experiments.run_index import find_differences
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.analysis import AnalysisResult
from dartcli.reporting.formats import text as number
from dartcli.reporting.page import PageContent, Source
from dartcli.reporting.table import Cell, Table
from dartcli.settings import seeds_text
from dartcli.training.results import Spread

MEASURES: Final = {
    "test_auc": "test AUC",
    "test_auc_without_fp": "without FP",
    "test_log_loss": "log loss",
    "test_auc_per_user": "AUC per user",
    "test_auc_tail_items": "tail items",
    "test_auc_inactive_users": "inactive users",
    "test_calibration_error": "calibration error",
    "identification_precision": "precision",
    "identification_recall": "recall",
}
"""Measure -> head of its column."""

LONGEST_NAME: Final = 100

VERSIONS: Final = {
    "dartcli": "dartcli",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "polars": "Polars",
    "platform": "Platform",
    "device": "Device",
}
"""Key in ``environment.json`` -> words for it."""


def describe_runs(
    runs: Sequence[Run],
    sources: Sequence[Source],
    questions: Mapping[str, str],
    absent: Mapping[str, str],
) -> PageContent:
    """Return what a page says of ``runs``.

    Parameters
    ----------
    runs
        At least one finished run.
    sources
        Their datasets.
    questions, absent
        As :class:`~dartcli.report.Context` has them.
    """
    strategies = _joined([run.metrics.strategy for run in runs])
    return PageContent(
        title=f"{strategies} on {_joined([run.metrics.dataset for run in runs])}",
        subtitle=(
            runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
            f"protocol {_joined([run.metrics.protocol for run in runs])}",
            f"model {_joined([run.metrics.model for run in runs])}",
            f"seeds {_joined([seeds_text(run.seeds) for run in runs])}",
        ),
        summary=main_result(runs),
        results=results(runs),
        seeds=every_seed(runs),
        setup=setup(runs),
        facts={
            words: _joined([str(run.environment.get(key, "not known")) for run in runs])
            for key, words in VERSIONS.items()
        },
        sources=tuple(sources),
        questions=questions,
        absent=absent,
        commands=(
            *(
                shlex.join(["dart", "train", "--config", f"{name}.json", "--name", name])
                for name in (run.name for run in runs)
            ),
            shlex.join(["dart", "report", *(run.name for run in runs)]),
        ),
        documents={f"{run.name}.json": _settings(run) for run in runs},
        made_on=_made_on(runs),
    )


def describe_sweeps(
    found: Sequence[Sweep],
    sources: Sequence[Source],
    questions: Mapping[str, str],
    absent: Mapping[str, str],
    comparison: AnalysisResult,
) -> PageContent:
    """Return what a page says of ``found``, sweeps; parameters as for :func:`context`.

    ``comparison`` is what the analysis ``compare`` found: its first table and sentences lead.
    """
    entries = [entry for sweep in found for entry in sweep.document.entries]
    rows = [row for sweep in found for _, row in sweep.finished()]
    tuned = [one for sweep in found for one in sweep.document.tuned]
    setup = [
        Table(
            title="Contenders",
            columns=("method", "strategy", "its options"),
            rows=tuple(
                {
                    entry.arm: (entry.arm, entry.strategy, _options(entry.options))
                    for entry in entries
                }.values()
            ),
        )
    ]
    if tuned:
        setup.append(
            Table(
                title="Weight decay, chosen for base on validation; all methods have it",
                columns=("dataset", "model", "chosen", "mean validation AUC of each"),
                rows=tuple(
                    (
                        one.dataset,
                        one.model,
                        f"{one.weight_decay:g}",
                        ", ".join(f"{key}: {value:.4f}" for key, value in one.valid_auc.items()),
                    )
                    for one in tuned
                ),
            )
        )
    return PageContent(
        title=f"Strategies on {_joined([entry.dataset for entry in entries])}",
        subtitle=(
            _joined([sweep.name for sweep in found]),
            f"protocol {_joined([sweep.document.protocol for sweep in found])}",
            f"model {_joined([entry.model for entry in entries])}",
            f"seeds {seeds_text(tuple(sorted({entry.seed for entry in entries})))}",
            f"{len(rows):,} trainings",
        ),
        summary=comparison.sentences[:3],
        results=comparison.tables[0],
        setup=tuple(setup),
        facts={
            "dartcli": _joined([row.program for row in rows]),
            "Device": _joined([row.device for row in rows]),
        },
        sources=tuple(sources),
        questions=questions,
        absent=absent,
        commands=(shlex.join(["dart", "report", *(sweep.name for sweep in found)]),),
    )


def main_result(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return one to three sentences: who has the best test AUC, by how much, how surely."""
    scored = [run for run in runs if _auc(run).mean is not None]
    if len(scored) < len(runs):
        return ("Not every run has a test AUC, which needs both classes in the test split.",)
    if len(runs) == 1:
        return _of_one(runs[0])
    if any(_comparable(run) != _comparable(runs[0]) for run in runs):
        return (
            "The runs differ in data or protocol, so their measures cannot be compared with one "
            "another.",
        )
    best, second, *_ = sorted(scored, key=lambda run: -(_auc(run).mean or 0.0))
    return (
        f"{_called(best)} has the highest test AUC, {_spread(_auc(best))}; {_called(second)} "
        f"follows with {_spread(_auc(second))}.",
        *_seed_by_seed(best, second),
    )


def _of_one(run: Run) -> tuple[str, ...]:
    without = run.metrics.summary["test_auc_without_fp"].mean
    known = without is not None and without != _auc(run).mean
    over = f"over {len(run.seeds)} seeds" if len(run.seeds) > 1 else f"with seed {run.seeds[0]}"
    return (
        f"{_called(run)} reaches a test AUC of {_spread(_auc(run))} {over}"
        + (
            f", and of {number(without)} with the known false positives left out." if known else "."
        ),
    )


def _seed_by_seed(best: Run, second: Run) -> tuple[str, ...]:
    """Return how many of the seeds that two runs share agree, if they share splits, too."""
    first = {(seed.seed, seed.split_seed): seed.test_auc for seed in best.metrics.seeds}
    other = {(seed.seed, seed.split_seed): seed.test_auc for seed in second.metrics.seeds}
    pairs = [(first[key] or 0.0, other[key] or 0.0) for key in first if key in other]
    if not pairs:
        return ("They share no seed, so they were tested on different splits.",)
    won = sum(one > two for one, two in pairs)
    mean = sum(one - two for one, two in pairs) / len(pairs)
    caution = " One seed cannot show more than chance." if len(pairs) == 1 else ""
    return (
        f"On the same splits {best.name} is ahead with {won} of {len(pairs)} seeds; the mean "
        f"difference is {mean:+.4f}.{caution}",
    )


def results(runs: Sequence[Run]) -> Table:
    """Return the measures, mean ± sample standard deviation, one row a run."""
    shown = [name for name in MEASURES if any(_summary(run, name).mean is not None for run in runs)]
    return Table(
        title=(
            "Mean ± standard deviation over the seeds. FP: known false positives; precision and "
            "recall: of handling them in the last epoch."
        ),
        columns=("run", "strategy", "seeds", *(MEASURES[name] for name in shown)),
        rows=tuple(
            (
                run.name,
                run.metrics.strategy,
                len(run.seeds),
                *(_spread(_summary(run, name)) for name in shown),
            )
            for run in runs
        ),
    )


def every_seed(runs: Sequence[Run]) -> Table | None:
    """Return the measures of each seed; None where no run has two."""
    if all(len(run.seeds) == 1 for run in runs):
        return None
    shown = [
        name
        for name in MEASURES
        if any(getattr(seed, name) is not None for run in runs for seed in run.metrics.seeds)
    ]
    return Table(
        title="Every seed",
        columns=("run", "seed", *(MEASURES[name] for name in shown), "epoch", "of"),
        rows=tuple(
            (
                run.name,
                str(seed.seed),
                *(getattr(seed, name) for name in shown),
                seed.reported_epoch,
                seed.epochs,
            )
            for run in runs
            for seed in run.metrics.seeds
        ),
    )


def setup(runs: Sequence[Run]) -> tuple[Table, ...]:
    """Return the settings that matter, and those in which the runs differ."""
    head = ("run", "dataset", "model", "strategy", "its options", "protocol", "seeds")
    tables = [
        Table(
            title="Runs",
            columns=head,
            rows=tuple(
                (
                    run.name,
                    run.metrics.dataset,
                    run.metrics.model,
                    run.metrics.strategy,
                    _options(run.settings.strategy.options),
                    run.metrics.protocol,
                    seeds_text(run.seeds) + (" (interrupted)" if run.metrics.interrupted else ""),
                )
                for run in runs
            ),
        )
    ]
    if found := find_differences(runs):
        tables.append(
            Table(
                title="Settings that differ",
                columns=("setting", *(run.name for run in runs)),
                rows=tuple(
                    (key, *(_setting(value) for value in values)) for key, values in found.items()
                ),
            )
        )
    return tuple(tables)


def _setting(value: object) -> Cell:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _options(options: Mapping[str, Any]) -> str | None:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or None


def _auc(run: Run) -> Spread:
    return _summary(run, "test_auc")


def _summary(run: Run, name: str) -> Spread:
    """Return a measure of ``run``; an older version may not have taken it."""
    return run.metrics.summary.get(name, Spread(mean=None, std=None))


def _spread(spread: Spread) -> str | None:
    if spread.mean is None:
        return None
    if spread.std is None:
        return number(spread.mean)
    return f"{number(spread.mean)} ± {number(spread.std)}"


def _called(run: Run) -> str:
    return f"{run.metrics.strategy} ({run.name})"


def _comparable(run: Run) -> tuple[object, ...]:
    settings = run.settings
    return settings.protocol, settings.dataset.name, _options(settings.dataset.options)


def _settings(run: Run) -> str:
    document = run.settings.model_dump(mode="json")
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)


def _joined(words: Sequence[str]) -> str:
    """Return distinct words in a row: ``a, b and c``."""
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} and {last}" if most else last


def _made_on(runs: Sequence[Run]) -> str:
    """Return when the last of ``runs`` ended: the only date of a page, and the runs' own."""
    ended = max((str(run.environment.get("ended", "")) for run in runs), default="")
    return ended[:16].replace("T", " ") + " UTC" if ended else ""


def file_name(runs: Sequence[Run | Sweep]) -> str:
    """Return the name of the page's file, of letters, digits, dot, dash and underscore."""
    names = [re.sub(r"[^A-Za-z0-9_.-]", "_", run.name).lstrip(".") for run in runs]
    joined = "-".join(names)
    if len(joined) > LONGEST_NAME:
        joined = f"{names[0][:60]}-and-{len(names) - 1}-more"
    return f"{joined}.html"
