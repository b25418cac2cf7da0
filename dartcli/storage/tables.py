"""Tables as Parquet, and tensors as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from dartcli.errors import DataError, first_line
from dartcli.storage.checksums import read_verified

if TYPE_CHECKING:
    from torch import Tensor

READ_ERRORS: Final = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises if a table is missing or corrupt."""


def read_table(path: Path, checksum: str | None) -> pl.DataFrame:
    """Read a Parquet file and verify its SHA-256, opening the file once.

    Raises
    ------
    DataError
        If the file is missing, has another checksum, or is not valid Parquet.
    """
    content = read_verified(path, checksum)
    try:
        return pl.read_parquet(content)
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {first_line(error)}.") from error


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write ``table`` as Parquet; every failure is an OSError."""
    try:
        table.write_parquet(path, compression="zstd")
    except pl.exceptions.PolarsError as error:
        raise OSError(first_line(error)) from error


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write ``tensors`` as safetensors; every failure is an OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        raise OSError(first_line(error)) from error
