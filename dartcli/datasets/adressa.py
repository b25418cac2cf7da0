"""Adressa: clicks on news; a false positive is an article left within ten seconds.

Source: Gulla et al., "The Adressa dataset for news recommendation", WI 2017, in the form published
by Wang et al. ("Denoising Implicit Feedback for Recommendation", WSDM 2021): user, article, and
whether the article was read. Table 1 of the thesis counts one row less, because its reader took the
first row for a header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from dartcli.data.columns import ITEM, NOISY, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset, SourceFile
from dartcli.datasets._text import whole_numbers
from dartcli.errors import DataError

READ: Final = "read"
URL: Final = "https://raw.githubusercontent.com/WenjieWWJ/DenoisingRec/main/data/adressa/"
PARTS: Final = ("adressa.train.rating", "adressa.valid.rating")


class Options(DataOptions):
    """Which rows to use."""

    drop_first_row: bool = False
    """Drop the first row, which reproduces Table 1 of the thesis exactly."""


def read(folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Return user, item and ``noisy``: the article was left within ten seconds."""
    assert isinstance(options, Options)  # noqa: S101 - options of DATASET
    paths = [folder / "adressa" / part for part in PARTS]
    tables = [whole_numbers(path, (USER, ITEM, READ)) for path in paths if path.is_file()]
    table = pl.concat(tables)[int(options.drop_first_row) :]
    wrong = (~table[READ].is_in([0, 1])).arg_true()
    if len(wrong):
        raise DataError(
            f"adressa, row {wrong[0] + 1:,}, column 3 ({READ}): found {table[READ][wrong[0]]}, "
            "expected 0 (left within ten seconds) or 1."
        )
    return table.lazy().select(USER, ITEM, (pl.col(READ) == 0).alias(NOISY))


def expected(options: DataOptions) -> Counts | None:
    """Return the counts of Table 1 if the first row is dropped, else the true total."""
    assert isinstance(options, Options)  # noqa: S101 - options of DATASET
    if options.drop_first_row:
        return Counts(207_801, 6_154, 182_495, 290_257)
    return Counts(interactions=472_753)


def _source(part: str, *, required: bool, sha256: str | None = None) -> SourceFile:
    return SourceFile(
        path=f"adressa/{part}", urls=(URL + part,), required=required, sha256=sha256, limit=10**8
    )


DATASET = Dataset(
    name="adressa",
    title="news clicks of Adresseavisen, with reading time",
    license="for research; cite the paper",
    citation=(
        "J. A. Gulla et al. The Adressa dataset for news recommendation. WI 2017. "
        "https://doi.org/10.1145/3106426.3109436"
    ),
    homepage="https://reclab.idi.ntnu.no/dataset/",
    files=(
        _source(PARTS[0], required=False),
        _source(
            PARTS[1],
            required=True,
            sha256="715c3949f8845f99f14964b26c735e8926b0fa5e32f7639edf3983905a971ef4",
        ),
    ),
    options=Options,
    read=read,
    expected=expected,
    partial={
        "only the validation part is available": Counts(34_229, 1_224, 17_492, 35_770),
    },
)
