"""Precision and recall of what a strategy flags, against baselines among the positives.

Tang (2023) compares precision with the share of false positives in the whole batch, although only
positives can be flagged. The baselines here are drawn among the positives: random positives, and
the rarest items. The one of Tang (2023) is kept beside them, under that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dartcli.analyses import _ranking
from dartcli.analyses._records import epoch_length, identify, require_false_positives
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult, nan_to_none
from dartcli.reporting.figures import (
    Floats,
    draw_baselines,
    draw_legend,
    draw_run,
    new_figure,
    pool_windows,
    run_color,
    smooth,
    window_starts,
)
from dartcli.reporting.phrases import label_run, name_epochs, percent, relation
from dartcli.reporting.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTS = (
    "iteration",
    "rows",
    "positives",
    "false_positives",
    "flagged",
    "flagged_false_positives",
    "rarest_false_positives",
)
KNOWN = {
    "known_rows": ("rows", "unknown_positives"),
    "known_positives": ("positives", "unknown_positives"),
    "known_flagged": ("flagged", "flagged_unknown_positives"),
    "known_rarest": ("flagged", "rarest_unknown_positives"),
}
"""Count of rows with ground truth -> count of all, and of those without."""
POOLED = (*COUNTS, *KNOWN)
RATIOS = {
    "precision": ("flagged_false_positives", "known_flagged"),
    "recall": ("flagged_false_positives", "false_positives"),
    "precision_random_among_positives": ("false_positives", "known_positives"),
    "precision_thesis_noise_share_of_batch": ("false_positives", "known_rows"),
    "precision_item_popularity": ("rarest_false_positives", "known_rarest"),
    "recall_random_among_positives": ("flagged", "positives"),
    "recall_item_popularity": ("rarest_false_positives", "false_positives"),
    "share_with_ground_truth": ("known_positives", "positives"),
}
"""Every curve is a ratio of two counts, pooled over windows and epochs instead of averaged.

Precision is that of the rows with ground truth. Recall needs no other rows.
"""
BASELINES = {
    "random_among_positives": "random positives",
    "item_popularity": "rarest items",
    "thesis_noise_share_of_batch": "whole batch (Tang, 2023)",
}
TITLES = {
    "precision": "Flagged that are false positives",
    "recall": "False positives that are flagged",
}
MIN_COUNT = 25
"""A window of one epoch with fewer cases is not drawn."""

Seeds = Mapping[int, dict[str, Any]]
"""Seed -> its counts per iteration."""


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return precision and recall per iteration, and precision over the final ranking.

    A run that flagged nothing has only the ranking.
    """
    for run in runs:
        require_false_positives(run)
    counts = {run.name: {seed: _counts(run.iterations(seed)) for seed in run.seeds} for run in runs}
    flagged = {
        name: seeds
        for name, seeds in counts.items()
        if any(values["flagged"].any() for values in seeds.values())
    }
    moments = {run.name: _moments(run) for run in runs if run.name in flagged}
    summaries = {
        (name, moment): {"epochs": epochs, **_summarize(flagged[name], epochs)}
        for name, of_run in moments.items()
        for moment, epochs in of_run.items()
    }
    distinct = {
        (name, moment): one
        for (name, moment), one in summaries.items()
        if moment == "reported" or one["epochs"] != summaries[name, "reported"]["epochs"]
    }
    rankings = {run.name: _ranking.rank(run) for run in runs}
    drawn = {name: seeds for name, seeds in flagged.items() if _has_curve(seeds)}
    figures = {"precision-recall": _draw(drawn)} if drawn else {}
    return AnalysisResult(
        name="precision-recall",
        title="Identification of false positives",
        sentences=(
            *(_sentence(*place, one) for place, one in distinct.items()),
            *(_nothing_flagged(run) for run in runs if run.name not in flagged),
            *(_ranking.sentence(name, one) for name, one in rankings.items()),
        ),
        tables=(*([_table(distinct)] if flagged else []), _ranking.table(rankings)),
        figures={**figures, "ranking": _ranking.draw(rankings)},
        numbers={
            "runs": [
                {
                    **identify(run),
                    **{
                        f"{moment}_epoch": summaries.get((run.name, moment))
                        for moment in ("reported", "last")
                    },
                    "seeds": [
                        {"seed": seed, **_numbers(values)}
                        for seed, values in flagged.get(run.name, {}).items()
                    ],
                    "ranking": rankings[run.name],
                }
                for run in runs
            ]
        },
    )


def _counts(iterations: pl.DataFrame) -> dict[str, Any]:
    counts: dict[str, Any] = {name: iterations[name].cast(pl.Float64).to_numpy() for name in COUNTS}
    for name, (every, unknown) in KNOWN.items():
        counts[name] = counts[every] - iterations[unknown].cast(pl.Float64).to_numpy()
    return counts | {"epoch": iterations["epoch"].to_numpy()}


def _numbers(counts: dict[str, Any]) -> dict[str, Any]:
    """Return the curves; a long training is pooled over windows, named by their last iteration."""
    ends = [*(window_starts(len(counts["iteration"]))[1:] - 1), -1]
    pooled = {name: pool_windows(counts[name]) for name in POOLED}
    with np.errstate(invalid="ignore", divide="ignore"):
        curves = {
            name: nan_to_none(np.where(pooled[below] > 0, pooled[above] / pooled[below], np.nan))
            for name, (above, below) in RATIOS.items()
        }
    return {
        "iteration": [int(number) for number in counts["iteration"][ends]],
        "flagged": [int(number) for number in pooled["flagged"]],
        "precision": curves["precision"],
        "recall": curves["recall"],
        "baselines": {
            quantity: {
                name: curves[f"{quantity}_{name}"]
                for name in BASELINES
                if f"{quantity}_{name}" in curves
            }
            for quantity in TITLES
        },
    }


