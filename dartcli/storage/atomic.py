"""Atomic writes: a file or directory is either complete or absent."""

from __future__ import annotations

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
    """Create ``path`` and its parents if needed, and return it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DartError(
            f"cannot create the directory {path}: {os_reason(error)}. "
            "Set DART_HOME to a directory that you can write to."
        ) from error
    return path


def os_reason(error: OSError) -> str:
    """Return the operating system's description of ``error``, in lower case."""
    return (error.strerror or str(error)).lower()


def sync_directory(path: Path) -> None:
    """Flush the entries of the directory ``path`` to disk; do nothing on Windows."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to ``path`` if the block succeeds.

    The temporary file is a sibling of ``path``, is flushed to disk before it is renamed, and is
    removed if the block raises.
    """
    ensure_directory(path.parent)
    temporary = _make_temporary_path(path)
    try:
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            raise _write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(directory: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary directory; rename it to ``directory`` if the block succeeds.

    An existing ``directory`` is replaced; if ``replace`` is false, it is an error. The temporary
    directory is removed if the block raises.
    """
    ensure_directory(directory.parent)
    temporary = _make_temporary_path(directory)
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
        raise _write_error(directory, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_error(path: Path, error: OSError) -> DartError:
    return DartError(
        f"cannot write {path}: {os_reason(error)}. "
        "Free some disk space, or set DART_HOME to another directory."
    )


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: object) -> None:
    """Write ``document`` to ``path`` atomically as JSON; NaN is an error."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary sibling of ``path``; remove it when the block ends."""
    place = _make_temporary_path(path)
    try:
        yield place
    finally:
        remove(place)


def _make_temporary_path(path: Path) -> Path:
    """Return this process's temporary path for ``path``; remove those of dead processes."""
    for left in find_leftovers(path.parent, path.name):
        remove(left)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node()) or "here"


def find_leftovers(folder: Path, name: str = "*", *, deep: bool = False) -> Iterator[Path]:
    """Yield temporary files and directories in ``folder`` whose process has died.

    Only processes of this host are considered. ``name`` restricts the search to what would have
    become ``folder/name``; ``deep`` includes all subfolders.
    """
    written = name if name == "*" else glob.escape(name)
    for path in folder.glob(f"{'**/' * deep}.{written}.{_host()}-*.tmp"):
        number = path.name.rpartition("-")[2].removesuffix(".tmp")
        if number.isdigit() and not _is_alive(int(number)):
            yield path


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file, or a directory and its contents; ignore what cannot be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
