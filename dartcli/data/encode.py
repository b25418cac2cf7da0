"""Raw interactions to dense codes, in two passes and compact memory.

The first pass checks the rows and finds the distinct ids of each field, the second one codes the
rows; neither holds the raw ids of all rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, RESERVED, TIME, USER
from dartcli.data.dataset import BIN_PREFIX
from dartcli.errors import DataError, first_line
from dartcli.storage.tables import READ_ERRORS

CODE = "code"
RAW = "raw"


@dataclass(frozen=True)
class Encoded:
    """Interactions with dense codes, and the way back to the raw ids."""

    interactions: pl.DataFrame
    """``user``, ``item`` and further fields UInt32, ``label`` UInt8, ``noisy`` Boolean, and where
    the source has them ``rating`` Float32, ``time``, and numbers to be binned (``bin:...``,
    Float32); rows in source order."""
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
        ``user``, ``item``; optionally ``label`` (0 or 1; 1 where it is missing), ``noisy`` (true
        or false, null = unknown), ``rating`` (NaN becomes null), ``time``; a column whose name
        begins with ``bin:`` is a number to be binned later; every other column is a field.
    where
        Name of the data for error messages.

    Raises
    ------
    DataError
        If a column is missing or of the wrong type, there is no row, an id is missing, a label is
        neither 0 nor 1, or the source cannot be read.
    """
    try:
        schema = raw.collect_schema()
        fields = _checked_fields(schema, where)
        _check_rows(raw, schema, fields, where)
        ids = {name: _codes(raw, name) for name in fields}
        table = encode_rows(raw, ids)
    except READ_ERRORS as error:
        raise DataError(f"cannot read {where}: {first_line(error)}.") from error
    last, dropped = _last_of_each_pair(table, len(ids[ITEM]))
    if last is not None:
        table, ids = _compacted(table[last], ids)
    return Encoded(table, ids, dropped)


