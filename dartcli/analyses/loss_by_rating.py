"""The mean loss on validation for every rating value (Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import stats

from dartcli.data.columns import LABEL, NOISY, RATING
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import FALSE_POSITIVE, RUN_COLORS, TRUE_POSITIVE, new_figure
from dartcli.reporting.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_VALUES = 25
"""More distinct ratings than that are rounded to whole numbers."""


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return the mean loss per rating, its correlation with the rating, and what a run adds."""
    tables = [_of_run(run) for run in runs]
    numbers = [_numbers(run, table) for run, table in zip(runs, tables, strict=True)]
    increases = [_increase(numbers[0], other) for other in numbers[1:]]
    return AnalysisResult(
        name="loss-by-rating",
        title="Loss by rating",
        sentences=(
            *(_sentence(one) for one in numbers),
            *(_increase_sentence(one) for one in increases if one is not None),
        ),
        tables=(_table(numbers),),
        numbers={"runs": numbers, "increases": [one for one in increases if one is not None]},
        figures={"loss-by-rating": _figure(runs, numbers)},
    )


def _of_run(run: Run) -> pl.DataFrame:
    """Return the positives of validation, all seeds together: rating, noisy, loss."""
    parts = []
    for seed in run.seeds:
        table = run.scores(seed).filter((pl.col("split") == "valid") & (pl.col(LABEL) > 0))
        parts.append(table.select(pl.col(RATING).cast(pl.Float64), NOISY, "logit"))
    table = pl.concat(parts).drop_nulls(RATING)
    if table[RATING].n_unique() < 2:
        raise RunError(
            f"the dataset of {run.name} ({run.metrics.dataset}) has no ratings, so the loss has "
            "nothing to be set against; train a run on data with ratings, such as movielens-100k."
        )
    if _rounded(table[RATING]):
        table = table.with_columns(pl.col(RATING).round())
    loss = np.logaddexp(0.0, -table["logit"].cast(pl.Float64).to_numpy())
    return table.select(RATING, NOISY, pl.Series("loss", loss))


def _rounded(ratings: pl.Series) -> bool:
    return ratings.n_unique() > MOST_VALUES


def _numbers(run: Run, table: pl.DataFrame) -> dict[str, Any]:
    grouped = (
        table.group_by(RATING)
        .agg(
            pl.col("loss").mean().alias("mean"),
            (pl.col("loss").std() / pl.len().sqrt()).alias("error"),
            pl.len().alias("rows"),
            pl.col(NOISY).mean().alias("false"),
        )
        .sort(RATING)
    )
    rating, mean = grouped[RATING].to_numpy(), grouped["mean"].to_numpy()
    enough = len(rating) > 2 and np.ptp(mean) > 0
    pearson, spearman = (
        test(rating, mean) if enough else None for test in (stats.pearsonr, stats.spearmanr)
    )
    known = table.drop_nulls(NOISY)
    by_kind = {
        name: _mean(known.filter(pl.col(NOISY) == noisy)["loss"])
        for name, noisy in (("true_positive", False), ("false_positive", True))
    }
    return {
        "run": run.name,
        "strategy": run.metrics.strategy,
        "model": run.metrics.model,
        "dataset": run.metrics.dataset,
        "seeds": list(run.seeds),
        "ratings": rating.tolist(),
        "rows": grouped["rows"].to_list(),
        "mean_loss": mean.tolist(),
        "standard_error": grouped["error"].to_list(),
        "share_known_false": grouped["false"].to_list(),
        "pearson": None if pearson is None else float(pearson.statistic),
        "pearson_p": None if pearson is None else float(pearson.pvalue),
        "spearman": None if spearman is None else float(spearman.statistic),
        "spearman_p": None if spearman is None else float(spearman.pvalue),
        "mean_loss_by_kind": by_kind,
    }


def _mean(values: pl.Series) -> float | None:
    return float(values.to_numpy().mean()) if len(values) else None


