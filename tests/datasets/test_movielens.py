"""MovieLens: the format, and the counts of the real file."""

from pathlib import Path

import polars as pl
import pytest

from dartcli.data import prepare
from dartcli.data.columns import NOISY, RATING, USER
from dartcli.datasets.movielens import Options, read
from dartcli.errors import DataError


def folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k/u.data").write_text(text)
    return tmp_path


def test_ratings_below_the_threshold_are_false_positives(tmp_path: Path) -> None:
    place = folder(tmp_path, "1\t10\t3\t100\n2\t10\t4\t101\n2\t11\t5\t102\n")
    table = read(place, Options()).collect()
    assert table[NOISY].to_list() == [True, False, False]
    assert table[RATING].to_list() == [3, 4, 5]
    assert table[USER].to_list() == [1, 2, 2]
    assert read(place, Options(tp_threshold=3)).collect()[NOISY].to_list() == [False] * 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", r"u\.data"),
        ("1\t10\t3\t100\n1\t10\t3\n", r"u\.data, line 2: found 3 columns .* 4"),
        ("1\t10\t3\t100\nx\t10\t3\t1\n", r"line 2, column 1 \(user\): found 'x'"),
        ("1\t1.5\t3\t100\n", r"line 1, column 2 \(item\): found '1\.5'"),
        ("1,10,3,100\n", r"line 1: found 1 columns"),
    ],
)
def test_an_invalid_file_is_an_error_that_names_line_and_column(
    tmp_path: Path, text: str, value: str
) -> None:
    with pytest.raises(DataError, match=value):
        read(folder(tmp_path, text), Options())


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"u\.data: no such file"):
        read(tmp_path, Options())


@pytest.mark.realdata
@pytest.mark.parametrize("protocol", ["strict", "reference"])
def test_the_real_data_have_the_counts_of_table_1(mirrored_home: Path, protocol: str) -> None:
    data = prepare.preprocess("movielens-100k", protocol=protocol)
    counts = data.manifest.counts
    assert (counts.users, counts.items) == (943, 1_682)
    assert (counts.true_positives, counts.false_positives) == (55_375, 44_625)
    assert data.manifest.complete
    assert not data.manifest.warnings
    assert data.manifest.duplicates_dropped == 0
    rows = data.manifest.rows
    assert rows == (
        {"train": 80_000, "valid": 20_000, "test": 20_000}
        if protocol == "strict"
        else {"train": 160_000, "valid": 20_000, "test": 20_000}
    )
    ratings = pl.concat([data.split(name) for name in rows])[RATING].drop_nulls()  # type: ignore[arg-type]
    assert ratings.value_counts().sort(RATING)["count"].to_list() == [
        6_110, 11_370, 27_145, 34_174, 21_201,
    ]  # fmt: skip
    assert mirrored_home.is_dir()
