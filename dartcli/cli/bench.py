"""``dart bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import options, show


def bench(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="train, strategies, eval, preprocess, floor, profile, deterministic.",
        ),
    ] = "train",
    size: Annotated[
        str, typer.Option(help="Size of the made-up data: movielens-100k, book-crossing, jester.")
    ] = "movielens-100k",
    strategy: Annotated[str, typer.Option(help="Strategy of the contender dart.")] = "dart",
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 5,
    rows: Annotated[
        str | None, typer.Option(help="Sizes for preprocess and eval, in millions of rows: 5,20.")
    ] = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Measure speed on this machine: contenders in turn, medians, ratios."""
    from dartcli import steps

    found = steps.bench(what, size=size, strategy=strategy, rounds=rounds, rows=rows, device=device)
    if json:
        show.document(found)
        return
    measured = found["rows_measured"]
    about = ", ".join(str(found[key]) for key in ("size", "device") if key in found)
    show.table(
        found["title"] + (f" ({about})" if about else ""),
        [column.replace("_", " ") for column in measured[0]],
        [tuple(row.values()) for row in measured],
    )
    for words, value in found.get("also", {}).items():
        show.note(f"{words}: {value:.4g}")
