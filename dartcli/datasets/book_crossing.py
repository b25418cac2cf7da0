"""Book-Crossing: book ratings from 1 to 10; 7 or more is a true positive, 0 is no rating.

Source: Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005.
The thesis's Table 1 counts one false positive less: its reader took the first row for a header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl
from pydantic import Field

from dartcli.data.columns import ITEM, NOISY, RATING, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset, SourceFile
from dartcli.errors import DataError
from dartcli.storage.atomic import os_reason

PATH: Final = "book-crossing/BX-Book-Ratings.csv"
LINE: Final = r'^"?(\d+)"?;"?(.*?)"?;"?(\d+)"?\s*$'
"""User, ISBN and rating; quotes and semicolons inside an ISBN are part of it."""


class Options(DataOptions):
    """Where true positives begin, and which rows are taken."""

    tp_threshold: float = Field(7.0, ge=1, le=11)
    """Ratings (1 to 10) from this on are true positives, those below are false positives."""
    drop_first_row: bool = False
    """Leave the first explicit rating out, as the thesis's reader did."""


def read(folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return user, item (ISBN in capitals), rating and whether it is below the threshold.

    Raises
    ------
    DataError
        If the file is missing or empty, has another header, or a line cannot be understood.
    """
    assert isinstance(options, Options)  # noqa: S101 - the store passes what DATASET declares
    path = folder / PATH
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error
    if not lines or "Book-Rating" not in lines[0]:
        found = repr(lines[0][:60]) if lines else "nothing"
        raise DataError(
            f"{path}, line 1: found {found}, expected the header "
            '"User-ID";"ISBN";"Book-Rating"; download it again.'
        )
    table = (
        pl.Series("line", lines[1:], pl.String)
        .str.extract_groups(LINE)
        .struct.unnest()
        .rename({"1": USER, "2": ITEM, "3": RATING})
        .with_columns(pl.col(USER, RATING).cast(pl.Int64), pl.col(ITEM).str.to_uppercase())
    )
    broken = (table[RATING].is_null() | (table[RATING] > 10)).arg_true()
    if len(broken):
        row = broken[0]
        raise DataError(
            f"{path}, line {row + 2:,}: found {lines[row + 1][:80]!r}, expected "
            '"user";"ISBN";"rating from 0 to 10".'
        )
    explicit = table.filter(pl.col(RATING) > 0)[int(options.drop_first_row) :]
    return explicit.lazy().with_columns((pl.col(RATING) < options.tp_threshold).alias(NOISY))


def expected(options: DataOptions) -> Counts | None:
    """Return Table 1's row where its first row, a false positive, is left out; else the truth."""
    assert isinstance(options, Options)  # noqa: S101 - the store passes what DATASET declares
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
