"""MovieLens: film ratings; a rating of 4 or more is a true positive.

Source: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5 (2015). The
thesis's text says "greater than or equal to 3", its Table 1 and program mean 4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl
from pydantic import Field

from dartcli.columns import ITEM, NOISY, RATING, TIME, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset, SourceFile
from dartcli.errors import DataError
from dartcli.files import reason

COLUMNS: Final = (USER, ITEM, RATING, TIME)


class Options(DataOptions):
    """Where true positives begin."""

    tp_threshold: float = Field(4.0, ge=1, le=6)
    """Ratings (1 to 5) from this on are true positives, those below are false positives."""


def read_tabs(path: Path) -> pl.DataFrame:
    """Return the integers of a tab-separated file of user, item, rating, timestamp.

    Raises
    ------
    DataError
        If the file is missing, empty, or a line is not four whole numbers; the message names
        file, line and column.
    """
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}.") from error
    if not lines:
        raise DataError(f"{path} is empty; download it again.")
    cells = pl.Series("line", lines).str.split("\t")
    widths = cells.list.len()
    wrong = (widths != len(COLUMNS)).arg_true()
    if len(wrong):
        row = wrong[0]
        raise DataError(
            f"{path}, line {row + 1:,}: found {widths[row]} tab-separated columns, expected "
            f"{len(COLUMNS)} (user, item, rating, time)."
        )
    columns = {}
    for position, name in enumerate(COLUMNS):
        text = cells.list.get(position)
        numbers = text.cast(pl.Int64, strict=False)
        if numbers.null_count():
            row = numbers.is_null().arg_true()[0]
            raise DataError(
                f"{path}, line {row + 1:,}, column {position + 1} ({name}): found {text[row]!r}, "
                "expected a whole number."
            )
        columns[name] = numbers
    return pl.DataFrame(columns)


def read(folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return user, item, rating, time and whether the rating is below the threshold."""
    assert isinstance(options, Options)  # noqa: S101 - the store passes what DATASET declares
    table = read_tabs(folder / "ml-100k/u.data")
    return table.lazy().with_columns((pl.col(RATING) < options.tp_threshold).alias(NOISY))


def expected(options: DataOptions) -> Counts | None:
    """Return Table 1's row for the threshold of 4."""
    if options != Options():
        return None
    return Counts(users=943, items=1_682, true_positives=55_375, false_positives=44_625)


DATASET = {
    "movielens-100k": Dataset(
        name="movielens-100k",
        title="100,000 film ratings (1 to 5) by 943 users",
        licence="for research; no redistribution without permission (GroupLens)",
        citation=(
            "F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
            "ACM TiiS 5(4), 2015. https://doi.org/10.1145/2827872"
        ),
        homepage="https://grouplens.org/datasets/movielens/100k/",
        files=(
            SourceFile(
                path="ml-100k/u.data",
                urls=("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
                sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                size=1_979_173,
                limit=10_000_000,
            ),
        ),
        options=Options,
        read=read,
        expected=expected,
    )
}
