"""How well false positives are identified (Fig. 5), beside honest baselines.

The thesis compares precision with the share of noise in the whole batch, though only positives
are ever flagged. The yardsticks here are drawn among the positives: chance, and rarity of the
item. The thesis's own is kept, and labeled so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dartcli.analyses import _ranking
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting import analysis, figures
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import BASELINE_STYLES, RUN_COLORS, Floats, new_figure
from dartcli.reporting.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINES = {
    "random_among_positives": "random among positives",
    "item_popularity": "rarest items first",
    "thesis_noise_share_of_batch": "noise share of batch (thesis)",
}


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return precision and recall per iteration, and precision over the final ranking.

    A run that flagged nothing has no view over time; one of an older version no ranking.
    """
    for run in runs:
        analysis.needs_known_false_positives(run)
    flagged = [run for run in runs if _flagged(run)]
    ranked = {run.name: found for run in runs if (found := _ranking.ranking(run)) is not None}
    if not flagged and not ranked:
        raise RunError(_nothing_flagged(runs[0]))
    found = {
        run.name: {seed: _of_seed(run.iterations(seed)) for seed in run.seeds} for run in flagged
    }
    summaries = {name: _summary(seeds) for name, seeds in found.items()}
    figures = {}
    if flagged:
        with new_figure(7.2, 3.3, columns=2) as (drawing, axes):
            for panel, quantity in zip(axes, ("precision", "recall"), strict=True):
                _draw(panel, found, quantity)
        figures["precision-recall"] = drawing
    if ranked:
        with new_figure(5.2, 3.4) as (drawing, (panel,)):
            _ranking.draw(panel, ranked)
        figures["ranking"] = drawing
    return AnalysisResult(
        name="precision-recall",
        title="Identification of false positives",
        sentences=(
            *(_sentence(name, summary) for name, summary in summaries.items()),
            *(_nothing_flagged(run) for run in runs if run not in flagged),
            *(_ranking.sentence(name, one) for name, one in ranked.items()),
        ),
        tables=(
            *([_table(summaries)] if flagged else []),
            *([_ranking.table(ranked)] if ranked else []),
        ),
        figures=figures,
        numbers={"runs": [_run_numbers(run, found, summaries, ranked) for run in runs]},
    )


def _run_numbers(
    run: Run,
    found: dict[str, dict[int, dict[str, Any]]],
    summaries: dict[str, dict[str, float | None]],
    ranked: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    return {
        "run": run.name,
        "strategy": run.metrics.strategy,
        "dataset": run.metrics.dataset,
        "last_epoch": summaries.get(run.name),
        "seeds": [
            {"seed": seed, **_json(values)} for seed, values in found.get(run.name, {}).items()
        ],
        "ranking": ranked.get(run.name),
    }


def _flagged(run: Run) -> bool:
    return any(run.iterations(seed)["flagged"].sum() > 0 for seed in run.seeds)


def _nothing_flagged(run: Run) -> str:
    last = max(seed.iterations for seed in run.metrics.seeds)
    return (
        f"{run.name} (strategy {run.metrics.strategy}, {last:,} iterations) never discarded or "
        "relabeled an interaction, so nothing can be said over time; train one that does with "
        f"dart train {run.metrics.dataset} --strategy dart (and a --t-i that training reaches)."
    )


def _of_seed(table: pl.DataFrame) -> dict[str, Any]:
    """Return the raw columns of one seed as float arrays, and the length of an epoch."""
    names = (
        "iteration",
        "rows",
        "positives",
        "false_positives",
        "flagged",
        "flagged_false_positives",
        "rarest_false_positives",
    )
    columns: dict[str, Any] = {name: table[name].cast(pl.Float64).to_numpy() for name in names}
    columns["epoch"] = table["epoch"].to_numpy()
    return columns


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)


PARTS = {
    "precision": ("flagged_false_positives", "flagged"),
    "recall": ("flagged_false_positives", "false_positives"),
    "precision_random_among_positives": ("false_positives", "positives"),
    "precision_thesis_noise_share_of_batch": ("false_positives", "rows"),
    "precision_item_popularity": ("rarest_false_positives", "flagged"),
    "recall_random_among_positives": ("flagged", "positives"),
    "recall_item_popularity": ("rarest_false_positives", "false_positives"),
}
"""Every curve is a ratio of two counts: pooled over windows and epochs, not averaged."""


