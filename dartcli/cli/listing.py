"""``dart list``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli import catalog
from dartcli.cli import completion, console, options, tables
from dartcli.errors import UsageError


def list_components(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"{', '.join(catalog.CONSTANT)}.",
            autocompletion=completion.complete_choice(*catalog.CONSTANT),
        ),
    ],
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List strategies, models, datasets, or analyses, with a line on each.

    Your own logs are listed with the datasets.

    For example:

      dart list strategies
      dart list datasets
    """
    if kind not in catalog.CONSTANT:
        raise UsageError(f"cannot list {kind!r}. Choose from {', '.join(catalog.CONSTANT)}.")
    print_components(kind, quiet=quiet, json=json)


def print_components(kind: catalog.Kind, *, quiet: bool, json: bool) -> None:
    """Print the names of ``kind`` with their descriptions."""
    found = catalog.describe(kind)
    if kind == "datasets":
        from dartcli.data.logs.registry import list_logs

        found |= dict.fromkeys(list_logs(), "your own log")
    if json:
        console.document([{"name": name, "description": text} for name, text in found.items()])
    elif quiet:
        console.print_names(found)
    else:
        tables.table(kind.capitalize(), ["name", "description"], list(found.items()))
