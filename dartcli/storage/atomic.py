"""Atomic writes: files and folders are either whole or absent."""

from __future__ import annotations

import atexit
import contextlib
import glob
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from dartcli.errors import DartError


def ensure_directory(path: Path) -> Path:
    """Create ``path`` and its parents; a sentence instead of a traceback where that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DartError(
            f"cannot create the directory {path}: {os_reason(error)}; "
            "set DART_HOME to a directory you may write to."
        ) from error
    return path


def os_reason(error: OSError) -> str:
    """Return the operating system's own words for ``error``, in lower case."""
    return (error.strerror or str(error)).lower()


def sync_directory(path: Path) -> None:
    """Flush the entries of directory ``path`` to disk (nothing to do on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an error.

    The temporary file is beside ``path``, is flushed to disk before the rename, and is removed
    when the block raises: a reader never sees half a file.
    """
    ensure_directory(path.parent)
    temporary = _own_temporary_path(path)
    try:
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            raise DartError(
                f"cannot write {path}: {os_reason(error)}; "
                "free some space or set DART_HOME to another directory."
            ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(directory: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``directory`` when the block ends without an error.

    An older ``directory`` is replaced, or is an error where ``replace`` is false. Nothing is left
    behind when the block raises.
    """
    ensure_directory(directory.parent)
    temporary = _own_temporary_path(directory)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            else:
                sync_directory(path)
        sync_directory(temporary)
        if replace and directory.exists():
            shutil.rmtree(directory)
        temporary.rename(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise DartError(
            f"cannot write {directory}: {os_reason(error)}; "
            "free some space or set DART_HOME to another directory."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: object) -> None:
    """Write ``document`` to ``path`` atomically, keys in the order given, NaN refused."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def process_directory(path: Path) -> Path:
    """Return a folder beside ``path`` that only this process has, and that goes when it ends.

    It is not made. Folders of processes that were killed are removed.
    """
    place = _own_temporary_path(path)
    atexit.register(remove, place)
    return place


@contextlib.contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield the path of a file or folder beside ``path`` that is removed when the block ends."""
    place = _own_temporary_path(path)
    try:
        yield place
    finally:
        remove(place)


def _own_temporary_path(path: Path) -> Path:
    """Return where this process writes what becomes ``path``; clear what the dead left of it."""
    for left in find_leftovers(path.parent, path.name):
        remove(left)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node()) or "here"


def find_leftovers(folder: Path, name: str = "*", *, deep: bool = False) -> Iterator[Path]:
    """Yield what processes of this machine that died were writing in ``folder``.

    ``name`` is that of what it would have become, by default any; ``deep`` looks in all folders
    below, too.
    """
    written = name if name == "*" else glob.escape(name)
    for path in folder.glob(f"{'**/' * deep}.{written}.{_host()}-*.tmp"):
        number = path.name.rpartition("-")[2].removesuffix(".tmp")
        if number.isdigit() and not _alive(int(number)):
            yield path


def _alive(process: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
