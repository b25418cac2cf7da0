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
    """Hold the lock file ``path`` for the length of the block; others wait.

    The system itself holds the lock, so that of a process that died is free at once.

    Raises
    ------
    RunError
        Where ``busy`` is given and another process holds it: nobody waits, the sentence begins
        with ``busy`` (what is done) and names the process, by a file beside the lock.
    DartError
        If the lock cannot be made.
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
        raise RunError(f"{busy} by {_owner(owner)}; wait for it, or stop it.") from error
    except OSError as error:
        raise DartError(
            f"cannot lock {path}: {os_reason(error)}. "
            "Set DART_HOME to a directory you may write to."
        ) from error
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return "another process"
