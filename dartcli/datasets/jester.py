"""Jester: jokes rated from -10 to 10; a true positive is above 0, 99 means not rated.

Source: Goldberg et al., "Eigentaste: A Constant Time Collaborative Filtering Algorithm",
Information Retrieval 4 (2001). ``jester`` is dataset 3 of its publishers (2006 to 2015),
``jester-1`` dataset 1 (three files of 100 jokes), ``jester-4`` dataset 4 (2015 to 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl

from dartcli.data.columns import ITEM, NOISY, RATING, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset, SourceFile
from dartcli.datasets._excel import convert_excel
from dartcli.errors import DataError, first_line
from dartcli.storage.atomic import os_reason, temporary_path
from dartcli.storage.tables import READ_ERRORS

MISSING: Final = 99
HOME: Final = "https://eigentaste.berkeley.edu/dataset/"
CITATION: Final = (
    "K. Goldberg et al. Eigentaste: A Constant Time Collaborative Filtering Algorithm. "
    "Information Retrieval 4(2), 2001. https://doi.org/10.1023/A:1011419012209"
)


def read_matrix(path: Path) -> pl.DataFrame:
    """Return an Excel or CSV matrix of numbers without a header as Float64.

    Raises
    ------
    DataError
        If the file is missing, empty or corrupt, or a cell is not a number; the message names
        file, row and column.
    """
    try:
        with path.open("rb") as file:
            is_excel = file.read(4) in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
        if is_excel:
            with temporary_path(path) as converted:
                convert_excel(path, converted)
                table = pl.read_parquet(converted, memory_map=False, glob=False)
        else:
            table = pl.read_csv(path, has_header=False, infer_schema=False, glob=False)
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error
    except READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {first_line(error)}. Download it again.") from error
    if table.is_empty() or table.width < 2:
        raise DataError(f"{path} does not contain a matrix of ratings. Download it again.")
    numbers = table.select(pl.all().cast(pl.Float64, strict=False))
    for column, name in enumerate(table.columns):
        lost = (numbers[name].is_null() & table[name].is_not_null()).arg_true()
        if len(lost):
            raise DataError(
                f"{path}, row {lost[0] + 1:,}, column {column + 1}: found "
                f"{table[name][lost[0]]!r}, expected a number."
            )
    return numbers


def interactions(matrix: pl.DataFrame, first_user: int, path: Path, limit: float) -> pl.DataFrame:
    """Return user, item (joke number, from 1) and rating of every cell that is not 99.

    The first column, the number of ratings in the row, is dropped. Rows are sorted by user.
    """
    jokes = matrix[:, 1:]
    long = (
        jokes.rename({name: str(number) for number, name in enumerate(jokes.columns, 1)})
        .with_row_index(USER, offset=first_user)
        .unpivot(index=USER, variable_name=ITEM, value_name=RATING)
        .filter(pl.col(RATING).is_not_null() & (pl.col(RATING) != MISSING))
        .with_columns(pl.col(ITEM).cast(pl.UInt32))
        .sort(USER, ITEM)
    )
    outside = (long[RATING].abs() > limit).arg_true()
    if len(outside):
        user, item, rating = long.row(outside[0])
        raise DataError(
            f"{path}, row {user - first_user + 1:,}, column {item + 1}: found {rating}, expected a "
            f"rating from -{limit:g} to {limit:g}, or 99."
        )
    return long


def _make_reader(
    paths: tuple[str, ...], limit: float
) -> Callable[[Path, DataOptions], pl.LazyFrame]:
    def read(folder: Path, _options: DataOptions) -> pl.LazyFrame:
        """Return user, item, rating, and ``noisy``: the rating is not above zero."""
        tables, first_user = [], 1
        for path in (folder / name for name in paths):
            if not path.is_file():
                continue
            matrix = read_matrix(path)
            tables.append(interactions(matrix, first_user, path, limit))
            # each part has users of its own
            first_user += len(matrix)
        return pl.concat(tables).lazy().with_columns((pl.col(RATING) <= 0).alias(NOISY))

    return read


def _make_dataset(
    name: str,
    *,
    title: str,
    files: tuple[SourceFile, ...],
    expected: Counts | None = None,
    partial: dict[str, Counts] | None = None,
    limit: float = 10.0,
) -> Dataset:
    return Dataset(
        name=name,
        title=title,
        license="free for research; cite the paper",
        citation=CITATION,
        homepage=HOME,
        files=files,
        options=DataOptions,
        read=_make_reader(tuple(file.path for file in files), limit),
        expected=lambda _options: expected,
        partial=partial or {},
    )


def _part(number: int) -> SourceFile:
    """Return one of the three files of dataset 1; some copies have a CSV instead of an .xls."""
    stem = f"jester-data-{number}"
    return SourceFile(
        path=f"jester/{stem}.xls",
        urls=(
            f"{HOME}jester_dataset_1_{number}.zip",
            f"https://goldberg.berkeley.edu/jester-data/{stem}.zip",
        ),
        aliases=(f"{stem}.csv", f"{stem}.zip", f"jester_dataset_1_{number}.zip"),
        required=number == 1,
        limit=50_000_000,
    )


DATASET = {
    "jester": _make_dataset(
        "jester",
        title="1.8 million joke ratings, 2006 to 2015 (dataset 3)",
        files=(
            SourceFile(
                path="jester/FINAL jester 2006-15.xls",
                urls=(f"{HOME}JesterDataset3.zip",),
                archive_sha256="0987d0d892f833ce9f889addb18c1960cb086658362a77a27216327ffb91614f",
                limit=200_000_000,
            ),
        ),
        expected=Counts(54_905, 150, 1_218_920, 623_450),
    ),
    "jester-1": _make_dataset(
        "jester-1",
        title="4.1 million joke ratings, 1999 to 2003 (dataset 1)",
        files=tuple(_part(number) for number in (1, 2, 3)),
        expected=Counts(73_421, 100),
        partial={
            "only the first of three parts is available": Counts(24_983, 100, 1_077_115, 733_340)
        },
    ),
    "jester-4": _make_dataset(
        "jester-4",
        title="106,489 joke ratings, 2015 to 2019 (dataset 4)",
        files=(
            SourceFile(
                path="jester/[final] April 2015 to Nov 30 2019 - Transformed Jester Data - .xlsx",
                urls=(f"{HOME}JesterDataset4.zip",),
                limit=50_000_000,
            ),
        ),
        expected=Counts(true_positives=50_047, false_positives=56_442),
        limit=98.0,
    ),
}
