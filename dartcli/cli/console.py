"""What the user sees: stdout carries data, stderr carries talk."""

from __future__ import annotations

import json
import logging
import sys

from rich.console import Console


def out() -> Console:
    """Return a console on stdout."""
    return Console(highlight=False)


def talk() -> Console:
    """Return a console on stderr."""
    return Console(stderr=True, highlight=False)


def note(sentence: str) -> None:
    """Say something on stderr that the user did not ask for but should know."""
    talk().print(f"• {sentence}", style="dim", markup=False, soft_wrap=True)


class NoteHandler(logging.Handler):
    """Shows what the package logs as notes on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of ``record``."""
        note(record.getMessage())


def show_log() -> None:
    """Show the messages that the package logs, from INFO on; calling it again changes nothing."""
    logger = logging.getLogger("dartcli")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, NoteHandler) for handler in logger.handlers):
        logger.addHandler(NoteHandler())


def can_ask() -> bool:
    """Return True where someone sits at stdin to answer a question."""
    return sys.stdin.isatty()


def next_command(command: str) -> None:
    """Name the next useful command on stderr."""
    talk().print(f"next: {command}", style="cyan", markup=False, soft_wrap=True)


def document(value: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
