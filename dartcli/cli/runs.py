"""``dart runs``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dartcli.cli import options, show
from dartcli.cli.guard import guarded
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.analysis import Cell
    from dartcli.runs import Entry

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
    from dartcli import paths
    from dartcli.runs import entries

    found = entries()
    if json:
        show.document([dataclasses.asdict(entry) for entry in found])
        return
    if not found:
        show.note(f"there are no runs in {paths.runs()} yet.")
        show.next_command("dart train")
        return
    show.table(
        "Runs",
        ["run", "strategy, model", "data set, protocol", "seeds", "test AUC", "ended"],
        [_row(entry) for entry in found],
    )


def _row(entry: Entry) -> tuple[Cell, ...]:
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
    from dartcli.runs import MEASURES, find, flat
    from dartcli.settings import seeds_text

    run = find(name)
    metrics, settings = run.metrics, flat(run.settings)
    if json:
        show.document(
            {
                "run": run.name,
                "folder": str(run.folder),
                "settings": run.settings.model_dump(mode="json"),
                "metrics": metrics.model_dump(mode="json"),
                "environment": run.environment,
            }
        )
        return
    show.table(
        f"{run.name}: settings", ["setting", "value"], [(k, _toml(v)) for k, v in settings.items()]
    )
    known = [name for name in MEASURES if name in metrics.summary]
    show.table(
        f"{run.name}: measures over seeds {seeds_text(run.seeds)}",
        ["measure", "mean", "std"],
        [
            (name.replace("_", " "), metrics.summary[name].mean, metrics.summary[name].std)
            for name in known
        ],
    )
    show.note(f"run folder: {run.folder}")


@app.command("diff")
@guarded
def diff(names: Names, json: options.Json = False) -> None:
    """Show the settings in which runs differ, side by side."""
    from dartcli.runs import differences, find

    if len(names) < 2:
        raise UsageError("dart runs diff compares runs: name at least two.")
    chosen = [find(name) for name in names]
    found = differences(chosen)
    if json:
        show.document({"runs": [run.name for run in chosen], "settings": found})
    elif found:
        show.table(
            "Settings that differ",
            ["setting", *(run.name for run in chosen)],
            [(key, *(_toml(value) for value in values)) for key, values in found.items()],
        )
    else:
        show.out().print("The settings of these runs are the same.", markup=False)


@app.command("remove")
@guarded
def remove(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: options.Json = False,
) -> None:
    """Remove runs with everything in their folders; it asks first."""
    from dartcli import runs as folders

    found = [folders.folder_of(name) for name in dict.fromkeys(names)]
    words = ", ".join(folder.name for folder in found)
    if not yes:
        if not show.can_ask():
            raise UsageError(
                f"dart runs remove would remove {words}, and there is no terminal to ask on; "
                "add --yes."
            )
        if not typer.confirm(f"Remove {words} with weights, measures and figures?", err=True):
            show.note("nothing was removed.")
            return
    removed = folders.discard([folder.name for folder in found])
    if json:
        show.document({"removed": removed})
    else:
        show.out().print(f"Removed {', '.join(removed)}.", markup=False, soft_wrap=True)


def _toml(value: object) -> str:
    """Return a setting as TOML writes it; a dash where a run has none."""
    import json

    return "–" if value is None else json.dumps(value, ensure_ascii=False)
