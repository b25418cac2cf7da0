"""Data are prepared once, completely, and corruption is detected."""

import hashlib
import multiprocessing
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from dartcli.data import prepare, registry
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.data.dataset import Counts, DataOptions, Dataset
from dartcli.data.prepare import prepare_split
from dartcli.errors import DataError
from dartcli.settings import PROTOCOLS
from dartcli.storage import paths

STRICT, REFERENCE = PROTOCOLS["strict"], PROTOCOLS["reference"]
CALLS: list[int] = []


def read(_folder: Path, _options: DataOptions) -> pl.LazyFrame:
    CALLS.append(1)
    pairs = [(u, i) for u in range(20) for i in range(10) if (u * 7 + i * 3) % 4]
    return pl.LazyFrame(
        {
            USER: [f"u{u}" for u, _ in pairs],
            ITEM: [i for _, i in pairs],
            NOISY: [(u + i) % 3 == 0 for u, i in pairs],
        }
    )


TRUE = Counts(users=20, items=10, true_positives=100, false_positives=50)


def toy(expected: Counts | None = None, partial: dict[str, Counts] | None = None) -> Dataset:
    return Dataset(
        name="toy",
        title="toy",
        license="none",
        citation="none",
        homepage="none",
        files=(),
        options=DataOptions,
        read=read,
        expected=lambda _options: expected,
        partial=partial or {},
    )


@pytest.fixture(autouse=True)
def fresh(home: Path) -> Path:
    CALLS.clear()
    return home


def test_prepared_data_are_found_again() -> None:
    first = prepare_split(toy(), DataOptions(), STRICT, 0)
    second = prepare_split(toy(), DataOptions(), STRICT, 0)
    assert first.fresh
    assert not second.fresh
    assert first.manifest == second.manifest
    assert len(CALLS) == 1


def test_another_protocol_or_seed_does_not_read_the_source_again() -> None:
    folders = {
        prepare_split(toy(), DataOptions(), protocol, seed).folder
        for protocol in (STRICT, REFERENCE)
        for seed in (0, 1)
    }
    assert len(folders) == 4
    assert len(CALLS) == 1


def read_files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*.*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_same_seed_gives_the_same_bytes(home: Path) -> None:
    first = prepare_split(toy(), DataOptions(), STRICT, 3)
    before = read_files(first.folder)
    import shutil

    shutil.rmtree(home)
    second = prepare_split(toy(), DataOptions(), STRICT, 3)
    assert read_files(second.folder) == before


def test_the_manifest_contains_the_counts() -> None:
    data = prepare_split(toy(), DataOptions(), REFERENCE, 0)
    counts = data.manifest.counts
    table = read(Path(), DataOptions()).collect()
    assert counts.interactions == len(table)
    assert counts.false_positives == table[NOISY].sum()
    assert counts.true_positives == len(table) - table[NOISY].sum()
    assert (counts.users, counts.items) == data.field_sizes == (20, 10)
    assert data.fields == (USER, ITEM)
    parts = pl.concat([data.split(name) for name in ("train", "valid", "test")])
    assert len(parts.filter(pl.col(LABEL) > 0)) == counts.interactions
    # 150 positives of 200 pairs leave only 50 negatives
    assert data.manifest.rows == {"train": 160, "valid": 20, "test": 20}
    (warning,) = data.manifest.warnings
    assert all(value in warning for value in ("50 negatives", "150 positives"))


def test_counts_are_compared_with_the_expected_ones() -> None:
    table = read(Path(), DataOptions()).collect()
    false = int(table[NOISY].sum())
    found = Counts(20, 10, len(table) - false, false)
    missing = Counts(21, 10, 999, false)
    unknown = prepare_split(toy(), DataOptions(), STRICT, 0).manifest
    assert (unknown.complete, unknown.warnings) == (None, ())
    assert len(table) == 150
    cases = {
        "whole": (toy(found), True, ""),
        "short": (toy(missing), False, "20 users instead of 21"),
        "known": (toy(missing, {"the last part is missing": found}), False, "the last part"),
    }
    for name, (dataset, complete, words) in cases.items():
        from dataclasses import replace

        manifest = prepare_split(replace(dataset, name=name), DataOptions(), STRICT, 0).manifest
        assert manifest.complete is complete
        assert words in " ".join(manifest.warnings)
        assert bool(manifest.warnings) != complete


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_a_corrupt_split_is_an_error_that_names_the_file(damage: str) -> None:
    data = prepare_split(toy(), DataOptions(), STRICT, 0)
    path = data.folder / "train.parquet"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        pl.read_parquet(path)[:-1].write_parquet(path)
    with pytest.raises(DataError, match=r"train\.parquet.*dart doctor"):
        data.split("train")


