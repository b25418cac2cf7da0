"""MovieLens: film ratings from 1 to 5; a true positive is 4 or more.

Source: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5 (2015). The
text of the thesis says "greater than or equal to 3", but its Table 1 and its program use 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import Field

from dartcli.data.columns import ITEM, NOISY, RATING, TIME, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset, SourceFile
from dartcli.datasets._text import read_lines, whole_numbers
from dartcli.errors import DataError

TITLE: Final = "title"
COLUMNS: Final = (USER, ITEM, RATING, TIME)
CITATION: Final = (
    "F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
    "ACM TiiS 5(4), 2015. https://doi.org/10.1145/2827872"
)


class Options(DataOptions):
    """Threshold for true positives."""

    tp_threshold: float = Field(4.0, ge=1, le=6)
    """Ratings (1 to 5) of at least this are true positives, lower ones false positives."""


def read(folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return user, item, rating, time, and ``noisy``: the rating is below the threshold."""
    assert isinstance(options, Options)  # noqa: S101 - options of DATASET
    return _mark_noisy(whole_numbers(folder / "ml-100k/u.data", COLUMNS), options)


def read_1m(folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return the same for MovieLens-1M."""
    assert isinstance(options, Options)  # noqa: S101 - options of DATASET
    return _mark_noisy(whole_numbers(folder / "ml-1m/ratings.dat", COLUMNS, "::"), options)


def read_titles(folder: Path, _options: DataOptions, names: Sequence[str]) -> pl.LazyFrame:
    """Return the item and title of every film.

    Raises
    ------
    DataError
        If another column is named, or the file is missing.
    """
    for name in names:
        if name != TITLE:
            raise DataError(f"no column `{name}` to show. Use `--show {TITLE}`.")
    path = folder / "ml-100k/u.item"
    if not path.is_file():
        raise DataError(
            f"cannot show titles: {path} is missing. Run `dart download {folder.name}`, or drop "
            "`--show`."
        )
    cells = pl.Series(read_lines(path)).str.split("|")
    item = cells.list.get(0, null_on_oob=True).cast(pl.Int64, strict=False)
    return pl.LazyFrame({ITEM: item, TITLE: cells.list.get(1, null_on_oob=True)})


def _mark_noisy(table: pl.DataFrame, options: Options) -> pl.LazyFrame:
    return table.lazy().with_columns((pl.col(RATING) < options.tp_threshold).alias(NOISY))


def expected(options: DataOptions) -> Counts | None:
    """Return the counts of Table 1, which are for a threshold of 4."""
    if getattr(options, "tp_threshold", None) != 4:
        return None
    return Counts(users=943, items=1_682, true_positives=55_375, false_positives=44_625)


def expected_1m(options: DataOptions) -> Counts | None:
    """Return the counts of MovieLens-1M for a threshold of 4."""
    if getattr(options, "tp_threshold", None) != 4:
        return None
    return Counts(users=6_040, items=3_706, true_positives=575_281, false_positives=424_928)


DATASET = {
    "movielens-100k": Dataset(
        name="movielens-100k",
        title="100,000 film ratings (1 to 5) by 943 users",
        license="for research; no redistribution without permission (GroupLens)",
        citation=CITATION,
        homepage="https://grouplens.org/datasets/movielens/100k/",
        files=(
            SourceFile(
                path="ml-100k/u.data",
                urls=("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
                sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                size=1_979_173,
                limit=10_000_000,
            ),
            SourceFile(
                path="ml-100k/u.item",
                urls=("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
                sha256="553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
                size=236_344,
                required=False,
                limit=10_000_000,
            ),
        ),
        options=Options,
        read=read,
        expected=expected,
        read_details=read_titles,
    ),
    "movielens-1m": Dataset(
        name="movielens-1m",
        title="1,000,209 film ratings (1 to 5) by 6,040 users",
        license="for research; no redistribution without permission (GroupLens)",
        citation=CITATION,
        homepage="https://grouplens.org/datasets/movielens/1m/",
        files=(
            SourceFile(
                path="ml-1m/ratings.dat",
                urls=("https://files.grouplens.org/datasets/movielens/ml-1m.zip",),
                limit=100_000_000,
            ),
        ),
        options=Options,
        read=read_1m,
        expected=expected_1m,
    ),
}
