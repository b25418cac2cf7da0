"""The main result of some runs, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison
from dartcli.experiments.flagging import explain_unflagged
from dartcli.experiments.run import MODEL, Run
from dartcli.experiments.verdict import correct_p, decide_outcome
from dartcli.metrics.statistics import PairedDifference, compare_paired
from dartcli.reporting.formats import text
from dartcli.reporting.phrases import label_run, list_options
from dartcli.reporting.verdict import list_verdicts, phrase_verdict, suggest_seeds
from dartcli.training.results import Spread


def summarize_runs(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the verdict of a comparison, then what limits it.

    Runs that cannot be compared, and a single run, are described.
    """
    caveats = (
        *(
            f"{run.name} was interrupted: it has {len(run.seeds)} of {len(run.settings.seeds)} "
            "seeds."
            for run in runs
            if run.metrics.interrupted
        ),
        *(f"{run.name}: {found}" for run in runs if (found := explain_unflagged(run)) is not None),
    )
    if any(_auc(run).mean is None for run in runs):
        return (
            "Some runs have no test AUC, because their test split has only one class.",
            *caveats,
        )
    if len(runs) == 1:
        return (_describe(runs[0]), *caveats)
    if any(_data(run) != _data(runs[0]) for run in runs):
        return (
            "The runs differ in dataset or protocol, so their metrics are not comparable.",
            *caveats,
        )
    return (*_compare(runs), *caveats)


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
    labeled = run.metrics.summary["test_auc_labeled"].mean
    if labeled is not None:
        aside = f" ({text(labeled)} estimated from labeled interactions; others count as wanted)"
    return f"{_label(run)} reaches a test AUC of {format_spread(_auc(run))} {over}{aside}."


def _compare(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the verdicts against ``base``, or against the first run if there is no base."""
    try:
        comparison = Comparison(runs)
        differences = comparison.differences()
    except RunError:
        differences = []
    if differences:
        return tuple(list_verdicts(comparison, differences))
    return _compare_with_first(runs)


def _compare_with_first(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a verdict on each run against the first, over the seeds and splits that they share."""
    first, *others = runs
    pairs = [_pair_by_seed(first, run) for run in others]
    corrected = correct_p(pairs)
    tests = sum(p is not None for p in corrected)
    sentences, undecided = [], False
    for run, pair, p in zip(others, pairs, corrected, strict=True):
        if pair is None:
            sentences.append(
                f"{_label(run)} and {_label(first)} share no seed and split, so no verdict is "
                "possible."
            )
            continue
        outcome = decide_outcome(pair, p, 1, same_model=_have_equal_weights(first, run))
        undecided |= outcome == "undecided"
        sentences.append(
            phrase_verdict(_label(run), _label(first), outcome, pair, "test_auc", p, tests)
        )
    return (*sentences, *([suggest_seeds(runs)] if undecided else []))


def _pair_by_seed(first: Run, other: Run) -> PairedDifference | None:
    """Return ``other`` minus ``first`` over the seeds and splits that both have."""
    before, after = (
        {(seed.seed, seed.split_seed): seed.test_auc or 0.0 for seed in run.metrics.seeds}
        for run in (first, other)
    )
    differences = [after[key] - before[key] for key in before if key in after]
    return compare_paired(differences) if differences else None


def _have_equal_weights(first: Run, other: Run) -> bool:
    shared = set(first.seeds) & set(other.seeds)
    return all(first.seed_files(seed)[MODEL] == other.seed_files(seed)[MODEL] for seed in shared)


def _auc(run: Run) -> Spread:
    return run.metrics.summary["test_auc"]


def _label(run: Run) -> str:
    return label_run(run.name, run.metrics.strategy)


def _data(run: Run) -> tuple[str, ...]:
    settings = run.settings
    return settings.protocol, settings.dataset.name, list_options(settings.dataset.options)
