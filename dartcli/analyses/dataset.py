"""What is in a dataset: Table 1, its long tails, and where its false positives are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from dartcli import metrics
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.experiments.run import Run
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import RUN_COLORS, new_figure
from dartcli.reporting.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS = 10
SIDES = {"user": (USER, "users"), "item": (ITEM, "items")}
COLORS = {"user": RUN_COLORS[0], "item": RUN_COLORS[2]}


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return counts, tails and noise of each run's data: every recorded positive, all splits."""
    numbers = []
    for run in {run.metrics.dataset: run for run in runs}.values():
        table = run.scores(run.seeds[0]).filter(pl.col(LABEL) > 0)
        numbers.append(_numbers(run, table))
    with new_figure(7.4, 3.1 * len(numbers), 2, len(numbers)) as (drawing, axes):
        for row, one in enumerate(numbers):
            _draw_tails(axes[2 * row], one)
            _draw_noise(axes[2 * row + 1], one)
    return AnalysisResult(
        name="dataset",
        title="The data",
        sentences=tuple(_sentence(one) for one in numbers),
        tables=(_counts(numbers), *(_groups(one) for one in numbers)),
        numbers={"datasets": numbers},
        figures={"dataset": drawing},
    )


def _numbers(run: Run, table: pl.DataFrame) -> dict[str, Any]:
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
    for side, (column, _) in SIDES.items():
        counts = table.group_by(column).len().sort(column)["len"].to_numpy().astype(np.int64)
        ordered = np.sort(counts)[::-1]
        top = max(1, round(len(ordered) / 100))
        degrees, numbers = np.unique(counts, return_counts=True)
        result[side] = {
            "number": len(counts),
            "median": float(np.median(counts)),
            "mean": float(counts.mean()),
            "most": int(ordered[0]),
            "share_of_top_1_percent": float(ordered[:top].sum() / ordered.sum()),
            "gini": _gini(ordered[::-1]),
            "interactions": degrees.tolist(),
            "at_least_as_many": (numbers[::-1].cumsum()[::-1] / len(counts)).tolist(),
            "groups": _noise(table, column),
        }
    return result


def _gini(ascending: np.ndarray[Any, Any]) -> float:
    """Return the Gini coefficient: 0 = all alike, near 1 = one has everything."""
    size = len(ascending)
    rank = np.arange(1, size + 1)
    return float((2 * rank - size - 1) @ ascending / (size * ascending.sum()))


