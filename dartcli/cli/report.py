"""``dart report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartcli.cli import console, options


def report(
    names: options.RunsOrSweeps = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write." + options.default("reports/ in DART_HOME, named after the runs"),
        ),
    ] = None,
    open_: options.Open = False,
    _quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write a self-contained HTML report on finished runs or a sweep.

    It shows settings, metrics, every applicable analysis, and the commands that
    reproduce them. It works offline.

    For example:

      dart report run_01 run_02
      dart report table2-strict --output table2.html
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
        console.print_line(str(page.path))
    if open_:
        typer.launch(str(page.path))
    for name, reason in page.absent.items():
        console.note(f"without {name}: {reason}")
