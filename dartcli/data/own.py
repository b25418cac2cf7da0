"""A user's own log: which files, which columns, and what they mean.

A log is described once (``dart preprocess --input ... --name shop``); the description is kept, and
from then on the log is a data set like any other (``dart train shop``).
"""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
from pydantic import Field, ValidationError

from dartcli import catalog, paths
from dartcli.columns import ITEM, LABEL, NOISY, RATING, RESERVED, TIME, USER
from dartcli.data.contained import BROKEN, try_table
from dartcli.data.dataset import BIN_PREFIX, DataOptions, Dataset
from dartcli.errors import DataError, UsageError, first_line
from dartcli.files import read_sealed, reason, write_sealed
from dartcli.settings import explained

SUFFIXES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
NAME: Final = "name"
"""Key of a log's name in its description."""
LONGEST: Final = 5000
"""Characters of an expression: a longer one could be nested too deeply for its parser."""
PACKED: Final = (".gz", ".zst", ".zstd")


class OwnOptions(DataOptions):
    """What the columns of a log mean."""

    inputs: tuple[str, ...] = Field(min_length=1)
    """Files, or patterns such as ``logs/*.parquet``: Parquet, CSV, TSV, also gzip or zstd."""
    user: str
    """Column of the user."""
    item: str
    """Column of the item."""
    label: str | None = None
    """Column of 1 (interaction) and 0 (shown, no interaction). With it no negatives are drawn;
    without it every row is an interaction."""
    rating: str | None = None
    """Column of explicit feedback: kept for measurement, never trained on."""
    noisy_if: str | None = None
    """SQL expression over the columns that marks known false positives, for measurement only."""
    fields: tuple[str, ...] = ()
    """Further categorical columns for the model."""
    numeric_fields: tuple[str, ...] = ()
    """Numeric columns for the model, in quantile bins of the training split."""
    bins: int = Field(10, ge=2, le=1000)
    """Quantile bins of a numeric column."""
    time: str | None = None
    """Column of the time; needed for the splits ``temporal`` and ``leave-last-out``."""
    test_clean: tuple[str, ...] = ()
    """Files with clean labels, of the same columns, that replace the test split."""


def expand(patterns: Sequence[str]) -> list[Path]:
    """Return the files that ``patterns`` name, in order, each once.

    Raises
    ------
    DataError
        If a pattern names no file, or a file is of no known format.
    """
    found: list[Path] = []
    for pattern in patterns:
        text = str(Path(pattern).expanduser())
        # Path.glob takes no absolute pattern
        found_here = glob.glob(text, recursive=True)  # noqa: PTH207
        matches = sorted(found_here) if glob.has_magic(text) else [text]
        files = [Path(match).absolute() for match in matches if Path(match).is_file()]
        if not files:
            raise DataError(f"--input {pattern}: there is no such file; check the path or pattern.")
        found += [file for file in files if file not in found]
    for file in found:
        file_format(file)
    return found


