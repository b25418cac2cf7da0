"""Jester: Excel and CSV matrices with 99 for cells that were not rated."""

import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from excel import write_xls, write_xlsx

from dartcli import catalog
from dartcli.data import prepare
from dartcli.data.columns import ITEM, NOISY, RATING, USER
from dartcli.data.dataset import DataOptions
from dartcli.errors import DataError

FILE = "jester/FINAL jester 2006-15.xls"


def matrix(rows: int, jokes: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    ratings = np.round(random.uniform(-10, 10, (rows, jokes)), 2)
    ratings[random.random((rows, jokes)) < 0.4] = 99
    return np.column_stack([(ratings != 99).sum(1), ratings])


def expected(cells: np.ndarray) -> list[tuple[int, int, float, bool]]:
    return [
        (row + 1, joke, float(cells[row, joke]), bool(cells[row, joke] <= 0))
        for row in range(len(cells))
        for joke in range(1, cells.shape[1])
        if cells[row, joke] != 99
    ]


def read(name: str, folder: Path) -> pl.DataFrame:
    dataset = catalog.load("datasets", name)
    table: pl.DataFrame = dataset.read(folder, DataOptions()).collect()
    return table.select(USER, ITEM, RATING, NOISY)


@pytest.mark.parametrize("suffix", ["xls", "xlsx", "csv"])
def test_every_format_of_a_matrix_is_read_alike(tmp_path: Path, suffix: str) -> None:
    cells = matrix(20, 8)
    path = tmp_path / FILE
    path.parent.mkdir()
    if suffix == "csv":
        pl.DataFrame(cells).write_csv(path, include_header=False)
    else:
        (write_xls if suffix == "xls" else write_xlsx)(path, cells)
    found = read("jester", tmp_path)
    wanted = expected(cells)
    assert found[USER].to_list() == [row[0] for row in wanted]
    assert found[ITEM].to_list() == [row[1] for row in wanted]
    assert found[RATING].to_list() == pytest.approx([row[2] for row in wanted])
    assert found[NOISY].to_list() == [row[3] for row in wanted]


def test_a_large_file_is_read_completely(tmp_path: Path) -> None:
    cells = matrix(11_000, 150)
    path = tmp_path / FILE
    path.parent.mkdir()
    write_xls(path, cells)
    found = read("jester", tmp_path)
    rated = cells[:, 1:] != 99
    assert len(found) == rated.sum()
    assert found[USER].n_unique() == 11_000
    assert found[ITEM].n_unique() == 150
    assert int((~found[NOISY]).sum()) == int((cells[:, 1:][rated] > 0).sum())
    assert float(found[RATING].sum()) == pytest.approx(cells[:, 1:][rated].sum(), rel=1e-9)


def test_each_part_has_users_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "jester").mkdir()
    parts = [matrix(10, 5, 1), matrix(7, 5, 2)]
    for number, cells in enumerate(parts, 1):
        write_xls(tmp_path / f"jester/jester-data-{number}.xls", cells)
    found = read("jester-1", tmp_path)
    second = [(user + 10, item) for user, item, _, _ in expected(parts[1])]
    assert found.filter(pl.col(USER) > 10).select(USER, ITEM).rows() == second


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"", r"\.xls"),
        (b"5\n", r"\.xls"),
        (b"1,2.5,99\n1,x,99\n", r"\.xls, row 2, column 2: found 'x'"),
        (b"1,2.5,99\n1,12.5,99\n", r"\.xls, row 2, column 2: found 12\.5"),
        (b"PK\x03\x04 broken", r"\.xls"),
        (b"\xd0\xcf\x11\xe0 broken", r"\.xls"),
    ],
)
def test_an_invalid_matrix_is_an_error_that_names_the_cell(
    tmp_path: Path, content: bytes, value: str
) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=value):
        read("jester", tmp_path)


def test_an_archive_may_contain_a_csv_under_another_name(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jester").mkdir()
    text = "\n".join(",".join(str(value) for value in row) for row in matrix(30, 10))
    with zipfile.ZipFile(tmp_path / "jester/jester-data-1.zip", "w") as archive:
        archive.writestr("jester-data-1.csv", text)
    monkeypatch.setenv("DART_MIRROR", str(tmp_path))
    folder = prepare.download("jester-1", str(tmp_path))
    assert (folder / "jester/jester-data-1.xls").read_text() == text
    assert home.is_dir()


@pytest.mark.realdata
def test_the_real_data_have_the_known_counts(mirrored_home: Path) -> None:
    first = prepare.preprocess("jester-1").manifest
    assert (first.counts.users, first.counts.items) == (24_983, 100)
    assert (first.counts.true_positives, first.counts.false_positives) == (1_077_115, 733_340)
    assert first.complete is False
    assert "the first of three parts" in first.warnings[0]
    fourth = prepare.preprocess("jester-4").manifest
    assert (fourth.counts.true_positives, fourth.counts.false_positives) == (50_047, 56_442)
    assert fourth.complete is True
    assert mirrored_home.is_dir()
