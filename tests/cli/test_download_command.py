"""``dart download`` says whether what it fetched is complete."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from running import dart

from dartcli.data.dataset import Counts, DataOptions, Dataset, SourceFile

ROWS = [(user, item) for user in range(10) for item in range(user + 1)]
CLICKS = Dataset(
    name="clicks",
    title="clicks",
    license="none",
    citation="none",
    homepage="none",
    files=(SourceFile("clicks.csv", ()),),
    options=DataOptions,
    read=lambda folder, _options: pl.scan_csv(folder / "clicks.csv"),
    partial={"users after the fifth are missing": Counts(users=5, items=5, interactions=15)},
)


@pytest.mark.parametrize(
    ("users", "expected", "complete", "sentence"),
    [
        (10, Counts(interactions=55), True, "clicks is complete: 10 users, 10 items, 55 rows"),
        (5, Counts(interactions=55), False, "clicks is partial: users after the fifth are missing"),
        (
            9,
            Counts(interactions=55),
            False,
            "clicks is partial or another version: 45 interactions",
        ),
        (10, None, None, "whether that is complete cannot be checked"),
    ],
)
def test_a_download_is_counted(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    users: int,
    expected: Counts | None,
    complete: bool | None,
    sentence: str,
) -> None:
    known = replace(CLICKS, expected=lambda _options: expected)
    for module in ("registry", "prepare"):
        monkeypatch.setattr(f"dartcli.data.{module}.find_dataset", lambda _name: known)
    rows = [row for row in ROWS if row[0] < users]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(tmp_path / "clicks.csv")
    done = dart("download", "clicks", "--from", str(tmp_path), "--json")
    assert done.exit_code == 0, done.stderr
    assert sentence in done.stderr
    assert json.loads(done.stdout) == [
        {"dataset": "clicks", "folder": str(home / "raw/clicks"), "complete": complete}
    ]
