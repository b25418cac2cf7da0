"""Book-Crossing: book ratings from 1 to 10; a true positive is 7 or more, 0 means not rated.

Source: Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005.
Table 1 of the thesis counts one false positive less, because its reader took the first row for a
header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl
from pydantic import Field

from dartcli.data.columns import ITEM, NOISY, RATING, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset, SourceFile
from dartcli.datasets._text import read_lines
from dartcli.errors import DataError

PATH: Final = "book-crossing/BX-Book-Ratings.csv"
LINE: Final = r'^"?(\d+)"?;"?(.*?)"?;"?(\d+)"?\s*$'
"""User, ISBN and rating; an ISBN may contain quotes and semicolons."""


class Options(DataOptions):
    """Threshold for true positives, and which rows to use."""

    tp_threshold: float = Field(7.0, ge=1, le=11)
    """Ratings (1 to 10) of at least this are true positives, lower ones false positives."""
    drop_first_row: bool = False
    """Drop the first explicit rating, as the reader of the thesis did."""


def read(folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return user, item (ISBN in capitals), rating, and ``noisy``: it is below the threshold.

    Raises
    ------
    DataError
        If the file is missing or empty, or its header or a line is invalid.
    """
    assert isinstance(options, Options)  # noqa: S101 - options of DATASET
    path = folder / PATH
    lines = read_lines(path)
    if not lines or "Book-Rating" not in lines[0]:
        found = repr(lines[0][:60]) if lines else "nothing"
        raise DataError(
            f"{path}, line 1: found {found}, expected the header "
            '"User-ID";"ISBN";"Book-Rating". Download it again.'
        )
    table = (
        pl.Series("line", lines[1:], pl.String)
        .str.extract_groups(LINE)
        .struct.unnest()
        .rename({"1": USER, "2": ITEM, "3": RATING})
        .with_columns(pl.col(USER, RATING).cast(pl.Int64), pl.col(ITEM).str.to_uppercase())
    )
    invalid = (table[RATING].is_null() | (table[RATING] > 10)).arg_true()
    if len(invalid):
        row = invalid[0]
        raise DataError(
            f"{path}, line {row + 2:,}: found {lines[row + 1][:80]!r}, expected "
            '"user";"ISBN";"rating from 0 to 10".'
        )
    explicit = table.filter(pl.col(RATING) > 0)[int(options.drop_first_row) :]
    return explicit.lazy().with_columns((pl.col(RATING) < options.tp_threshold).alias(NOISY))


def expected(options: DataOptions) -> Counts | None:
    """Return the counts of Table 1 if the first row is dropped, else the true ones."""
    assert isinstance(options, Options)  # noqa: S101 - options of DATASET
    if options.tp_threshold != 7:
        return Counts(interactions=433_671 - options.drop_first_row)
    if options.drop_first_row:
        return Counts(77_805, 185_973, 326_344, 107_326)
    return Counts(true_positives=326_344, false_positives=107_327)


DATASET = Dataset(
    name="book-crossing",
    title="433,671 book ratings (1 to 10) of BookCrossing",
    license="for research; cite the paper",
    citation=(
        "C.-N. Ziegler et al. Improving recommendation lists through topic diversification. "
        "WWW 2005. https://doi.org/10.1145/1060745.1060754"
    ),
    homepage="http://www2.informatik.uni-freiburg.de/~cziegler/BX/",
    files=(
        SourceFile(
            path=PATH,
            urls=("http://www2.informatik.uni-freiburg.de/~cziegler/BX/BX-CSV-Dump.zip",),
            limit=100_000_000,
        ),
    ),
    options=Options,
    read=read,
    expected=expected,
    partial={"ratings of rare books are missing": Counts(61_032, 117_766, 263_188, 79_786)},
)
