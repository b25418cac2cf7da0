"""``dart cache``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from dartcli.cli import completion, console, options, tables
from dartcli.cli.errors import guarded
from dartcli.reporting.formats import format_size

app = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)


@app.callback()
@guarded
def cache(context: typer.Context, quiet: options.Quiet = False, json: options.Json = False) -> None:
    """Show what is stored in DART_HOME, and free space.

    Without a command, list the size of every dataset, run, sweep, and report.

    For example:

      dart cache
      dart cache prune
      dart cache remove movielens-1m
    """
    if context.invoked_subcommand is not None:
        return
    from dartcli.experiments.cache import list_stored
    from dartcli.storage import paths

    found = list_stored()
    total = sum(one.size for one in found)
    if json:
        entries = [dataclasses.asdict(one) for one in found]
        console.document({"home": str(paths.home()), "size": total, "stored": entries})
        return
    if quiet:
        console.print_names(one.name for one in found)
        return
    tables.table(
        f"{paths.home()}: {format_size(total)}",
        ["part", "name", "size"],
        [(one.part, one.name, format_size(one.size)) for one in found],
    )
    console.next_command("dart cache prune")


@app.command("prune")
@guarded
def prune(
    _quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Remove prepared data and leftovers of killed processes.

    They are created again when they are needed. Downloads, runs, sweeps, studies, and
    reports are kept.
    """
    from dartcli.experiments.cache import prune_cache

    _print_freed(prune_cache(), json=json)


@app.command("remove")
@guarded
def remove(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET",
            help="Datasets or logs.",
            autocompletion=completion.complete_dataset,
        ),
    ],
    yes: options.Yes = False,
    _quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Remove the downloads and prepared data of datasets, and forget logs.

    The files of your own log are not touched.
    """
    from dartcli.experiments.cache import remove_datasets

    question = f"Remove the downloads and prepared data of {', '.join(names)}?"
    if console.confirm(question, f"remove {', '.join(names)}", yes=yes):
        _print_freed(remove_datasets(names), json=json)


def _print_freed(freed: int, *, json: bool) -> None:
    if json:
        console.document({"freed": freed})
    else:
        console.note(f"freed {format_size(freed)}")
