"""``dart runs``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dartcli.cli import console, options, tables
from dartcli.cli.errors import guarded
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.experiments.run_index import RunListing
    from dartcli.reporting.table import Cell

app = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

Names = Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs.")]


@app.callback()
@guarded
def runs(context: typer.Context, json: options.Json = False) -> None:
    """List the runs; show, compare or remove some.

    Examples: dart runs; dart runs diff run_01 run_02.
    """
    if context.invoked_subcommand is not None:
        return
    from dartcli.experiments.run_index import list_runs
    from dartcli.storage import paths

    found = list_runs()
    if json:
        console.document([dataclasses.asdict(entry) for entry in found])
        return
    if not found:
        console.note(f"there are no runs in {paths.runs()} yet.")
        console.next_command("dart train")
        return
    tables.table(
        "Runs",
        ["run", "strategy, model", "dataset, protocol", "seeds", "test AUC", "ended"],
        [_row(entry) for entry in found],
    )


def _row(entry: RunListing) -> tuple[Cell, ...]:
    from dartcli.settings import seeds_text

    when = (entry.ended or "")[:10]
    return (
        entry.name,
        _pair(entry.strategy, entry.model),
        _pair(entry.dataset, entry.protocol),
        seeds_text(entry.seeds),
        entry.test_auc,
        when if entry.state == "finished" else f"{when} {entry.state}".strip(),
    )


def _pair(first: str | None, second: str | None) -> str | None:
    return None if first is None else f"{first}, {second}"


@app.command("show")
@guarded
def show_(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or its folder.")],
    json: options.Json = False,
) -> None:
    """Show one finished run: every setting and every measure."""
    from dartcli.experiments.run_index import find_run, flatten_settings
    from dartcli.settings import seeds_text
    from dartcli.training.results import METRIC_NAMES

    run = find_run(name)
    metrics, settings = run.metrics, flatten_settings(run.settings)
    if json:
        console.document(
            {
                "run": run.name,
                "folder": str(run.folder),
                "settings": run.settings.model_dump(mode="json"),
                "metrics": metrics.model_dump(mode="json"),
                "environment": run.environment,
            }
        )
        return
    tables.table(
        f"{run.name}: settings", ["setting", "value"], [(k, _toml(v)) for k, v in settings.items()]
    )
    known = [name for name in METRIC_NAMES if name in metrics.summary]
    tables.table(
        f"{run.name}: measures over seeds {seeds_text(run.seeds)}",
        ["measure", "mean", "std"],
        [
            (name.replace("_", " "), metrics.summary[name].mean, metrics.summary[name].std)
            for name in known
        ],
    )
    console.note(f"run folder: {run.folder}")


@app.command("diff")
@guarded
def diff(names: Names, json: options.Json = False) -> None:
    """Show the settings in which runs differ, side by side."""
    from dartcli.experiments.run_index import find_differences, find_run

    if len(names) < 2:
        raise UsageError("dart runs diff compares runs: name at least two.")
    chosen = [find_run(name) for name in names]
    found = find_differences(chosen)
    if json:
        console.document({"runs": [run.name for run in chosen], "settings": found})
    elif found:
        tables.table(
            "Settings that differ",
            ["setting", *(run.name for run in chosen)],
            [(key, *(_toml(value) for value in values)) for key, values in found.items()],
        )
    else:
        console.out().print("The settings of these runs are the same.", markup=False)


@app.command("remove")
@guarded
def remove(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: options.Json = False,
) -> None:
    """Remove runs with everything in their folders; it asks first."""
    from dartcli.experiments.run_index import find_folder, remove_runs

    found = [find_folder(name) for name in dict.fromkeys(names)]
    words = ", ".join(folder.name for folder in found)
    if not yes:
        if not console.can_ask():
            raise UsageError(
                f"dart runs remove would remove {words}, and there is no terminal to ask on; "
                "add --yes."
            )
        if not typer.confirm(f"Remove {words} with weights, measures and figures?", err=True):
            console.note("nothing was removed.")
            return
    removed = remove_runs([folder.name for folder in found])
    if json:
        console.document({"removed": removed})
    else:
        console.out().print(f"Removed {', '.join(removed)}.", markup=False, soft_wrap=True)


def _toml(value: object) -> str:
    """Return a setting as TOML writes it; a dash where a run has none."""
    import json

    return "–" if value is None else json.dumps(value, ensure_ascii=False)