def _json(values: dict[str, Any]) -> dict[str, Any]:
    curves = {
        name: analysis.json_floats(_ratio(values[above], values[below]))
        for name, (above, below) in PARTS.items()
    }
    return {
        "iteration": [int(number) for number in values["iteration"]],
        "flagged": [int(number) for number in values["flagged"]],
        "precision": curves["precision"],
        "recall": curves["recall"],
        "baselines": {
            quantity: {
                name: curves[f"{quantity}_{name}"]
                for name in BASELINES
                if f"{quantity}_{name}" in curves
            }
            for quantity in ("precision", "recall")
        },
    }


def _summary(seeds: dict[int, dict[str, Any]]) -> dict[str, float | None]:
    """Return each curve's value over the last epoch in which anything was flagged, all seeds."""
    totals: dict[str, float] = {}
    for values in seeds.values():
        active = values["epoch"][values["flagged"] > 0]
        if len(active) == 0:
            continue
        chosen = values["epoch"] == active[-1]
        for name in {part for pair in PARTS.values() for part in pair}:
            totals[name] = totals.get(name, 0.0) + float(values[name][chosen].sum())
    summary: dict[str, float | None] = {
        name: totals[above] / totals[below] if totals[below] else None
        for name, (above, below) in PARTS.items()
    }
    precision, chance = summary["precision"], summary["precision_random_among_positives"]
    summary["lift"] = precision / chance if precision is not None and chance else None
    return summary


def _sentence(name: str, summary: dict[str, float | None]) -> str:
    precision, chance = summary["precision"], summary["precision_random_among_positives"]
    rarity, recall = summary["precision_item_popularity"], summary["recall"]
    if precision is None or chance is None or rarity is None or recall is None:
        return f"{name}: nothing was flagged."
    verdict = "more than chance" if precision > chance else "no more than chance"
    against = "better" if precision > rarity else "worse"
    return (
        f"{name}: in the last epoch {precision:.1%} of what was flagged were false positives, "
        f"{precision / chance:.2f} times {chance:.1%}, the share among all positives ({verdict}); "
        f"taking the rarest items instead would have given {rarity:.1%}, so the loss does "
        f"{against} than rarity. {recall:.1%} of the false positives were found."
    )


def _table(summaries: dict[str, dict[str, float | None]]) -> Table:
    return Table(
        title="Last epoch, all seeds together",
        columns=("run", "precision", "random", "rarest", "thesis", "lift", "recall", "flagged"),
        rows=tuple(
            (
                name,
                summary["precision"],
                summary["precision_random_among_positives"],
                summary["precision_item_popularity"],
                summary["precision_thesis_noise_share_of_batch"],
                summary["lift"],
                summary["recall"],
                summary["recall_random_among_positives"],
            )
            for name, summary in summaries.items()
        ),
    )


TITLES = {
    "precision": "Share of the flagged that are false",
    "recall": "Share of the false that are flagged",
}


def _draw(panel: Axes, found: dict[str, dict[int, dict[str, Any]]], quantity: str) -> None:
    for number, (name, seeds) in enumerate(found.items()):
        color = RUN_COLORS[number % len(RUN_COLORS)]
        pooled = _pooled(seeds)
        for seed in seeds.values():
            if len(seeds) > 1:
                panel.plot(
                    seed["iteration"], _curve(seed, quantity), color=color, lw=0.5, alpha=0.35
                )
        panel.plot(pooled["iteration"], _curve(pooled, quantity), color=color, label=name)
        if number == 0:
            for style, (baseline, label) in zip(BASELINE_STYLES, BASELINES.items(), strict=True):
                key = f"{quantity}_{baseline}"
                if key in PARTS:
                    panel.plot(
                        pooled["iteration"],
                        _curve(pooled, key),
                        color="#444444",
                        lw=1.1,
                        ls=style,
                        label=label,
                    )
    panel.set_title(TITLES[quantity])
    panel.set_xlabel("iteration")
    panel.set_ylabel(quantity)
    panel.set_ylim(bottom=0)
    panel.margins(x=0.01)
    panel.legend(loc="best")


LEAST = 25
"""Fewer cases than this in a window of one epoch are not drawn."""


def _curve(values: dict[str, Any], name: str) -> Floats:
    above, below = PARTS[name]
    window = int(np.bincount(values["epoch"]).max())
    return figures.smooth(values[above], values[below], window, least=LEAST)


def _pooled(seeds: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Add up the counts of all seeds, as far as every seed was trained."""
    length = min(len(values["iteration"]) for values in seeds.values())
    first = next(iter(seeds.values()))
    pooled = {name: first[name][:length] for name in ("iteration", "epoch")}
    for name in first.keys() - pooled.keys():
        pooled[name] = np.sum([values[name][:length] for values in seeds.values()], axis=0)
    return pooled


ANALYSIS = Analysis(
    title="Identification of false positives (Fig. 5)",
    question="How many of the flagged interactions are false positives, and how many are found?",
    examine=examine,
)
