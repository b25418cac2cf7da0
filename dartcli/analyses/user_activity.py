"""The test AUC of users by activity, and of items by popularity (Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from dartcli import metrics
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.metrics.statistics import compare_paired
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import RUN_COLORS, new_figure
from dartcli.reporting.table import Cell, Marked, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS = 5
SIDES = {"users": (USER, "user_positives"), "items": (ITEM, "item_positives")}


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return the AUC of each group, for every run, and what the others add to the first run."""
    first = runs[0]
    if any(run.settings.dataset != first.settings.dataset for run in runs):
        raise RunError(
            "user-activity sets runs on one dataset beside each other, but these were trained on "
            f"{' and '.join(dict.fromkeys(run.metrics.dataset for run in runs))}; analyze those "
            "of one dataset together."
        )
    numbers: list[dict[str, Any]] = [
        {
            "run": run.name,
            "strategy": run.metrics.strategy,
            "model": run.metrics.model,
            "dataset": run.metrics.dataset,
            "seeds": [_of_seed(run, seed) for seed in run.seeds],
        }
        for run in runs
    ]
    for one in numbers:
        one["mean"] = {side: _mean_of_groups(one, side) for side in SIDES}
    differences = [_differences(numbers[0], one) for one in numbers[1:]]
    with new_figure(8.0, 3.3, 2) as (drawing, axes):
        for panel, side in zip(axes, SIDES, strict=True):
            _draw(panel, numbers, side)
        axes[0].legend(loc="best")
    return AnalysisResult(
        name="user-activity",
        title="Active and inactive users, popular and unpopular items",
        sentences=(
            *(_sentence(one) for one in numbers),
            *(_difference_sentence(one) for one in differences),
        ),
        tables=tuple(_table(numbers, differences, side) for side in SIDES),
        numbers={"runs": numbers, "differences": differences},
        figures={"user-activity": drawing},
    )


def _of_seed(run: Run, seed: int) -> dict[str, Any]:
    scores = run.scores(seed)
    train = scores.filter(pl.col("split") == "train")
    test = scores.filter(pl.col("split") == "test")
    clean = (test[LABEL] > 0) & ~test[NOISY].fill_null(value=False)
    score, label = (
        torch.from_numpy(test["logit"].to_numpy(writable=True)),
        torch.from_numpy(clean.to_numpy(writable=True)),
    )
    result: dict[str, Any] = {"seed": seed}
    for side, (column, _) in SIDES.items():
        size = int(scores[column].max()) + 1  # type: ignore[arg-type]
        counts = torch.bincount(
            torch.from_numpy(train[column].cast(pl.Int64).to_numpy(writable=True)), minlength=size
        )
        group = metrics.equal_groups(counts, GROUPS)
        of_row = group[torch.from_numpy(test[column].cast(pl.Int64).to_numpy(writable=True))]
        auc = metrics.auc_by_group(score, label, of_row, GROUPS)
        result[side] = [
            {
                "group": number,
                "least": int(counts[group == number].min()) if (group == number).any() else None,
                "most": int(counts[group == number].max()) if (group == number).any() else None,
                "members": int((group == number).sum()),
                "training_positives": int(counts[group == number].sum()),
                "test_rows": int((of_row == number).sum()),
                "test_positives": int(label[of_row == number].sum()),
                "auc": None if bool(auc[number].isnan()) else float(auc[number]),
            }
            for number in range(GROUPS)
        ]
    return result


def _mean_of_groups(one: dict[str, Any], side: str) -> list[float | None]:
    values = [[seed[side][number]["auc"] for seed in one["seeds"]] for number in range(GROUPS)]
    return [None if None in group else float(np.mean(group)) for group in values]


