"""From exceptions to sentences and exit codes: the only place that catches."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn, ParamSpec, TypeVar

import typer

from dartcli.errors import DartError

P = ParamSpec("P")
R = TypeVar("R")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, as a type of its own.

    Python ends itself by the signal when a plain KeyboardInterrupt once passed through code that
    was executed from a string, as the imports of large libraries do, even if it was caught.
    """


def interrupt(number: int, _frame: object) -> NoReturn:
    """Handle SIGINT and SIGTERM."""
    raise Interrupted(number)


@contextlib.contextmanager
def gently() -> Iterator[Callable[[], int]]:
    """Only take note of the first SIGINT or SIGTERM of the block; the second one ends it.

    What is yielded returns the number of the first, or 0. A block that ends without having looked
    is interrupted at its end.
    """
    arrived: list[int] = []

    def note(number: int, frame: object) -> None:
        if arrived:
            interrupt(number, frame)
        arrived.append(number)
        complain("stopping after this step; once more stops at once.")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: arrived[0] if arrived else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        interrupt(arrived[0], None)


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
        except KeyboardInterrupt as error:
            notes = getattr(error, "__notes__", ["nothing half-written was left behind."])
            complain(f"interrupted; {notes[0]}")
            number = error.args[0] if isinstance(error, Interrupted) else signal.SIGINT
            raise typer.Exit(128 + number) from None
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