def file_format(path: Path) -> Literal["parquet", "csv", "tsv"]:
    """Return the format that the name of ``path`` promises.

    Raises
    ------
    DataError
        If the suffix is not known.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    known = SUFFIXES.get(suffixes[-1] if suffixes else "")
    if known is None:
        offered = ", ".join(sorted(SUFFIXES))
        raise DataError(
            f"{path}: the format is not known from its name; use one of {offered}, "
            "for CSV and TSV also with .gz or .zst."
        )
    return known  # type: ignore[return-value]


def scan(files: Sequence[Path]) -> pl.LazyFrame:
    """Return the rows of ``files``, in order, all with the columns of the first.

    Raises
    ------
    DataError
        If a file cannot be read, or its columns are not those of the first.
    """
    frames = [scanned(file) for file in files]
    schemas = [_schema(frame, file) for frame, file in zip(frames, files, strict=True)]
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        if set(schema) != set(schemas[0]):
            differing = ", ".join(sorted(set(schema) ^ set(schemas[0])))
            raise DataError(
                f"{file} has other columns than {files[0]} (differing: {differing}); give files of "
                "one kind, or preprocess them as two data sets."
            )
    common = {name: _common_type([schema[name] for schema in schemas]) for name in schemas[0]}
    aligned = [
        frame.select(pl.col(name).cast(dtype) for name, dtype in common.items()) for frame in frames
    ]
    return pl.concat(aligned)


def _common_type(types: list[pl.DataType]) -> pl.DataType:
    return types[0] if all(dtype == types[0] for dtype in types) else pl.String()


def scanned(path: Path) -> pl.LazyFrame:
    """Return the rows of one file, not read yet."""
    kind = file_format(path)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; give a file with a header and rows.")
        if kind == "parquet":
            return pl.scan_parquet(path, glob=False)
        return pl.scan_csv(
            path,
            separator="\t" if kind == "tsv" else ",",
            infer_schema_length=10_000,
            try_parse_dates=True,
            glob=False,
        )
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}.") from error
    except pl.exceptions.PolarsError as error:
        raise DataError(unreadable(path, error)) from error


def _schema(frame: pl.LazyFrame, path: Path) -> pl.Schema:
    try:
        return frame.collect_schema()
    except BROKEN as error:
        raise DataError(unreadable(path, error)) from error


def unreadable(path: object, error: Exception) -> str:
    """Return one sentence for what Polars said of a file, with the row where one can be found."""
    first = first_line(error)
    place = _place(path, first) if isinstance(path, Path) else ""
    return f"cannot read {path}{place}: {first}."


def _place(path: Path, said: str) -> str:
    """Look up the line of a text file that cannot be parsed; empty where it cannot be told."""
    if path.suffix.lower() not in (".csv", ".tsv", ".tab"):
        return ""
    value = re.search(r"could not parse `(.*)` as dtype .* at column '(.*?)'", said)
    if value is None and "more fields than" not in said:
        return ""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.reader(file, delimiter="," if path.suffix.lower() == ".csv" else "\t")
            header = next(rows)
            position = header.index(value[2]) if value else 0
            for row in rows:
                if value is None and len(row) > len(header):
                    return f", line {rows.line_num:,}, which has {len(row)} fields"
                if value and position < len(row) and row[position].strip() == value[1]:
                    return f", line {rows.line_num:,}"
    except (OSError, csv.Error, ValueError, StopIteration):
        return ""
    return ""


def read(_folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return the log in this program's columns: user, item, label, noisy, rating, time, fields."""
    assert isinstance(options, OwnOptions)  # noqa: S101 - the store passes what DATASET declares
    return understood(options, options.inputs)


def understood(options: OwnOptions, inputs: Sequence[str]) -> pl.LazyFrame:
    """Return the rows of ``inputs`` with the columns that ``options`` name, renamed and checked.

    Raises
    ------
    DataError
        If a file or column is missing or of the wrong type, or a value cannot be what it should.
    """
    files = expand(inputs)
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


def _check_columns(options: OwnOptions, schema: pl.Schema, where: str) -> None:
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
    except (*BROKEN, TypeError, ValueError) as error:
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
    except BROKEN as error:
        raise DataError(unreadable(where, error)) from error
    if len(first):
        raise DataError(
            f"{where}, row {first['row'][0] + 1:,}, column {name!r}: found {first[name][0]!r}, "
            f"expected {expected}."
        )


def _files_of(options: DataOptions) -> list[Path]:
    assert isinstance(options, OwnOptions)  # noqa: S101 - the store passes what DATASET declares
    return [*expand(options.inputs), *(expand(options.test_clean) if options.test_clean else [])]


def _read_test(options: DataOptions) -> pl.LazyFrame | None:
    assert isinstance(options, OwnOptions)  # noqa: S101 - the store passes what DATASET declares
    return understood(options, options.test_clean) if options.test_clean else None