def encode_rows(raw: pl.LazyFrame, ids: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of ``raw`` with the codes of ``ids``; an id that has none becomes null."""
    schema = raw.collect_schema()
    label = pl.col(LABEL).cast(pl.UInt8) if LABEL in schema else pl.lit(1, pl.UInt8)
    noisy = pl.col(NOISY).cast(pl.Boolean) if NOISY in schema else pl.lit(None, pl.Boolean)
    columns = [_code_of(name, schema[name], table[RAW]) for name, table in ids.items()]
    columns.append(label.alias(LABEL))
    # what was not clicked is no false positive, whatever the mark says
    columns.append(pl.when(label == 0).then(statement=False).otherwise(noisy).alias(NOISY))
    columns += [pl.col(RATING).cast(pl.Float32).fill_nan(None)] * (RATING in schema)
    columns += [pl.col(TIME)] * (TIME in schema)
    columns += [pl.col(name).cast(pl.Float32) for name in schema if _is_binned(name)]
    return raw.select(columns).collect(engine="streaming")


def _is_binned(name: str) -> bool:
    return name.startswith(BIN_PREFIX)


def _checked_fields(schema: pl.Schema, where: str) -> list[str]:
    """Return the names of the fields; refuse columns that cannot be what their name says."""
    missing = sorted({USER, ITEM} - set(schema))
    if missing:
        raise DataError(f"{where} has no column {' and no column '.join(missing)}.")
    fields = [USER, ITEM, *(n for n in schema if n not in RESERVED and not _is_binned(n))]
    for name in fields:
        if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|\0'):
            raise DataError(f"{where}: the column {name!r} cannot be a field; rename it.")
        if schema[name].is_nested() or schema[name] in (pl.Object, pl.Binary):
            raise DataError(
                f"{where}: the column {name} holds {schema[name]}; a field must hold text or "
                "numbers."
            )
    for name, expected in ((LABEL, "0 or 1"), (NOISY, "0 or 1"), (RATING, "numbers")):
        kind = schema.get(name, pl.Null())
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise DataError(f"{where}: the column {name} holds {kind}; it must hold {expected}.")
    return fields


def _check_rows(raw: pl.LazyFrame, schema: pl.Schema, fields: list[str], where: str) -> None:
    """Refuse missing ids, and labels and marks other than 0 and 1, naming the first such row."""
    absent = {name: _absent(name, schema) for name in fields}
    if LABEL in schema:
        absent[LABEL] = _absent(LABEL, schema)
    wrong = {
        name: ~pl.col(name).cast(pl.Float64).is_in([0.0, 1.0])
        for name in (LABEL, NOISY)
        if name in schema and schema[name] not in (pl.Boolean, pl.Null)
    }
    counts = raw.select(
        pl.len().alias("rows"),
        *(mask.sum().alias(f"absent {name}") for name, mask in absent.items()),
        *(mask.sum().alias(f"wrong {name}") for name, mask in wrong.items()),
    ).collect(engine="streaming")
    if counts["rows"][0] == 0:
        raise DataError(f"{where} holds no interaction; give a file with at least 10 rows.")
    for name, mask in absent.items():
        if number := counts[f"absent {name}"][0]:
            row, _ = _first(raw, name, mask)
            raise DataError(
                f"{where}: the column {name} is empty in row {row:,} (and {number:,} rows in all); "
                "every interaction needs one, so fill or drop those rows."
            )
    for name, mask in wrong.items():
        if counts[f"wrong {name}"][0]:
            row, value = _first(raw, name, mask)
            raise DataError(
                f"{where}: the column {name} is {value} in row {row:,}; it must be 0 or 1."
            )


def _absent(name: str, schema: pl.Schema) -> pl.Expr:
    absent = pl.col(name).is_null()
    return absent | pl.col(name).is_nan() if schema[name].is_float() else absent


def _first(raw: pl.LazyFrame, name: str, mask: pl.Expr) -> tuple[int, object]:
    """Return number (from 1) and value of the first row where ``mask`` is true."""
    rows = raw.select(pl.col(name), mask.alias("found")).with_row_index("row")
    first = rows.filter("found").sort("row").head(1).collect()
    return first["row"][0] + 1, first[name][0]


def _codes(raw: pl.LazyFrame, name: str) -> pl.DataFrame:
    column = pl.col(name)
    if raw.collect_schema()[name] in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    distinct = raw.select(column.unique()).collect(engine="streaming")[name].sort()
    return _ids(distinct)


def _ids(raw: pl.Series) -> pl.DataFrame:
    codes = pl.arange(0, len(raw), dtype=pl.UInt32, eager=True).alias(CODE)
    return pl.DataFrame([codes, raw.alias(RAW)])


def _code_of(name: str, dtype: pl.DataType, distinct: pl.Series) -> pl.Expr:
    """Return the expression that turns raw ids into codes, row by row."""
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        # an enumeration of the sorted ids is stored as their positions: exactly the codes
        kind = pl.Enum(distinct)
        text = pl.col(name).cast(pl.String)
        return text.cast(kind, strict=False).to_physical().cast(pl.UInt32)
    known = distinct.to_physical().to_numpy()

    def look_up(column: pl.Series) -> pl.Series:
        values = column.to_physical().to_numpy()
        if len(known) == 0:
            return pl.Series(name, [None] * len(column), pl.UInt32)
        position = np.searchsorted(known, values).clip(max=len(known) - 1)
        codes = pl.Series(name, position.astype(np.uint32))
        found = known[position] == values
        if not found.all():
            codes = codes.set(pl.Series(~found), None)
        return codes

    return pl.col(name).map_batches(look_up, return_dtype=pl.UInt32, is_elementwise=True)


def _last_of_each_pair(table: pl.DataFrame, items: int) -> tuple[pl.Series | None, int]:
    """Return the positions of each pair's last row (None: every row), and how many rows go."""
    pairs = table[USER].to_numpy().astype(np.int64) * items + table[ITEM].to_numpy()
    in_order = np.sort(pairs)
    dropped = int((in_order[1:] == in_order[:-1]).sum())
    if dropped == 0:
        return None, 0
    del in_order
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    is_last = np.append(ordered[1:] != ordered[:-1], [True])
    return pl.Series(np.sort(order[is_last])), dropped


def _compacted(
    table: pl.DataFrame, ids: Mapping[str, pl.DataFrame]
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Take out the codes that no row has any more."""
    kept: dict[str, pl.DataFrame] = {}
    for name, known in ids.items():
        used = table[name].unique().sort()
        if len(used) < len(known):
            position = np.searchsorted(used.to_numpy(), table[name].to_numpy())
            table = table.with_columns(pl.Series(name, position.astype(np.uint32)))
        kept[name] = _ids(known[RAW][used])
    return table, kept
