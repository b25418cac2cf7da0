"""``dart bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import options, show


def bench(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="train")] = "train",
    size: Annotated[
        str, typer.Option(help="Size of the made-up data: movielens-100k or book-crossing.")
    ] = "movielens-100k",
    strategy: Annotated[str, typer.Option(help="Strategy of the contender dart.")] = "dart",
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 5,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Measure speed on this machine: contenders in turn, medians, ratios."""
    from dartcli import steps

    found = steps.bench(what, size=size, strategy=strategy, rounds=rounds, device=device)
    if json:
        show.document(found)
        return
    rows = found["rows_measured"]
    show.table(
        f"{found['title']}: {found['size']} size, {found['device']}, median of {rounds} rounds",
        [column.replace("_", " ") for column in rows[0]],
        [tuple(row.values()) for row in rows],
    )
