"""The bytes of a log are read at most twice, and a file that changes meanwhile is noticed."""

import os
from pathlib import Path

import polars as pl
import pytest

from dartcli.data import sources
from dartcli.data.dataset import DataOptions, Dataset
from dartcli.data.logs import scan
from dartcli.data.logs.registry import log_dataset
from dartcli.data.logs.schema import FileFormat, LogOptions
from dartcli.data.manifest import Prepared
from dartcli.data.prepare import prepare_split
from dartcli.errors import DataError
from dartcli.settings import PROTOCOLS

ROWS = 20_000


def write_csv(path: Path, padding: int = 0) -> LogOptions:
    """Write a log with an unused column of ``padding`` characters; return its options."""
    row = pl.int_range(ROWS)
    table = pl.select(
        who="u" + (row % 700).cast(pl.String),
        what="i" + (row * 7 % 90).cast(pl.String),
        stars=row % 5,
        clicked=(row % 3 > 0).cast(pl.Int8),
        device=pl.when(row % 2 == 0).then(pl.lit("tv")).otherwise(pl.lit("web")),
        price=row / 7,
        pad=pl.lit("x" * padding),
    )
    table.write_csv(path)
    return LogOptions(
        inputs=(str(path),),
        user="who",
        item="what",
        label="clicked",
        rating="stars",
        noisy_if="stars < 2",
        fields=("device",),
        numeric_fields=("price",),
    )


def prepare(options: LogOptions) -> Prepared:
    return prepare_split(log_dataset("shop"), options, PROTOCOLS["strict"], 0)


def bytes_read() -> int:
    """Return the bytes that this process has read so far, from files of any kind."""
    return int(Path("/proc/self/io").read_text().partition("rchar: ")[2].split()[0])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts the bytes read")
@pytest.mark.parametrize("is_recorded", [False, True], ids=["new", "hashed before"])
def test_the_bytes_of_a_log_are_read_twice(home: Path, tmp_path: Path, is_recorded: bool) -> None:
    prepare(write_csv(tmp_path / "small.csv"))  # imports are files, too
    options = write_csv(tmp_path / "log.csv", padding=400)
    size = (tmp_path / "log.csv").stat().st_size
    if is_recorded:
        sources.hash_local_files([tmp_path / "log.csv"])
    before = bytes_read()
    assert prepare(options).fresh
    # once to hash them and once to encode them; the rest is what was written, hashed. Polars 1
    # maps the file into memory, which is not counted here, but is below
    assert 0.9 * size < bytes_read() - before < 2.2 * size
    before = bytes_read()
    assert not prepare(options).fresh
    assert bytes_read() - before < 0.1 * size
    assert home.is_dir()


def test_the_rows_of_a_log_are_parsed_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    scan_file = scan.scan_file

    def count(path: Path, form: FileFormat) -> pl.LazyFrame:
        def record(rows: pl.DataFrame) -> pl.DataFrame:
            parsed.append(len(rows))
            return rows

        return scan_file(path, form).map_batches(record, streamable=True)

    monkeypatch.setattr(scan, "scan_file", count)
    prepare(write_csv(tmp_path / "log.csv"))
    assert sum(parsed) == ROWS
    assert home.is_dir()


def test_only_new_and_changed_files_are_hashed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        path.write_text("user,item\n1,2\n")
    hashed: list[str] = []

    def count(path: Path) -> str:
        hashed.append(path.name)
        return "sum"

    monkeypatch.setattr(sources, "hash_file", count)
    sources.hash_local_files(paths)
    sources.hash_local_files(paths)
    paths[1].write_text("user,item\n1,3\n4,5\n")
    found = sources.hash_local_files(paths)
    assert hashed == ["a.csv", "b.csv", "b.csv"]
    assert [source.hashed_now for source in found.values()] == [False, True]
    assert home.is_dir()


def changing(path: Path, *, keep_time: bool) -> Dataset:
    """Return a dataset whose file changes while it is read."""

    def read(_folder: Path, _options: DataOptions) -> pl.LazyFrame:
        stat, content = path.stat(), path.read_bytes()
        path.write_bytes(content.replace(b"u1,", b"u2,", 1))
        if keep_time:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        pairs = [(user, item) for user in range(20) for item in range(10) if (user + item) % 3]
        return pl.LazyFrame(pairs, schema=["user", "item"], orient="row")

    return Dataset(
        name="changing",
        title="a file that changes",
        license="none",
        citation="none",
        homepage="none",
        files=(),
        options=DataOptions,
        read=read,
        local_files=lambda _options: [path],
    )


@pytest.mark.parametrize("is_recorded", [False, True], ids=["new", "hashed before"])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    home: Path, tmp_path: Path, is_recorded: bool
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\nu1,2\n")
    if is_recorded:  # then even a change that keeps size and time is found
        sources.hash_local_files([path])
    dataset = changing(path, keep_time=is_recorded)
    with pytest.raises(DataError, match=r"log\.csv"):
        prepare_split(dataset, DataOptions(), PROTOCOLS["strict"], 0)
    assert not list(home.rglob("manifest.json"))
