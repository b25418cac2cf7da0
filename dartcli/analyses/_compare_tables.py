"""Tables of a comparison: means, paired differences, and other metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dartcli.experiments.comparison import Comparison, Difference, Where
from dartcli.reporting.phrases import METRIC_HEADS, count, interval_cell, name_metric, p_cell
from dartcli.reporting.table import Cell, Marked, Table, difference_cell
from dartcli.training.results import compute_spread

OTHER_METRICS = (
    "test_log_loss",
    "test_calibration_error",
    "test_auc_per_user",
    "test_auc_tail_items",
    "test_auc_inactive_users",
    "flagged_share",
    "identification_precision",
)
LIST_METRICS = ("test_recall_at_20", "test_ndcg_at_20")
METRIC_TABLES = {
    "other metrics on the test split; flagged: share of the positives in the reported epoch; "
    "precision: share of false positives among them": OTHER_METRICS,
    "the 20 best of all items but the user's training positives": LIST_METRICS,
}
DELTAS = {"Delta %": 1, "tenfold, as in Tang (2023)": 10}
"""Column -> factor; only ``reference`` has the second."""
STAGE_COLUMNS = {
    "flagged_share": "flagged",
    "precision": "precision",
    "recall": "recall",
    "cost": "cost",
}
PER_TABLE = 4
"""Columns of means per table."""


def build(comparison: Comparison, differences: Sequence[Difference]) -> tuple[Table, ...]:
    """Return the tables: means first, then statistics and other metrics per dataset and model."""
    by_cell = {(one.where, one.contender.label): one for one in differences}
    return (
        *_means(comparison, by_cell),
        *(
            tabulate_differences(comparison, where, [d for d in differences if d.where == where])
            for where in comparison.cells
        ),
        *(
            _metrics(comparison, where, title, metrics)
            for title, metrics in METRIC_TABLES.items()
            for where in comparison.cells
        ),
        *(table for where in comparison.cells for table in _stages(comparison, where)),
    )


def _means(comparison: Comparison, by_cell: Mapping[tuple[Where, str], Difference]) -> list[Table]:
    """Return tables of up to four columns of means; the last one also has Delta %."""
    parts = [
        comparison.cells[first : first + PER_TABLE]
        for first in range(0, len(comparison.cells), PER_TABLE)
    ]
    counts = sorted({len(values) for values in comparison.metrics.values()})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else count(counts[0], "seed")
    title = f"Mean {_name(comparison)} over {seeds}, protocol {comparison.protocol}"
    tables = []
    for part in parts:
        last = part is parts[-1]
        heads = list(DELTAS)[: 2 if comparison.protocol == "reference" else 1] if last else []
        rows = []
        for label in comparison.contenders:
            cells = [_mean(comparison, by_cell, where, label) for where in part]
            rows.append((label, *cells, *_deltas(comparison, label, heads)))
        tables.append(
            Table(
                title=title,
                columns=("method", *(" ".join(where) for where in part), *heads),
                rows=tuple(rows),
                marked=last,
            )
        )
    return tables


def _name(comparison: Comparison) -> str:
    direction = " (lower is better)" if comparison.better_sign < 0 else ""
    return name_metric(comparison.metric) + direction


def _deltas(comparison: Comparison, label: str, heads: Sequence[str]) -> list[Cell]:
    delta = None if label == comparison.base.label else comparison.delta_percent(label)
    return [
        Marked(None if delta is None else DELTAS[head] * delta, 3, signed=True) for head in heads
    ]


def _mean(
    comparison: Comparison,
    by_cell: Mapping[tuple[Where, str], Difference],
    where: Where,
    label: str,
) -> Marked:
    value = comparison.mean(where, label)
    competing = [
        mean
        for other in comparison.contenders
        if other not in comparison.references
        and (mean := comparison.mean(where, other)) is not None
    ]
    difference = by_cell.get((where, label))
    pick = max if comparison.better_sign > 0 else min
    return Marked(
        value,
        best=value is not None and label not in comparison.references and value == pick(competing),
        worse=difference is not None and difference.outcome == "harms",
        unclear=difference is not None and not difference.is_significant,
    )


def tabulate_differences(
    comparison: Comparison,
    where: Where,
    differences: Sequence[Difference],
    *,
    with_seeds: bool = True,
) -> Table:
    """Return the verdicts on ``differences``, which are those of one cell; seeds if asked for."""
    return Table(
        title=f"{' '.join(where)}: {_name(comparison)} minus base in units of 1e-4, paired by seed",
        columns=(
            *("method", "verdict", "mean", "95% CI"),
            *(["seeds"] if with_seeds else []),
            *("p (Holm)", "gap closed %"),
        ),
        rows=tuple(
            (
                one.contender.label,
                one.outcome,
                difference_cell(one.paired.mean, unclear=not one.is_significant),
                interval_cell(one.paired.t_interval),
                *([one.paired.n] if with_seeds else []),
                p_cell(one.p_holm),
                Marked(None if one.gap_closed is None else 100 * one.gap_closed, 0),
            )
            for one in differences
        ),
    )


def _metrics(comparison: Comparison, where: Where, title: str, metrics: Sequence[str]) -> Table:
    return Table(
        title=f"{' '.join(where)}: {title}",
        columns=("method", *(METRIC_HEADS[metric] for metric in metrics)),
        rows=tuple(
            (label, *(comparison.mean(where, label, metric) for metric in metrics))
            for label in comparison.contenders
            if (where, label) in comparison.metrics
        ),
    )


def measure_stages(comparison: Comparison, where: Where, label: str) -> list[dict[str, Any]]:
    """Return what each training in a row flagged and took, the mean over seeds; then all of them.

    ``cost`` is relative to the iterations of ``base``. Empty for a contender of a single training.
    """
    seeds = list(comparison.metrics.get((where, label), {}).values())
    base = comparison.metrics.get((where, comparison.base.label), {}).values()
    unit = compute_spread([one.iterations for one in base]).mean

    def summarize(
        stage: int | str, found: Sequence[Any], names: Sequence[str], iterations: list[float]
    ) -> dict[str, Any]:
        means = [compute_spread([getattr(one, name) for one in found]).mean for name in names]
        cost = compute_spread(iterations).mean
        values = (*means, cost and unit and cost / unit)
        return {"stage": stage, **dict(zip(STAGE_COLUMNS, values, strict=True))}

    result = []
    for stage in sorted({one.stage for seed in seeds for one in seed.stages}):
        found = [one for seed in seeds for one in seed.stages if one.stage == stage]
        taken = [float(one.iterations) for one in found]
        result.append(summarize(stage, found, ("flagged_share", "precision", "recall"), taken))
    if result:
        names = ("flagged_share", "identification_precision", "identification_recall")
        taken = [float(one.iterations + sum(s.iterations for s in one.stages)) for one in seeds]
        result.append(summarize("all", seeds, names, taken))
    return result


def _stages(comparison: Comparison, where: Where) -> Iterator[Table]:
    rows = [
        (label, str(one["stage"]), *(one[key] for key in STAGE_COLUMNS))
        for label in comparison.contenders
        for one in measure_stages(comparison, where, label)
    ]
    if rows:
        yield Table(
            title=f"{' '.join(where)}: trainings in a row; cost in iterations of base",
            columns=("method", "stage", *STAGE_COLUMNS.values()),
            rows=tuple(rows),
        )
