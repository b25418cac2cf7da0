"""Write data to stdout and messages to stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from dartcli.errors import UsageError
from dartcli.storage.system import find_rank

_quiet = False
_shared: Console | None = None


def set_quiet(quiet: bool) -> bool:  # noqa: FBT001 - the signature of Typer's callbacks
    """Suppress notes, suggestions, and progress until it is called with False."""
    global _quiet  # noqa: PLW0603 - one command line per process
    _quiet = quiet
    return quiet


def shows_progress() -> bool:
    """Return whether progress is shown: stderr is a terminal, and ``-q`` was not given."""
    return stderr().is_terminal and not _quiet


def stdout() -> Console:
    """Return a console that writes to stdout."""
    return Console(highlight=False)


def stderr() -> Console:
    """Return a console that writes to stderr: the same as long as a bar is shown."""
    return _shared or Console(stderr=True, highlight=False)


@contextmanager
def share_stderr() -> Iterator[None]:
    """Print messages through the console that shows a bar, which then moves down for them."""
    global _shared  # noqa: PLW0603 - one terminal per process
    _shared = stderr()
    try:
        yield
    finally:
        _shared = None


def print_line(text: str) -> None:
    """Print one line of data on stdout, however long it is."""
    stdout().print(text, markup=False, soft_wrap=True)


def print_names(names: Iterable[str]) -> None:
    """Print names or paths on stdout, one per line."""
    for name in names:
        print_line(name)


def document(value: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def error(message: str) -> None:
    """Print ``error: message`` on stderr, with the number of a process that is not the first."""
    place = f"process {find_rank()}: " if find_rank() else ""
    _print_message(("error:", "bold red"), f" {place}{message}")


def warning(message: str) -> None:
    """Print ``warning: message`` on stderr."""
    _print_message(("warning:", "bold yellow"), f" {message}")


def note(message: str) -> None:
    """Print a line of information on stderr."""
    if not _quiet and not find_rank():
        _print_message((f"• {message}", "dim"))


def next_command(command: str) -> None:
    """Suggest the next command on stderr."""
    if not _quiet:
        _print_message((f"next: {command}", "cyan"))


def interruption(message: str) -> None:
    """Print ``message`` on a line of its own, below the ``^C`` that a terminal echoes."""
    if not find_rank():
        _print_message("\n" if stderr().is_terminal else "", message)


def _print_message(*parts: str | tuple[str, str]) -> None:
    """Print one line on stderr, after everything that was written to stdout."""
    sys.stdout.flush()
    stderr().print(Text.assemble(*parts), soft_wrap=True)


class MessageHandler(logging.Handler):
    """Print log records on stderr as notes and warnings; of several processes, the first does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print ``record``."""
        if find_rank():
            return
        (note if record.levelno < logging.WARNING else warning)(record.getMessage())


def show_log() -> None:
    """Print what the package logs, from level INFO; calling it again has no effect."""
    logger = logging.getLogger("dartcli")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, MessageHandler) for handler in logger.handlers):
        logger.addHandler(MessageHandler())


def can_ask() -> bool:
    """Return True if stdin is a terminal, so that a question can be answered."""
    return sys.stdin.isatty()


def confirm(question: str, action: str, *, yes: bool) -> bool:
    """Ask ``question`` unless ``yes``; return whether to go ahead.

    Raises
    ------
    UsageError
        If there is nobody to ask; it names the ``action``.
    """
    if yes:
        return True
    if not can_ask():
        raise UsageError(
            f"cannot ask for confirmation to {action}: stdin is not a terminal. Add `--yes`."
        )
    if typer.confirm(question, err=True):
        return True
    note("nothing was removed")
    return False
