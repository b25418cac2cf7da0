"""Files that are either whole or absent: atomic writes, locks, hashes, seals."""

from __future__ import annotations

import atexit
import contextlib
import glob
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dartcli.errors import DartError, DataError, RunError, first_line

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor

CHUNK = 1 << 20
SEAL: Final = "seal"
"""Key of a document's own hash."""


def ensure_directory(path: Path) -> Path:
    """Create ``path`` and its parents; a sentence instead of a traceback where that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DartError(
            f"cannot create the directory {path}: {reason(error)}; "
            "set DART_HOME to a directory you may write to."
        ) from error
    return path


def reason(error: OSError) -> str:
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
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an error.

    The temporary file is beside ``path``, is flushed to disk before the rename, and is removed
    when the block raises: a reader never sees half a file.
    """
    ensure_directory(path.parent)
    temporary = _temporary(path)
    try:
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            raise DartError(
                f"cannot write {path}: {reason(error)}; "
                "free some space or set DART_HOME to another directory."
            ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def building(directory: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``directory`` when the block ends without an error.

    An older ``directory`` is replaced, or is an error where ``replace`` is false. Nothing is left
    behind when the block raises.
    """
    ensure_directory(directory.parent)
    temporary = _temporary(directory)
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
            f"cannot write {directory}: {reason(error)}; "
            "free some space or set DART_HOME to another directory."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: object) -> None:
    """Write ``document`` to ``path`` atomically, keys in the order given, NaN refused."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON document in ``path``.

    Raises
    ------
    DataError
        If the file is missing or does not hold JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a JSON document ({error}); dart doctor helps.") from error


def fault(path: Path, digest: str | None) -> str | None:
    """Return in words why the file ``path`` is not the one with the SHA-256 ``digest``, or None."""
    try:
        found = sha256(path)
    except OSError as error:
        return reason(error)
    return None if found == digest else "another SHA-256"


def write_sealed(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document`` as :func:`write_json` does, with a hash of itself as its last key."""
    write_json(path, {**document, SEAL: _seal(document)})


def read_sealed(path: Path, *, required: bool = True) -> dict[str, Any]:
    """Return the document in ``path``, without its seal.

    Parameters
    ----------
    path
        A file that :func:`write_sealed` wrote.
    required
        False takes a document without a seal as it is: one from before there were seals, or one
        that somebody else wrote.

    Raises
    ------
    DataError
        If the file is missing, holds no JSON object, or is not what was written.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(f"{path} holds no JSON object; dart doctor helps.")
    if not fits(document) and (required or SEAL in document):
        raise DataError(
            f"{path} is not what was written (its seal does not fit); dart doctor helps."
        )
    return {key: value for key, value in document.items() if key != SEAL}


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write ``table`` as Parquet; OSError where that fails, whatever the library makes of it."""
    from polars.exceptions import PolarsError

    try:
        table.write_parquet(path, compression="zstd")
    except PolarsError as error:
        raise OSError(first_line(error)) from error


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write ``tensors`` in the format of safetensors; OSError where that fails."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        raise OSError(first_line(error)) from error


def fits(document: Mapping[str, Any]) -> bool:
    """Return whether ``document`` has a seal, and it is that of the rest."""
    rest = {key: value for key, value in document.items() if key != SEAL}
    return document.get(SEAL) == _seal(rest)


def _seal(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what ``document`` says, however it is laid out."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def own_folder(path: Path) -> Path:
    """Return a folder beside ``path`` that only this process has, and that goes when it ends.

    It is not made. Folders of processes that were killed are removed.
    """
    place = _temporary(path)
    atexit.register(remove, place)
    return place


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield the path of a file or folder beside ``path`` that is removed when the block ends."""
    place = _temporary(path)
    try:
        yield place
    finally:
        remove(place)


def _temporary(path: Path) -> Path:
    """Return where this process writes what becomes ``path``; clear what the dead left of it."""
    for left in leftovers(path.parent, path.name):
        remove(left)
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node()) or "here"


def leftovers(folder: Path, name: str = "*", *, deep: bool = False) -> Iterator[Path]:
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


@contextlib.contextmanager
def locked(path: Path, *, busy: str | None = None) -> Iterator[None]:
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
            f"cannot lock {path}: {reason(error)}; set DART_HOME to a directory you may write to."
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


def memory() -> int:
    """Return the bytes of this machine's memory, 0 where they are not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file ``path`` as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
