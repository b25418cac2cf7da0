"""Replace raw ids with dense codes, reading the source once.

Text ids are collected into Polars categories while the source is read, so that the raw ids of all
rows are never in memory at once. The order in which categories are numbered depends on threads; the
codes do not, because they follow the sorted raw ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, RESERVED, TIME, USER
from dartcli.data.dataset import BIN_PREFIX
from dartcli.errors import DataError

CODE: Final = "code"
RAW: Final = "raw"
NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})
SHOWN: Final = 3
"""Rows that an error about invalid values names."""
INVALID: Final = 2
"""Stands for a flag that is neither 0 nor 1 until it is reported."""


class InvalidRowsError(DataError):
    """Rows with an invalid value; their numbers can be replaced by better places."""

    def __init__(self, rows: Sequence[int], explain: Callable[[Sequence[str]], str]) -> None:
        super().__init__(explain([f"row {row + 1:,}" for row in rows]))
        self.rows = rows
        """The first of the rows, counted from 0."""
        self.explain = explain
        """Takes a place per row, such as ``row 7 of log.csv``, and returns the message."""


@dataclass(frozen=True)
class Encoded:
    """Interactions with dense codes, and the raw id of each code."""

    interactions: pl.DataFrame
    """``user``, ``item`` and further fields UInt32, ``label`` UInt8, ``noisy`` Boolean, and if the
    source has them ``rating`` Float32, ``time``, and numbers to be binned (``bin:...``, Float32);
    rows in source order."""
    ids: Mapping[str, pl.DataFrame]
    """Field -> table of ``code`` and ``raw``, ordered by both."""
    duplicates_dropped: int
    """Interactions replaced by a later one of the same user and item."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields: user, item, then any others."""
        return tuple(self.ids)


def encode(raw: pl.LazyFrame, where: str, names: Mapping[str, str] = NO_NAMES) -> Encoded:
    """Assign dense codes in the order of the raw ids; keep the last of duplicates.

    Parameters
    ----------
    raw
        ``user``, ``item``; optionally ``label`` (0 or 1; 1 if the column is missing), ``noisy``
        (true or false, null = unknown), ``rating``, ``time``; columns named ``bin:...`` are numbers
        to be binned later; every other column is a field.
    where
        Name of the data for error messages.
    names
        Names that columns have in the source, if different, for error messages.

    Raises
    ------
    DataError
        If a column is missing or has the wrong type, there are no rows, an id is missing, or a
        label, mark or rating is invalid.
    READ_ERRORS
        If the source cannot be read.
    """
    table = read_rows(raw, where, names)
    fields = _field_names(table.schema)
    ids = {}
    for name in fields:
        ids[name] = _sort_distinct(table[name])
        table = table.with_columns(_find_codes(table[name], ids[name]))
    table, dropped = _drop_replaced(table, len(ids[ITEM]))
    if dropped:
        table, ids = _drop_unused_codes(table, ids)
    return Encoded(table, {name: _make_id_table(known) for name, known in ids.items()}, dropped)


def encode_rows(
    raw: pl.LazyFrame,
    ids: Mapping[str, pl.DataFrame],
    where: str,
    names: Mapping[str, str] = NO_NAMES,
) -> pl.DataFrame:
    """Return the rows of ``raw`` with the codes in ``ids``; an id without a code becomes null.

    Parameters and errors as for :func:`encode`; ids may be missing, and duplicates are kept.
    """
    table = read_rows(raw, where, names, ids_required=False)
    for name, known in ids.items():
        column, expected = table[name], known.schema[RAW]
        is_text = isinstance(column.dtype, pl.Categorical)
        if is_text != (expected == pl.String):
            found = pl.String() if is_text else column.dtype
            raise DataError(
                f"{where}: column `{names.get(name, name)}` is {found} in the test table, but "
                f"{expected} in the training data. Give both the same type."
            )
        table = table.with_columns(_find_codes(column, known[RAW]))
    return table


