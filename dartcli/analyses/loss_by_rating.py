"""Mean validation loss of the positives with each rating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import stats

from dartcli.analyses._records import identify, load_positives, positive_loss
from dartcli.data.columns import NOISY, RATING
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import (
    FALSE_POSITIVE,
    REFERENCE_LINE,
    TRUE_POSITIVE,
    draw_legend,
    new_figure,
    none_to_nan,
    run_color,
)
from dartcli.reporting.phrases import label_run, p_value
from dartcli.reporting.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_VALUES = 25
"""More distinct ratings than this are rounded to integers."""
MAX_TICKS = 12
"""Up to this many ratings have a tick each."""


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return the mean loss per rating, their correlation, and changes from the first run."""
    numbers = [_numbers(run) for run in runs]
    increases = [one for other in numbers[1:] if (one := _increase(numbers[0], other)) is not None]
    seeds = {one["run"]: one["seeds"] for one in numbers}
    with new_figure(6.4, 3.8) as (figure, (panel,)):
        _draw(panel, numbers)
        draw_legend(figure, [panel])
    return AnalysisResult(
        name="loss-by-rating",
        title="Loss by rating",
        sentences=(
            *(_correlation_sentence(one) for one in numbers),
            *(_increase_sentence(one, seeds) for one in increases),
        ),
        tables=(_table(numbers),),
        numbers={"runs": numbers, "increases": increases},
        figures={"loss-by-rating": figure},
    )


def _numbers(run: Run) -> dict[str, Any]:
    table = _losses(run)
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
    correlations: dict[str, float | None] = {}
    for name, test in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        found = test(rating, mean) if len(rating) > 2 and np.ptp(mean) > 0 else None
        correlations[name] = None if found is None else float(found.statistic)
        correlations[f"{name}_p"] = None if found is None else float(found.pvalue)
    return {
        **identify(run),
        "seeds": list(run.seeds),
        "ratings": rating.tolist(),
        "rows": grouped["rows"].to_list(),
        "mean_loss": mean.tolist(),
        "standard_error": grouped["error"].to_list(),
        "share_known_false": grouped["false"].to_list(),
        **correlations,
        "mean_loss_by_kind": {
            name: _mean(table.filter(pl.col(NOISY) == noisy)["loss"])
            for name, noisy in (("true_positive", False), ("false_positive", True))
        },
    }


def _losses(run: Run) -> pl.DataFrame:
    """Return rating, noisy, and loss of the validation positives of all seeds."""
    positives = pl.concat(
        load_positives(run, seed, "valid").select(pl.col(RATING).cast(pl.Float64), NOISY, "logit")
        for seed in run.seeds
    ).drop_nulls(RATING)
    distinct = positives[RATING].n_unique()
    if distinct < 2:
        raise RunError(
            f"{run.name}: the dataset {run.metrics.dataset} has no ratings to compare the loss "
            "with. Analyze a run on data with ratings, such as movielens-100k."
        )
    rating = pl.col(RATING).round() if distinct > MAX_VALUES else pl.col(RATING)
    return positives.select(rating, NOISY, pl.Series("loss", positive_loss(positives)))


def _mean(values: pl.Series) -> float | None:
    return float(values.to_numpy().mean()) if len(values) else None


