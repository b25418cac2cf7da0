"""Figures of a comparison: a forest plot, and a heat map of many methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dartcli.experiments.comparison import Comparison, Contender, Difference
from dartcli.reporting.figures import (
    FALSE_POSITIVE,
    REFERENCE_LINE,
    RUN_COLORS,
    arrange,
    new_figure,
    wrap,
)
from dartcli.reporting.phrases import name_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BETTER, WORSE, NOT_SIGNIFICANT = RUN_COLORS[0], FALSE_POSITIVE, REFERENCE_LINE["color"]
PER_ROW = 4
"""Panels per row of the forest plot."""
MIN_METHODS = 4
"""Fewer methods than this have no heat map."""


def draw(comparison: Comparison, differences: Sequence[Difference]) -> dict[str, Figure]:
    """Return file name -> figure."""
    methods = [one for one in comparison.contenders.values() if one != comparison.base]
    figures = {"forest": _draw_forest(comparison, methods, differences)}
    if len(methods) >= MIN_METHODS:
        figures["heat-map"] = _draw_heat_map(comparison, methods, differences)
    return figures


def _draw_forest(
    comparison: Comparison, methods: Sequence[Contender], differences: Sequence[Difference]
) -> Figure:
    shown = [one for one in methods if one.label not in comparison.references] or methods
    cells = comparison.cells
    columns, rows = arrange(len(cells), PER_ROW)
    lines = sum(1 + wrap(one.label).count("\n") for one in shown)
    heads = max(1 + wrap(" ".join(where)).count("\n") for where in cells)
    height = rows * (0.8 + 0.17 * heads + 0.2 * lines)
    size = (1.9 + max(2.3 * columns, 4.5), height)
    with new_figure(*size, columns, rows, len(cells)) as (figure, axes):
        for number, (panel, where) in enumerate(zip(axes, cells, strict=True)):
            here = {one.contender.label: one for one in differences if one.where == where}
            _draw_intervals(panel, comparison, [here.get(one.label) for one in shown])
            first = number % columns == 0
            labels = [wrap(one.label) for one in shown] if first else []
            panel.set_yticks(range(len(labels)), labels)
            panel.set_ylim(len(shown) - 0.4, -0.6)
            panel.set_title(wrap(" ".join(where)), fontsize=8.5)
        low, high = zip(*(panel.get_xlim() for panel in axes), strict=True)
        for panel in axes:
            panel.set_xlim(min(low), max(high))
    return figure


def _draw_intervals(
    panel: Axes, comparison: Comparison, differences: Sequence[Difference | None]
) -> None:
    for height, one in enumerate(differences):
        if one is None:
            continue
        better = one.paired.mean * comparison.better_sign > 0
        color = NOT_SIGNIFICANT if not one.is_significant else BETTER if better else WORSE
        interval = one.paired.t_interval or (one.paired.mean, one.paired.mean)
        panel.plot(interval, [height, height], color=color, lw=1.8, solid_capstyle="butt")
        panel.plot([one.paired.mean], [height], "o", color=color, ms=4.5)
    panel.axvline(0, color="#000000", lw=0.8)
    panel.grid(axis="y", visible=False)
    panel.ticklabel_format(axis="x", scilimits=(-9, 9))
    panel.locator_params(axis="x", nbins=4)
    panel.set_xlabel(f"{name_metric(comparison.metric)} minus base\n(95% CI, t)")


def _draw_heat_map(
    comparison: Comparison, methods: Sequence[Contender], differences: Sequence[Difference]
) -> Figure:
    cells = comparison.cells
    grid = np.full((len(methods), len(cells)), np.nan)
    competing = []
    for one in differences:
        place = (methods.index(one.contender), cells.index(one.where))
        grid[place] = 1e4 * one.paired.mean
        if one.contender.label not in comparison.references:
            competing.append(abs(grid[place]))
    # references are so much better that they would hide all other differences
    limit = max([*competing, 1.0])
    heads = [wrap("\n".join(where), 16) for where in cells]
    widest = max(len(line) for head in heads for line in head.split("\n"))
    size = (2.6 + max(0.95, 0.09 * widest) * len(cells), 1.6 + 0.3 * len(methods))
    with new_figure(*size) as (figure, (panel,)):
        image = panel.imshow(
            grid,
            cmap="PuOr_r" if comparison.better_sign > 0 else "PuOr",
            vmin=-1.6 * limit,
            vmax=1.6 * limit,
            aspect="auto",
        )
        for one in differences:
            value = 1e4 * one.paired.mean
            mark = "" if one.is_significant else " ?"
            panel.text(
                cells.index(one.where),
                methods.index(one.contender),
                "=" if one.outcome == "same model" else f"{value:+.0f}{mark}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if abs(value) > limit else "black",
            )
        panel.set_xticks(range(len(cells)), heads)
        panel.set_yticks(range(len(methods)), [wrap(one.label) for one in methods])
        panel.tick_params(length=0)
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)
        panel.set_xlabel("?: not significant; =: the same model as base")
        label = f"{name_metric(comparison.metric)} minus base (1e-4)"
        figure.colorbar(image, ax=panel, shrink=0.7, extend="both", label=label)
    return figure
