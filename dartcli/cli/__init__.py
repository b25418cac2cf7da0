"""The command line: one file a command; each parses, calls a step, and shows the result."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from dartcli._version import __version__
from dartcli.cli import (
    analyze,
    console,
    doctor,
    download,
    evaluate,
    preprocess,
    report,
    runs,
    sweep,
    train,
)
from dartcli.cli.errors import guarded, interrupt
from dartcli.errors import DartError
from dartcli.storage import paths
from dartcli.storage.atomic import process_directory

app = typer.Typer(
    name="dart",
    help="Find and handle false-positive interactions while training recommenders.",
    epilog="Start with: dart train",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("download")(guarded(download.download))
app.command("preprocess")(guarded(preprocess.preprocess))
app.command("train")(guarded(train.train))
app.command("sweep")(guarded(sweep.sweep))
app.command("eval")(guarded(evaluate.evaluate))
app.command("analyze")(guarded(analyze.analyze))
app.add_typer(runs.app, name="runs")
app.command("report")(guarded(report.report))
app.command("doctor")(guarded(doctor.doctor))


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - the signature of Typer's callbacks
    if wanted:
        typer.echo(f"dartcli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Find and handle false-positive interactions while training recommenders."""
    console.show_log()


def _prepare_libraries() -> None:
    """Set what libraries read from the environment when they are first used.

    The user's word counts.
    """
    try:
        home, compiled = paths.home(), process_directory(paths.compiled())
    except DartError:
        return  # the command says so
    for name, value in {
        # large tensors in large pages: a table is then allocated with tens of faults, not thousands
        "THP_MEM_ALLOC_ENABLE": "1",
        # fonts are looked up once and kept with everything else; figures look alike for everybody
        "MPLCONFIGDIR": str(home / "matplotlib"),
        # code that lay on a disk is not run: everything is compiled by the process that uses it
        "TORCHINDUCTOR_CACHE_DIR": str(compiled),
        # one function needs no pool of compilers, and Ctrl-C has no child to reach
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }.items():
        os.environ.setdefault(name, value)


def main() -> None:
    """Run the command line.

    The exit code is 0, 1 (run or data), 2 (usage), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    # the user's mask counts, but what is believed later may not be for everybody to write
    os.umask(os.umask(0o077) | 0o002)
    _prepare_libraries()
    try:
        app(prog_name="dart")
    except BrokenPipeError:
        # the reader of our output went away (`dart ... | head`): nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
