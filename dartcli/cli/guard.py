"""From exceptions to sentences and exit codes: the only place that catches."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

from dartcli.errors import DartError

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, as a type of its own.

    Python ends itself by the signal when a plain KeyboardInterrupt once passed through code that
    was executed from a string, as the imports of large libraries do, even if it was caught.
    """


def interrupt(_number: int, _frame: object) -> NoReturn:
    """Handle SIGINT."""
    raise Interrupted


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Return ``command`` with every exception turned into a sentence and an exit code.

    ``DART_TRACEBACK=1`` shows the traceback of a fault in this program instead.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except DartError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            complain("interrupted; nothing half-written was left behind.")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("DART_TRACEBACK"):
                raise
            complain(
                f"this is a fault of dartcli: {type(error).__name__}: {error}; "
                "please report it with the output of DART_TRACEBACK=1."
            )
            raise typer.Exit(1) from None

    return run


def complain(sentence: str) -> None:
    """Write ``dart: sentence`` to stderr."""
    sys.stdout.flush()
    typer.secho("dart: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(sentence, err=True)
