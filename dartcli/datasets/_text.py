"""Read delimited text without a header, checking every cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from dartcli.errors import DataError
from dartcli.storage.atomic import os_reason


def read_lines(path: Path) -> list[str]:
    """Return the lines of a Latin-1 file; DataError if it cannot be read."""
    try:
        return path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error


def read_cells(path: Path, columns: Sequence[str], separator: str = "\t") -> pl.DataFrame:
    """Return the lines of ``path``, split at ``separator``, as text columns.

    Raises
    ------
    DataError
        If the file is missing or empty, or a line has another number of columns; the message
        names file and line.
    """
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} is empty. Download it again.")
    parts = pl.Series("line", lines).str.split(separator)
    widths = parts.list.len()
    wrong = (widths != len(columns)).arg_true()
    if len(wrong):
        row = wrong[0]
        raise DataError(
            f"{path}, line {row + 1:,}: found {widths[row]} columns separated by {separator!r}, "
            f"expected {len(columns)} ({', '.join(columns)})."
        )
    return pl.DataFrame({name: parts.list.get(n) for n, name in enumerate(columns)})


def whole_numbers(path: Path, columns: Sequence[str], separator: str = "\t") -> pl.DataFrame:
    """Return the lines of ``path``, split at ``separator``, as Int64 columns.

    Raises
    ------
    DataError
        As for :func:`read_cells`, and if a cell is not an integer; the message names file, line
        and column.
    """
    text = read_cells(path, columns, separator)
    numbers = {name: text[name].cast(pl.Int64, strict=False) for name in columns}
    for position, (name, values) in enumerate(numbers.items()):
        if values.null_count():
            row = values.is_null().arg_true()[0]
            raise DataError(
                f"{path}, line {row + 1:,}, column {position + 1} ({name}): found "
                f"{text[name][row]!r}, expected an integer."
            )
    return pl.DataFrame(numbers)
