"""What trusted labels gain: test AUC and detection over the number of labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dartcli.analyses._compare_tables import tabulate_differences
from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison, Contender, Difference, Where
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import (
    BASELINE,
    REFERENCE_LINE,
    RUN_COLORS,
    Floats,
    draw_legend,
    new_figure,
    none_to_nan,
    run_color,
    share_limits,
    wrap,
)
from dartcli.reporting.phrases import (
    METRIC_HEADS,
    confidence_interval,
    join_words,
    name_metric,
    scaled,
    signed,
)
from dartcli.reporting.table import Marked, Table
from dartcli.reporting.verdict import list_caveats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DETECTION: Final = {
    "detector_auc": "AUC",
    "detector_precision": "precision at 4%",
    "detector_calibration_error": "calibration error",
}
"""Metric of the detector -> its name."""
GROUPS: Final = ("test_auc_tail_items", "test_auc_inactive_users", "test_ndcg_at_20")
"""Metrics that a higher AUC may cost."""
PER_ROW: Final = 3
"""Panels in a row."""


def examine(subjects: Sequence[Run | Sweep]) -> AnalysisResult:
    """Return gain over ``base`` and detection for every number of trusted labels.

    Raises
    ------
    RunError
        If nothing was trained with a number of trusted labels, or ``base`` is missing.
    """
    comparison = Comparison(subjects)
    if not any(map(_count_labels, comparison.contenders.values())):
        raise RunError(
            "no training has a number of trusted labels. Train some with `dart sweep --preset "
            "label-curve`, or with `dart train --strategy trusted --trusted 500`."
        )
    differences = comparison.differences()
    ordered = {where: _order(differences, where) for where in comparison.cells}
    cells = [_list_cell(comparison, where, found) for where, found in ordered.items()]
    return AnalysisResult(
        name="label-curve",
        title="Trusted labels",
        sentences=(*itertools.chain(*map(_describe, cells)), *list_caveats(comparison)),
        tables=(
            *(
                tabulate_differences(comparison, where, found, with_seeds=False)
                for where, found in ordered.items()
            ),
            *(
                _tabulate_groups(comparison, where, found)
                for where, found in ordered.items()
                if found
            ),
            _tabulate_detector(cells),
        ),
        figures={"label-curve": _draw(cells)},
        numbers={"protocol": comparison.protocol, "cells": cells},
    )


def _count_labels(contender: Contender) -> int:
    """Return how many labels a contender learns from, for training and validation together.

    0 without labels, and if all that there are were granted.
    """
    numbers = [number for number in contender.trusted.values() if isinstance(number, int)]
    return sum(numbers) if len(numbers) == len(contender.trusted) else 0


def _order(differences: Sequence[Difference], where: Where) -> list[Difference]:
    """Return the differences of a cell: without a number of labels first, then curve by curve."""

    def place(one: Difference) -> tuple[str, int]:
        labels = _count_labels(one.contender)
        return (one.contender.strategy if labels else "", labels)

    return sorted((one for one in differences if one.where == where), key=place)


def _list_cell(
    comparison: Comparison, where: Where, differences: Sequence[Difference]
) -> dict[str, Any]:
    points = [_list_point(comparison, one) for one in differences]
    return {
        "dataset": where[0],
        "model": where[1],
        "metric": name_metric(comparison.metric),
        "points": [point for point in points if point["labels"]],
        "others": [point for point in points if not point["labels"]],
        "references": sorted(comparison.references),
    }


def _list_point(comparison: Comparison, one: Difference) -> dict[str, Any]:
    label = one.contender.label
    return {
        "curve": one.contender.strategy,
        "method": label,
        "labels": _count_labels(one.contender),
        "seeds": one.paired.n,
        "minus_base": one.paired.mean,
        "t_interval": one.paired.t_interval,
        "p_holm": one.p_holm,
        "verdict": one.outcome,
        "gap_closed": one.gap_closed,
        **{name: comparison.mean(one.where, label, name) for name in DETECTION},
    }


def _describe(cell: dict[str, Any]) -> Iterator[str]:
    place = f"{cell['dataset']} {cell['model']}"
    points = cell["points"]
    if not points:
        yield f"{place}: nothing was trained with a number of trusted labels."
        return
    verdicts: dict[str, list[str]] = {}
    for point in points:
        verdicts.setdefault(point["verdict"], []).append(point["method"])
    parts = [f"{outcome} ({join_words(methods)})" for outcome, methods in verdicts.items()]
    yield f"{place}, against base: {'; '.join(parts)}."
    most = max(points, key=lambda point: int(point["labels"]))
    amount = signed(most["minus_base"])
    if most["t_interval"] is not None:
        amount += f", {confidence_interval(most['t_interval'])}"
    share = most["gap_closed"]
    if share is not None and share >= 0:
        amount += f", {share:.0%} of what all labels would give (`clean`)"
    yield f"{place}, {most['method']}: {cell['metric']} {amount}."


def _tabulate_groups(
    comparison: Comparison, where: Where, differences: Sequence[Difference]
) -> Table:
    """Return the differences on tail items, for inactive users, and in lists of 20."""

    def write(label: str, metric: str) -> str | None:
        pair = comparison.pair(where, label, metric)
        if pair is None:
            return None
        ends = pair.t_interval
        return scaled(pair.mean) + (f" ± {1e4 * (ends[1] - pair.mean):.1f}" if ends else "")

    labels = [one.contender.label for one in differences]
    return Table(
        title=f"{' '.join(where)}: AUC on tail items and for inactive users, and lists, minus base "
        "in units of 1e-4, paired by seed, ± half of the 95% CI (not corrected)",
        columns=("method", *(METRIC_HEADS[metric] for metric in GROUPS)),
        rows=tuple((label, *(write(label, metric) for metric in GROUPS)) for label in labels),
    )


def _tabulate_detector(cells: Sequence[dict[str, Any]]) -> Table:
    """Return how well false positives were detected; a dash if labels tell in no seed."""
    return Table(
        title="The detector on training positives without granted label, mean over the seeds in "
        "which the labels tell false positives from others",
        columns=("dataset", "model", "labels", *DETECTION.values()),
        rows=tuple(
            (
                cell["dataset"],
                cell["model"],
                point["labels"],
                *(Marked(point[name], 3) for name in DETECTION),
            )
            for cell in cells
            for point in cell["points"]
        ),
    )


def _draw(cells: Sequence[dict[str, Any]]) -> Figure:
    """Draw two panels per dataset and model: gain, and detection below it."""
    columns = min(len(cells), PER_ROW)
    bands = -(-len(cells) // columns)
    with new_figure(0.9 + 2.7 * columns, 4.9 * bands, columns, 2 * bands) as (figure, axes):
        drawn = []
        for number, cell in enumerate(cells):
            place = 2 * columns * (number // columns) + number % columns
            gain, detection = axes[place], axes[place + columns]
            _draw_gain(gain, cell)
            _draw_detection(detection, cell)
            drawn += [gain, detection]
        for panel in axes:
            if panel not in drawn:
                panel.remove()
        for first in range(0, len(drawn), 2 * columns):
            share_limits(drawn[first : first + 2 * columns : 2])
            drawn[first].set_ylabel(f"{cells[0]['metric']} minus base (1e-4)")
            drawn[first + 1].set_ylabel("detector")
        draw_legend(figure, drawn)
    return figure


def _draw_gain(panel: Axes, cell: dict[str, Any]) -> None:
    # the first color is that of the curve
    colors = itertools.cycle(RUN_COLORS[1:])
    for one in cell["others"]:
        is_reference = one["method"] in cell["references"]
        panel.axhline(
            1e4 * one["minus_base"],
            color=BASELINE if is_reference else next(colors),
            ls=(0, (1, 1.5)) if is_reference else "-",
            lw=1,
            label=one["method"],
        )
    panel.axhline(0, **REFERENCE_LINE, label="base")
    for points in _split_curves(cell):
        gains = none_to_nan(point["minus_base"] for point in points) * 1e4
        panel.errorbar(
            _labels(points),
            gains,
            yerr=_half_widths(points, gains),
            color=run_color(0),
            marker="o",
            ms=4,
            capsize=2,
            elinewidth=1,
            label=f"{points[0]['curve']} (95% CI)",
        )
    _set_scale(panel, cell)
    panel.set_title(wrap(f"{cell['dataset']} {cell['model']}", 26))


def _draw_detection(panel: Axes, cell: dict[str, Any]) -> None:
    for points in _split_curves(cell):
        for number, (name, label) in enumerate(DETECTION.items()):
            values = none_to_nan(point[name] for point in points)
            color = run_color(number + 1)
            panel.plot(
                _labels(points), values, "s-", ms=3.5, color=color, label=f"detector {label}"
            )
    _set_scale(panel, cell)
    panel.set(ylim=(0, 1), xlabel="trusted labels")


def _split_curves(cell: dict[str, Any]) -> list[list[dict[str, Any]]]:
    groups = itertools.groupby(cell["points"], key=lambda point: point["curve"])
    return [list(points) for _, points in groups]


def _labels(points: Sequence[dict[str, Any]]) -> list[int]:
    return [point["labels"] for point in points]


def _half_widths(points: Sequence[dict[str, Any]], gains: Floats) -> Floats:
    ends = [point["t_interval"] or (point["minus_base"],) * 2 for point in points]
    return np.abs(1e4 * np.array(ends, dtype=np.float64).T - gains)


def _set_scale(panel: Axes, cell: dict[str, Any]) -> None:
    labels = sorted({point["labels"] for point in cell["points"]})
    if labels:
        panel.set_xscale("log")
        panel.set_xticks(labels, [f"{number:,}" for number in labels])
        panel.minorticks_off()


ANALYSIS = Analysis(
    question="What do trusted labels gain, and how many does it take?",
    examine=examine,
    place=16,
    takes_sweeps=True,
)
