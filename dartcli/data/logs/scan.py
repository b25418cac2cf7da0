"""Find log files and open them by format."""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import polars as pl

from dartcli.errors import DataError, first_line
from dartcli.storage.atomic import os_reason
from dartcli.storage.tables import READ_ERRORS

Format = Literal["parquet", "csv", "tsv"]

SUFFIXES: Final[dict[str, Format]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
COMPRESSED: Final = (".gz", ".zst", ".zstd")


def expand_patterns(patterns: Sequence[str]) -> list[Path]:
    """Return the files that match ``patterns``, in order, without duplicates.

    Raises
    ------
    DataError
        If a pattern matches no file, or the format of a file is unknown.
    """
    found: list[Path] = []
    for pattern in patterns:
        text = str(Path(pattern).expanduser())
        # Path.glob takes no absolute pattern
        matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else [text]  # noqa: PTH207
        files = [Path(match).absolute() for match in matches if Path(match).is_file()]
        if not files:
            raise DataError(f"no file matches {pattern}. Check the path or pattern.")
        found += [file for file in files if file not in found]
    for file in found:
        file_format(file)
    return found


def file_format(path: Path) -> Format:
    """Return the format that the suffix of ``path`` stands for.

    Raises
    ------
    DataError
        If the suffix is unknown.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    known = SUFFIXES.get(suffixes[-1] if suffixes else "")
    if known is None:
        raise DataError(
            f"cannot tell the format of {path} from its name. Use one of "
            f"{', '.join(sorted(SUFFIXES))}; CSV and TSV may also end in .gz or .zst."
        )
    return known


def scan(files: Sequence[Path]) -> pl.LazyFrame:
    """Return the rows of ``files`` in order, with the columns of the first.

    Raises
    ------
    DataError
        If a file cannot be read, or does not have the columns of the first.
    """
    frames = [scan_file(file) for file in files]
    schemas = [_read_schema(frame, file) for frame, file in zip(frames, files, strict=True)]
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        if set(schema) != set(schemas[0]):
            differing = ", ".join(sorted(set(schema) ^ set(schemas[0])))
            raise DataError(
                f"the columns of {file} and {files[0]} differ: {differing}. Give files with the "
                "same columns, or prepare them as two datasets."
            )
    common = {name: _common_type([schema[name] for schema in schemas]) for name in schemas[0]}
    aligned = [
        frame.select(pl.col(name).cast(dtype) for name, dtype in common.items()) for frame in frames
    ]
    return pl.concat(aligned)


def _common_type(types: list[pl.DataType]) -> pl.DataType:
    return types[0] if all(dtype == types[0] for dtype in types) else pl.String()


def scan_file(path: Path) -> pl.LazyFrame:
    """Return the rows of one file as a lazy frame."""
    kind = file_format(path)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty. Give a file with a header and rows.")
        if kind == "parquet":
            return pl.scan_parquet(path, glob=False)
        frame = pl.scan_csv(
            path,
            separator="\t" if kind == "tsv" else ",",
            infer_schema_length=10_000,
            try_parse_dates=True,
            glob=False,
        )
        # only if all columns are read does Polars notice a row with too many fields
        return frame.map_batches(lambda rows: rows, projection_pushdown=False, streamable=True)
    except READ_ERRORS as error:
        raise DataError(_explain(path, error)) from error


def _read_schema(frame: pl.LazyFrame, path: Path) -> pl.Schema:
    try:
        return frame.collect_schema()
    except READ_ERRORS as error:
        raise DataError(_explain(path, error)) from error


def explain_unreadable(where: str, files: Sequence[Path], error: BaseException) -> str:
    """Return an error message that names the first of ``files`` that cannot be read.

    Polars does not say which file of several is corrupt, so they are read again one by one; if all
    of them can be read, the message is that ``where`` cannot.
    """
    for path in files:
        try:
            scan_file(path).select(pl.all().null_count()).collect(engine="streaming")
        except DataError as found:
            return str(found)
        except READ_ERRORS as found:
            return _explain(path, found)
    return f"cannot read {where}: {_first_line(error)}."


def _explain(path: Path, error: BaseException) -> str:
    first = _first_line(error)
    return f"cannot read {path}{_find_line(path, first)}: {first}."


def _first_line(error: BaseException) -> str:
    return os_reason(error) if isinstance(error, OSError) else first_line(error)


def _find_line(path: Path, cause: str) -> str:
    """Return the line of a text file that cannot be parsed as ", line N", or an empty string."""
    if path.suffix.lower() not in (".csv", ".tsv", ".tab"):
        return ""
    value = re.search(r"could not parse `(.*)` as dtype .* at column '(.*?)'", cause)
    if value is None and "more fields than" not in cause:
        return ""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.reader(file, delimiter="," if path.suffix.lower() == ".csv" else "\t")
            header = next(rows)
            position = header.index(value[2]) if value else 0
            for row in rows:
                if value is None and len(row) > len(header):
                    return f", line {rows.line_num:,} ({len(row)} fields)"
                if value and position < len(row) and row[position].strip() == value[1]:
                    return f", line {rows.line_num:,}"
    except (OSError, csv.Error, ValueError, StopIteration):
        return ""
    return ""
