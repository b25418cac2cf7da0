"""Open log files by format."""

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

SUFFIXES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
PACKED: Final = (".gz", ".zst", ".zstd")


def expand_patterns(patterns: Sequence[str]) -> list[Path]:
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
    frames = [scan_file(file) for file in files]
    schemas = [_schema(frame, file) for frame, file in zip(frames, files, strict=True)]
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        if set(schema) != set(schemas[0]):
            differing = ", ".join(sorted(set(schema) ^ set(schemas[0])))
            raise DataError(
                f"{file} has other columns than {files[0]} (differing: {differing}); give files of "
                "one kind, or preprocess them as two datasets."
            )
    common = {name: _common_type([schema[name] for schema in schemas]) for name in schemas[0]}
    aligned = [
        frame.select(pl.col(name).cast(dtype) for name, dtype in common.items()) for frame in frames
    ]
    return pl.concat(aligned)


def _common_type(types: list[pl.DataType]) -> pl.DataType:
    return types[0] if all(dtype == types[0] for dtype in types) else pl.String()


def scan_file(path: Path) -> pl.LazyFrame:
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
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error
    except pl.exceptions.PolarsError as error:
        raise DataError(explain_unreadable(path, error)) from error


def _schema(frame: pl.LazyFrame, path: Path) -> pl.Schema:
    try:
        return frame.collect_schema()
    except READ_ERRORS as error:
        raise DataError(explain_unreadable(path, error)) from error


def explain_unreadable(path: object, error: Exception) -> str:
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
