"""``dart sweep``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dartcli import catalog
from dartcli.cli import completion, console, options, progress, tables
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.experiments.sweep import Sweep
    from dartcli.experiments.sweep_plan import Plan


EXECUTION = "Execution"
TUNING = "Baseline tuning"


def sweep(
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Prepared sweep: table2 and sensitivity (Fig. 7) of the thesis, label-curve, "
            "teaching, adaptive, or table2-search, which searches 135 settings of dart on the "
            "first seed and confirms one on the others.",
            autocompletion=completion.complete_choice(
                "table2", "sensitivity", "label-curve", "teaching", "adaptive", "table2-search"
            ),
        ),
    ] = None,
    datasets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Datasets, such as movielens-100k,jester-1."
            + options.default("the preset's, or the one prepared last"),
            autocompletion=completion.complete_list(completion.complete_dataset),
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Models, such as fm,deepfm." + options.default("the preset's, or fm"),
            autocompletion=completion.complete_list(completion.complete_component("models")),
        ),
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Strategies, such as base,dart." + options.default("the preset's, or base,dart"),
            autocompletion=completion.complete_list(completion.complete_component("strategies")),
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM",
            help="Another strategy with its own options, such as 'dart-disc tau_m=0.04' or "
            "'trusted trusted=500'. Repeatable.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE,...",
            help="Any setting. Several values form a grid: strategy.tau_m=0.01,0.02. Repeatable.",
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="SEEDS",
            help="Train every combination once per seed, such as 0-9.",
        ),
    ] = "0-4",
    protocol: options.Protocol = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="SWEEP",
            help="Name of the sweep. An existing sweep is resumed."
            + options.default("preset and protocol"),
        ),
    ] = None,
    tune_base: Annotated[
        bool | None,
        typer.Option(
            "--tune-base/--no-tune-base",
            help="Select the weight decay of base on the validation split first."
            + options.default("on if strict"),
            rich_help_panel=TUNING,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of trainings in parallel."
            + options.default("one per core, or one on a GPU"),
            rich_help_panel=EXECUTION,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Train only part I of N, such as 2/8: one per job of an array.",
            rich_help_panel=EXECUTION,
        ),
    ] = None,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Train nothing; add the finished trainings of another machine's sweep folder to "
            "this one. Repeatable.",
            rich_help_panel=EXECUTION,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(metavar="DEVICE", help=options.DEVICE_HELP, rich_help_panel=EXECUTION),
    ] = "auto",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Count the trainings without running them.",
            rich_help_panel=EXECUTION,
        ),
    ] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Train every combination of datasets, models, strategies, and seeds.

    Finished trainings are never repeated: run the same command again to resume an
    interrupted sweep, or add seeds and strategies to it later.

    For example:

      dart sweep --preset table2 --datasets movielens-100k --seeds 0-9
      dart sweep --strategies base,dart,lcd-re --set strategy.tau_m=0.02,0.05
      dart sweep --seeds 0-9 --shard 2/8
      dart sweep --merge /mnt/node2/sweeps/sweep-strict
    """
    if merge and dry_run:
        raise UsageError("`--merge` trains nothing that `--dry-run` could count. Leave one out.")
    if merge:
        from dartcli.experiments.sweep_merge import merge_sweeps

        merged = merge_sweeps(name or merge[0].resolve().name, merge)
        _print_found(merged, quiet=quiet, json=json)
        return
    for one in _split_names(models):
        catalog.check("models", one)
    for one in _split_names(strategies):
        catalog.check("strategies", one)
    from dartcli import settings

    with progress.loading_torch():
        from dartcli.data import registry
        from dartcli.experiments import sweep_plan
        from dartcli.experiments.sweep_plan import PRESETS, Plan, Preset

        for one in _split_names(datasets):
            registry.find_dataset(one)
        import torch  # noqa: F401

    base = Preset(datasets=(), models=("fm",), arms=() if arm else ("base", "dart"))
    if preset:
        if preset not in PRESETS:
            raise UsageError(f"no preset {preset!r}. Choose from {', '.join(PRESETS)}.")
        base = PRESETS[preset]
    plan = Plan(
        datasets=_split_names(datasets) or base.datasets or (registry.default_dataset(),),
        models=_split_names(models) or base.models,
        arms=(*(_split_names(strategies) or base.arms), *(arm or ())),
        seeds=settings.parse_seeds(seeds),
        protocol=protocol or ("reference" if base.is_search else "strict"),
        grid=sweep_plan.parse_grid(set_ or []),
        tune_base=tune_base,
        device=device,
    )
    chosen = name or f"{preset or 'sweep'}-{plan.protocol}"
    if dry_run:
        _print_dry_run(plan, chosen, is_search=base.is_search, shard=shard, json=json)
        return
    found = _run(plan, chosen, is_search=base.is_search, jobs=jobs, shard=shard)
    analysis = "search" if base.is_search else None if shard else "compare"
    _print_found(found, quiet=quiet, json=json, analysis=analysis)