def _increase(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    """Return by how much the mean losses of ``other`` are above those of ``first``.

    As in the thesis it is the mean over rating values, all ratings alike; a rating counts as false
    where most of its positives are.
    """
    if first["ratings"] != other["ratings"] or first["dataset"] != other["dataset"]:
        return None
    more = np.array(other["mean_loss"]) - np.array(first["mean_loss"])
    share = np.array([np.nan if one is None else one for one in first["share_known_false"]])
    false, true = more[share > 0.5], more[share <= 0.5]
    return {
        "from": first["run"],
        "to": other["run"],
        "all_ratings": float(more.mean()),
        "false_positive_ratings": float(false.mean()) if len(false) else None,
        "true_positive_ratings": float(true.mean()) if len(true) else None,
    }


def _sentence(one: dict[str, Any]) -> str:
    if one["pearson"] is None:
        return f"{one['run']}: too few rating values for a correlation."
    sign = "negative" if one["pearson"] < 0 else "positive"
    known = "" if one["pearson_p"] < 0.05 else ", which may be chance"
    return (
        f"{one['run']} ({one['strategy']}): over {len(one['ratings'])} rating values the "
        f"correlation of rating and mean loss is {sign}, Pearson {one['pearson']:+.3f} "
        f"(p {one['pearson_p']:.2g}), Spearman {one['spearman']:+.3f} "
        f"(p {one['spearman_p']:.2g}){known}."
    )


def _increase_sentence(one: dict[str, Any]) -> str:
    start = f"From {one['from']} to {one['to']} the mean loss changes by {one['all_ratings']:+.3f}"
    false, true = one["false_positive_ratings"], one["true_positive_ratings"]
    if false is None or true is None:
        return f"{start}."
    relation = "more" if false > true else "no more"
    return (
        f"{start}: {false:+.3f} for ratings of false positives, {true:+.3f} for those of true "
        f"positives, so false positives are given up {relation} than true ones."
    )


def _table(numbers: Sequence[dict[str, Any]]) -> Table:
    ratings = sorted({rating for one in numbers for rating in one["ratings"]})
    rows = []
    for rating in ratings:
        cells: list[Cell] = [f"{rating:g}"]
        for one in numbers:
            found = rating in one["ratings"]
            place = one["ratings"].index(rating) if found else 0
            cells += [one["rows"][place], one["mean_loss"][place]] if found else [None, None]
        rows.append(tuple(cells))
    return Table(
        title="Mean loss of the positives of validation by rating"
        f" (rounded where there are more than {MOST_VALUES} values)",
        columns=(
            "rating",
            *(f"{one['run']}: {what}" for one in numbers for what in ("rows", "loss")),
        ),
        rows=tuple(rows),
    )


def _figure(runs: Sequence[Run], numbers: Sequence[dict[str, Any]]) -> Figure:
    with new_figure(5.2, 3.2) as (drawing, (panel,)):
        for number, (run, one) in enumerate(zip(runs, numbers, strict=True)):
            color = RUN_COLORS[number % len(RUN_COLORS)]
            label = f"{run.name}: {run.metrics.strategy}"
            if one["pearson"] is not None:
                label += f" (Pearson {one['pearson']:+.2f})"
            error = [np.nan if value is None else value for value in one["standard_error"]]
            panel.errorbar(
                one["ratings"], one["mean_loss"], error, fmt="o-", ms=4, capsize=2,
                color=color, label=label,
            )  # fmt: skip
        share = np.array(
            [np.nan if one is None else one for one in numbers[0]["share_known_false"]]
        )
        ratings = np.array(numbers[0]["ratings"])
        if (share > 0.5).any() and (share <= 0.5).any():
            edge = (ratings[share > 0.5].max() + ratings[share <= 0.5].min()) / 2
            panel.axvline(edge, color="#8A8A8A", lw=1, ls=(0, (4, 2)))
            for side, words, color in (
                (-1, "false positives", FALSE_POSITIVE),
                (1, "true positives", TRUE_POSITIVE),
            ):
                panel.annotate(
                    words, (edge, 1), (6 * side, -2), xycoords=("data", "axes fraction"),
                    textcoords="offset points", color=color, va="top", fontsize=8,
                    ha="left" if side > 0 else "right",
                )  # fmt: skip
        panel.set_title(f"Validation of {numbers[0]['dataset']}")
        panel.set_xlabel("rating")
        if len(ratings) <= 12:
            panel.set_xticks(ratings, [f"{rating:g}" for rating in ratings])
        panel.set_ylabel("mean loss (nats; bars: standard error)")
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + 0.1 * (high - low))
        panel.legend(loc="best")
    return drawing


ANALYSIS = Analysis(
    title="Loss by rating (Fig. 4)",
    question="Is the loss of an interaction lower, the more the user liked the item?",
    examine=examine,
)
