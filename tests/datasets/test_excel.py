"""Excel files are read in a child process, whose failures are error messages."""

import subprocess
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter

from dartcli.datasets import _excel
from dartcli.errors import DataError


def write_cells(path: Path, cells: dict[tuple[int, int], float]) -> Path:
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for (row, column), value in cells.items():
            sheet.write_number(row, column, value)
    return path


def test_cells_are_converted_unchanged(tmp_path: Path) -> None:
    cells = {(0, 0): 1.0, (0, 1): 2.5, (1, 0): -3.0, (1, 1): 99.0}
    _excel.convert_excel(write_cells(tmp_path / "it.xlsx", cells), tmp_path / "it.parquet")
    assert pl.read_parquet(tmp_path / "it.parquet").rows() == [(1.0, 2.5), (-3.0, 99.0)]


def test_two_cells_that_describe_terabytes_are_an_error(tmp_path: Path) -> None:
    bomb = write_cells(tmp_path / "bomb.xlsx", {(0, 0): 1.0, (1_048_575, 16_383): 1.0})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"bomb\.xlsx"):
        _excel.convert_excel(bomb, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(("code", "how"), [(-11, "signal 11"), (134, "out of memory")])
def test_a_child_that_crashes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, how: str
) -> None:
    crashed = subprocess.CompletedProcess([], code, b"", b"thread panicked")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: crashed)
    (tmp_path / "it.xls").touch()
    with pytest.raises(DataError, match=rf"it\.xls.*{how}"):
        _excel.convert_excel(tmp_path / "it.xls", tmp_path / "out.parquet")


def test_a_child_that_does_not_finish_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_excel, "BASE_SECONDS", 0.01)
    with pytest.raises(DataError, match=r"it\.xlsx.*0 seconds"):
        _excel.convert_excel(
            write_cells(tmp_path / "it.xlsx", {(0, 0): 1.0}), tmp_path / "out.parquet"
        )