def described(options: OwnOptions) -> dict[str, Any]:
    """Return how the log would be understood; see :func:`dartcli.steps.describe`."""
    files = expand(options.inputs)
    frame = understood(options, options.inputs)
    schema = scan(files).collect_schema()
    try:
        head = frame.head(5).collect()
        counts = frame.select(
            pl.len().alias("rows"),
            pl.col(USER).n_unique().alias("users"),
            pl.col(ITEM).n_unique().alias("items"),
            *([pl.col(LABEL).sum().cast(pl.Int64).alias("positives")] if options.label else []),
            *([pl.col(NOISY).sum().alias("noisy")] if options.noisy_if else []),
        ).collect(engine="streaming")
    except BROKEN as error:
        raise DataError(unreadable(files[0], error)) from error
    found = counts.to_dicts()[0]
    return {
        "files": [str(file) for file in files],
        "columns": {name: str(dtype) for name, dtype in schema.items()},
        "rows": [{k: _plain(v) for k, v in row.items()} for row in head.to_dicts()],
        "counts": found,
        "plan": _plan(options, found),
    }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _plan(options: OwnOptions, found: dict[str, Any]) -> list[str]:
    """Say in sentences what would happen."""
    shares = {
        "random": "80 % of the rows, at random, to train on; 10 % to validate, 10 % to test",
        "temporal": f"the first 80 % by {options.time} to train on; the last 10 % to test",
        "leave-last-out": f"each user's last interaction by {options.time} to test, the one before "
        "to validate",
    }
    plan = [f"split: {shares[options.split]}."]
    if options.label:
        plan.append(
            f"{found['positives']:,} rows are interactions, {found['rows'] - found['positives']:,} "
            "were shown without one; no negatives are sampled."
        )
    else:
        plan.append("every row is an interaction; negatives are sampled, uniform over the pairs.")
    if options.noisy_if:
        plan.append(
            f"{found['noisy'] or 0:,} rows are known false positives ({options.noisy_if}): for "
            "measurement only, never trained on."
        )
    else:
        plan.append("no false positives are known: nothing can be said of precision and recall.")
    further = [
        *options.fields,
        *(f"{name} (in {options.bins} bins)" for name in options.numeric_fields),
    ]
    plan.append(f"the model sees user, item{''.join(f', {name}' for name in further)}.")
    plan.append("of rows with the same user and item the last one counts.")
    return plan


def dataset(name: str) -> Dataset:
    """Return the data set of a log called ``name``, whatever its description says."""
    return Dataset(
        name=name,
        title="your own log",
        licence="yours",
        citation="none",
        homepage="none",
        files=(),
        options=OwnOptions,
        read=read,
        local_files=_files_of,
        read_test=_read_test,
        unknown_ids=True,
    )


def _registry(name: str) -> Path:
    return paths.home() / "own" / f"{name}.json"


def check_name(name: str) -> str:
    """Return ``name`` if a log may be called so.

    Raises
    ------
    UsageError
        If it is a data set of the catalogue, or has other characters than a file name may have.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise UsageError(
            f"{name!r} cannot name a data set: use 1 to 64 letters, digits, '_', '-' or '.'."
        )
    try:
        catalog.load("datasets", name)
    except UsageError:
        return name
    raise UsageError(f"{name!r} is a data set of this program; choose another --name.")


def remember(name: str, options: OwnOptions) -> None:
    """Keep the description of the log ``name``: ``dart train NAME`` finds it."""
    document = {NAME: check_name(name), **options.model_dump(mode="json")}
    write_sealed(_registry(name), document)


def recall(name: str) -> OwnOptions | None:
    """Return the description of the log ``name``, or None if there is none."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        return None
    path = _registry(name)
    if not path.is_file():
        return None
    try:
        document = read_sealed(path)
        if document.pop(NAME, None) != name:
            raise DataError(f"{path} describes another log; run dart preprocess --input again.")
        return OwnOptions.model_validate(document)
    except ValidationError as error:
        raise DataError(
            f"{explained(error, OwnOptions, str(path))[:-1]}; run dart preprocess --input again."
        ) from error


def names() -> list[str]:
    """Return the names of the logs that were described."""
    found = (paths.home() / "own").glob("*.json")
    return sorted(path.stem for path in found if path.name != "hashes.json")
