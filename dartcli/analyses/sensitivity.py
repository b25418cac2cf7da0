"""AUC and identification over the options of a strategy, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison, Contender, Where
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import (
    REFERENCE_LINE,
    RUN_COLORS,
    draw_legend,
    new_figure,
    none_to_nan,
    share_limits,
    wrap,
)
from dartcli.reporting.phrases import confidence_interval, interval_cell, list_options
from dartcli.reporting.table import Table, difference_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = "test_auc"
AUC = RUN_COLORS[0]
IDENTIFICATION = {"precision": "#009E73", "recall": "#E69F00"}


def examine(subjects: Sequence[Run | Sweep]) -> AnalysisResult:
    """Return AUC, precision, and recall along every option that takes several values."""
    comparison = Comparison(subjects, METRIC)
    curves = [curve for where in comparison.cells for curve in _find_curves(comparison, where)]
    if not curves:
        raise RunError(
            "no option of a strategy takes several values. Vary one with "
            "`dart sweep --preset sensitivity` or `--set strategy.tau_m=0.01,0.02,0.04`."
        )
    return AnalysisResult(
        name="sensitivity",
        title="Sensitivity to hyper-parameters",
        sentences=tuple(_sentence(comparison, one) for one in curves),
        tables=tuple(_table(one) for one in curves),
        numbers={"protocol": comparison.protocol, "curves": curves},
        figures=_figures(comparison, curves),
    )


def _find_curves(comparison: Comparison, where: Where) -> Iterator[dict[str, Any]]:
    """Yield, for every numeric option, the largest set of methods that differ only in it."""
    by_strategy: dict[str, list[Contender]] = {}
    for contender in comparison.contenders.values():
        if (where, contender.label) in comparison.metrics:
            by_strategy.setdefault(contender.strategy, []).append(contender)
    for strategy, contenders in by_strategy.items():
        for option in contenders[0].options:
            groups: dict[str, list[Contender]] = {}
            for contender in contenders:
                others = {k: v for k, v in contender.options.items() if k != option}
                groups.setdefault(json.dumps(others, sort_keys=True), []).append(contender)
            largest = max(groups.values(), key=len)
            values = [one.options[option] for one in largest]
            # arms that differ in something else, such as teaching, share a value
            if 1 < len(set(map(str, values))) == len(values) and all(map(_is_number, values)):
                points = [_measure_point(comparison, where, one, option) for one in largest]
                yield {
                    "dataset": where[0],
                    "model": where[1],
                    "strategy": strategy,
                    "option": option,
                    "fixed": {k: v for k, v in largest[0].options.items() if k != option},
                    "points": sorted(points, key=lambda point: float(point["value"])),
                }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _measure_point(
    comparison: Comparison, where: Where, contender: Contender, option: str
) -> dict[str, Any]:
    place = (where, contender.label)
    values = comparison.values(*place)
    paired = comparison.pair(*place) if comparison.has_base else None
    return {
        "value": contender.options[option],
        "method": contender.label,
        "seeds": list(values),
        METRIC: list(values.values()),
        "mean": comparison.mean(*place),
        "minus_base": paired.mean if paired else None,
        "minus_base_t_interval": paired.t_interval if paired else None,
        "precision": comparison.mean(*place, "identification_precision"),
        "recall": comparison.mean(*place, "identification_recall"),
    }


def _sentence(comparison: Comparison, one: dict[str, Any]) -> str:
    known = [point for point in one["points"] if point["mean"] is not None]
    name = f"{one['dataset']} {one['model']}, {one['option']} of {one['strategy']}"
    if len(known) < 2:
        return f"{name}: fewer than two values have a test AUC."
    best = max(known, key=lambda point: float(point["mean"]))
    worst = min(known, key=lambda point: float(point["mean"]))
    if best["mean"] == worst["mean"]:
        return f"{name}: the test AUC is {best['mean']:.4f} at every value."
    where = (one["dataset"], one["model"])
    paired = comparison.pair(where, best["method"], other=worst["method"])
    if paired is None:
        judged = "they share no seed"
    elif paired.t_interval is None:
        judged = f"{paired.mean:+.4f} on one shared seed, which cannot rule out chance"
    else:
        judged = f"difference {paired.mean:+.4f}, {confidence_interval(paired.t_interval)}"
    unequal = any(point["seeds"] != best["seeds"] for point in known)
    caution = " These means are over different seeds." if unequal else ""
    return (
        f"{name}: the mean test AUC is lowest at {worst['value']:g} ({worst['mean']:.4f}) and "
        f"highest at {best['value']:g} ({best['mean']:.4f}; {judged}).{caution}"
    )


def _table(one: dict[str, Any]) -> Table:
    fixed = list_options(one["fixed"])
    return Table(
        title=f"{one['dataset']} {one['model']}, {one['strategy']} ({fixed}); differences in units "
        "of 1e-4",
        columns=(
            one["option"], "test AUC", "minus base", "95% CI (t)", "precision", "recall",
        ),
        rows=tuple(
            (
                f"{point['value']:g}",
                point["mean"],
                difference_cell(point["minus_base"]),
                interval_cell(point["minus_base_t_interval"]),
                point["precision"],
                point["recall"],
            )
            for point in one["points"]
        ),
    )  # fmt: skip


def _figures(comparison: Comparison, curves: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Return one figure per dataset, model, and strategy."""
    groups: dict[tuple[Where, str], list[dict[str, Any]]] = {}
    for one in curves:
        place = ((one["dataset"], one["model"]), one["strategy"])
        groups.setdefault(place, []).append(one)
    figures = {}
    for number, ((where, strategy), mine) in enumerate(groups.items(), start=1):
        base = comparison.mean(where, comparison.base.label) if comparison.has_base else None
        name = "sensitivity" if len(groups) == 1 else f"sensitivity-{number}"
        figures[name] = _draw(where, strategy, base, mine)
    return figures


