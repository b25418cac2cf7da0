"""AUC and identification over the settings of a strategy, one at a time (Fig. 7)."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison, Contender, Where
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.metrics.statistics import PairedDifference, compare_paired
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import RUN_COLORS, new_figure
from dartcli.reporting.table import Marked, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "test_auc"
AUC, PRECISION, RECALL = RUN_COLORS[0], "#009E73", "#E69F00"


@dataclass(frozen=True)
class Curve:
    """What happens along one option, all others fixed."""

    where: Where
    strategy: str
    option: str
    fixed: dict[str, Any]
    points: tuple[tuple[float, Contender], ...]
    """Value of the option -> contender, ascending."""


def examine(subjects: Sequence[Run | Sweep]) -> AnalysisResult:
    """Return AUC, precision and recall along every option that was varied."""
    found = Comparison(subjects)
    curves = [curve for where in found.cells for curve in _curves(found, where)]
    if not curves:
        raise RunError(
            "no option of a strategy takes several values here; vary one with dart sweep "
            "--preset sensitivity, or --set strategy.tau_m=0.01,0.02,0.04."
        )
    numbers = [_numbers(found, curve) for curve in curves]
    return AnalysisResult(
        name="sensitivity",
        title="Sensitivity to the hyper-parameters",
        sentences=tuple(_sentence(curve, one) for curve, one in zip(curves, numbers, strict=True)),
        tables=tuple(_table(curve, one) for curve, one in zip(curves, numbers, strict=True)),
        numbers={"protocol": found.protocol, "curves": numbers},
        figures=_figures(found, curves, numbers),
    )


def _curves(found: Comparison, where: Where) -> Iterator[Curve]:
    """Find for every numeric option the largest set of contenders that differ in it alone."""
    by_strategy: dict[str, list[Contender]] = {}
    for contender in found.contenders.values():
        if (where, contender.label) in found.metrics:
            by_strategy.setdefault(contender.strategy, []).append(contender)
    for strategy, contenders in by_strategy.items():
        for option in contenders[0].options:
            groups: dict[str, list[Contender]] = {}
            for contender in contenders:
                others = {k: v for k, v in contender.options.items() if k != option}
                groups.setdefault(json.dumps(others, sort_keys=True), []).append(contender)
            largest = max(groups.values(), key=len)
            values = [contender.options[option] for contender in largest]
            if len(largest) > 1 and all(_is_number(value) for value in values):
                fixed = {k: v for k, v in largest[0].options.items() if k != option}
                points = sorted(zip(values, largest, strict=True), key=lambda point: point[0])
                yield Curve(where, strategy, option, fixed, tuple(points))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _against_base(found: Comparison, where: Where, label: str) -> PairedDifference | None:
    try:
        base = found.values(where, found.base.label)
    except RunError:
        return None
    mine = found.values(where, label)
    shared = sorted(base.keys() & mine.keys())
    return compare_paired([mine[seed] - base[seed] for seed in shared]) if shared else None


def _numbers(found: Comparison, curve: Curve) -> dict[str, Any]:
    points = []
    for value, contender in curve.points:
        pair = _against_base(found, curve.where, contender.label)
        seeds = found.values(curve.where, contender.label)
        points.append(
            {
                "value": value,
                "method": contender.label,
                "seeds": list(seeds),
                MEASURE: list(seeds.values()),
                "mean": found.mean(curve.where, contender.label),
                "minus_base": pair.mean if pair else None,
                "minus_base_t_interval": pair.t_interval if pair else None,
                "precision": found.mean(curve.where, contender.label, "identification_precision"),
                "recall": found.mean(curve.where, contender.label, "identification_recall"),
            }
        )
    return {
        "dataset": curve.where[0],
        "model": curve.where[1],
        "strategy": curve.strategy,
        "option": curve.option,
        "fixed": curve.fixed,
        "points": points,
    }


def _sentence(curve: Curve, numbers: dict[str, Any]) -> str:
    known = [point for point in numbers["points"] if point["mean"] is not None]
    name = f"{' '.join(curve.where)}, {curve.option} of {curve.strategy}"
    if len(known) < 2:
        return f"{name}: too few values have a test AUC."
    best = max(known, key=lambda point: float(point["mean"]))
    worst = min(known, key=lambda point: float(point["mean"]))
    across = compare_paired(
        [one - other for one, other in zip(best[MEASURE], worst[MEASURE], strict=False)]
    )
    clear = across.t_interval is not None and across.t_interval[0] > 0
    judged = (
        "more than chance over seeds"
        if clear
        else "not more than chance over seeds"
        if across.n > 1
        else "one seed cannot tell chance apart"
    )
    return (
        f"{name}: test AUC from {worst['mean']:.4f} (at {worst['value']:g}) to {best['mean']:.4f} "
        f"(at {best['value']:g}), a difference of {across.mean:.4f}: {judged}."
    )


def _table(curve: Curve, numbers: dict[str, Any]) -> Table:
    fixed = ", ".join(f"{key} {value}" for key, value in curve.fixed.items())
    rows = []
    for point in numbers["points"]:
        bounds = point["minus_base_t_interval"]
        difference = point["minus_base"]
        rows.append(
            (
                f"{point['value']:g}",
                point["mean"],
                Marked(None if difference is None else 1e4 * difference, 1, signed=True),
                None if bounds is None else f"{1e4 * bounds[0]:+.1f}..{1e4 * bounds[1]:+.1f}",
                point["precision"],
                point["recall"],
            )
        )
    return Table(
        title=f"{' '.join(curve.where)}, {curve.strategy} ({fixed})",
        columns=(curve.option, "test AUC", "minus base (1e-4)", "95 % (t)", "precision", "recall"),
        rows=tuple(rows),
    )


def _figures(
    found: Comparison, curves: Sequence[Curve], numbers: Sequence[dict[str, Any]]
) -> dict[str, Figure]:
    drawn = {}
    keys = list(dict.fromkeys((curve.where, curve.strategy) for curve in curves))
    for number, key in enumerate(keys, start=1):
        mine = [
            (curve, one)
            for curve, one in zip(curves, numbers, strict=True)
            if (curve.where, curve.strategy) == key
        ]
        name = "sensitivity" if len(keys) == 1 else f"sensitivity-{number}"
        drawn[name] = _figure(found, mine)
    return drawn


def _figure(found: Comparison, mine: Sequence[tuple[Curve, dict[str, Any]]]) -> Figure:
    count = len(mine)
    with new_figure(0.8 + 2.3 * count, 4.2, count, 2) as (drawing, axes):
        for column, (curve, numbers) in enumerate(mine):
            points = numbers["points"]
            place = list(range(len(points)))
            labels = [f"{point['value']:g}" for point in points]
            top, bottom = axes[column], axes[count + column]
            for point, x in zip(points, place, strict=True):
                top.plot([x] * len(point[MEASURE]), point[MEASURE], ".", color=AUC, alpha=0.35)
            means = [_or_nan(point["mean"]) for point in points]
            top.plot(place, means, "o-", color=AUC, ms=4, label=curve.strategy)
            _draw_base(found, curve, top)
            top.set_title(f"{curve.option}")
            for key, color in (("precision", PRECISION), ("recall", RECALL)):
                values = [_or_nan(point[key]) for point in points]
                bottom.plot(place, values, "o-", color=color, ms=4, label=key)
            bottom.set_ylim(0, 1)
            bottom.set_xlabel(curve.option)
            for panel in (top, bottom):
                panel.set_xticks(place, labels)
                panel.margins(x=0.12)
        axes[0].set_ylabel("test AUC (dots: seeds)")
        axes[count].set_ylabel("identification, last epoch")
        lows, highs = zip(*(panel.get_ylim() for panel in axes[:count]), strict=True)
        for panel in axes[:count]:
            panel.set_ylim(min(lows), max(highs))
        axes[0].legend(loc="best")
        axes[count].legend(loc="best")
        where = "\n".join(textwrap.wrap(" ".join(mine[0][0].where), 60))
        drawing.suptitle(f"{mine[0][0].strategy} on {where}", x=0.01, ha="left", fontweight="bold")
    return drawing


def _draw_base(found: Comparison, curve: Curve, panel: Any) -> None:
    try:
        base = found.mean(curve.where, found.base.label)
    except RunError:
        return
    if base is not None:
        panel.axhline(base, color="#000000", lw=1, ls=(0, (4, 2)), label="base")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


ANALYSIS = Analysis(
    title="Sensitivity to the hyper-parameters (Fig. 7)",
    question="How much does the result depend on each hyper-parameter, all others fixed?",
    examine=examine,
    takes_sweeps=True,
    takes_runs=False,
)
