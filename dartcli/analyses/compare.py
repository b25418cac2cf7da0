"""Compare strategies with plain training, and test whether the differences are significant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from dartcli.analyses import _compare_figures, _compare_tables
from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison, Difference
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.phrases import confidence_interval, join_words, name_metric
from dartcli.settings import Options
from dartcli.training.results import METRIC_NAMES

FEW_SEEDS = 6
"""With fewer seeds the bootstrap interval is much too narrow."""


class CompareOptions(Options):
    """What to compare."""

    measure: Literal[METRIC_NAMES] = "test_auc"  # type: ignore[valid-type]
    """Metric to compare."""


def examine(subjects: Sequence[Run | Sweep], options: CompareOptions) -> AnalysisResult:
    """Return the means, the paired differences to ``base``, and their figures."""
    comparison = Comparison(subjects, str(options.measure))
    differences = comparison.differences()
    if not differences:
        raise RunError(
            f"nothing to compare with {comparison.base.label}: no other strategy has a result on "
            "the same dataset, model, and seed. Train one with `dart train` or `dart sweep`."
        )
    return AnalysisResult(
        name="compare",
        title="Strategies compared with plain training",
        sentences=(
            *_count_significant(comparison, differences),
            *_name_best(comparison, differences),
            *_name_caveats(comparison, differences),
        ),
        tables=_compare_tables.build(comparison, differences),
        numbers=_numbers(comparison, differences),
        figures=_compare_figures.draw(comparison, differences),
    )


def _competitors(comparison: Comparison, differences: Sequence[Difference]) -> list[Difference]:
    return [one for one in differences if one.contender.label not in comparison.references]


def _count_significant(comparison: Comparison, differences: Sequence[Difference]) -> Iterator[str]:
    competitors = _competitors(comparison, differences)
    if not competitors:
        labels = join_words(one.contender.label for one in differences)
        yield f"Only references that use the ground truth were compared with base: {labels}."
        return
    gains = [one.paired.mean * comparison.better_sign for one in competitors if one.clear]
    better = sum(gain > 0 for gain in gains)
    yield (
        f"{_count(len(competitors), 'comparison')} with base, paired by seed (at least "
        f"{_count(min(one.paired.n for one in competitors), 'seed')}): {better} significantly "
        f"better, {len(gains) - better} significantly worse, {len(competitors) - len(gains)} not "
        "significant (p < 0.05 after Holm's correction)."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _name_best(comparison: Comparison, differences: Sequence[Difference]) -> Iterator[str]:
    for where in comparison.cells:
        here = [one for one in _competitors(comparison, differences) if one.where == where]
        gains = {
            one.contender.label: one
            for one in here
            if one.clear and one.paired.mean * comparison.better_sign > 0
        }
        name = " ".join(where)
        if gains:
            best = max(gains.values(), key=lambda one: one.paired.mean * comparison.better_sign)
            interval = confidence_interval(best.paired.t_interval or (best.paired.mean,) * 2)
            yield (
                f"{name}: {best.contender.label} has the largest significant improvement of "
                f"{name_metric(comparison.measure)}, {best.paired.mean:+.4f} ({interval})."
            )
        elif here:
            yield f"{name}: no strategy is significantly better than base."


def _name_caveats(comparison: Comparison, differences: Sequence[Difference]) -> Iterator[str]:
    for one in comparison.tuned:
        if (one.dataset, one.model) in comparison.cells:
            yield (
                f"{one.dataset} {one.model}: weight decay {one.weight_decay:g} was selected for "
                "base on validation and used for every strategy."
            )
    fewest = min(one.paired.n for one in differences)
    if fewest == 1:
        yield "One seed cannot rule out chance. Train more with `--seeds`."
    elif fewest < FEW_SEEDS:
        yield f"With only {fewest} seeds, bootstrap intervals are too narrow; use the t intervals."
    if comparison.missing:
        yield (
            f"Missing from the sweep: {_count(comparison.missing, 'training')}. Run the same "
            "`dart sweep` command again."
        )


def _numbers(comparison: Comparison, differences: Sequence[Difference]) -> dict[str, Any]:
    by_cell = {(one.where, one.contender.label): one for one in differences}
    other_metrics = (
        *_compare_tables.OTHER_METRICS,
        *_compare_tables.LIST_METRICS,
        "identification_recall",
    )
    return {
        "protocol": comparison.protocol,
        "measure": comparison.measure,
        "base": comparison.base.label,
        "tuned": [one.model_dump(mode="json") for one in comparison.tuned],
        "cells": [
            {
                "dataset": where[0],
                "model": where[1],
                "method": label,
                "strategy": contender.strategy,
                "options": contender.options,
                "seeds": list(values),
                comparison.measure: list(values.values()),
                "mean": comparison.mean(where, label),
                "other_measures": {
                    metric: comparison.mean(where, label, metric) for metric in other_metrics
                },
                "against_base": _difference_numbers(by_cell.get((where, label))),
            }
            for where in comparison.cells
            for label, contender in comparison.contenders.items()
            if (values := comparison.values(where, label))
        ],
        "delta": [
            {
                "method": label,
                "delta_percent": delta,
                "delta_percent_tenfold_as_printed_in_the_thesis": None
                if delta is None
                else 10 * delta,
            }
            for label in comparison.contenders
            for delta in [comparison.delta_percent(label)]
        ],
    }


def _difference_numbers(one: Difference | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "seeds": one.paired.n,
        "mean": one.paired.mean,
        "std": one.paired.std,
        "t_interval": one.paired.t_interval,
        "bootstrap_interval": one.paired.bootstrap_interval,
        "p": one.paired.p,
        "p_holm": one.p_holm,
        "gap_to_clean_closed": one.gap_closed,
    }


ANALYSIS = Analysis(
    question="Which strategies differ from plain training by more than chance?",
    examine=examine,
    thesis_figure="Table 2",
    takes_sweeps=True,
    options=CompareOptions,
)
