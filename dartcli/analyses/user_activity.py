"""Test AUC of users by activity, and of items by popularity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from dartcli import metrics
from dartcli.analyses._records import find_shared_seeds, identify
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.experiments.run import Run
from dartcli.metrics.statistics import compare_paired
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.figures import draw_legend, new_figure, none_to_nan, run_color, share_limits
from dartcli.reporting.phrases import confidence_interval, interval_cell, label_run, percent
from dartcli.reporting.table import Cell, Table, difference_cell
from dartcli.training.results import compute_spread, finite_or_none

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUPS = 5
SIDES = {"users": USER, "items": ITEM}


def examine(runs: Sequence[Run]) -> AnalysisResult:
    """Return the AUC of each group for every run, and differences from the first run."""
    shared = [find_shared_seeds(runs[0], run) for run in runs[1:]]
    numbers: list[dict[str, Any]] = [
        {**identify(run), "seeds": [_group_seed(run, seed) for seed in run.seeds]} for run in runs
    ]
    for one in numbers:
        one["mean"] = {side: _mean_auc(one, side) for side in SIDES}
    differences = [
        _differences(numbers[0], *pair) for pair in zip(numbers[1:], shared, strict=True)
    ]
    with new_figure(9.6, 3.8, 2) as (figure, axes):
        for panel, side in zip(axes, SIDES, strict=True):
            _draw(panel, numbers, side)
        share_limits(axes)
        draw_legend(figure, axes)
    labeled = any(seed.test_auc_labeled is not None for run in runs for seed in run.metrics.seeds)
    caveat = "Some interactions of {} have no ground truth and count as wanted here."
    return AnalysisResult(
        name="user-activity",
        title="Active and inactive users, popular and unpopular items",
        sentences=(
            *(_sentence(one) for one in numbers),
            *(_difference_sentence(one) for one in differences),
            *([caveat.format(runs[0].metrics.dataset)] if labeled else []),
        ),
        tables=tuple(_table(numbers, differences, side) for side in SIDES),
        numbers={"runs": numbers, "differences": differences},
        figures={"user-activity": figure},
    )


def _group_seed(run: Run, seed: int) -> dict[str, Any]:
    scores = run.scores(seed)
    train = scores.filter(pl.col("split") == "train")
    test = scores.filter(pl.col("split") == "test")
    score = test["logit"].to_torch()
    label = ((test[LABEL] > 0) & ~test[NOISY].fill_null(value=False)).to_torch()
    result: dict[str, Any] = {"seed": seed}
    for side, column in SIDES.items():
        size = int(scores[column].max()) + 1  # type: ignore[arg-type]
        counts = torch.bincount(train[column].cast(pl.Int64).to_torch(), minlength=size)
        group = metrics.equal_groups(counts, GROUPS)
        row_group = group[test[column].cast(pl.Int64).to_torch()]
        auc = metrics.auc_by_group(score, label, row_group, GROUPS)
        result[side] = [
            {
                "group": number,
                "least": int(mine.min()) if len(mine) else None,
                "most": int(mine.max()) if len(mine) else None,
                "members": len(mine),
                "training_positives": int(mine.sum()),
                "test_rows": int((row_group == number).sum()),
                "test_positives": int(label[row_group == number].sum()),
                "auc": finite_or_none(float(auc[number])),
            }
            for number in range(GROUPS)
            for mine in [counts[group == number]]
        ]
    return result


def _mean_auc(one: dict[str, Any], side: str) -> list[float | None]:
    """Return the mean AUC of each group; None if it is undefined for a seed."""
    return [
        compute_spread([seed[side][number]["auc"] for seed in one["seeds"]]).mean
        for number in range(GROUPS)
    ]


def _differences(
    first: dict[str, Any], other: dict[str, Any], shared: Sequence[int]
) -> dict[str, Any]:
    """Return ``other`` minus ``first`` for each group over the ``shared`` seeds."""
    before, after = ({seed["seed"]: seed for seed in one["seeds"]} for one in (first, other))
    result: dict[str, Any] = {"from": first["run"], "to": other["run"], "seeds": list(shared)}
    for side in SIDES:
        result[side] = []
        for number in range(GROUPS):
            pairs = [
                (before[s][side][number]["auc"], after[s][side][number]["auc"]) for s in shared
            ]
            known = [late - early for early, late in pairs if None not in (early, late)]
            paired = compare_paired(known) if known else None
            mean, interval = (paired.mean, paired.t_interval) if paired else (None, None)
            result[side].append({"group": number, "mean": mean, "t_interval": interval})
    return result


def _sentence(one: dict[str, Any]) -> str:
    start = label_run(one["run"], one["strategy"])
    least, most = one["mean"]["users"][0], one["mean"]["users"][-1]
    if least is None or most is None:
        group = "least" if least is None else "most"
        return (
            f"{start}: the AUC of the {group} active users is undefined, because their test rows "
            "lack a class in some seed."
        )
    held = [[group["training_positives"] for group in seed["users"]] for seed in one["seeds"]]
    shares = sorted(number / sum(numbers) for numbers in held for number in numbers)
    shown = " to ".join(dict.fromkeys(map(percent, (shares[0], shares[-1]))))
    return (
        f"{start}: the test AUC is {least:.4f} for the least active users and {most:.4f} for the "
        f"most active users{_middle(one['mean']['users'])} (each group holds {shown} of "
        "the training positives)."
    )


def _middle(means: list[float | None]) -> str:
    """Return what the two ends hide: the groups between that are above or below both."""
    known = {number: mean for number, mean in enumerate(means, start=1) if mean is not None}
    found = []
    for pick, word in ((min, "lowest"), (max, "highest")):
        number = pick(known, key=lambda place: known[place])
        if known[number] not in (means[0], means[-1]):
            found.append(f"{word} in group {number} of {len(means)} ({known[number]:.4f})")
    return ", " + " and ".join(found) if found else ""


def _difference_sentence(one: dict[str, Any]) -> str:
    mean, bounds = one["users"][0]["mean"], one["users"][0]["t_interval"]
    start = f"From {one['from']} to {one['to']}"
    if mean is None:
        return f"{start}: no shared seed and split has an AUC of the least active users to compare."
    change = f"{start}, the AUC of the least active users changes by {mean:+.4f}"
    if bounds is None:
        return f"{change} on one seed, which cannot rule out chance."
    return f"{change} ({confidence_interval(bounds)}, paired by seed)."


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
            change = one[side][number]
            cells += [difference_cell(change["mean"]), interval_cell(change["t_interval"])]
        rows.append(tuple(cells))
    changes = [
        head for one in differences for head in (f"{one['to']} minus {one['from']}", "95% CI (t)")
    ]
    return Table(
        title=f"Test AUC of {side} by training positives, mean over seeds (groups and counts of "
        "the first seed" + ("; differences in units of 1e-4)" if differences else ")"),
        columns=("positives", side, "test positives", *(one["run"] for one in numbers), *changes),
        rows=tuple(rows),
    )


def _draw(panel: Axes, numbers: Sequence[dict[str, Any]], side: str) -> None:
    place = np.arange(GROUPS)
    for number, one in enumerate(numbers):
        x = place + 0.12 * (number - (len(numbers) - 1) / 2)
        color = run_color(number)
        for seed in one["seeds"]:
            values = none_to_nan(group["auc"] for group in seed[side])
            panel.plot(x, values, ".", color=color, alpha=0.35, ms=5)
        label = label_run(one["run"], one["strategy"])
        panel.plot(x, none_to_nan(one["mean"][side]), "o-", ms=4.5, color=color, label=label)
    panel.set_xticks(place, [_range(group) for group in numbers[0]["seeds"][0][side]])
    panel.set(
        title=f"{side.capitalize()} of {numbers[0]['dataset']}",
        xlabel=f"training positives per {side[:-1]} ({GROUPS} groups)",
        ylabel="test AUC (dots: seeds)",
    )


ANALYSIS = Analysis(
    question="Are inactive users or unpopular items served worse, and does that change?",
    examine=examine,
    place=20,
    thesis_figure="Fig. 6",
)
