"""Strategies beside plain training, with an answer to whether the difference is real (Table 2)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison, Contender, Difference, Where
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import new_figure
from dartcli.reporting.table import Cell, Marked, Table
from dartcli.settings import Options
from dartcli.training.results import METRIC_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OTHERS = {
    "test_log_loss": "log loss",
    "test_calibration_error": "cal. error",
    "test_auc_per_user": "AUC per user",
    "test_auc_tail_items": "AUC tail items",
    "test_auc_inactive_users": "AUC inact. users",
    "identification_precision": "ident. prec.",
}
BETTER, WORSE, UNCLEAR = "#0072B2", "#D55E00", "#8A8A8A"
PER_ROW = 4
FEWEST = 4
"""Fewer methods than this make no heat map."""


class Chosen(Options):
    """What is compared."""

    measure: Literal[METRIC_NAMES] = "test_auc"  # type: ignore[valid-type]
    """Measure of a run that is compared."""


def examine(subjects: Sequence[Run | Sweep], chosen: Chosen) -> AnalysisResult:
    """Return the table of means, the paired differences to base, and their figures."""
    found = Comparison(subjects, str(chosen.measure))
    differences = found.differences()
    if not differences:
        raise RunError(
            f"there is nothing to compare {found.base.label} with: no other strategy was trained "
            "on the same dataset, model and seed; train one with dart train or dart sweep."
        )
    by_cell = {(one.where, one.contender.label): one for one in differences}
    return AnalysisResult(
        name="compare",
        title="Strategies beside plain training",
        sentences=_sentences(found, differences),
        tables=(
            *_means(found, by_cell),
            *(_statistics(found, where, differences) for where in found.cells),
            *(_others(found, where) for where in found.cells),
        ),
        numbers=_numbers(found, by_cell),
        figures=_figures(found, differences),
    )


def words(measure: str) -> str:
    """Return a measure as a table names it: ``test AUC``."""
    return measure.replace("_", " ").replace("auc", "AUC").replace("fp", "FP")


def _cell_name(where: Where) -> str:
    return " ".join(where)


def _means(found: Comparison, by_cell: dict[tuple[Where, str], Difference]) -> list[Table]:
    """Return the table of mean AUC: up to four columns each, the last one with Delta %."""
    parts = [found.cells[i : i + PER_ROW] for i in range(0, len(found.cells), PER_ROW)]
    seeds = sorted({len(values) for values in found.metrics.values()})
    over = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    tables = []
    for part in parts:
        last = part is parts[-1]
        columns = ("method", *(_cell_name(where) for where in part))
        rows = []
        for label in found.contenders:
            cells = [_mean(found, by_cell, where, label) for where in part]
            deltas: tuple[Cell, ...] = ()
            if last:
                delta = None if label == found.base.label else found.delta_percent(label)
                tenfold = None if delta is None else 10 * delta
                deltas = (Marked(delta, 3, signed=True), Marked(tenfold, 3, signed=True))
            rows.append((label, *cells, *deltas))
        tables.append(
            Table(
                title=f"Mean {words(found.measure)} over {over}, protocol {found.protocol}"
                + (" (best bold; * worse than base; gray: not significant)" if last else ""),
                columns=(*columns, *(("Delta %", "thesis's tenfold") if last else ())),
                rows=tuple(rows),
            )
        )
    return tables


def _mean(
    found: Comparison, by_cell: dict[tuple[Where, str], Difference], where: Where, label: str
) -> Marked:
    value = found.mean(where, label)
    rivals = [
        mean
        for other in found.contenders
        if other not in found.references and (mean := found.mean(where, other)) is not None
    ]
    difference = by_cell.get((where, label))
    pick = max if found.better_sign > 0 else min
    return Marked(
        value,
        best=value is not None and label not in found.references and value == pick(rivals),
        worse=difference is not None and difference.paired.mean * found.better_sign < 0,
        unclear=difference is not None and not difference.clear,
    )


def _wrapped(label: str, width: int = 24) -> str:
    """Return a label in lines, for a figure."""
    return "\n".join(textwrap.wrap(label, width))


def _p(value: float | None) -> str | None:
    return value if value is None else "< .001" if value < 0.001 else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str | None:
    return None if bounds is None else f"{1e4 * bounds[0]:+.1f}..{1e4 * bounds[1]:+.1f}"


def _statistics(found: Comparison, where: Where, differences: Sequence[Difference]) -> Table:
    rows = []
    for one in differences:
        if one.where == where:
            closed = None if one.gap_closed is None else 100 * one.gap_closed
            rows.append(
                (
                    one.contender.label,
                    Marked(1e4 * one.paired.mean, 1, signed=True, unclear=not one.clear),
                    _interval(one.paired.t_interval),
                    _interval(one.paired.bootstrap_interval),
                    _p(one.p_holm),
                    Marked(closed, 0),
                )
            )
    return Table(
        title=f"{_cell_name(where)}: {words(found.measure)} minus base in 1e-4, paired by seed",
        columns=("method", "mean", "95 % (t)", "95 % (bootstrap)", "p, Holm", "gap to clean %"),
        rows=tuple(rows),
    )


def _others(found: Comparison, where: Where) -> Table:
    return Table(
        title=f"{_cell_name(where)}: other measures on the test split",
        columns=("method", *OTHERS.values()),
        rows=tuple(
            (label, *(found.mean(where, label, measure) for measure in OTHERS))
            for label in found.contenders
            if (where, label) in found.metrics
        ),
    )


def _sentences(found: Comparison, differences: Sequence[Difference]) -> tuple[str, ...]:
    said = []
    rivals = [one for one in differences if one.contender.label not in found.references]
    clear = [one for one in rivals if one.clear]
    better = [one for one in clear if one.paired.mean * found.better_sign > 0]
    least = min((one.paired.n for one in rivals), default=0)
    if rivals:
        said.append(
            f"Comparisons with base, paired by seed ({least} or more): {len(rivals)}. Better: "
            f"{len(better)}, worse: {len(clear) - len(better)} (p < .05 after Holm's correction), "
            f"not to be told apart: {len(rivals) - len(clear)}."
        )
    for where in found.cells:
        mine = [one for one in better if one.where == where]
        if mine:
            best = max(mine, key=lambda one: one.paired.mean * found.better_sign)
            low, high = best.paired.t_interval or (best.paired.mean, best.paired.mean)
            said.append(
                f"{_cell_name(where)}: {best.contender.label} gains the most, "
                f"{best.paired.mean:+.4f} {words(found.measure)} (95 % {low:+.4f} to {high:+.4f})."
            )
        else:
            said.append(f"{_cell_name(where)}: no strategy is clearly better than base.")
    said += [
        f"{one.dataset} {one.model}: weight decay {one.weight_decay:g} was chosen for base on "
        "validation, and every strategy has it."
        for one in found.tuned
        if (one.dataset, one.model) in found.cells
    ]
    if 1 < least < 6:
        said.append(f"{least} seeds are few: the bootstrap interval is then too narrow.")
    if least == 1:
        said.append("One seed says nothing about chance: train more with --seeds.")
    if found.missing:
        said.append(
            f"{found.missing} trainings of the sweep are missing; its dart sweep command goes on."
        )
    return tuple(said)


def _numbers(found: Comparison, by_cell: dict[tuple[Where, str], Difference]) -> dict[str, Any]:
    cells = []
    for where in found.cells:
        for label, contender in found.contenders.items():
            values = found.values(where, label)
            if values:
                cells.append(
                    {
                        "dataset": where[0],
                        "model": where[1],
                        "method": label,
                        "strategy": contender.strategy,
                        "options": contender.options,
                        "seeds": list(values),
                        found.measure: list(values.values()),
                        "mean": found.mean(where, label),
                        "other_measures": {
                            measure: found.mean(where, label, measure)
                            for measure in (*OTHERS, "identification_recall")
                        },
                        "against_base": _against(by_cell.get((where, label))),
                    }
                )
    return {
        "protocol": found.protocol,
        "measure": found.measure,
        "base": found.base.label,
        "tuned": [one.model_dump(mode="json") for one in found.tuned],
        "cells": cells,
        "delta": [
            {
                "method": label,
                "delta_percent": delta,
                "delta_percent_tenfold_as_printed_in_the_thesis": None
                if delta is None
                else 10 * delta,
            }
            for label in found.contenders
            for delta in [found.delta_percent(label)]
        ],
    }


def _against(one: Difference | None) -> dict[str, Any] | None:
    if one is None:
        return None
    pair = one.paired
    return {
        "seeds": pair.n,
        "mean": pair.mean,
        "std": pair.std,
        "t_interval": pair.t_interval,
        "bootstrap_interval": pair.bootstrap_interval,
        "p": pair.p,
        "p_holm": one.p_holm,
        "gap_to_clean_closed": one.gap_closed,
    }


def _figures(found: Comparison, differences: Sequence[Difference]) -> dict[str, Figure]:
    methods = [one for one in found.contenders.values() if one != found.base]
    rivals = [one for one in methods if one.label not in found.references] or methods
    columns = min(len(found.cells), PER_ROW)
    rows = -(-len(found.cells) // columns)
    lines = sum(1 + _wrapped(one.label).count("\n") for one in rivals)
    heads = max(1 + _wrapped(_cell_name(where)).count("\n") for where in found.cells)
    width = 1.9 + 2.3 * columns
    height = rows * (0.8 + 0.17 * heads + 0.2 * lines)
    with new_figure(width, height, columns, rows) as (forest, axes):
        for panel, where in zip(axes, found.cells, strict=False):
            first = axes.index(panel) % columns == 0
            _forest(panel, found, where, rivals, differences, named=first)
        for panel in axes[len(found.cells) :]:
            panel.set_visible(False)
    drawn = {"forest": forest}
    if len(methods) >= FEWEST:
        size = (2.2 + 0.95 * len(found.cells), 1.6 + 0.3 * len(methods))
        with new_figure(*size) as (heat, (panel,)):
            _heat(heat, panel, found, methods, differences)
        drawn["heat-map"] = heat
    return drawn


def _forest(
    panel: Axes,
    found: Comparison,
    where: Where,
    methods: Sequence[Contender],
    differences: Sequence[Difference],
    *,
    named: bool,
) -> None:
    mine = {one.contender.label: one for one in differences if one.where == where}
    for height, method in enumerate(reversed(methods)):
        one = mine.get(method.label)
        if one is None:
            continue
        gain = one.paired.mean * found.better_sign
        color = UNCLEAR if not one.clear else BETTER if gain > 0 else WORSE
        low, high = one.paired.t_interval or (one.paired.mean, one.paired.mean)
        panel.plot([low, high], [height, height], color=color, lw=1.8, solid_capstyle="butt")
        panel.plot([one.paired.mean], [height], "o", color=color, ms=4.5)
    panel.axvline(0, color="#000000", lw=0.8)
    panel.set_yticks(
        range(len(methods)), [_wrapped(one.label) for one in reversed(methods)] if named else []
    )
    panel.set_ylim(-0.6, len(methods) - 0.4)
    panel.grid(axis="y", visible=False)
    panel.ticklabel_format(axis="x", scilimits=(-9, 9))
    panel.locator_params(axis="x", nbins=4)
    panel.set_title(_wrapped(_cell_name(where)), fontsize=8.5)
    panel.set_xlabel(f"{words(found.measure)} minus base\n(95 % t)")


def _heat(
    drawing: Figure,
    panel: Axes,
    found: Comparison,
    methods: Sequence[Contender],
    differences: Sequence[Difference],
) -> None:
    grid = np.full((len(methods), len(found.cells)), np.nan)
    rivals = []
    for one in differences:
        place = (methods.index(one.contender), found.cells.index(one.where))
        grid[place] = 1e4 * one.paired.mean
        if one.contender.label not in found.references:
            rivals.append(abs(grid[place]))
    # the references would wash out all others
    limit = max([*rivals, 1.0])
    for one in differences:
        row, column = methods.index(one.contender), found.cells.index(one.where)
        value = grid[row, column]
        shown = f"{value:+.0f}" + ("" if one.clear else " ?")
        color = "white" if abs(value) > limit else "black"
        panel.text(column, row, shown, ha="center", va="center", fontsize=7.5, color=color)
    image = panel.imshow(
        grid,
        cmap="PuOr_r" if found.better_sign > 0 else "PuOr",
        vmin=-1.6 * limit,
        vmax=1.6 * limit,
        aspect="auto",
    )
    panel.set_xticks(
        range(len(found.cells)),
        ["\n".join(_wrapped(part, 16) for part in where) for where in found.cells],
    )
    panel.set_yticks(range(len(methods)), [_wrapped(one.label) for one in methods])
    panel.tick_params(length=0)
    panel.grid(visible=False)
    for side in panel.spines.values():
        side.set_visible(False)
    panel.set_xlabel("? = not significant")
    drawing.colorbar(
        image,
        ax=panel,
        shrink=0.7,
        extend="both",
        label=f"{words(found.measure)} minus base (1e-4)",
    )


ANALYSIS = Analysis(
    title="Strategies beside plain training (Table 2)",
    question="Which strategies differ from plain training by more than chance?",
    examine=examine,
    takes_sweeps=True,
    options=Chosen,
)
