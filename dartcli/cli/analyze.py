"""``dart analyze``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import console, options, tables
from dartcli.errors import UsageError


def analyze(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="compare, dataset, loss-by-rating, loss-distribution, "
            "memorization, precision-recall, sensitivity, user-activity.",
        ),
    ],
    names: options.Runs = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the analysis, such as measure=test_log_loss; may be repeated.",
        ),
    ] = None,
    iteration: Annotated[
        int | None,
        typer.Option(min=1, help="For loss-distribution: the snapshot of this iteration."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Print the tables as markdown, latex or csv instead."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Answer one question about finished runs: a table, a figure (PNG, SVG), JSON.

    Examples: dart analyze precision-recall run_03; dart analyze compare table2-reference.
    """
    from dartcli import catalog, settings
    from dartcli.experiments.run_index import last_run
    from dartcli.reporting.analyze import run_analysis
    from dartcli.reporting.formats import FORMATS

    catalog.load("analyses", what)
    if form is not None and form not in FORMATS:
        raise UsageError(f"there is no format {form!r}; choose from {', '.join(FORMATS)}.")
    chosen = names or [last_run().name]
    assigned = settings.parse_assignments(set_ or [])
    if iteration is not None:
        assigned["iteration"] = iteration
    report = run_analysis(what, chosen, assigned)
    if json:
        console.document(
            {"analysis": report.name, "sentences": list(report.sentences), **report.numbers}
        )
    elif form is not None:
        typer.echo("\n".join(FORMATS[form](view) for view in report.tables), nl=False)
    else:
        for view in report.tables:
            tables.table(view.title, view.columns, view.rows)
        for sentence in report.sentences:
            console.out().print(sentence, markup=False)
    for path in report.files:
        console.note(str(path))
