"""Files made to break their readers: a sentence, whatever becomes of the reader."""

import subprocess
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter

from dartcli.data.logs import contained
from dartcli.errors import DataError


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": [1, 2], "item": [3, 4]}).write_parquet(path)
    return path


def test_a_good_file_is_read_once(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contained.try_table(good, "parquet", ["user"])
    monkeypatch.setattr(contained, "_contained", lambda *_: pytest.fail("it was read again"))
    contained.try_table(good, "parquet", ["user"])
    good.write_bytes(good.read_bytes() + b" ")
    with pytest.raises(pytest.fail.Exception):
        contained.try_table(good, "parquet", ["user"])


def test_what_the_child_says_is_the_sentence(good: Path) -> None:
    good.write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    with pytest.raises(DataError, match=r"cannot read .*log\.parquet: "):
        contained.try_table(good, "parquet")


@pytest.mark.parametrize(("code", "how"), [(-11, "signal 11"), (134, "too little memory")])
def test_a_reader_that_breaks_down_is_a_sentence(
    good: Path, monkeypatch: pytest.MonkeyPatch, code: int, how: str
) -> None:
    broken = subprocess.CompletedProcess([], code, b"", b"thread panicked")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: broken)
    with pytest.raises(DataError, match=rf"its reader broke down \({how}\)"):
        contained.try_table(good, "parquet", ["item"])


def test_a_reader_that_never_ends_is_a_sentence(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contained, "SECONDS", 0.01)
    with pytest.raises(DataError, match="its reader was still busy"):
        contained.try_table(good, "parquet", ["user", "item"])


def xlsx(path: Path, cells: dict[tuple[int, int], float]) -> Path:
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for (row, column), value in cells.items():
            sheet.write_number(row, column, value)
    return path


def test_excel_comes_back_as_it_is(tmp_path: Path) -> None:
    cells = {(0, 0): 1.0, (0, 1): 2.5, (1, 0): -3.0, (1, 1): 99.0}
    contained.convert_excel(xlsx(tmp_path / "it.xlsx", cells), tmp_path / "it.parquet")
    assert pl.read_parquet(tmp_path / "it.parquet").rows() == [(1.0, 2.5), (-3.0, 99.0)]


def test_two_cells_that_unpack_to_terabytes_are_a_sentence(tmp_path: Path) -> None:
    bomb = xlsx(tmp_path / "bomb.xlsx", {(0, 0): 1.0, (1_048_575, 16_383): 1.0})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"cannot read .*bomb\.xlsx"):
        contained.convert_excel(bomb, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