def test_a_split_file_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare_split(toy(), DataOptions(), STRICT, 0)
    opened: list[str] = []
    read_bytes = Path.read_bytes

    def count(path: Path) -> bytes:
        opened.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", count)
    monkeypatch.setattr(pl, "scan_parquet", lambda *_, **__: pytest.fail("read by name"))
    assert data.split("train").height == data.manifest.rows["train"]
    assert opened == ["train.parquet"]


def test_a_folder_without_a_manifest_is_prepared_again() -> None:
    data = prepare_split(toy(), DataOptions(), STRICT, 0)
    (data.folder / "manifest.json").unlink()
    assert prepare_split(toy(), DataOptions(), STRICT, 0).fresh


def test_a_reader_that_fails_leaves_nothing_behind() -> None:
    def broken(_folder: Path, _options: DataOptions) -> pl.LazyFrame:
        raise DataError("line 3 is invalid.")

    from dataclasses import replace

    with pytest.raises(DataError, match="line 3"):
        prepare_split(replace(toy(), read=broken), DataOptions(), STRICT, 0)
    left = [path for path in paths.processed_data("toy").rglob("*") if path.suffix != ".lock"]
    assert left == []
    assert registry.last_prepared() is None


def test_the_dataset_prepared_last_is_remembered() -> None:
    assert registry.last_prepared() is None
    prepare_split(toy(), DataOptions(), STRICT, 0)
    assert registry.last_prepared() == "toy"


def work(_number: int) -> bool:
    return prepare_split(toy(), DataOptions(), STRICT, 0).fresh


def test_of_concurrent_processes_one_prepares_and_the_others_wait() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        results = pool.map(work, range(3), chunksize=1)
    assert results.count(True) == 1
    folders = [p for p in paths.processed_data("toy").iterdir() if p.is_dir()]
    assert len(folders) == 1
    assert prepare_split(toy(), DataOptions(), STRICT, 0).split("train").height > 0


@pytest.mark.parametrize("damage", ["manifest", "missing", "truncated"])
@pytest.mark.parametrize("whole", [True, False])
def test_corrupt_data_is_prepared_again(damage: str, whole: bool) -> None:
    first = prepare_split(toy(), DataOptions(), STRICT, 0)
    before = {name: first.split(name) for name in ("train", "valid", "test")}
    folder = first.folder
    if whole:  # the encoded data are checked if a split is missing
        (folder / "manifest.json").unlink()
        folder = folder.parent.parent
    path = folder / ("ids/item.parquet" if whole else "valid.parquet")
    if damage == "manifest":
        (folder / "manifest.json").write_text('{"format": ')
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    again = prepare_split(toy(), DataOptions(), STRICT, 0)
    assert again.fresh
    assert len(CALLS) == (2 if whole else 1)
    assert all(again.split(name).equals(table) for name, table in before.items())


def test_a_flipped_bit_is_a_checksum_mismatch() -> None:
    data = prepare_split(toy(), DataOptions(), STRICT, 0)
    path = data.folder / "test.parquet"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"test\.parquet: checksum mismatch"):
        data.split("test")


def test_codes_map_back_to_raw_ids() -> None:
    data = prepare_split(toy(), DataOptions(), STRICT, 0)
    users = data.ids(USER)
    assert users["code"].to_list() == list(range(20))
    assert set(users["raw"]) == {f"u{number}" for number in range(20)}
    with pytest.raises(DataError, match=r"'color'.*user, item"):
        data.ids("color")


def test_the_manifest_lists_files_and_checksums() -> None:
    data = prepare_split(toy(), DataOptions(), STRICT, 0)
    names = ("train", "valid", "test")
    columns = {
        f"columns/{split}/{name}.npy" for split in names for name in ("fields", "label", "kind")
    } | {"columns/train/pairs.npy"}
    assert set(data.manifest.files) == {f"{name}.parquet" for name in names} | columns
    for name, file in data.manifest.files.items():
        content = (data.folder / name).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("text", ["[1]", "{", '{"dataset": "adressa"}'])
def test_a_corrupt_record_of_the_last_dataset_is_an_error(text: str) -> None:
    prepare_split(toy(), DataOptions(), STRICT, 0)
    (paths.home() / "processed" / "last.json").write_text(text)
    with pytest.raises(DataError, match=r"last\.json"):
        registry.last_prepared()


def test_finding_prepared_data_does_not_import_torch() -> None:
    words = (
        "import sys; import dartcli; "
        "dartcli.preprocess('synthetic', options={'interactions': 1500}); "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    prepare.preprocess("synthetic", options={"interactions": 1500})
    done = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
