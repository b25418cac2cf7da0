"""Readers of files that anybody may have made, tried in a process of their own.

Parquet, CSV and Excel files are read by compiled code. A file that is damaged, or made to do harm,
can make it end the process, take all memory, or never come back. So the file is first read by a
child with limits; what happens to the child becomes a sentence.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from dartcli.errors import DataError
from dartcli.storage.atomic import os_reason
from dartcli.storage.system import total_memory
from dartcli.storage.tables import READ_ERRORS

SECONDS: Final = 60.0
"""That a file may take, and"""
SECONDS_A_MEGABYTE: Final = 0.5
"""more for its size."""
SENTENCE: Final = 3
"""Exit code of a child that says what is wrong."""
_tried: set[tuple[str, int, int, tuple[str, ...]]] = set()


def try_table(path: Path, kind: str, columns: Sequence[str] = ()) -> None:
    """Read the table in ``path`` once, in a child; nothing if that went well before.

    Parameters
    ----------
    path
        A file that exists.
    kind
        ``parquet``, ``csv`` or ``tsv``.
    columns
        Those of a Parquet file to look at; text is parsed whole.

    Raises
    ------
    DataError
        If the file cannot be read, or its reader broke down.
    """
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns, tuple(columns))
    if key not in _tried:
        _contained(path, [kind, str(path), *columns])
        _tried.add(key)


def convert_excel(path: Path, target: Path) -> None:
    """Read the first sheet of ``path``, which has no header, in a child; write it as Parquet.

    Raises
    ------
    DataError
        If the file cannot be read, or its reader broke down.
    """
    _contained(path, ["excel", str(path), str(target)])


def _contained(path: Path, words: Sequence[str]) -> None:
    limit = SECONDS + SECONDS_A_MEGABYTE * path.stat().st_size / 1e6
    try:
        child = subprocess.run(  # noqa: S603 - this program itself, no shell
            [sys.executable, "-P", "-m", "dartcli.data.logs.contained", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"cannot read {path}: after {limit:.0f} seconds its reader was still busy; the file "
            "is damaged, or was made to do harm."
        ) from error
    if child.returncode == SENTENCE:
        raise DataError(child.stdout.decode("utf-8", "replace").strip())
    if child.returncode:
        how = f"signal {-child.returncode}" if child.returncode < 0 else "too little memory"
        raise DataError(
            f"cannot read {path}: its reader broke down ({how}); the file is damaged, or was made "
            "to do harm."
        )


def _limit() -> None:
    """Let this process take no more memory than the machine has, and leave no core behind."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    # address space: libraries reserve some that they never use
    limits = [total_memory() + (4 << 30)] + [hard] * (hard != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(kind: str, path: Path, rest: Sequence[str]) -> None:
    from dartcli.data.logs.scan import scan_file

    if kind == "excel":
        # read from memory: the format is then told by the content, not by the name
        table = pl.read_excel(
            path.read_bytes(), engine="calamine", has_header=False, infer_schema_length=None
        )
        table.write_parquet(rest[0])
        return
    frame = scan_file(path)
    if kind == "parquet":
        known = frame.collect_schema()
        frame = frame.select(name for name in rest if name in known)
    frame.select(pl.all().null_count()).collect(engine="streaming")


def main() -> int:
    """Read one file: the main function of the child."""
    import fastexcel

    from dartcli.data.logs.scan import explain_unreadable

    _limit()
    path = Path(sys.argv[2])
    try:
        _read(sys.argv[1], path, sys.argv[3:])
    except OSError as error:
        said = f"cannot read {path}: {os_reason(error)}."
    except DataError as error:
        said = str(error)
    except (*READ_ERRORS, fastexcel.FastExcelError) as error:
        said = explain_unreadable(path, error)
    else:
        return 0
    sys.stdout.buffer.write(said.encode())
    return SENTENCE


if __name__ == "__main__":
    sys.exit(main())
