"""Options that several commands share, worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of a table.")
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda or cuda:1; auto takes a GPU where there is one.")
]
Protocol = Annotated[
    str | None,
    typer.Option(
        help="strict (default): no clean label steers training. reference: as in the thesis."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, such as strategy.alpha=0.2; may be repeated.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="Settings in TOML or JSON; a run's settings.json repeats that run."),
]
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="Names of runs, or paths of their folders. Default: the last finished run.",
        show_default=False,
    ),
]
