"""``dart recommend``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartcli.cli import console, options
from dartcli.errors import UsageError


def recommend(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Finished run, by name or folder.")],
    output: options.Output,
    users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Parquet, CSV, or TSV file with the column of users."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every user that the model knows.")] = False,
    k: Annotated[int, typer.Option("--k", metavar="K", help="Items per user.")] = 20,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen", help="Leave out items that the user interacted with.")
    ] = False,
    candidates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the column of items to choose from." + options.default("all items"),
        ),
    ] = None,
    seed: options.RunSeed = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write the best items for each user.

    Lists are exact; ties are broken by item.

    For example:

      dart recommend run_01 --all --k 20 --exclude-seen -o recs.parquet
    """
    from dartcli.serving.recommend import recommend as rank

    if all_ == (users is not None):
        raise UsageError("no users chosen, or twice. Give either `--users FILE` or `--all`.")
    found = rank(
        name,
        output,
        users=users,
        k=k,
        exclude_seen=exclude_seen,
        candidates=candidates,
        seed=seed,
        device=device,
    )
    for field, count in found["unknown"].items():
        if count:
            console.warning(f"{count:,} ids of the field {field} are unknown to the model; skipped")
    if json:
        console.document(found)
    elif quiet:
        console.print_line(found["output"])
    else:
        lists = f"{found['rows']:,} items for {found['users']:,} users"
        console.print_line(f"Wrote {lists} to {found['output']}.")
