"""``dart sweep``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dartcli.cli import console, options, progress, tables
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.experiments.sweep import Sweep
    from dartcli.experiments.sweep_plan import Plan


def sweep(
    preset: Annotated[
        str | None,
        typer.Option(help="A sweep of the thesis: table2, or sensitivity (Fig. 7)."),
    ] = None,
    datasets: Annotated[
        str | None,
        typer.Option(help="Datasets, such as movielens-100k,jester-1. Default: the preset's."),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models, such as fm,deepfm. Default: the preset's, or fm.")
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(help="Strategies, such as base,dart. Default: the preset's, or base,dart."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'STRATEGY OPTION=VALUE ...'",
            help="One more contender, with options of its own: 'dart-disc tau_m=0.04 basis=batch'.",
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds, such as 0-9: every contender is trained on each.")
    ] = "0-4",
    protocol: options.Protocol = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE,...",
            help="Any setting; several values make a grid: strategy.tau_m=0.01,0.02.",
        ),
    ] = None,
    tune_base: Annotated[
        bool | None,
        typer.Option(
            "--tune-base/--no-tune-base",
            help="Choose each cell's weight decay for base on validation first. "
            "Default: under strict.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at a time. Default: one a core; on a GPU one."),
    ] = None,
    device: options.Device = "auto",
    name: Annotated[
        str | None,
        typer.Option(help="Name of the sweep; one that exists goes on. Default: from the preset."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is missing, and train nothing.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Train every contender on every dataset, model and seed; then compare them.

    What was trained before is not trained again, so an interrupted sweep goes on, and more seeds
    or contenders can be added later.

    Examples: dart sweep --preset table2 --datasets movielens-100k --seeds 0-9;
    dart sweep --datasets shop --strategies base,dart,lcd-re --set strategy.tau_m=0.02,0.05.
    """
    from dartcli import settings
    from dartcli.data import registry
    from dartcli.experiments import sweep_plan
    from dartcli.experiments.sweep import find_sweep
    from dartcli.experiments.sweep_plan import PRESETS, Plan
    from dartcli.experiments.sweep_runner import run_sweep

    base = PRESETS.get(preset) if preset else None
    if preset and base is None:
        raise UsageError(f"there is no preset {preset!r}; choose from {', '.join(PRESETS)}.")
    arms = _listed(strategies) or ((base.arms if base else ()) if arm or base else ())
    if not arms and not arm:
        arms = ("base", "dart")
    plan = Plan(
        datasets=_listed(datasets) or (base.datasets if base else (registry.default_dataset(),)),
        models=_listed(models) or (base.models if base else ("fm",)),
        arms=(*arms, *(arm or ())),
        seeds=settings.parse_seeds(seeds),
        protocol=protocol or "strict",
        grid=sweep_plan.parse_grid(set_ or []),
        tune_base=tune_base,
        device=device,
    )
    chosen = name or f"{preset or 'sweep'}-{plan.protocol}"
    if dry_run:
        _rehearse(plan, chosen, json=json)
        return
    with progress.sweep_bar() as bar:
        found = run_sweep(plan, chosen, jobs=jobs, progress=bar)
    _show(found, json=json)
    console.note(f"sweep folder: {found.folder}")
    if any(entry.strategy == "base" for entry in find_sweep(chosen).document.entries):
        console.next_command(f"dart analyze compare {chosen}")


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _rehearse(plan: Plan, name: str, *, json: bool) -> None:
    from dartcli.experiments.sweep import find_sweep, list_sweeps
    from dartcli.experiments.sweep_plan import plan_trainings

    planned = plan_trainings(plan)
    known = (
        {entry.key for entry, _ in find_sweep(name).finished()} if name in list_sweeps() else set()
    )
    missing = sum(training.entry.key not in known for training in planned)
    if json:
        console.document({"sweep": name, "trainings": len(planned), "missing": missing})
    else:
        console.out().print(
            f"{name}: {len(planned)} trainings, {missing} of them missing "
            "(before any tuning of the base).",
            markup=False,
        )


def _show(found: Sweep, *, json: bool) -> None:
    rows = found.finished()
    if json:
        console.document(
            {
                "sweep": found.name,
                "protocol": found.document.protocol,
                "tuned": [one.model_dump(mode="json") for one in found.document.tuned],
                "rows": [
                    {
                        **entry.model_dump(mode="json", exclude={"options"}),
                        "seconds": row.seconds,
                        "metrics": row.metrics.model_dump(mode="json"),
                    }
                    for entry, row in rows
                ],
            }
        )
        return
    cells: dict[tuple[str, str], int] = {}
    seconds = 0.0
    for entry, row in rows:
        cells[entry.dataset, entry.model] = cells.get((entry.dataset, entry.model), 0) + 1
        seconds += row.seconds
    tables.table(
        f"{found.name}: {len(rows):,} trainings, protocol {found.document.protocol}, "
        f"{seconds / 60:.1f} minutes of training",
        ["dataset", "model", "trainings"],
        [(*cell, count) for cell, count in cells.items()],
    )
