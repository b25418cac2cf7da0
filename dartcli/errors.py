"""The exceptions of this package: each message is one whole sentence for the user.

A message names the thing, what was found, what was expected and what to do next. Only the
command line catches these and turns them into an exit code.
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of what a library said, without the full stop; its type if nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__).rstrip(".")


class DartError(Exception):
    """Base of every error that a user can cause and mend."""

    exit_code = 1


class UsageError(DartError):
    """A name, option or setting that does not exist or does not fit."""

    exit_code = 2


class DataError(DartError):
    """A data file that is missing, broken, or not what it should be."""


class DownloadError(DartError):
    """A file that could not be fetched, or is not the file that was promised."""


class RunError(DartError):
    """A run that cannot be read, continued or analyzed."""


class StoppedError(DartError):
    """A training that was asked to end, and wrote down where it stands."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number
        """As shells have it: 130 for SIGINT, 143 for SIGTERM."""


class TrainingError(DartError):
    """A training that cannot go on (no usable rows, a loss that is not a number, no device)."""
