"""``dart analyze``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import options, show
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
    from dartcli import catalog, rendering, runs, settings, steps

    catalog.load("analyses", what)
    if form is not None and form not in rendering.FORMATS:
        raise UsageError(
            f"there is no format {form!r}; choose from {', '.join(rendering.FORMATS)}."
        )
    chosen = names or [runs.last().name]
    assigned = settings.parse_assignments(set_ or [])
    if iteration is not None:
        assigned["iteration"] = iteration
    report = steps.analyze(what, chosen, assigned)
    if json:
        show.document(
            {"analysis": report.name, "sentences": list(report.sentences), **report.numbers}
        )
    elif form is not None:
        typer.echo("\n".join(rendering.FORMATS[form](view) for view in report.tables), nl=False)
    else:
        for view in report.tables:
            show.table(view.title, view.columns, view.rows)
        for sentence in report.sentences:
            show.out().print(sentence, markup=False)
    for path in report.files:
        show.note(str(path))