def _differences(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return ``other`` minus ``first`` for each group, paired by seed."""
    before = {seed["seed"]: seed for seed in first["seeds"]}
    after = {seed["seed"]: seed for seed in other["seeds"]}
    shared = sorted(before.keys() & after.keys())
    result: dict[str, Any] = {"from": first["run"], "to": other["run"], "seeds": shared}
    for side in SIDES:
        result[side] = []
        for number in range(GROUPS):
            pairs = [
                (before[s][side][number]["auc"], after[s][side][number]["auc"]) for s in shared
            ]
            known = [
                late - early for early, late in pairs if early is not None and late is not None
            ]
            pair = compare_paired(known) if known else None
            result[side].append(
                {
                    "group": number,
                    "mean": None if pair is None else pair.mean,
                    "t_interval": None if pair is None else pair.t_interval,
                }
            )
    return result


def _sentence(one: dict[str, Any]) -> str:
    least, most = one["mean"]["users"][0], one["mean"]["users"][-1]
    if least is None or most is None:
        return f"{one['run']}: a group of users has test rows of one class only."
    relation = "lower" if least < most else "no lower"
    return (
        f"{one['run']} ({one['strategy']}): the AUC of the least active users is {least:.4f}, "
        f"{relation} than that of the most active ones, {most:.4f}."
    )


def _difference_sentence(one: dict[str, Any]) -> str:
    group = one["users"][0]
    if group["mean"] is None:
        return f"{one['to']} and {one['from']} share no seed with an AUC in every group."
    start = (
        f"From {one['from']} to {one['to']} the least active users change by {group['mean']:+.4f}"
    )
    bounds = group["t_interval"]
    if bounds is None:
        return f"{start} with one seed, which cannot tell chance apart."
    low, high = bounds
    judged = (
        "they gain" if low > 0 else "they lose" if high < 0 else "not to be told from no change"
    )
    return f"{start} (95 % {low:+.4f} to {high:+.4f}): {judged}."


def _range(group: dict[str, Any]) -> str:
    return "–" if group["least"] is None else f"{group['least']:,}–{group['most']:,}"


def _table(
    numbers: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]], side: str
) -> Table:
    rows = []
    for number in range(GROUPS):
        group = numbers[0]["seeds"][0][side][number]
        cells: list[Cell] = [_range(group), group["members"], group["test_positives"]]
        cells += [one["mean"][side][number] for one in numbers]
        for one in differences:
            mean, bounds = one[side][number]["mean"], one[side][number]["t_interval"]
            cells.append(Marked(None if mean is None else 1e4 * mean, 1, signed=True))
            cells.append(
                None if bounds is None else f"{1e4 * bounds[0]:+.1f}..{1e4 * bounds[1]:+.1f}"
            )
        rows.append(tuple(cells))
    changes = [
        head
        for one in differences
        for head in (f"{one['to']} minus {one['from']}, 1e-4", "95 % (t)")
    ]
    return Table(
        title=f"Test AUC of {side} by training positives, mean over seeds (ranges: first seed)",
        columns=("positives", side, "test positives", *(one["run"] for one in numbers), *changes),
        rows=tuple(rows),
    )


def _draw(panel: Axes, numbers: Sequence[dict[str, Any]], side: str) -> None:
    place = np.arange(GROUPS)
    for number, one in enumerate(numbers):
        shift = 0.12 * (number - (len(numbers) - 1) / 2)
        color = RUN_COLORS[number % len(RUN_COLORS)]
        for seed in one["seeds"]:
            values = [np.nan if g["auc"] is None else g["auc"] for g in seed[side]]
            panel.plot(place + shift, values, ".", color=color, alpha=0.35, ms=5)
        mean = [np.nan if value is None else value for value in one["mean"][side]]
        panel.plot(
            place + shift,
            mean,
            "o-",
            ms=4.5,
            color=color,
            label=f"{one['run']}: {one['strategy']}",
        )
    labels = [_range(group) for group in numbers[0]["seeds"][0][side]]
    panel.set_xticks(place, labels)
    panel.set_title(f"{side.capitalize()} of {numbers[0]['dataset']}")
    panel.set_xlabel(f"training positives per {side[:-1]} (groups of equal positives)")
    panel.set_ylabel("test AUC (dots: seeds)")


ANALYSIS = Analysis(
    title="Active and inactive users, popular and unpopular items (Fig. 6)",
    question="Are inactive users, or unpopular items, served worse, and does that change?",
    examine=examine,
)