def _noise(table: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """Return the share of false positives in groups of equal positives, by activity."""
    counts = table.group_by(column).len().sort(column)
    group = metrics.equal_groups(
        torch.from_numpy(counts["len"].cast(pl.Int64).to_numpy(writable=True)), GROUPS
    )
    grouped = table.join(counts.with_columns(pl.Series("group", group.numpy())), on=column)
    known = pl.col(NOISY).is_not_null()
    found = grouped.group_by("group").agg(
        pl.col("len").min().alias("least"),
        pl.col("len").max().alias("most"),
        pl.len().alias("positives"),
        pl.col(column).n_unique().alias("members"),
        pl.col(NOISY).filter(known).mean().alias("false_positive_share"),
    )
    # a very popular item may leave no room for a group of its own
    every = pl.DataFrame({"group": range(GROUPS)}, schema={"group": pl.Int64})
    return every.join(found, on="group", how="left").sort("group").to_dicts()


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _sentence(one: dict[str, Any]) -> str:
    known = one["true_positives"] + one["false_positives"]
    tail = (
        f"the top 1 % of items hold {_share(one['item']['share_of_top_1_percent'])} of the "
        f"positives, the top 1 % of users {_share(one['user']['share_of_top_1_percent'])}"
    )
    if not one["false_positives"]:
        return f"{one['dataset']}: no positive is known to be false; {tail}."
    shares = [group["false_positive_share"] for group in one["item"]["groups"]]
    first, *_, last = [share for share in shares if share is not None]
    moves = "falls" if last < first else "rises"
    return (
        f"{one['dataset']}: {_share(one['false_positives'] / known)} of the positives of which it "
        f"is known are false; the share {moves} from {_share(first)} among the least popular items "
        f"to {_share(last)} among the most popular; {tail}."
    )


def _counts(numbers: Sequence[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for label, value in (
        ("users", lambda one: one["user"]["number"]),
        ("items", lambda one: one["item"]["number"]),
        ("true positives", lambda one: one["true_positives"]),
        ("false positives", lambda one: one["false_positives"]),
        ("unknown", lambda one: one["unknown"]),
        ("positives per user, median", lambda one: f"{one['user']['median']:g}"),
        ("positives per user, most", lambda one: one["user"]["most"]),
        ("positives per item, median", lambda one: f"{one['item']['median']:g}"),
        ("positives per item, most", lambda one: one["item"]["most"]),
        ("share of the top 1 % of users", lambda one: one["user"]["share_of_top_1_percent"]),
        ("share of the top 1 % of items", lambda one: one["item"]["share_of_top_1_percent"]),
        ("Gini coefficient, users", lambda one: one["user"]["gini"]),
        ("Gini coefficient, items", lambda one: one["item"]["gini"]),
    ):
        rows.append((label, *(value(one) for one in numbers)))
    return Table(
        title="What was recorded (Table 1)",
        columns=("", *(one["dataset"] for one in numbers)),
        rows=tuple(rows),
    )


def _groups(one: dict[str, Any]) -> Table:
    rows = []
    for by_user, by_item in zip(one["user"]["groups"], one["item"]["groups"], strict=True):
        rows.append(
            (
                str(by_user["group"] + 1),
                _range(by_user),
                by_user["false_positive_share"],
                _range(by_item),
                by_item["false_positive_share"],
            )
        )
    return Table(
        title=f"{one['dataset']}: false positives by activity (ten groups of equal positives)",
        columns=("group", "per user", "false share", "per item", "false share of items"),
        rows=tuple(rows),
    )


def _range(group: dict[str, Any]) -> str:
    return "–" if group["least"] is None else f"{group['least']:,} to {group['most']:,}"


def _draw_tails(panel: Axes, one: dict[str, Any]) -> None:
    for side, (_, plural) in SIDES.items():
        panel.step(
            one[side]["interactions"],
            np.array(one[side]["at_least_as_many"]) * 100,
            color=COLORS[side],
            label=f"{plural} (Gini {one[side]['gini']:.2f})",
            where="post",
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_title(f"{one['dataset']}: long tails")
    panel.set_xlabel("positives, at least")
    panel.set_ylabel("share of users or items (%)")
    panel.legend(loc="best")


def _draw_noise(panel: Axes, one: dict[str, Any]) -> None:
    for side, (_, plural) in SIDES.items():
        shares = [group["false_positive_share"] for group in one[side]["groups"]]
        values = [np.nan if share is None else 100 * share for share in shares]
        panel.plot(
            range(1, len(values) + 1), values, "o-", ms=4, color=COLORS[side],
            label=f"by activity of {plural}",
        )  # fmt: skip
    known = one["true_positives"] + one["false_positives"]
    if known:
        mean = 100 * one["false_positives"] / known
        panel.axhline(mean, color="#8A8A8A", lw=1, ls=(0, (4, 2)), label=f"all: {mean:.1f} %")
    panel.set_ylim(bottom=0)
    panel.set_xticks(range(1, GROUPS + 1))
    panel.set_title("false positives by activity")
    panel.set_xlabel("group (1 = least active; equal positives)")
    panel.set_ylabel("false among known positives (%)")
    panel.legend(loc="best")


ANALYSIS = Analysis(
    title="The data (Table 1)",
    question="How much was recorded, how uneven is it, and where are the false positives?",
    examine=examine,
)
