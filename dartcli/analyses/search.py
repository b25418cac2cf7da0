"""A search over settings: the best by test, the choice by validation, and its confirmation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from dartcli.errors import RunError
from dartcli.experiments.search import Searched, read_searches
from dartcli.experiments.sweep import Sweep
from dartcli.metrics.statistics import compare_paired
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.phrases import count, interval_cell, scaled
from dartcli.reporting.table import Table, difference_cell
from dartcli.reporting.verdict import list_missing

METRIC = "test_auc"


def examine(subjects: Sequence[Sweep]) -> AnalysisResult:
    """Return the three gains of each cell, and what choosing alone gives."""
    cells = [
        numbers
        for sweep in subjects
        for one in read_searches(sweep)
        if (numbers := _numbers(one)) is not None
    ]
    if not cells:
        raise RunError(
            "no search is far enough to be examined. Run `dart sweep --preset table2-search`."
        )
    missing = sum(len(sweep.document.entries) - len(sweep.finished()) for sweep in subjects)
    return AnalysisResult(
        name="search",
        title="How much of a searched gain is the choice of the best",
        sentences=(*map(_sentence, cells), *list_missing(missing)),
        tables=(_table(cells),),
        numbers={"metric": METRIC, "cells": cells},
    )


def _numbers(found: Searched) -> dict[str, Any] | None:
    best, chosen = found.choose(METRIC), found.choose()
    if found.base is None or found.base.test_auc is None or best is None or chosen is None:
        return None
    base, null = found.base.test_auc, sorted(_values(found.null).values())
    values = _values(found.settings)
    before, after = (_values(found.fresh.get(label, {})) for label in ("base", chosen))
    shared = sorted(before.keys() & after.keys())
    paired = compare_paired([after[seed] - before[seed] for seed in shared]) if shared else None
    return {
        "dataset": found.where[0],
        "model": found.where[1],
        "seed": found.seed,
        "base": base,
        "settings": len(values),
        "best_by_test": best,
        "best_by_test_gain": values[best] - base,
        "median_gain": statistics.median(values.values()) - base,
        "chosen_by_validation": chosen,
        "chosen_gain": values[chosen] - base if chosen in values else None,
        "fresh_seeds": shared,
        "fresh_gain": paired and paired.mean,
        "fresh_interval": paired and paired.t_interval,
        "null_trainings": len(null),
        "null_best_minus_median": null[-1] - statistics.median(null) if null else None,
        "null_best_minus_base": null[-1] - base if null else None,
    }


def _values(results: Any) -> dict[Any, float]:
    """Return key -> metric, without undefined ones."""
    found = {key: getattr(one, METRIC) for key, one in results.items()}
    return {key: value for key, value in found.items() if value is not None}


def _sentence(one: dict[str, Any]) -> str:
    there = "unknown" if one["chosen_gain"] is None else scaled(one["chosen_gain"])
    fresh = "is not confirmed yet"
    if one["fresh_gain"] is not None:
        seeds = count(len(one["fresh_seeds"]), "other seed")
        fresh = f"{scaled(one['fresh_gain'])} on {seeds}"
    if one["fresh_interval"]:
        fresh += f" (95% CI {interval_cell(one['fresh_interval'])})"
    alone = ""
    if one["null_best_minus_median"] is not None:
        alone = (
            f" The best of {count(one['null_trainings'], 'training')} of base alone is "
            f"{scaled(one['null_best_minus_median'])} above their median."
        )
    return (
        f"{one['dataset']} {one['model']}, test AUC minus base in units of 1e-4: the best of "
        f"{count(one['settings'], 'setting')} is {scaled(one['best_by_test_gain'])} on one split; "
        f"the one chosen by validation is {there} there and {fresh}.{alone}"
    )


def _table(cells: Sequence[dict[str, Any]]) -> Table:
    return Table(
        title="Gain in test AUC over base in units of 1e-4: the best setting by test, the one "
        "chosen by validation, and that one on n fresh seeds. Null: best minus median of as "
        "many trainings of base that differ in the seed only (fewer while some are missing)",
        columns=("data", "best", "chosen", "fresh", "95% CI", "n", "null"),
        rows=tuple(
            (
                f"{one['dataset']} {one['model']}",
                difference_cell(one["best_by_test_gain"]),
                difference_cell(one["chosen_gain"]),
                difference_cell(one["fresh_gain"]),
                interval_cell(one["fresh_interval"]),
                len(one["fresh_seeds"]),
                difference_cell(one["null_best_minus_median"]),
            )
            for one in cells
        ),
    )


ANALYSIS = Analysis(
    question="How much of the gain of a searched setting is the choice of the best?",
    examine=examine,
    takes_sweeps=True,
    takes_runs=False,
    thesis_figure="Table 2",
    place=25,
)
