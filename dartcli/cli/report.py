"""``dart report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartcli.cli import console, options


def report(
    names: options.Runs = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write it. Default: reports/ under DART_HOME, named after the runs.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write one HTML file about finished runs, or a sweep, to read, print or send.

    It holds what was run, the measures, every analysis that fits, and how to repeat it, and
    needs no network. Example: dart report run_01 run_02.
    """
    from dartcli.experiments.run_index import last_run
    from dartcli.reporting.build import write_report

    page = write_report(names or [last_run().name], output)
    if json:
        console.document(
            {
                "report": str(page.path),
                "summary": list(page.summary),
                "analyses": list(page.analyses),
                "absent": dict(page.absent),
            }
        )
    else:
        console.out().print(str(page.path), markup=False, soft_wrap=True)
    for name, sentence in page.absent.items():
        console.note(f"{name} is not included because {sentence}")