def _increase(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    """Return the increase of the mean loss from ``first`` to ``other``.

    As in Tang (2023) it is the mean over rating values, whatever their number of rows; a rating
    counts as false if most of its positives are false positives. None if the ratings differ.
    """
    if first["ratings"] != other["ratings"] or first["dataset"] != other["dataset"]:
        return None
    increase = np.array(other["mean_loss"]) - np.array(first["mean_loss"])
    share = none_to_nan(first["share_known_false"])
    false, true = increase[share > 0.5], increase[share <= 0.5]
    return {
        "from": first["run"],
        "to": other["run"],
        "all_ratings": float(increase.mean()),
        "false_positive_ratings": float(false.mean()) if len(false) else None,
        "true_positive_ratings": float(true.mean()) if len(true) else None,
    }


def _correlation_sentence(numbers: dict[str, Any]) -> str:
    start = label_run(numbers["run"], numbers["strategy"])
    if numbers["pearson"] is None:
        return f"{start}: too few distinct ratings or losses for a correlation."
    return (
        f"{start}: over {len(numbers['ratings'])} ratings, the correlation of rating and mean loss "
        f"is {numbers['pearson']:+.3f} (Pearson, {p_value(numbers['pearson_p'])}) and "
        f"{numbers['spearman']:+.3f} (Spearman, {p_value(numbers['spearman_p'])})."
    )


def _increase_sentence(one: dict[str, Any], seeds: dict[str, list[int]]) -> str:
    other_seeds = "" if seeds[one["from"]] == seeds[one["to"]] else " (trained on different seeds)"
    start = (
        f"From {one['from']} to {one['to']}{other_seeds}, the mean loss over ratings changes by "
        f"{one['all_ratings']:+.3f}"
    )
    false, true = one["false_positive_ratings"], one["true_positive_ratings"]
    if false is None or true is None:
        return f"{start}."
    return (
        f"{start}: by {false:+.3f} for ratings that mostly mark false positives, and by "
        f"{true:+.3f} for the other ratings."
    )


def _table(numbers: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for rating in sorted({rating for one in numbers for rating in one["ratings"]}):
        cells: list[Cell] = [f"{rating:g}"]
        for one in numbers:
            place = one["ratings"].index(rating) if rating in one["ratings"] else None
            cells += [None if place is None else one[key][place] for key in ("rows", "mean_loss")]
        rows.append(tuple(cells))
    heads = [f"{one['run']}: {head}" for one in numbers for head in ("positives", "loss")]
    return Table(
        title="Mean loss of the validation positives by rating "
        f"(ratings are rounded if there are more than {MAX_VALUES})",
        columns=("rating", *heads),
        rows=tuple(rows),
    )


def _draw(panel: Axes, numbers: Sequence[dict[str, Any]]) -> None:
    for number, one in enumerate(numbers):
        label = label_run(one["run"], one["strategy"])
        if one["pearson"] is not None:
            label += f", Pearson {one['pearson']:+.2f}"
        panel.errorbar(
            one["ratings"], one["mean_loss"], none_to_nan(one["standard_error"]), fmt="o-", ms=4,
            capsize=2, color=run_color(number), label=label,
        )  # fmt: skip
    ratings = np.array(numbers[0]["ratings"])
    _draw_edge(panel, ratings, none_to_nan(numbers[0]["share_known_false"]))
    panel.set(
        title=f"Validation split of {numbers[0]['dataset']}",
        xlabel="rating",
        ylabel="mean loss (nats; bars: standard error)",
    )
    if len(ratings) <= MAX_TICKS:
        panel.set_xticks(ratings, [f"{rating:g}" for rating in ratings])
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.1 * (high - low))


def _draw_edge(panel: Axes, ratings: Any, share: Any) -> None:
    """Mark the rating above which most positives are true, if there is one."""
    false, true = ratings[share > 0.5], ratings[share <= 0.5]
    if not len(false) or not len(true) or false.max() > true.min():
        return
    edge = (false.max() + true.min()) / 2
    panel.axvline(edge, **REFERENCE_LINE)
    for side, words, color, align in (
        (-1, "false positives", FALSE_POSITIVE, "right"),
        (1, "true positives", TRUE_POSITIVE, "left"),
    ):
        panel.annotate(
            words, (edge, 1), (6 * side, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=color, va="top", fontsize=8, ha=align,
        )  # fmt: skip


ANALYSIS = Analysis(
    question="Is the loss of an interaction lower if the user liked the item more?",
    examine=examine,
    thesis_figure="Fig. 4",
)
