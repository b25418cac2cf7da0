"""Raw interactions to dense codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from dartcli.columns import ITEM, LABEL, NOISY, RATING, RESERVED, TIME, USER
from dartcli.errors import DataError

CODE = "code"
RAW = "raw"


@dataclass(frozen=True)
class Encoded:
    """Interactions with dense codes, and the way back to the raw ids."""

    interactions: pl.DataFrame
    """``user``, ``item`` and further fields UInt32, ``label`` UInt8, ``noisy`` Boolean, and where
    the source has them ``rating`` Float32 and ``time``; rows in source order."""
    ids: Mapping[str, pl.DataFrame]
    """Field -> table of ``code`` and ``raw``, in the order of the codes."""
    duplicates_dropped: int
    """Interactions that a later one of the same user and item replaced."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields: user, item, then any further ones."""
        return tuple(self.ids)


def encode(raw: pl.LazyFrame, where: str) -> Encoded:
    """Give every id a dense code, in the order of the raw ids; keep the last of duplicates.

    Parameters
    ----------
    raw
        ``user``, ``item``; optionally ``label`` (1 where it is missing), ``noisy``, ``rating``,
        ``time``; every other column is a categorical field.
    where
        Name of the data for error messages.

    Raises
    ------
    DataError
        If a column is missing, there is no row, or an id is missing.
    """
    table = raw.collect()
    missing = {USER, ITEM} - set(table.columns)
    if missing:
        raise DataError(f"{where} has no column {' and no column '.join(sorted(missing))}.")
    if table.is_empty():
        raise DataError(f"{where} holds no interaction; give a file with at least 10 rows.")
    extra = [name for name in table.columns if name not in RESERVED]
    fields = [USER, ITEM, *extra]
    for name in fields:
        _refuse_missing(table, name, where)
    kept = table.unique(subset=[USER, ITEM], keep="last", maintain_order=True)
    ids = {name: _codes(kept[name]) for name in fields}
    coded = [
        kept[name].replace_strict(ids[name][RAW], ids[name][CODE], return_dtype=pl.UInt32)
        for name in fields
    ]
    others = [
        _column(kept, LABEL, pl.UInt8, 1),
        _column(kept, NOISY, pl.Boolean, None),
        *(kept[RATING].cast(pl.Float32) for _ in range(RATING in kept.columns)),
        *(kept[TIME] for _ in range(TIME in kept.columns)),
    ]
    return Encoded(pl.DataFrame([*coded, *others]), ids, len(table) - len(kept))


def _refuse_missing(table: pl.DataFrame, name: str, where: str) -> None:
    column = table[name]
    absent = column.is_null()
    if column.dtype.is_float():
        absent = absent | column.is_nan()
    if absent.any():
        row = absent.arg_true()[0] + 1
        raise DataError(
            f"{where}: the column {name} is empty in row {row:,} (and {int(absent.sum()):,} rows "
            "in all); every interaction needs one, so fill or drop those rows."
        )


def _codes(column: pl.Series) -> pl.DataFrame:
    raw = column.unique().sort().alias(RAW)
    return pl.DataFrame([pl.arange(0, len(raw), dtype=pl.UInt32, eager=True).alias(CODE), raw])


def _column(
    table: pl.DataFrame, name: str, dtype: type[pl.DataType], default: int | None
) -> pl.Series:
    if name in table.columns:
        return table[name].cast(dtype)
    return pl.Series(name, [default], dtype).new_from_index(0, len(table))
