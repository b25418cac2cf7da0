"""``dart runs``."""

from __future__ import annotations

import dataclasses
import json as json_format
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from dartcli.cli import completion, console, options, tables
from dartcli.cli.errors import guarded
from dartcli.cli.progress import format_duration
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.experiments.run_index import RunListing
    from dartcli.experiments.sweep import SweepListing
    from dartcli.reporting.table import Cell

app = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

Names = Annotated[
    list[str],
    typer.Argument(metavar="RUN", help="Names of runs.", autocompletion=completion.complete_run),
]


@app.callback()
@guarded
def runs(context: typer.Context, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """List, show, compare, and remove runs and sweeps.

    Without a command, list all of them.

    For example:

      dart runs
      dart runs diff run_01 run_02
    """
    if context.invoked_subcommand is not None:
        return
    from dartcli.experiments.run_index import list_runs
    from dartcli.experiments.sweep import list_sweep_entries
    from dartcli.storage import paths

    found, sweeps = list_runs(), list_sweep_entries()
    if json:
        console.document(
            {
                "runs": [dataclasses.asdict(run) for run in found],
                "sweeps": [dataclasses.asdict(sweep) for sweep in sweeps],
            }
        )
    elif quiet:
        console.print_names([*(run.name for run in found), *(sweep.name for sweep in sweeps)])
    elif not found and not sweeps:
        console.note(f"no runs in {paths.runs()}")
        console.next_command("dart train")
    if json or quiet:
        return
    if found:
        tables.table(
            "Runs",
            ["run", "strategy, model", "dataset, protocol", "seeds", "AUC", "ended", "took"],
            [_format_row(entry) for entry in found],
        )
    if sweeps:
        tables.table(
            "Sweeps",
            ["sweep", "datasets", "protocol", "trainings", "ended", "took"],
            [_format_sweep(entry) for entry in sweeps],
        )


def _format_row(entry: RunListing) -> tuple[Cell, ...]:
    from dartcli.settings import seeds_text

    date = format_time(entry.ended)
    return (
        entry.name,
        _join(entry.strategy, entry.model),
        _join(entry.dataset, entry.protocol),
        seeds_text(entry.seeds),
        entry.test_auc,
        date if entry.state == "finished" else f"{date} {entry.state}".strip(),
        format_seconds(entry.seconds),
    )


def _format_sweep(entry: SweepListing) -> tuple[Cell, ...]:
    return (
        entry.name,
        ", ".join(entry.datasets),
        entry.protocol,
        f"{entry.finished:,} of {entry.total:,}",
        format_time(entry.ended) if entry.state != "unreadable" else entry.state,
        format_seconds(entry.seconds),
    )


def format_time(moment: str | None) -> str:
    """Return an ISO 8601 time as a local date and time, without seconds."""
    if moment is None:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")


def format_seconds(seconds: float | None) -> str | None:
    """Return a duration as ``1:07``, or None if it is unknown."""
    return None if seconds is None else format_duration(round(seconds))


def _join(first: str | None, second: str | None) -> str | None:
    return None if first is None else f"{first}, {second}"


@app.command("show")
@guarded
def show_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Name or folder of a run.",
            autocompletion=completion.complete_run,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Show the settings and metrics of a finished run."""
    from dartcli.experiments.flagging import explain_unflagged
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
        f"{run.name}: settings",
        ["setting", "value"],
        [(key, _format_setting(value)) for key, value in settings.items()],
    )
    tables.table(
        f"{run.name}: metrics, seeds {seeds_text(run.seeds)}",
        ["metric", "mean", "std"],
        [
            (name.replace("_", " "), metrics.summary[name].mean, metrics.summary[name].std)
            for name in METRIC_NAMES
            if name in metrics.summary
        ],
    )
    if (warning := explain_unflagged(run)) is not None:
        console.warning(warning)
    if (speed := run.describe_speed()) is not None:
        console.note(f"{speed} on {run.environment.get('device', 'an unknown device')}")
    console.note(f"run folder: {run.folder}")


@app.command("diff")
@guarded
def diff(names: Names, json: options.Json = False) -> None:
    """Show the settings that differ between runs."""
    from dartcli.experiments.run_index import find_differences, find_run

    if len(names) < 2:
        raise UsageError(f"only one run given ({names[0]}). Name at least two to compare.")
    chosen = [find_run(name) for name in names]
    found = find_differences(chosen)
    if json:
        console.document({"runs": [run.name for run in chosen], "settings": found})
    elif found:
        tables.table(
            "Settings that differ",
            ["setting", *(run.name for run in chosen)],
            [(key, *(_format_setting(value) for value in values)) for key, values in found.items()],
        )
    else:
        console.print_line("The runs have the same settings.")


@app.command("remove")
@guarded
def remove(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Names of runs and sweeps.",
            autocompletion=completion.complete_stored,
        ),
    ],
    yes: options.Yes = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Remove runs or sweeps and all their files."""
    from dartcli.experiments.run_index import find_folder, is_run, remove_runs
    from dartcli.experiments.sweep import is_sweep, remove_sweep
    from dartcli.storage import paths

    distinct = list(dict.fromkeys(names))
    sweeps = [
        name
        for name in distinct
        if "/" not in name and is_sweep(name) and not is_run(paths.runs() / name)
    ]
    found = [find_folder(name).name for name in distinct if name not in sweeps]
    listed = ", ".join([*found, *sweeps])
    question = f"Remove {listed} with all weights, metrics, and figures?"
    if not console.confirm(question, f"remove {listed}", yes=yes):
        return
    removed = remove_runs(found)
    for name in sweeps:
        remove_sweep(name)
        removed.append(name)
    if json:
        console.document({"removed": removed})
    elif quiet:
        console.print_names(removed)
    else:
        console.print_line(f"Removed {', '.join(removed)}.")


def _format_setting(value: object) -> str:
    """Return a setting as TOML writes it, or a dash if a run does not have it."""
    return "–" if value is None else json_format.dumps(value, ensure_ascii=False)
