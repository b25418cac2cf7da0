"""The main result of some runs, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

from dartcli.experiments.run import Run
from dartcli.metrics.statistics import compare_paired
from dartcli.reporting.formats import text
from dartcli.reporting.phrases import confidence_interval, join_words, label_run, list_options
from dartcli.training.results import Spread


def summarize_runs(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return which run has the highest test AUC, by how much, and how certain that is."""
    interrupted = tuple(
        f"{run.name} was interrupted: it has {len(run.seeds)} of {len(run.settings.seeds)} seeds."
        for run in runs
        if run.metrics.interrupted
    )
    if any(_auc(run).mean is None for run in runs):
        return (
            "Some runs have no test AUC, because their test split has only one class.",
            *interrupted,
        )
    if len(runs) == 1:
        return (_describe(runs[0]), *interrupted)
    if any(_data(run) != _data(runs[0]) for run in runs):
        return (
            "The runs differ in dataset or protocol, so their metrics are not comparable.",
            *interrupted,
        )
    return (*_compare(runs), *interrupted)


def format_spread(spread: Spread) -> str | None:
    """Return mean ± sample standard deviation; the mean alone for one seed."""
    if spread.mean is None:
        return None
    return text(spread.mean) + ("" if spread.std is None else f" ± {text(spread.std)}")


def _describe(run: Run) -> str:
    without = run.metrics.summary["test_auc_without_fp"].mean
    over = f"over {len(run.seeds)} seeds" if len(run.seeds) > 1 else f"with seed {run.seeds[0]}"
    known = without is not None and without != _auc(run).mean
    aside = f" ({text(without)} without the known false positives)" if known else ""
    return f"{_label(run)} reaches a test AUC of {format_spread(_auc(run))} {over}{aside}."


def _compare(runs: Sequence[Run]) -> tuple[str, ...]:
    ranked = sorted(runs, key=lambda run: -(_auc(run).mean or 0.0))
    best, second = ranked[:2]
    highest = text(_auc(best).mean)
    tied = [run for run in ranked if text(_auc(run).mean) == highest]
    if len(tied) > 1:
        first = f"{join_words(map(_label, tied))} have the same highest test AUC, {highest}."
    else:
        first = (
            f"{_label(best)} has the highest test AUC, {format_spread(_auc(best))}, followed by "
            f"{_label(second)} with {format_spread(_auc(second))}."
        )
    return first, _pair_by_seed(best, second)


def _pair_by_seed(best: Run, second: Run) -> str:
    """Return the difference over the seeds that two runs share, if they share the splits, too."""
    first, other = (
        {(seed.seed, seed.split_seed): seed.test_auc or 0.0 for seed in run.metrics.seeds}
        for run in (best, second)
    )
    differences = [first[key] - other[key] for key in first if key in other]
    if not differences:
        return (
            "They share no seed and split, so the splits alone may explain the difference in AUC."
        )
    paired = compare_paired(differences)
    start = f"{best.name} minus {second.name}, paired by seed: {paired.mean:+.4f} test AUC"
    if paired.t_interval is None:
        return f"{start} on one shared seed, which cannot rule out chance."
    won = sum(difference > 0 for difference in differences)
    return (
        f"{start} ({confidence_interval(paired.t_interval)}); {best.name} is ahead on {won} of "
        f"{paired.n} seeds."
    )


def _auc(run: Run) -> Spread:
    return run.metrics.summary["test_auc"]


def _label(run: Run) -> str:
    return label_run(run.name, run.metrics.strategy)


def _data(run: Run) -> tuple[str, ...]:
    settings = run.settings
    return settings.protocol, settings.dataset.name, list_options(settings.dataset.options)
