"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartcli import catalog
from dartcli.cli import completion, console

CHECKPOINTS = "Checkpoints"
"""Title of a panel in the help."""


def default(text: str) -> str:
    """Return ``text`` as Typer shows a default, for options whose default is decided later."""
    return rf" [dim]\[default: {text}][/dim]"


DEVICE_HELP = "auto, cpu, cuda, or cuda:N. auto uses a GPU if there is one."

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="Finished runs, by name or folder." + default("the last one"),
        autocompletion=completion.complete_run,
    ),
]
RunsOrSweeps = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="Finished runs, or sweeps, by name or folder." + default("the last run"),
        autocompletion=completion.complete_subject,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print only names or paths, one per line.",
        callback=console.set_quiet,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Open = Annotated[bool, typer.Option("--open", help="Open what was written.")]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help=DEVICE_HELP,
        autocompletion=completion.complete_choice("auto", "cpu", "cuda"),
    ),
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="Parquet file to write."),
]
RunSeed = Annotated[
    int | None,
    typer.Option("--seed", metavar="SEED", help="Seed of the run." + default("its first")),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        "-s",
        metavar="NAME",
        help="Strategy against false positives, such as base (none), clean (perfect labels), "
        "dart, dart-disc, or dart-rel; see `dart list strategies`." + default("dart"),
        autocompletion=completion.complete_component("strategies"),
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help=f"Recommender: {', '.join(catalog.files('models'))}; see `dart list models`."
        + default("fm"),
        autocompletion=completion.complete_component("models"),
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="strict: clean labels never influence training or model selection. reference: as in "
        "the DART thesis." + default("strict"),
        autocompletion=completion.complete_choice("strict", "reference"),
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, such as strategy.alpha=0.2. Repeatable.",
    ),
]
CheckpointEvery = Annotated[
    str,
    typer.Option(
        metavar="INTERVAL",
        help="Checkpoint interval: epochs (5ep), a time (90s, 10m), or off.",
        rich_help_panel=CHECKPOINTS,
    ),
]
