"""Exceptions whose message is written for the user.

A message reads ``what failed: cause. What to do.`` The library raises; only the command line
catches them, prints the message and exits with ``exit_code``.
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of an error, else its type.

    The final period is dropped, so that the line can become part of a message.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__).rstrip(".")


class DartError(Exception):
    """Base class of every error that a user can cause and fix."""

    exit_code = 1


class UsageError(DartError):
    """An unknown name, or an invalid option or setting."""

    exit_code = 2


class DataError(DartError):
    """A data file that is missing, corrupt or invalid."""


class DownloadError(DartError):
    """A file that cannot be downloaded, or fails its checks."""


class RunError(DartError):
    """A run that cannot be read, resumed or analyzed."""


class StoppedError(DartError):
    """A training that was interrupted after saving its state."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + number
        """128 plus the signal number, as in a shell: 130 for SIGINT, 143 for SIGTERM."""


class TrainingError(DartError):
    """A training that cannot continue (no usable rows, a loss of NaN, no device)."""