def read_rows(
    raw: pl.LazyFrame,
    where: str,
    names: Mapping[str, str] = NO_NAMES,
    *,
    ids_required: bool = True,
) -> pl.DataFrame:
    """Read ``raw`` in one pass and validate its rows; text ids become categories.

    Parameters and errors as for :func:`encode`.

    Returns
    -------
    DataFrame
        The columns of :attr:`Encoded.interactions`, with raw ids.
    """
    schema = raw.collect_schema()
    _check_schema(schema, where, names)
    columns = [_id_expression(name, schema[name]) for name in _field_names(schema)]
    columns.append(_flag(LABEL) if LABEL in schema else pl.lit(1, pl.UInt8).alias(LABEL))
    columns.append(_flag(NOISY) if NOISY in schema else pl.lit(None, pl.UInt8).alias(NOISY))
    columns += [pl.col(RATING).cast(pl.Float32)] * (RATING in schema)
    columns += [pl.col(TIME)] * (TIME in schema)
    columns += [pl.col(name).cast(pl.Float32) for name in schema if _is_binned(name)]
    table = raw.select(columns).collect(engine="streaming")
    if table.is_empty():
        raise DataError(f"{where} has no interactions. Give a file with at least 10 rows.")
    required = _field_names(schema) if ids_required else []
    _check_present(table, [*required, LABEL], where, names)
    _check_values(table, raw, where, names)
    # a row without an interaction is never a false positive, whatever its mark
    is_noisy = pl.when(pl.col(LABEL) == 0).then(statement=False)
    return table.with_columns(is_noisy.otherwise(pl.col(NOISY).cast(pl.Boolean)).alias(NOISY))


def number_pairs(table: pl.DataFrame, items: int) -> pl.Series:
    """Return Int64[N]: one integer per pair, ``user * items + item``; null if a code is."""
    return table.select(pl.col(USER).cast(pl.Int64) * items + pl.col(ITEM)).to_series()


def _field_names(columns: Mapping[str, pl.DataType]) -> list[str]:
    return [
        USER,
        ITEM,
        *(name for name in columns if name not in RESERVED and not _is_binned(name)),
    ]


def _is_binned(name: str) -> bool:
    return name.startswith(BIN_PREFIX)


def _check_schema(schema: pl.Schema, where: str, names: Mapping[str, str]) -> None:
    """Raise DataError if a column is missing, or its name or type cannot be used."""
    missing = sorted({USER, ITEM} - set(schema))
    if missing:
        raise DataError(f"no column `{missing[0]}` in {where}.")
    for name in _field_names(schema):
        if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\0'):
            raise DataError(f"{where}: column `{name}` cannot be a field. Rename it.")
        if schema[name].is_nested() or schema[name] in (pl.Object, pl.Binary):
            raise DataError(
                f"{where}: column `{names.get(name, name)}` is {schema[name]}; ids must be "
                "integers or text."
            )
    for name, expected in ((LABEL, "0 or 1"), (NOISY, "0 or 1"), (RATING, "numbers")):
        kind = schema.get(name, pl.Null())
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise DataError(
                f"{where}: column `{names.get(name, name)}` is {kind}; values must be {expected}."
            )


