"""Map the columns of a log to those of this package, checking names and types."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Final

import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, RESERVED, TIME, USER
from dartcli.data.dataset import BIN_PREFIX
from dartcli.data.logs.scan import expand_patterns, scan
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError, UsageError, first_line
from dartcli.storage.tables import READ_ERRORS

LONGEST: Final = 5000
"""Characters of an expression; a longer one could be nested too deeply for the SQL parser."""


def read_log(options: LogOptions, inputs: Sequence[str]) -> pl.LazyFrame:
    """Return the rows of ``inputs`` with the columns named in ``options``.

    Only schemas are read here; values are checked by :func:`dartcli.data.encode.read_rows`.

    Returns
    -------
    LazyFrame
        ``user``, ``item``, then as given ``label``, ``noisy``, ``rating``, ``time``, fields, and
        numbers as ``bin:...``.

    Raises
    ------
    DataError
        If a file or column is missing, or a column has the wrong type.
    UsageError
        If a column is named twice or has a reserved name, or ``noisy_if`` is invalid.
    """
    files = expand_patterns(inputs, options)
    frame = scan(files, options)
    schema = frame.collect_schema()
    where = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    _check_names(options, schema, where)
    ids = {
        name: _id_column(name, schema, where)
        for name in (options.user, options.item, *options.fields)
    }
    _check_whole_numbers(frame, [name for name in ids if schema[name].is_float()], where)
    columns = [ids[options.user].alias(USER), ids[options.item].alias(ITEM)]
    if options.label is not None:
        columns.append(_label_column(options.label, schema, where).alias(LABEL))
    if options.noisy_if is not None:
        columns.append(_parse_expression(options.noisy_if, schema, where).alias(NOISY))
    if options.rating is not None:
        columns.append(_numeric_column(options.rating, schema, where).alias(RATING))
    if options.time is not None:
        columns.append(_time_column(options.time, schema, where).alias(TIME))
    columns += [ids[name] for name in options.fields]
    columns += [
        _numeric_column(name, schema, where).alias(f"{BIN_PREFIX}{name}")
        for name in options.numeric_fields
    ]
    return frame.select(columns)


def read_details(options: LogOptions, names: Sequence[str]) -> pl.LazyFrame:
    """Return ``user``, ``item``, and the columns ``names`` of a log, as they are in its files.

    Raises
    ------
    DataError
        If a file or column is missing.
    UsageError
        If ``noisy_if`` refers to one of the columns, which would reveal the ground truth.
    """
    frame = scan(expand_patterns(options.inputs, options), options)
    schema = frame.collect_schema()
    truth = pl.sql_expr(options.noisy_if).meta.root_names() if options.noisy_if else []
    for name in names:
        check_column(name, list(schema))
        if name in truth:
            raise UsageError(
                f"cannot show column `{name}`: --noisy-if uses it, so it would reveal the ground "
                "truth. Choose another `--show`."
            )
    ids = [
        _id_column(name, schema, "the log").alias(role)
        for role, name in ((USER, options.user), (ITEM, options.item))
    ]
    return frame.select(*ids, *names)


def check_column(name: str, columns: Sequence[str]) -> None:
    """Raise DataError, with a suggestion, if there is no column ``name`` to show."""
    if name not in columns:
        close = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
        hint = f"Did you mean `{close[0]}`?" if close else f"It has {', '.join(columns)}."
        raise DataError(f"no column `{name}` to show. {hint}")


def _check_names(options: LogOptions, schema: pl.Schema, where: str) -> None:
    further = [*options.fields, *options.numeric_fields]
    for name in [*options.column_names().values(), *further]:
        if name not in schema:
            close = difflib.get_close_matches(name, list(schema), n=1, cutoff=0.5)
            hint = f"Did you mean `{close[0]}`?" if close else f"It has {', '.join(schema)}."
            if options.header and not any(re.search("[^0-9. :-]", one) for one in schema):
                hint = "Its first line has only numbers; if it is a row, add `--no-header`."
            raise DataError(f"no column `{name}` in {where}. {hint}")
    names = [options.user, options.item, *further]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"column `{name}` is repeated among user, item, and fields.")
    for name in further:
        if name in RESERVED:
            raise UsageError(f"a field cannot be named `{name}`, which is reserved. Rename it.")


def _type_error(name: str, schema: pl.Schema, where: str, expected: str) -> DataError:
    return DataError(f"{where}: column `{name}` is {schema[name]}; {expected}.")


def _id_column(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    dtype = schema[name]
    if dtype.is_integer() or dtype in (pl.String, pl.Boolean):
        return pl.col(name)
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Date):
        return pl.col(name).cast(pl.String)
    if dtype.is_float():
        # pandas stores integers with a missing value as floating-point numbers
        return pl.col(name).fill_nan(None).cast(pl.Int64)
    raise _type_error(name, schema, where, "ids must be integers or text")


def _check_whole_numbers(frame: pl.LazyFrame, names: Sequence[str], where: str) -> None:
    """Raise DataError if a floating-point column of ids has other values than whole numbers."""
    if not names:
        return
    fractions = [
        pl.col(name).filter(pl.col(name).is_not_nan() & (pl.col(name) % 1 != 0)).first()
        for name in names
    ]
    try:
        found = frame.select(fractions).collect(engine="streaming").row(0, named=True)
    except READ_ERRORS:
        return  # reported where the rows are read
    for name, value in found.items():
        if value is not None:
            raise DataError(
                f"{where}: column `{name}` is Float64 with values such as {value:g}; ids must be "
                "whole numbers or text. For a quantity, use `--numeric-field`."
            )


def _numeric_column(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    if not schema[name].is_numeric():
        raise _type_error(name, schema, where, "it must be a number. For categories, use `--field`")
    return pl.col(name).cast(pl.Float32)


def _label_column(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    if schema[name] != pl.Boolean and not schema[name].is_numeric():
        raise _type_error(name, schema, where, "labels must be 0 and 1, or true and false")
    return pl.col(name)


def _time_column(name: str, schema: pl.Schema, where: str) -> pl.Expr:
    if not (schema[name].is_temporal() or schema[name].is_numeric()):
        raise _type_error(name, schema, where, "times must be dates, timestamps or numbers")
    return pl.col(name)


def _parse_expression(expression: str, schema: pl.Schema, where: str) -> pl.Expr:
    """Parse the SQL of ``--noisy-if``, which may refer only to columns of the log."""
    _check_expression(expression)
    example = 'Write a comparison such as "dwell_seconds < 10".'
    try:
        parsed = pl.sql_expr(expression)
        unknown = sorted(set(parsed.meta.root_names()) - set(schema))
        if not unknown:
            dtype = pl.LazyFrame(schema=schema).select(parsed.alias("x")).collect_schema()["x"]
    except (*READ_ERRORS, TypeError, ValueError) as error:
        raise UsageError(
            f"invalid --noisy-if {expression!r}: {first_line(error)}. {example}"
        ) from error
    if unknown:
        raise UsageError(f"invalid --noisy-if {expression!r}: no column `{unknown[0]}` in {where}.")
    if dtype != pl.Boolean:
        raise UsageError(
            f"invalid --noisy-if {expression!r}: it is {dtype}, not Boolean. {example}"
        )
    return parsed


def _check_expression(expression: str) -> None:
    """Reject SQL that could open files while it is parsed, or is too long to be parsed."""
    if len(expression) > LONGEST:
        raise UsageError(
            f"invalid --noisy-if: {len(expression):,} characters, but at most {LONGEST:,} are "
            "allowed."
        )
    # only without these is it clear where a quoted text or a comment ends
    plain = not re.search(r"[$\\`]|--|/\*|\bE'", expression)
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", expression) if plain else expression
    reaching = r"\bselect\b|\(\s*(?:from|values|table|with)\b|\b(?:read|scan)_\w+\s*\("
    found = re.search(reaching, bare, re.IGNORECASE)
    if found:
        raise UsageError(
            f"invalid --noisy-if {expression!r}: {found[0].strip()!r} is not allowed. Use only "
            'columns of the log, as in "dwell_seconds < 10".'
        )
