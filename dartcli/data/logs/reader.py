"""Read a log into the columns of this package, and check it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, RESERVED, TIME, USER
from dartcli.data.dataset import BIN_PREFIX
from dartcli.data.logs.contained import try_table
from dartcli.data.logs.scan import expand_patterns, explain_unreadable, file_format, scan
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError, UsageError, first_line
from dartcli.storage.tables import READ_ERRORS

LONGEST: Final = 5000
"""Characters of an expression: a longer one could be nested too deeply for its parser."""


def read_log(options: LogOptions, inputs: Sequence[str]) -> pl.LazyFrame:
    """Return the rows of ``inputs`` with the columns that ``options`` name, renamed and checked.

    Raises
    ------
    DataError
        If a file or column is missing or of the wrong type, or a value cannot be what it should.
    """
    files = expand_patterns(inputs)
    single = (options.user, options.item, options.label, options.rating, options.time)
    named = dict.fromkeys((*single, *options.fields, *options.numeric_fields))
    for file in files:
        try_table(file, file_format(file), [name for name in named if name])
    frame = scan(files)
    schema = frame.collect_schema()
    where = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    _check_columns(options, schema, where)
    columns = [
        _identifier(options.user, schema, where).alias(USER),
        _identifier(options.item, schema, where).alias(ITEM),
        *(_label(options.label, frame, schema, where) for _ in range(options.label is not None)),
        *(_noisy(options.noisy_if, schema, where) for _ in range(options.noisy_if is not None)),
        *(_rating(options.rating, frame, schema, where) for _ in range(options.rating is not None)),
        *(_time(options.time, schema, where) for _ in range(options.time is not None)),
        *(_identifier(name, schema, where).alias(name) for name in options.fields),
        *(
            _number(name, schema, where).alias(f"{BIN_PREFIX}{name}")
            for name in options.numeric_fields
        ),
    ]
    return frame.select(columns)


def _check_columns(options: LogOptions, schema: pl.Schema, where: str) -> None:
    import difflib

    single = (options.user, options.item, options.label, options.rating, options.time)
    wanted = [name for name in single if name is not None]
    wanted += [*options.fields, *options.numeric_fields]
    for name in wanted:
        if name not in schema:
            close = difflib.get_close_matches(name, list(schema), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(schema)}."
            raise DataError(f"{where} has no column {name!r}; {hint}")
    names = [options.user, options.item, *options.fields, *options.numeric_fields]
    if len(set(names)) != len(names):
        raise UsageError(f"a column is named twice among user, item and fields: {names}.")
    taken = set(RESERVED) & {*options.fields, *options.numeric_fields}
    if taken:
        raise UsageError(
            f"the field {sorted(taken)[0]!r} has a name that this program uses itself; "
            "rename the column."
        )


def _identifier(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    dtype = schema[name]
    if dtype.is_integer() or dtype in (pl.String, pl.Boolean):
        return pl.col(name)
    if dtype in (pl.Categorical, pl.Enum) or dtype == pl.Date:
        return pl.col(name).cast(pl.String)
    raise DataError(
        f"{where}: the column {name!r} is {dtype}, which identifies nothing; expected integers or "
        "text (numbers with fractions go to --numeric-field)."
    )


def _number(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    dtype = schema[name]
    if not dtype.is_numeric():
        raise DataError(
            f"{where}: the column {name!r} is {dtype}, not a number; use --field for categories."
        )
    return pl.col(name).cast(pl.Float32)


def _label(name: str | None, frame: pl.LazyFrame, schema: pl.Schema, where: str) -> pl.Expr:
    assert name is not None  # noqa: S101 - the caller looked
    dtype = schema[name]
    if dtype != pl.Boolean and not dtype.is_numeric():
        raise DataError(
            f"{where}: the label column {name!r} is {dtype}; expected 0 and 1, or true and false."
        )
    value = pl.col(name).cast(pl.Float64)
    _refuse(frame, name, ~value.is_in([0.0, 1.0]) | value.is_null(), "0 or 1", where)
    return value.cast(pl.UInt8).alias(LABEL)


def _rating(name: str | None, frame: pl.LazyFrame, schema: pl.Schema, where: str) -> pl.Expr:
    assert name is not None  # noqa: S101 - the caller looked
    if not schema[name].is_numeric():
        raise DataError(f"{where}: the rating column {name!r} is {schema[name]}, not a number.")
    value = pl.col(name).cast(pl.Float32)
    wrong = value.is_nan() | value.is_infinite()
    _refuse(frame, name, wrong, "a number (leave it empty where there is no rating)", where)
    return value.alias(RATING)


def _time(name: str | None, schema: pl.Schema, where: str) -> pl.Expr:
    assert name is not None  # noqa: S101 - the caller looked
    dtype = schema[name]
    if not (dtype.is_temporal() or dtype.is_numeric()):
        raise DataError(
            f"{where}: the time column {name!r} is {dtype}; expected a date, a time or a number."
        )
    return pl.col(name).alias(TIME)


def _noisy(expression: str | None, schema: pl.Schema, where: str) -> pl.Expr:
    """Parse the SQL expression; nothing but columns of the log may occur in it."""
    assert expression is not None  # noqa: S101 - the caller looked
    _check_expression(expression)
    try:
        parsed = pl.sql_expr(expression)
        roots = set(parsed.meta.root_names())
        unknown = sorted(roots - set(schema))
        if not unknown:
            dtype = pl.LazyFrame(schema=schema).select(parsed.alias("x")).collect_schema()["x"]
    except (*READ_ERRORS, TypeError, ValueError) as error:
        raise UsageError(
            f"--noisy-if {expression!r} is no SQL expression over the columns "
            f"({first_line(error)}); "
            'write it as "dwell_seconds < 10".'
        ) from error
    if unknown:
        raise UsageError(f"--noisy-if {expression!r}: {where} has no column {unknown[0]!r}.")
    if dtype != pl.Boolean:
        raise UsageError(
            f"--noisy-if {expression!r} gives {dtype}, not true or false; "
            'write a comparison such as "dwell_seconds < 10".'
        )
    return parsed.alias(NOISY)


def _check_expression(expression: str) -> None:
    """Refuse what could reach for files while it is parsed, and what is too long to be parsed."""
    if len(expression) > LONGEST:
        raise UsageError(
            f"--noisy-if has {len(expression):,} characters; at most {LONGEST:,} are read."
        )
    # where a text or a remark may end is only clear without these
    plain = not re.search(r"[$\\`]|--|/\*|\bE'", expression)
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", expression) if plain else expression
    reaching = r"\bselect\b|\(\s*(?:from|values|table|with)\b|\b(?:read|scan)_\w+\s*\("
    found = re.search(reaching, bare, re.IGNORECASE)
    if found:
        raise UsageError(
            f"--noisy-if {expression!r}: {found[0].strip()!r} is not read, for nothing but columns "
            'of the log may occur in it; write a comparison such as "dwell_seconds < 10".'
        )


def _refuse(frame: pl.LazyFrame, name: str, wrong: pl.Expr, expected: str, where: str) -> None:
    """Raise DataError that names the first row in which ``wrong`` is true."""
    try:
        first = (
            frame.select(pl.col(name), wrong.fill_null(value=False).alias("wrong"))
            .with_row_index("row")
            .filter(pl.col("wrong"))
            .sort("row")
            .head(1)
            .collect()
        )
    except READ_ERRORS as error:
        raise DataError(explain_unreadable(where, error)) from error
    if len(first):
        raise DataError(
            f"{where}, row {first['row'][0] + 1:,}, column {name!r}: found {first[name][0]!r}, "
            f"expected {expected}."
        )
