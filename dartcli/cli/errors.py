"""Turn exceptions into messages and exit codes; nothing else in the package catches to print."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

from dartcli.cli import console
from dartcli.errors import DartError, StoppedError
from dartcli.storage.system import find_rank

P = ParamSpec("P")
R = TypeVar("R")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; its argument is the number of the signal.

    A plain KeyboardInterrupt that has passed through code run by ``exec``, as in the imports of
    large libraries, makes Python kill itself with the signal at exit, even if it was caught.
    """


def raise_interrupted(number: int, _frame: object) -> NoReturn:
    """Handle SIGINT and SIGTERM."""
    raise Interrupted(number)


@contextlib.contextmanager
def defer_interrupts() -> Iterator[Callable[[], int]]:
    """Record the first SIGINT or SIGTERM in the block; raise Interrupted at the second.

    Yields a function that returns the number of the first signal, or 0. A signal that is still
    pending when the block ends without an error raises Interrupted.
    """
    received: list[int] = []

    def record(number: int, frame: object) -> None:
        if received:
            raise_interrupted(number, frame)
        received.append(number)
        console.interruption("Stopping after this step. Press Ctrl-C again to quit now.")

    before = {number: signal.signal(number, record) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise_interrupted(received[0], None)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Return ``command`` with every exception turned into a message and an exit code.

    If ``DART_TRACEBACK`` is set, an unexpected exception keeps its traceback.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            # the reader of our output is gone (`dart ... | head`), which is not an error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None
        except StoppedError as stop:
            message = str(stop)
            console.interruption(message[:1].upper() + message[1:])
            raise typer.Exit(stop.exit_code) from None
        except DartError as error:
            console.error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as stop:
            notes = getattr(stop, "__notes__", [])
            console.interruption(" ".join(["Interrupted.", *(notes or [_suggest_again()])]))
            number = stop.args[0] if isinstance(stop, Interrupted) else signal.SIGINT
            raise typer.Exit(128 + number) from None
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            if os.environ.get("DART_TRACEBACK"):
                raise
            console.error(
                f"unexpected {type(error).__name__}: {error}. This is a bug in dartcli. Run the "
                "command again with `DART_TRACEBACK=1` and report the output."
            )
            raise typer.Exit(1) from None
        return result

    return run


def _suggest_again() -> str:
    """Return the advice to run the same command again."""
    return f"Run `{shlex.join(['dart', *sys.argv[1:]])}` again to continue."


class CommandGroup(TyperGroup):
    """The root command: it prints usage errors in the same form as all other errors."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command line and exit."""
        options["standalone_mode"] = False
        try:
            code = super().main(*args, **options)
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            # Typer quotes names as 'NAME'; everything else here writes `NAME`
            message = re.sub(r"'(\S+?)'", r"`\1`", error.format_message())
            if context is not None and not message.endswith("?"):
                message = f"{message.rstrip('.')}. Run `{context.command_path} --help`."
            if not find_rank():
                console.error(message[:1].lower() + message[1:])
            code = error.exit_code
        except typer.Abort:
            console.interruption("Aborted.")
            code = 1
        raise SystemExit(code or 0)
