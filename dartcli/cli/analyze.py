"""``dart analyze``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dartcli import catalog
from dartcli.cli import completion, console, options, tables
from dartcli.cli.listing import print_components
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.reporting.analysis import AnalysisResult


def analyze(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="ANALYSIS",
            help=f"One of {', '.join(catalog.files('analyses'))}. Without it, list them.",
            autocompletion=completion.complete_component("analyses"),
        ),
    ] = None,
    names: options.RunsOrSweeps = None,
    iteration: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Snapshot to read (loss-distribution)." + options.default("the last"),
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Option of the analysis, such as metric=test_log_loss. Repeatable.",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Print the tables as markdown, latex, or csv.",
            autocompletion=completion.complete_choice("markdown", "latex", "csv"),
        ),
    ] = None,
    open_: options.Open = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Analyze finished runs or a sweep with tables and figures.

    Tables are printed; figures and all numbers are written to the analysis/
    folder of the first run.

    For example:

      dart analyze precision-recall run_03
      dart analyze compare table2-reference --format latex
    """
    if what is None:
        print_components("analyses", quiet=quiet, json=json)
        return
    catalog.check("analyses", what)
    from dartcli import settings
    from dartcli.experiments.run_index import last_run
    from dartcli.reporting.analyze import run_analysis
    from dartcli.reporting.formats import FORMATS

    if form is not None and form not in FORMATS:
        raise UsageError(f"no format {form!r}. Choose from {', '.join(FORMATS)}.")
    chosen = names or [last_run().name]
    assigned = settings.parse_assignments(set_ or [])
    if iteration is not None:
        assigned["iteration"] = iteration
    report = run_analysis(what, chosen, assigned)
    _print_result(report, form, quiet=quiet, json=json)
    if open_:
        pictures = [path for path in report.files if path.suffix == ".png"]
        for path in pictures or report.files[:1]:
            typer.launch(str(path))
    for path in report.files:
        console.note(str(path))


def _print_result(report: AnalysisResult, form: str | None, *, quiet: bool, json: bool) -> None:
    from dartcli.reporting.formats import FORMATS

    if json:
        console.document(
            {"analysis": report.name, "sentences": list(report.sentences), **report.numbers}
        )
    elif quiet:
        console.print_names(map(str, report.files))
    elif form is not None:
        typer.echo("\n".join(FORMATS[form](view) for view in report.tables), nl=False)
    else:
        for sentence in report.sentences:
            console.stdout().print(sentence, markup=False)
        for view in report.tables:
            tables.show(view)
