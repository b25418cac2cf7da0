"""A search over many settings on one split, and what it is worth on others.

This is how Table 2 of the thesis was made. The grid is trained on the first seed of a plan, and
``base`` on the same split with as many seeds, which shows how far apart the best and the median of
so many results are by chance. Then the setting with the best validation AUC meets ``base`` on the
seeds left, each with a split of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dartcli.experiments.comparison import Where
from dartcli.experiments.sweep import Sweep
from dartcli.experiments.sweep_plan import Plan
from dartcli.experiments.sweep_runner import SweepProgress, run_sweep
from dartcli.training.results import SeedMetrics


@dataclass(frozen=True)
class Searched:
    """The search in one cell, as far as it is finished."""

    where: Where
    seed: int
    """Seed of the search, and of its split."""
    base: SeedMetrics | None
    """``base`` with that seed."""
    settings: dict[str, SeedMetrics]
    """Label of a setting -> its result with that seed."""
    texts: dict[str, str]
    """Label -> the setting as an arm of a plan."""
    null: dict[int, SeedMetrics]
    """Seed -> ``base`` on the split of the search."""
    fresh: dict[str, dict[int, SeedMetrics]]
    """Label, also that of base -> seed -> result on other seeds."""

    def choose(self, metric: str = "valid_auc") -> str | None:
        """Return the label of the setting with the highest ``metric``; the first among equals."""
        values = {label: getattr(one, metric) for label, one in self.settings.items()}
        known = {label: value for label, value in values.items() if value is not None}
        return max(known, key=lambda label: known[label]) if known else None


def plan_search(plan: Plan) -> tuple[Plan, Plan]:
    """Return what is known beforehand of a search: the grid, and the null."""
    first, settings = plan.seeds[0], len(plan.arms) - 1
    grid = replace(plan, seeds=plan.seeds[:1], tune_base=False)
    null = replace(grid, arms=("base",), seeds=range(settings), split_seed=first)
    return grid, null


def run_search(
    plan: Plan,
    name: str,
    *,
    jobs: int | None = None,
    progress: Callable[[SweepProgress], None] = lambda _progress: None,
) -> Sweep:
    """Train the grid, the null, and the chosen settings; as :func:`run_sweep` does.

    The first arm of ``plan`` is ``base``.
    """
    for part in plan_search(plan):
        sweep = run_sweep(part, name, jobs=jobs, progress=progress)
    for found in read_searches(sweep):
        # a label also shows what the plan varies
        dataset, model = (label.partition(" (")[0] for label in found.where)
        chosen = found.choose()
        if chosen and plan.seeds[1:] and dataset in plan.datasets and model in plan.models:
            confirmed = replace(
                plan,
                datasets=(dataset,),
                models=(model,),
                arms=("base", found.texts[chosen]),
                seeds=plan.seeds[1:],
                tune_base=False,
            )
            sweep = run_sweep(confirmed, name, jobs=jobs, progress=progress)
    return sweep


def read_searches(sweep: Sweep) -> list[Searched]:
    """Return the searches in a sweep: the first one of each cell with a null."""
    rows = sweep.finished()
    found: dict[Where, Searched] = {}
    for entry, row in rows:
        if row.settings.split_seed is not None and entry.strategy == "base":
            where, seed = (entry.dataset, entry.model), row.settings.split_seed
            cell = found.setdefault(where, Searched(where, seed, None, {}, {}, {}, {}))
            if cell.seed == seed:
                cell.null[entry.seed] = row.metrics
    for entry, row in rows:
        search = found.get((entry.dataset, entry.model))
        if search is None or row.settings.split_seed is not None:
            continue
        if entry.seed != search.seed:
            search.fresh.setdefault(entry.arm, {})[entry.seed] = row.metrics
        elif entry.strategy == "base":
            found[search.where] = replace(search, base=row.metrics)
        else:
            search.settings[entry.arm] = row.metrics
            options = " ".join(f"{key}={value}" for key, value in entry.options.items())
            search.texts[entry.arm] = f"{entry.strategy} {options}"
    return list(found.values())
