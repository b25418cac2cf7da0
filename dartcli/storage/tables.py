"""Write tables and tensors; what reading a table may raise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from dartcli.errors import first_line

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor


READ_ERRORS: Final = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What reading a table raises where the file is broken."""


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
