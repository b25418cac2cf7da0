"""Open text files of a log: separator, header, and encoding."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO, cast

import polars as pl

from dartcli.data.logs.schema import FileFormat
from dartcli.errors import DataError, first_line
from dartcli.storage.tables import READ_ERRORS

SEPARATORS: Final = ",\t;|"
"""What a separator is guessed from."""
BYTE_ORDER_MARKS: Final = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def scan_text(path: Path, form: FileFormat, separator: str | None) -> pl.LazyFrame:
    """Return the rows of a text file; ``separator`` is that of its format, None = guess it.

    Raises
    ------
    DataError
        If the file is not text in its encoding, or seems to have another separator.
    """
    if form.encoding == "utf-8":
        _check_byte_order(path)
    chosen = form.separator or separator or guess_separator(path, form)
    frame = pl.scan_csv(
        path if form.encoding == "utf-8" else io.BytesIO(_recode(path, form.encoding)),
        separator=chosen,
        has_header=form.header,
        infer_schema_length=10_000,
        try_parse_dates=True,
        glob=False,
    )
    names = list(frame.collect_schema())
    if len(names) == 1 and form.separator is None:
        other = guess_separator(path, form)
        if other != chosen:
            raise DataError(
                f"{path} has a single column, `{names[0]}`. If {_quote(other)} separates its "
                f"columns, add `--separator {_quote(other)}`."
            )
    if not form.header:
        frame = frame.rename({name: f"column_{place}" for place, name in enumerate(names, 1)})
    # only if all columns are read does Polars notice a row with too many fields
    return frame.map_batches(lambda rows: rows, projection_pushdown=False, streamable=True)


def _quote(separator: str) -> str:
    return "'\\t'" if separator == "\t" else f"'{separator}'"


def guess_separator(path: Path, form: FileFormat) -> str:
    """Return the separator that the first lines of a file have most often, in equal numbers."""
    lines = _read_head(path, form)
    counts = {one: [line.count(one) for line in lines] for one in SEPARATORS}
    equal = {one: found[0] for one, found in counts.items() if found and len(set(found)) == 1}
    best = max(equal, key=lambda one: equal[one], default=",")
    return best if equal.get(best) else ","


def _read_head(path: Path, form: FileFormat) -> list[str]:
    """Return the first lines of a file, compressed or not."""
    if form.encoding != "utf-8":
        return _recode(path, form.encoding)[:10_000].decode(errors="replace").splitlines()[:20]
    raw = pl.scan_csv(
        path, separator="\x1f", quote_char=None, has_header=False, infer_schema=False, glob=False,
        truncate_ragged_lines=True,
    )  # fmt: skip
    try:
        return [line or "" for line in raw.head(20).collect().to_series()]
    except READ_ERRORS:
        return []


def _check_byte_order(path: Path) -> None:
    with path.open("rb") as file:
        encoding = BYTE_ORDER_MARKS.get(file.read(2))
    if encoding:
        raise DataError(f"{path} is UTF-16 text. Add `--encoding {encoding}`.")


def _recode(path: Path, encoding: str) -> bytes:
    """Return the content of a file as UTF-8."""
    try:
        with open_text(path, encoding) as file:
            return file.read().encode()
    except (UnicodeError, OSError) as error:
        raise DataError(
            f"cannot read {path} as {encoding}: {first_line(error)}. Give its encoding with "
            "`--encoding`."
        ) from error


def open_text(path: Path, encoding: str, errors: str = "strict") -> TextIO:
    """Open a text file, which may be compressed with gzip."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    file = opener(path, "rt", encoding=encoding, errors=errors, newline="")
    return cast("TextIO", file)


def find_line(path: Path, form: FileFormat, separator: str, cause: str) -> str:
    """Return the line of a text file that cannot be parsed as ", line N", or an empty string."""
    value = re.search(r"could not parse `(.*)` as dtype .* at column '(.*?)'", cause)
    if value is None and "more fields than" not in cause:
        return ""
    try:
        with open_text(path, form.encoding, errors="replace") as file:
            return _search_lines(csv.reader(file, delimiter=separator), form, value)
    except (OSError, csv.Error, ValueError, StopIteration):
        return ""


def _search_lines(rows: Iterator[list[str]], form: FileFormat, value: re.Match[str] | None) -> str:
    header = next(rows)
    position = 0
    if value:
        position = header.index(value[2]) if form.header else int(value[2].split("_")[-1])
    for row in rows:
        line = rows.line_num  # type: ignore[attr-defined]
        if value is None and len(row) > len(header):
            return f", line {line:,} ({len(row)} fields)"
        if value and position < len(row) and row[position].strip() == value[1]:
            return f", line {line:,}"
    return ""
