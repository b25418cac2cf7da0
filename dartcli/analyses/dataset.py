"""Counts, long tails, and false positives of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dartcli import metrics
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.experiments.configure import load_run_interactions
from dartcli.experiments.run import Run
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
from dartcli.reporting.phrases import percent
from dartcli.reporting.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS = 10
SIDES = {"user": (USER, "users", RUN_COLORS[0]), "item": (ITEM, "items", RUN_COLORS[2])}
"""Side -> its column, plural, and color."""


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return counts, tails, and false positives among the recorded positives, per dataset.

    They are counted from the prepared interactions: in the scores of a run, the ids of a log that
    do not occur in training share one code.
    """
    distinct = {run.settings.dataset.model_dump_json(): run for run in runs}
    numbers = {run.name: _numbers(run) for run in distinct.values()}
    repeated = Counter(one["dataset"] for one in numbers.values())
    labeled = {
        one["dataset"] + (f" ({run})" if repeated[one["dataset"]] > 1 else ""): one
        for run, one in numbers.items()
    }
    # without ground truth a panel of false positives would be empty
    is_known = [one["unknown"] < one["positives"] for one in labeled.values()]
    columns = 2 if any(is_known) else 1
    size = (1.2 + 4.2 * columns, 0.6 + 3.1 * len(labeled))
    with new_figure(*size, columns, len(labeled)) as (figure, axes):
        tails, noise = axes[::columns], axes[1::columns] if columns == 2 else []
        for panel, (label, one) in zip(tails, labeled.items(), strict=True):
            _draw_tails(panel, label, one)
        for panel, one, known in zip(noise, labeled.values(), is_known, strict=False):
            _draw_noise(panel, one) if known else panel.remove()
        share_limits(tails, x=True)
        if noise := [panel for panel, known in zip(noise, is_known, strict=False) if known]:
            share_limits(noise)
        draw_legend(figure, axes)
    return AnalysisResult(
        name="dataset",
        title="The dataset" if len(labeled) == 1 else "The datasets",
        sentences=tuple(_sentence(label, one) for label, one in labeled.items()),
        tables=(_counts(labeled), *(_groups(label, one) for label, one in labeled.items())),
        numbers={"datasets": list(numbers.values())},
        figures={"dataset": figure},
    )


def _numbers(run: Run) -> dict[str, Any]:
    table = load_run_interactions(run).filter(pl.col(LABEL) > 0)
    false = int(table[NOISY].sum())
    unknown = table[NOISY].null_count()
    result: dict[str, Any] = {
        "dataset": run.metrics.dataset,
        "from_run": run.name,
        "positives": len(table),
        "true_positives": len(table) - false - unknown,
        "false_positives": false,
        "unknown": unknown,
    }
    for side, (column, *_) in SIDES.items():
        of_code = table.group_by(column).len().sort(column)
        counts = of_code["len"].to_numpy().astype(np.int64)
        ordered = np.sort(counts)[::-1]
        top = max(1, round(len(ordered) / 100))
        degrees, members = np.unique(counts, return_counts=True)
        result[side] = {
            "number": len(counts),
            "median": float(np.median(counts)),
            "mean": float(counts.mean()),
            "most": int(ordered[0]),
            "share_of_top_1_percent": float(ordered[:top].sum() / ordered.sum()),
            "gini": _gini(ordered[::-1]),
            "interactions": degrees.tolist(),
            "at_least_as_many": (members[::-1].cumsum()[::-1] / len(counts)).tolist(),
            "groups": _noise_by_activity(table, of_code),
        }
    return result


def _gini(ascending: np.ndarray[Any, Any]) -> float:
    """Return the Gini coefficient: 0 if all values are equal, near 1 if one has everything."""
    size = len(ascending)
    rank = np.arange(1, size + 1)
    return float((2 * rank - size - 1) @ ascending / (size * ascending.sum()))