def _id_expression(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        # categories of its own: what other tables hold is not carried along
        return pl.col(name).cast(pl.String).cast(pl.Categorical(pl.Categories.random()))
    return pl.col(name)


def _flag(name: str) -> pl.Expr:
    """Return 0, 1 or null as UInt8, and ``INVALID`` for every other value."""
    value = pl.col(name).cast(pl.Float64)
    flag = pl.when(value.is_in([0.0, 1.0])).then(value).when(value.is_not_null()).then(INVALID)
    return flag.cast(pl.UInt8).alias(name)


def _check_present(
    table: pl.DataFrame, required: list[str], where: str, names: Mapping[str, str]
) -> None:
    """Raise DataError if an id or label is missing."""
    for name in required:
        column = table[name]
        absent = column.is_null()
        if column.dtype.is_float():
            absent |= column.is_nan().fill_null(value=False)
        if count := absent.sum():
            told = f"no value (missing in {count:,} rows). Fill in or drop these rows"
            raise _make_error(where, names.get(name, name), absent, told, [])


def _check_values(
    table: pl.DataFrame, raw: pl.LazyFrame, where: str, names: Mapping[str, str]
) -> None:
    """Raise DataError if a label or mark is neither 0 nor 1, or a rating is not finite."""
    invalid = {name: table[name] == INVALID for name in (LABEL, NOISY)}
    if RATING in table.columns:
        invalid[RATING] = ~table[RATING].is_finite()
    for name, mask in invalid.items():
        rows = mask.arg_true()[:SHOWN]
        if len(rows):
            values = [raw.select(name).slice(row, 1).collect().item() for row in rows]
            expected = "a finite number or an empty cell" if name == RATING else "0 or 1"
            told = f"found {values[0]}, expected {expected}"
            raise _make_error(where, names.get(name, name), mask, told, values)


def _make_error(
    where: str, column: str, mask: pl.Series, told: str, values: Sequence[object]
) -> InvalidRowsError:
    """Return an error about the rows in ``mask``, with the first few of them."""
    rows = mask.arg_true()[:SHOWN].to_list()
    others = mask.sum() - 1

    def explain(places: Sequence[str]) -> str:
        found = values or [None] * len(places)
        also = [
            place if value is None else f"{place} ({value})"
            for place, value in zip(places[1:], found[1:], strict=True)
        ]
        more = ""
        if also:
            ending = ", ..." if others > len(also) else "."
            noun = "row is" if others == 1 else "rows are"
            more = f" {others:,} more {noun} invalid: {', '.join(also)}{ending}"
        return f"{where}, {places[0]}, column `{column}`: {told}.{more}"

    return InvalidRowsError(rows, explain)


def _sort_distinct(column: pl.Series) -> pl.Series:
    """Return the distinct raw ids of ``column``, sorted."""
    distinct = column.unique()
    if isinstance(distinct.dtype, pl.Categorical):
        distinct = distinct.cast(pl.String)
    return distinct.sort()


def _find_codes(column: pl.Series, known: pl.Series) -> pl.Series:
    """Return the position of each raw id in the sorted ``known``, or null if it is not there."""
    if isinstance(column.dtype, pl.Categorical):
        present = column.unique().drop_nulls()
        # an enumeration of the sorted ids is stored as their positions
        code = (
            present.cast(pl.String).cast(pl.Enum(known), strict=False).to_physical().cast(pl.UInt32)
        )
        category = present.to_physical()
        size = int(category.to_numpy().max(initial=0)) + 1
        code_of = pl.Series(np.zeros(size, dtype=np.uint32)).scatter(category, code)
        return code_of.gather(column.to_physical()).alias(column.name)
    if known.is_empty():
        return pl.repeat(None, len(column), dtype=pl.UInt32, eager=True).alias(column.name)
    sorted_ids = known.to_physical().to_numpy()
    values = column.fill_null(known[0]).to_physical().to_numpy()
    position = np.searchsorted(sorted_ids, values).clip(max=len(known) - 1)
    codes = pl.Series(column.name, position.astype(np.uint32))
    absent = pl.Series(sorted_ids[position] != values) | column.is_null()
    return codes.set(absent, None) if absent.any() else codes


def _drop_replaced(table: pl.DataFrame, items: int) -> tuple[pl.DataFrame, int]:
    """Drop every row that a later one of the same user and item replaces; count them."""
    pairs = number_pairs(table, items)
    in_order = pairs.sort()
    repeated = in_order.filter(in_order == in_order.shift()).unique()
    del in_order
    if repeated.is_empty():
        return table, 0
    # few rows have a repeated pair: only these are looked at closely
    candidates = pairs.is_in(repeated.implode()).arg_true()
    replaced = candidates.filter(~pairs.gather(candidates).is_last_distinct())
    del pairs
    keep = np.ones(len(table), dtype=bool)
    keep[replaced.to_numpy()] = False
    return table.filter(pl.Series(keep)), len(replaced)


def _drop_unused_codes(
    table: pl.DataFrame, ids: Mapping[str, pl.Series]
) -> tuple[pl.DataFrame, dict[str, pl.Series]]:
    """Renumber each field so that its codes are dense again."""
    kept: dict[str, pl.Series] = {}
    for name, known in ids.items():
        codes = table[name].to_numpy()
        used = np.zeros(len(known), dtype=bool)
        used[codes] = True
        if not used.all():
            dense = (np.cumsum(used) - 1).astype(np.uint32)
            table = table.with_columns(pl.Series(name, dense[codes]))
        kept[name] = known.filter(pl.Series(used))
    return table, kept


def _make_id_table(known: pl.Series) -> pl.DataFrame:
    codes = pl.arange(0, len(known), dtype=pl.UInt32, eager=True).alias(CODE)
    return pl.DataFrame([codes, known.alias(RAW)])