def _draw(
    where: Where, strategy: str, base: float | None, curves: Sequence[dict[str, Any]]
) -> Figure:
    count = len(curves)
    with new_figure(0.8 + 2.6 * count, 5.0, count, 2) as (figure, axes):
        upper, lower = axes[:count], axes[count:]
        for top, bottom, one in zip(upper, lower, curves, strict=True):
            _draw_auc(top, one, base)
            for name, color in IDENTIFICATION.items():
                values = none_to_nan(point[name] for point in one["points"])
                bottom.plot(range(len(values)), values, "o-", color=color, ms=4, label=name)
            bottom.set(ylim=(0, 1), xlabel=one["option"])
            labels = [f"{point['value']:g}" for point in one["points"]]
            for panel in (top, bottom):
                panel.set_xticks(range(len(labels)), labels)
                panel.margins(x=0.12)
        upper[0].set_ylabel("test AUC (dots: seeds)")
        lower[0].set_ylabel("identification, reported epoch")
        share_limits(upper)
        draw_legend(figure, axes)
        title = wrap(f"{strategy} on {' '.join(where)}", max(24, 32 * count))
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def _draw_auc(panel: Axes, one: dict[str, Any], base: float | None) -> None:
    for place, point in enumerate(one["points"]):
        panel.plot([place] * len(point[METRIC]), point[METRIC], ".", color=AUC, alpha=0.35)
    means = none_to_nan(point["mean"] for point in one["points"])
    panel.plot(range(len(means)), means, "o-", color=AUC, ms=4, label=one["strategy"])
    if base is not None:
        panel.axhline(base, **{**REFERENCE_LINE, "color": "#000000"}, label="base")
    panel.set_title(one["option"])


ANALYSIS = Analysis(
    question="How much does the result depend on each hyper-parameter, with the others fixed?",
    examine=examine,
    place=30,
    thesis_figure="Fig. 7",
    takes_sweeps=True,
    takes_runs=False,
)
