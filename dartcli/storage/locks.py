"""Locks between processes."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from dartcli.errors import DartError, RunError
from dartcli.storage.atomic import ensure_directory, os_reason


@contextlib.contextmanager
def lock(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` during the block; other processes wait.

    The operating system holds the lock, so it is released as soon as a process dies.

    Parameters
    ----------
    path
        The lock file; it stays on disk.
    busy
        Do not wait: if another process holds the lock, raise a RunError that begins with ``busy``
        (what is being done) and names that process, as recorded in a file beside the lock.

    Raises
    ------
    RunError
        If ``busy`` is given and another process holds the lock.
    DartError
        If the lock cannot be created.
    """
    from filelock import FileLock, Timeout

    ensure_directory(path.parent)
    lock = FileLock(path)
    owner = path.with_suffix(".owner")
    try:
        lock.acquire(timeout=-1 if busy is None else 0)
        if busy is not None:
            owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    except Timeout as error:
        raise RunError(
            f"{busy} by {_read_owner(owner)}. Wait until it finishes, or stop it."
        ) from error
    except OSError as error:
        raise DartError(
            f"cannot lock {path}: {os_reason(error)}. "
            "Set DART_HOME to a directory that you can write to."
        ) from error
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _read_owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return "another process"
