"""The command line: one module per command, which parses, calls a function, and prints."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from dartcli._version import __version__
from dartcli.cli import (
    analyze,
    cache,
    console,
    doctor,
    download,
    evaluate,
    export,
    label,
    listing,
    predict,
    preprocess,
    recommend,
    report,
    resume,
    runs,
    score,
    sweep,
    train,
)
from dartcli.cli.errors import CommandGroup, guarded, raise_interrupted
from dartcli.errors import DartError
from dartcli.storage import paths

app = typer.Typer(
    cls=CommandGroup,
    name="dart",
    epilog="Get started: dart train",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("download")(guarded(download.download))
app.command("preprocess")(guarded(preprocess.preprocess))
app.command("label")(guarded(label.label))
app.command("train")(guarded(train.train))
app.command("resume")(guarded(resume.resume))
app.command("eval")(guarded(evaluate.evaluate))
app.command("score")(guarded(score.score))
app.command("predict")(guarded(predict.predict))
app.command("recommend")(guarded(recommend.recommend))
app.command("export")(guarded(export.export))
app.command("analyze")(guarded(analyze.analyze))
app.command("sweep")(guarded(sweep.sweep))
app.command("report")(guarded(report.report))
app.command("list")(guarded(listing.list_components))
app.add_typer(runs.app, name="runs")
app.add_typer(cache.app, name="cache")
app.command("doctor")(guarded(doctor.doctor))


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - the signature of Typer's callbacks
    if wanted:
        typer.echo(f"dartcli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Find false positives in implicit feedback and train recommenders despite them."""
    if context.invoked_subcommand is None:
        context.get_help()
        raise typer.Exit(2)
    console.set_quiet(False)
    console.show_log()


def _set_environment() -> None:
    """Set the variables that libraries read when they are first used, unless the user has."""
    try:
        home = paths.home()
    except DartError:
        return  # the command reports it
    for name, value in {
        # large tensors use huge pages: allocating a table takes tens of page faults, not thousands
        "THP_MEM_ALLOC_ENABLE": "1",
        # the font cache is kept with our other files, and no personal style changes the figures
        "MPLCONFIGDIR": str(home / "matplotlib"),
    }.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """Run the command line.

    The exit code is 0, 1 (run or data), 2 (usage), 130 (Ctrl-C), or 143 (SIGTERM).
    """
    signal.signal(signal.SIGINT, raise_interrupted)
    signal.signal(signal.SIGTERM, raise_interrupted)
    # keep the user's umask, but nobody else may change files that are trusted later
    os.umask(os.umask(0o077) | 0o002)
    _set_environment()
    app(prog_name="dart")
