"""Read Excel files in a child process with limits on memory and time.

A small file can describe a sheet of terabytes, and compiled code that runs out of memory ends its
process. Here this is the child, and the outcome is an error message.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import polars as pl

from dartcli.errors import DataError, first_line
from dartcli.storage.atomic import os_reason
from dartcli.storage.system import total_memory
from dartcli.storage.tables import READ_ERRORS

BASE_SECONDS: Final = 60.0
SECONDS_PER_MEGABYTE: Final = 0.5
"""Time limit: this much per megabyte on top of ``BASE_SECONDS``."""
REPORTED: Final = 3
"""Exit code of a child that printed an error message."""


def convert_excel(path: Path, target: Path) -> None:
    """Write the first sheet of ``path``, which has no header, to ``target`` as Parquet.

    Raises
    ------
    DataError
        If the file cannot be read, or reading it takes too much memory or time.
    """
    limit = BASE_SECONDS + SECONDS_PER_MEGABYTE * path.stat().st_size / 1e6
    try:
        child = subprocess.run(  # noqa: S603 - this program itself, without a shell
            [sys.executable, "-P", "-m", "dartcli.datasets._excel", str(path), str(target)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"cannot read {path}: not finished after {limit:.0f} seconds; the file is corrupt or "
            "malicious."
        ) from error
    if child.returncode == REPORTED:
        raise DataError(child.stdout.decode("utf-8", "replace").strip())
    if child.returncode:
        how = f"signal {-child.returncode}" if child.returncode < 0 else "out of memory"
        raise DataError(
            f"cannot read {path}: reader crashed ({how}); the file is corrupt or malicious."
        )


def _limit_memory() -> None:
    """Limit this process to the memory of the machine, and disable core dumps."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    # address space, of which libraries reserve more than they use
    limits = [total_memory() + (4 << 30)] + [hard] * (hard != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """Convert one file; the child process runs this."""
    import fastexcel

    _limit_memory()
    path, target = map(Path, sys.argv[1:])
    try:
        # from memory: the content, not the suffix, then determines the format
        table = pl.read_excel(
            path.read_bytes(), engine="calamine", has_header=False, infer_schema_length=None
        )
        table.write_parquet(target)
    except OSError as error:
        message = f"cannot read {path}: {os_reason(error)}."
    except (*READ_ERRORS, fastexcel.FastExcelError) as error:
        message = f"cannot read {path}: {first_line(error)}."
    else:
        return 0
    sys.stdout.buffer.write(message.encode())
    return REPORTED


if __name__ == "__main__":
    sys.exit(main())
