"""Find log files and open them by format."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import polars as pl

from dartcli.data.logs.schema import FileFormat, Format
from dartcli.data.logs.text import find_line, guess_separator, scan_text
from dartcli.errors import DataError, first_line
from dartcli.storage.atomic import os_reason
from dartcli.storage.tables import READ_ERRORS

SUFFIXES: Final[dict[str, Format]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".txt": "txt",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
COMPRESSED: Final = (".gz", ".zst", ".zstd")
SEPARATORS: Final = {"csv": ",", "tsv": "\t", "txt": None}
"""Text format -> separator; None = guess it."""
PARTITION: Final = re.compile(r"([^=]+)=(.*)")
"""Name of a folder whose rows have one value of a column, such as ``day=2026-11-01``."""
NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
DEFAULT: Final = FileFormat()


def expand_patterns(patterns: Sequence[str], form: FileFormat = DEFAULT) -> list[Path]:
    """Return the files that match ``patterns``, in order, without duplicates.

    A directory stands for all files below it whose suffix is known, or for all if ``form`` states
    their format; names that start with ``.`` or ``_`` are skipped.

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
        files = [file for match in matches for file in _list_files(Path(match).absolute(), form)]
        if not files:
            raise DataError(_explain_no_files(pattern))
        found += [file for file in files if file not in found]
    for file in found:
        file_format(file, form)
    return found


def _list_files(path: Path, form: FileFormat) -> list[Path]:
    if path.is_file():
        return [path]
    below = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part[0] in "._" for part in file.relative_to(path).parts)
    ]
    return below if form.format else [file for file in below if _find_format(file)]


def _explain_no_files(pattern: str) -> str:
    if Path(pattern).expanduser().is_dir():
        return (
            f"no log in the directory {pattern}: no file name ends in "
            f"{', '.join(sorted(SUFFIXES))}. Name the files, or add `--format`."
        )
    return f"no file matches {pattern}. Check the path or pattern."


def _find_format(path: Path) -> Format | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1] if suffixes else "")


def file_format(path: Path, form: FileFormat = DEFAULT) -> Format:
    """Return the format of ``path``: the stated one, else what its suffix stands for.

    Raises
    ------
    DataError
        If neither is known, or a flag for text files was given with another format.
    """
    found = form.format or _find_format(path)
    if found is None:
        raise DataError(
            f"cannot tell the format of {path} from its name. Name it with `--format`, or use one "
            f"of {', '.join(sorted(SUFFIXES))}; text may also end in .gz or .zst."
        )
    if found not in SEPARATORS and form.text_flags():
        raise DataError(
            f"`{form.text_flags()[0]}` applies only to text files, but {path} is {found}. Remove "
            "it, or name the format with `--format csv`."
        )
    return found


def scan(files: Sequence[Path], form: FileFormat = DEFAULT) -> pl.LazyFrame:
    """Return the rows of ``files`` in order, with the columns of the first.

    Raises
    ------
    DataError
        If a file cannot be read, or does not have the columns of the first.
    """
    frames = [scan_file(file, form) for file in files]
    schemas = [_read_schema(frame, file, form) for frame, file in zip(frames, files, strict=True)]
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
    known = [dtype for dtype in types if dtype != pl.Null] or types
    return known[0] if all(dtype == known[0] for dtype in known) else pl.String()


def scan_file(path: Path, form: FileFormat = DEFAULT) -> pl.LazyFrame:
    """Return the rows of one file as a lazy frame, with the columns of its partition."""
    kind = file_format(path, form)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty. Give a file with a header and rows.")
        if kind == "parquet":
            frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        elif kind == "jsonl":
            frame = pl.scan_ndjson(path, infer_schema_length=10_000)
        else:
            frame = scan_text(path, form, SEPARATORS[kind])
        partition = _read_partition(path)
        if partition:
            known = frame.collect_schema()
            frame = frame.with_columns(
                value.alias(name) for name, value in partition.items() if name not in known
            )
    except READ_ERRORS as error:
        raise DataError(_explain(path, form, error)) from error
    return frame


def _read_partition(path: Path) -> dict[str, pl.Expr]:
    """Return the columns that the folders right above a file state in their names."""
    found: dict[str, pl.Expr] = {}
    for folder in path.parents:
        match = PARTITION.fullmatch(folder.name)
        if match is None:
            break
        found[unquote(match[1])] = pl.lit(_parse_partition(unquote(match[2])))
    return dict(reversed(found.items()))


def _parse_partition(text: str) -> int | date | str | None:
    """Return the value of a partition: an integer or a date if it is written like one."""
    if text == NO_VALUE:
        return None
    if re.fullmatch(r"0|-?[1-9]\d{0,17}", text):
        return int(text)
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text
    except ValueError:
        return text


def _read_schema(frame: pl.LazyFrame, path: Path, form: FileFormat) -> pl.Schema:
    try:
        return frame.collect_schema()
    except READ_ERRORS as error:
        raise DataError(_explain(path, form, error)) from error


def explain_unreadable(
    where: str, files: Sequence[Path], error: BaseException, form: FileFormat = DEFAULT
) -> str:
    """Return an error message that names the first of ``files`` that cannot be read.

    Polars does not say which file of several is corrupt, so they are read again one by one; if all
    of them can be read, the message is that ``where`` cannot.
    """
    for path in files:
        try:
            scan_file(path, form).select(pl.all().null_count()).collect(engine="streaming")
        except DataError as found:
            return str(found)
        except READ_ERRORS as found:
            return _explain(path, form, found)
    return f"cannot read {where}: {_first_line(error)}."


def locate_row(row: int, files: Sequence[Path], form: FileFormat) -> str:
    """Return "row N of FILE" for a row of several files, counted from 0 over all of them."""
    for path in files:
        rows = scan_file(path, form).select(pl.len()).collect(engine="streaming").item()
        if row < rows:
            return f"row {row + 1:,} of {path.name}"
        row -= rows
    raise AssertionError("there are fewer rows")


def _explain(path: Path, form: FileFormat, error: BaseException) -> str:
    first = _first_line(error)
    line = ""
    if file_format(path, form) in SEPARATORS:
        if "utf-8" in first:
            return (
                f"{path} is not UTF-8 text. Name its encoding, such as `--encoding latin-1` or "
                "`--encoding cp1252`."
            )
        separator = form.separator or SEPARATORS[file_format(path, form)]
        line = find_line(path, form, separator or guess_separator(path, form), first)
        if "more fields than" in first:
            first = (
                "a row has more fields than the header. If they are separated by another "
                "character, add `--separator`; else quote texts that contain the separator"
            )
    return f"cannot read {path}{line}: {first}."


def _first_line(error: BaseException) -> str:
    return os_reason(error) if isinstance(error, OSError) else first_line(error)