def _run(plan: Plan, name: str, *, is_search: bool, jobs: int | None, shard: str | None) -> Sweep:
    from dartcli.experiments.search import run_search
    from dartcli.experiments.sweep_runner import run_sweep

    part = _parse_shard(shard, is_search=is_search)
    with progress.sweep_bar() as bar:
        if is_search:
            return run_search(plan, name, jobs=jobs, progress=bar)
        return run_sweep(plan, name, jobs=jobs, shard=part, progress=bar)


def _parse_shard(shard: str | None, *, is_search: bool) -> tuple[int, int]:
    from dartcli.experiments.sweep_merge import parse_shard

    if is_search and shard:
        raise UsageError("a search cannot be divided by `--shard`: its choice needs all trainings.")
    return parse_shard(shard or "1/1")


def _print_found(
    found: Sweep, *, quiet: bool, json: bool, analysis: str | None = "compare"
) -> None:
    if quiet and not json:
        console.print_line(found.name)
        return
    # the arms of a search are for its own analysis: one was chosen because it looked good
    _print_sweep(found, json=json, judges=analysis != "search")
    console.note(f"sweep folder: {found.folder}")
    if analysis and {"base"} < {entry.strategy for entry, _ in found.finished()}:
        if not json:
            from dartcli.reporting.analyze import run_analysis

            result = run_analysis(analysis, found)
            for sentence in result.sentences if analysis == "search" else ():
                console.print_line(sentence)
            for view in result.tables:
                tables.show(view)
        console.next_command(f"dart report {found.name}")


def _split_names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _print_dry_run(
    plan: Plan, name: str, *, is_search: bool, shard: str | None, json: bool
) -> None:
    from dartcli.experiments.search import plan_search
    from dartcli.experiments.sweep import find_sweep, is_sweep
    from dartcli.experiments.sweep_plan import plan_trainings
    from dartcli.reporting.phrases import count

    found = find_sweep(name) if is_sweep(name) else None
    tuned = found.document.tuned if found else ()
    decays = {(one.dataset, one.model): one.weight_decay for one in tuned}
    part, number_of_parts = _parse_shard(shard, is_search=is_search)
    plans = plan_search(plan) if is_search else (plan,)
    planned = [training for one in plans for training in plan_trainings(one, decays)]
    planned = planned[part - 1 :: number_of_parts]
    known = {entry.key for entry, _ in found.finished()} if found else set()
    missing = sum(training.entry.key not in known for training in planned)
    stages = sum(training.configuration.stages for training in planned)
    if json:
        document = {"sweep": name, "trainings": len(planned), "missing": missing}
        console.document({**document, "stages": stages})
    else:
        rows = f" (up to {stages:,} stages)" if stages > len(planned) else ""
        cells = {(one.entry.dataset, one.entry.model) for one in planned}
        rest = ""
        if is_search and len(plan.seeds) > 1:
            rest = ", not counting the confirmation of the chosen settings"
        elif not is_search and plan.tunes_base and cells - decays.keys():
            rest = ", not counting the tuning of the baseline"
        console.print_line(
            f"{name}: {count(len(planned), 'training')}{rows}, {missing:,} of them missing{rest}"
        )


def _print_sweep(found: Sweep, *, json: bool, judges: bool) -> None:
    from dartcli.experiments.comparison import Comparison
    from dartcli.reporting.phrases import count
    from dartcli.reporting.verdict import iterate_documents, list_verdicts

    rows = found.finished()
    comparison = Comparison([found])
    differences = comparison.differences() if comparison.has_base and judges else []
    if json:
        console.document(
            {
                "sweep": found.name,
                "protocol": found.document.protocol,
                "tuned": [one.model_dump(mode="json") for one in found.document.tuned],
                "verdicts": list(iterate_documents(comparison, differences)),
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
    minutes = sum(row.seconds for _, row in rows) / 60
    counts = Counter((entry.dataset, entry.model) for entry, _ in rows)
    tables.table(
        f"{found.name}: {count(len(rows), 'training')}, protocol {found.document.protocol}, "
        f"{minutes:.1f} minutes in total",
        ["dataset", "model", "trainings"],
        [(*cell, number) for cell, number in counts.items()],
    )
    for sentence in list_verdicts(comparison, differences) if differences else ():
        console.print_line(sentence)