def _moments(run: Run) -> dict[str, dict[int, int]]:
    """Return ``reported`` and ``last`` -> the epoch of each seed."""
    return {
        "reported": {seed.seed: seed.reported_epoch for seed in run.metrics.seeds},
        "last": {seed.seed: seed.epochs for seed in run.metrics.seeds},
    }


def _summarize(seeds: Seeds, epochs: Mapping[int, int]) -> dict[str, float | None]:
    """Return each ratio over one epoch per seed, pooled over the seeds."""
    totals = dict.fromkeys(POOLED, 0.0)
    for seed, counts in seeds.items():
        chosen = counts["epoch"] == epochs[seed]
        for name in POOLED:
            totals[name] += float(counts[name][chosen].sum())
    summary: dict[str, float | None] = {
        name: totals[above] / totals[below] if totals[below] else None
        for name, (above, below) in RATIOS.items()
    }
    precision, chance = summary["precision"], summary["precision_random_among_positives"]
    summary["lift"] = precision / chance if precision is not None and chance else None
    return summary


def _sentence(name: str, moment: str, summary: Mapping[str, Any]) -> str:
    precision, lift = summary["precision"], summary["lift"]
    rarest, recall = summary["precision_item_popularity"], summary["recall"]
    start = f"{name}: in the {moment} {name_epochs(summary['epochs'].values())}"
    if not summary["recall_random_among_positives"]:
        return f"{start}, no interaction was flagged."
    if precision is None:
        return f"{start}, no flagged interaction has ground truth."
    if lift is None or recall is None:
        return f"{start}, no positive was a known false positive."
    known = " with ground truth" if summary["share_with_ground_truth"] < 1 else ""
    against = ""
    if rarest is not None:
        against = f", and {relation(precision, rarest, 3)} the {percent(rarest)} among the same "
        against += "number of rarest items"
    return (
        f"{start}, {percent(precision)} of the flagged interactions{known} are known false "
        f"positives: {lift:.2f} times the "
        f"{percent(summary['precision_random_among_positives'])} among all positives{known}"
        f"{against}. {percent(recall)} of the known false positives were flagged."
    )


def _nothing_flagged(run: Run) -> str:
    last = max(seed.iterations for seed in run.metrics.seeds)
    return (
        f"{label_run(run.name, run.metrics.strategy)} never discarded or relabeled an interaction "
        f"in {last:,} iterations, so it has no precision and recall."
    )


def _table(summaries: Mapping[tuple[str, str], Mapping[str, Any]]) -> Table:
    columns = {
        "precision": "precision",
        "random": "precision_random_among_positives",
        "rarest items": "precision_item_popularity",
        "lift": "lift",
        "recall": "recall",
        "flagged": "recall_random_among_positives",
    }
    return Table(
        title="Flagged interactions of one epoch, all seeds pooled. Lift: precision over "
        "random; flagged: share of the positives",
        columns=("run", "epoch", *columns),
        rows=tuple(
            (name, f"{epochs} ({moment})", *(summary[key] for key in columns.values()))
            for (name, moment), summary in summaries.items()
            for epochs in [", ".join(map(str, dict.fromkeys(summary["epochs"].values())))]
        ),
    )


def _draw(flagged: Mapping[str, Seeds]) -> Figure:
    with new_figure(9.6, 3.8, columns=2) as (figure, axes):
        for panel, quantity in zip(axes, TITLES, strict=True):
            _draw_quantity(panel, flagged, quantity)
        draw_legend(figure, axes)
    return figure


def _draw_quantity(panel: Axes, flagged: Mapping[str, Seeds], quantity: str) -> None:
    for number, (name, seeds) in enumerate(flagged.items()):
        pooled = _pool(seeds)
        longest = max((counts["iteration"] for counts in seeds.values()), key=len)
        curves = [_curve(counts, quantity) for counts in seeds.values()]
        draw_run(panel, longest, curves, _curve(pooled, quantity), run_color(number), name)
        if number == 0:
            draw_baselines(
                panel,
                pooled["iteration"],
                [
                    (f"{name}: {label}" if len(flagged) > 1 else label, _curve(pooled, key))
                    for baseline, label in BASELINES.items()
                    if (key := f"{quantity}_{baseline}") in RATIOS
                ],
            )
    panel.set(title=TITLES[quantity], xlabel="iteration", ylabel=quantity)
    panel.set_ylim(bottom=0)
    panel.margins(x=0.01)


def _has_curve(seeds: Seeds) -> bool:
    """Return whether enough was flagged for a curve."""
    return bool(np.isfinite(_curve(_pool(seeds), "precision")).any())


def _curve(counts: dict[str, Any], name: str) -> Floats:
    above, below = RATIOS[name]
    window = epoch_length(counts["epoch"])
    return smooth(counts[above], counts[below], window, min_count=MIN_COUNT)


def _pool(seeds: Seeds) -> dict[str, Any]:
    """Return the counts summed over the seeds, up to the end of the shortest."""
    length = min(len(counts["iteration"]) for counts in seeds.values())
    first = next(iter(seeds.values()))
    pooled = {name: first[name][:length] for name in ("iteration", "epoch")}
    for name in first.keys() - pooled.keys():
        pooled[name] = np.sum([counts[name][:length] for counts in seeds.values()], axis=0)
    return pooled


ANALYSIS = Analysis(
    question="How many flagged interactions are false positives, and how many of those are found?",
    examine=examine,
    place=10,
    thesis_figure="Fig. 5",
)
