"""Compare strategies with plain training, and test whether the differences are significant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from dartcli.analyses import _compare_figures, _compare_tables
from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison, Difference
from dartcli.experiments.run import Run
from dartcli.experiments.run_index import find_differences
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.phrases import count, join_words
from dartcli.reporting.verdict import list_verdicts, phrase_difference
from dartcli.settings import Options
from dartcli.training.results import METRIC_NAMES


class CompareOptions(Options):
    """What to compare."""

    metric: Literal[METRIC_NAMES] | None = None  # type: ignore[valid-type]
    """Metric to compare; None = ``test_auc``, or ``test_auc_labeled`` if ground truth is known for
    some interactions only."""


def examine(subjects: Sequence[Run | Sweep], options: CompareOptions) -> AnalysisResult:
    """Return the means, the paired differences to ``base``, and their figures."""
    comparison = Comparison(subjects, options.metric and str(options.metric))
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
            *list_verdicts(comparison, differences),
            *_name_caveats(comparison),
        ),
        tables=_compare_tables.build(comparison, differences),
        numbers=_numbers(comparison, differences),
        figures=_compare_figures.draw(comparison, differences),
    )


def _name_caveats(comparison: Comparison) -> Iterator[str]:
    if comparison.partly_labeled:
        data = join_words(comparison.partly_labeled)
        yield (
            f"Some interactions of {data} have no ground truth and count as wanted in every metric "
            "but the labeled AUC. `dart analyze set-aside` says how certain that one is."
        )
    for one in comparison.tuned:
        if (one.dataset, one.model) in comparison.cells:
            yield (
                f"{one.dataset} {one.model}: weight decay {one.weight_decay:g} was selected for "
                "base on validation and used for every strategy."
            )
    if differing := _find_other_differences(comparison):
        yield (
            f"The runs also differ in {join_words(differing)}, which may explain a difference "
            "between them."
        )
    if comparison.missing:
        yield (
            f"Missing from the sweep: {count(comparison.missing, 'training')}. Run the same "
            "`dart sweep` command again."
        )


def _find_other_differences(comparison: Comparison) -> list[str]:
    """Return the settings, besides strategy, model, and seeds, that differ within a cell."""
    found: dict[str, None] = {}
    for dataset, model in comparison.cells:
        runs = [
            run
            for run in comparison.runs
            if (run.settings.dataset.name, run.settings.model.name) == (dataset, model)
        ]
        if len(runs) > 1:
            found |= dict.fromkeys(find_differences(runs))
    ignored = ("strategy", "seeds", "device", "trusted")
    return [key for key in found if not key.startswith(ignored)]


def _numbers(comparison: Comparison, differences: Sequence[Difference]) -> dict[str, Any]:
    by_cell = {(one.where, one.contender.label): one for one in differences}
    other_metrics = (
        *_compare_tables.OTHER_METRICS,
        *_compare_tables.LIST_METRICS,
        "identification_recall",
    )
    return {
        "protocol": comparison.protocol,
        "metric": comparison.metric,
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
                comparison.metric: list(values.values()),
                "mean": comparison.mean(where, label),
                "other_metrics": {
                    metric: comparison.mean(where, label, metric) for metric in other_metrics
                },
                "stages": _compare_tables.measure_stages(comparison, where, label),
                "against_base": _difference_numbers(
                    comparison, by_cell.get((where, label)), differences
                ),
            }
            for where in comparison.cells
            for label, contender in comparison.contenders.items()
            if (values := comparison.values(where, label))
        ],
        "delta": [
            {
                "method": label,
                "delta_percent": delta,
                "delta_percent_tenfold_as_printed_in_the_thesis": delta and 10 * delta,
            }
            for label in comparison.contenders
            for delta in [comparison.delta_percent(label)]
        ],
    }


def _difference_numbers(
    comparison: Comparison, one: Difference | None, differences: Sequence[Difference]
) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "verdict": one.outcome,
        "sentence": phrase_difference(comparison, one, differences),
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
    place=0,
    thesis_figure="Table 2",
    takes_sweeps=True,
    options=CompareOptions,
)
