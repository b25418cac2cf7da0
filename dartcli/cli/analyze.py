"""``dart analyze``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import options, show


def analyze(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="precision-recall, memorization, ...")
    ],
    names: options.Runs = None,
    json: options.Json = False,
) -> None:
    """Answer one question about finished runs: a table, a figure (PNG, SVG), JSON.

    Example: dart analyze precision-recall run_03.
    """
    from dartcli import catalog, runs, steps

    catalog.load("analyses", what)
    chosen = names or [runs.last().name]
    report = steps.analyze(what, chosen)
    if json:
        show.document(
            {"analysis": report.name, "sentences": list(report.sentences), **report.numbers}
        )
    else:
        for view in report.tables:
            show.table(view.title, view.columns, view.rows)
        for sentence in report.sentences:
            show.out().print(sentence, markup=False)
    for path in report.files:
        show.note(str(path))
