"""Reading delimited text in which every cell has to be what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from dartcli.errors import DataError
from dartcli.storage.atomic import os_reason


def cells(path: Path, columns: Sequence[str], separator: str = "\t") -> pl.DataFrame:
    """Return the lines of ``path``, split at ``separator``, as columns of text.

    Raises
    ------
    DataError
        If the file is missing or empty, or a line has another number of columns; the message
        names file and line.
    """
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error
    if not lines:
        raise DataError(f"{path} is empty; download it again.")
    parts = pl.Series("line", lines).str.split(separator)
    widths = parts.list.len()
    wrong = (widths != len(columns)).arg_true()
    if len(wrong):
        row = wrong[0]
        shown = {"\t": "tab-separated ", "::": "'::'-separated "}.get(separator, "")
        raise DataError(
            f"{path}, line {row + 1:,}: found {widths[row]} {shown}columns, expected "
            f"{len(columns)} ({', '.join(columns)})."
        )
    return pl.DataFrame({name: parts.list.get(n) for n, name in enumerate(columns)})


def whole_numbers(path: Path, columns: Sequence[str], separator: str = "\t") -> pl.DataFrame:
    """Return the lines of ``path`` as columns of Int64.

    Raises
    ------
    DataError
        As :func:`cells`; also if a cell is no whole number, naming file, line and column.
    """
    text = cells(path, columns, separator)
    numbers = {name: text[name].cast(pl.Int64, strict=False) for name in columns}
    for position, (name, values) in enumerate(numbers.items()):
        if values.null_count():
            row = values.is_null().arg_true()[0]
            raise DataError(
                f"{path}, line {row + 1:,}, column {position + 1} ({name}): found "
                f"{text[name][row]!r}, expected a whole number."
            )
    return pl.DataFrame(numbers)