def _noise_by_activity(table: pl.DataFrame, counts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the share of false positives in groups of equal positives, least active first."""
    column = counts.columns[0]
    group = metrics.equal_groups(counts["len"].cast(pl.Int64).to_torch(), GROUPS)
    grouped = table.join(counts.with_columns(pl.Series("group", group.numpy())), on=column)
    found = grouped.group_by("group").agg(
        pl.col("len").min().alias("least"),
        pl.col("len").max().alias("most"),
        pl.len().alias("positives"),
        pl.col(column).n_unique().alias("members"),
        pl.col(NOISY).mean().alias("false_positive_share"),
    )
    # a group is empty if one entity has more positives than a group should
    every = pl.DataFrame({"group": range(GROUPS)}, schema={"group": pl.Int64})
    return every.join(found, on="group", how="left").sort("group").to_dicts()


def _sentence(label: str, one: dict[str, Any]) -> str:
    known = one["true_positives"] + one["false_positives"]
    tail = (
        f"The top 1% of items hold {percent(one['item']['share_of_top_1_percent'])} of the "
        f"positives, the top 1% of users {percent(one['user']['share_of_top_1_percent'])}."
    )
    if not known:
        return f"{label}: none of the {one['positives']:,} positives has ground truth. {tail}"
    with_truth = " with ground truth" if one["unknown"] else ""
    start = f"{label}: of the {known:,} positives{with_truth}"
    if not one["false_positives"]:
        return f"{start}, none is a false positive. {tail}"
    groups = [g for g in one["item"]["groups"] if g["false_positive_share"] is not None]
    low, high = (
        pick(groups, key=lambda group: float(group["false_positive_share"])) for pick in (min, max)
    )
    start = f"{start}, {percent(one['false_positives'] / known)} are false positives"
    if low["false_positive_share"] == high["false_positive_share"]:
        known_there = " with ground truth" if len(groups) < len(one["item"]["groups"]) else ""
        return f"{start}, at every item popularity{known_there} alike. {tail}"
    return (
        f"{start}. By item "
        f"popularity, the share is lowest for items with {_range(low)} positives "
        f"({percent(low['false_positive_share'])}) and highest for items with {_range(high)} "
        f"({percent(high['false_positive_share'])}). {tail}"
    )


def _counts(labeled: dict[str, dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for label, value in (
        ("users", lambda one: one["user"]["number"]),
        ("items", lambda one: one["item"]["number"]),
        ("true positives", lambda one: one["true_positives"]),
        ("false positives", lambda one: one["false_positives"]),
        ("positives without ground truth", lambda one: one["unknown"]),
        ("median positives per user", lambda one: f"{one['user']['median']:g}"),
        ("most positives of a user", lambda one: one["user"]["most"]),
        ("median positives per item", lambda one: f"{one['item']['median']:g}"),
        ("most positives of an item", lambda one: one["item"]["most"]),
        ("share of the top 1% of users", lambda one: one["user"]["share_of_top_1_percent"]),
        ("share of the top 1% of items", lambda one: one["item"]["share_of_top_1_percent"]),
        ("Gini coefficient, users", lambda one: one["user"]["gini"]),
        ("Gini coefficient, items", lambda one: one["item"]["gini"]),
    ):
        rows.append((label, *(value(one) for one in labeled.values())))
    return Table(title="Recorded interactions", columns=("quantity", *labeled), rows=tuple(rows))


def _groups(label: str, one: dict[str, Any]) -> Table:
    return Table(
        title=f"{label}: share of false positives by activity (ten groups of equal positives)",
        columns=("group", "per user", "false, by user", "per item", "false, by item"),
        rows=tuple(
            (
                str(user["group"] + 1),
                _range(user),
                user["false_positive_share"],
                _range(item),
                item["false_positive_share"],
            )
            for user, item in zip(one["user"]["groups"], one["item"]["groups"], strict=True)
        ),
    )


def _range(group: dict[str, Any]) -> str:
    return "–" if group["least"] is None else f"{group['least']:,} to {group['most']:,}"


def _draw_tails(panel: Axes, label: str, one: dict[str, Any]) -> None:
    for side, (_, plural, color) in SIDES.items():
        panel.step(
            one[side]["interactions"],
            100 * np.array(one[side]["at_least_as_many"]),
            color=color,
            label=plural,
            where="post",
        )
    panel.set(
        title=wrap(f"{label}: long tails", 40),
        xscale="log",
        yscale="log",
        xlabel="positives, at least",
        ylabel="share of users or items (%)",
    )


def _draw_noise(panel: Axes, one: dict[str, Any]) -> None:
    for side, (_, plural, color) in SIDES.items():
        values = 100 * none_to_nan(group["false_positive_share"] for group in one[side]["groups"])
        panel.plot(range(1, GROUPS + 1), values, "o-", ms=4, color=color, label=plural)
    known = one["true_positives"] + one["false_positives"]
    if known:
        mean = 100 * one["false_positives"] / known
        panel.axhline(mean, **REFERENCE_LINE, label="all positives")
    panel.set_ylim(bottom=0)
    panel.set_xticks(range(1, GROUPS + 1))
    panel.set(
        title="False positives by activity and popularity",
        xlabel="group of equal positives (1: least active or popular)",
        ylabel="false positives (%)",
    )


ANALYSIS = Analysis(
    question="How much was recorded, how uneven is it, and where are the false positives?",
    examine=examine,
    place=70,
    thesis_figure="Table 1",
)
