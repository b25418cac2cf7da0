"""``dart doctor`` finds what is corrupt and repairs what can be recreated."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from running import DATA, dart, succeed

from dartcli import cli
from dartcli.experiments.run_index import list_runs, lock_run
from dartcli.storage.atomic import _host
from dartcli.storage.checksums import hash_file


@pytest.fixture(scope="module")
def source(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a DART_HOME that has one of everything, and a copy of what was downloaded."""
    folder = tmp_path_factory.mktemp("doctor")
    shutil.copytree(trained_home, folder / "home")
    shutil.rmtree(folder / "home" / "runs" / "left")
    log = folder / "log.csv"
    log.write_text("user,item\n" + "".join(f"u{n % 40},i{n % 31}\n" for n in range(600)))
    cells = [[5, *(n % 7 if (n + m) % 3 else 99 for m in range(100))] for n in range(60)]
    (folder / "jester-data-1.csv").write_text("\n".join(",".join(map(str, row)) for row in cells))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(folder / "home"))
        patch.delenv("DART_MIRROR", raising=False)
        for words in (
            [
                "preprocess", "--input", str(log), "--user", "user", "--item", "item",
                "--name", "shop",
            ],
            ["download", "jester-1", "--from", str(folder)],
            ["preprocess", "jester-1"],
            [
                "sweep", "--datasets", "synthetic", "--strategies", "base", "--seeds", "0",
                "--no-tune-base", "--jobs", "1", "--set", "training.epochs=1", *DATA,
            ],
            [
                "tune", "synthetic", "--space", "r=0:1", "--trials", "1", "--confirm", "none",
                "--name", "mine", "--jobs", "1", "--set", "training.epochs=1", *DATA,
            ],
        ):  # fmt: skip
            succeed(*words)
    return folder


@pytest.fixture
def stored(source: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DART_HOME that the test may damage."""
    shutil.copytree(source / "home", home)
    monkeypatch.setenv("DART_MIRROR", str(source))
    return home


def examine(*words: str) -> tuple[int, dict[str, Any]]:
    result = dart("doctor", "--json", *words)
    assert result.exit_code in {0, 1}, result.stderr
    return result.exit_code, {entry["name"]: entry for entry in json.loads(result.stdout)}


def select(entries: dict[str, Any], *states: str) -> list[dict[str, Any]]:
    return [entry for entry in entries.values() if entry["state"] in states]


def flip_bit(path: Path) -> None:
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.usefixtures("stored")
def test_intact_home_has_no_failures() -> None:
    code, entries = examine()
    assert code == 0
    assert {entry["state"] for entry in entries.values()} <= {"ok", "note"}
    assert {"one", "two", "shop", "jester-1", "sweep-strict", "mine"} <= {
        entry["name"] for entry in select(entries, "ok")
    }
    result = succeed("doctor")
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("pattern", "name", "is_recreated"),
    [
        ("raw/jester-1/jester/jester-data-1.xls", "jester-1", True),
        ("processed/jester-1/*/splits/*/train.parquet", "strict-0", True),
        ("processed/jester-1/*/interactions.parquet", "jester-1/", False),
        ("processed/jester-1/*/splits/*/manifest.json", "strict-0", False),
        ("processed/last.json", "last.json", False),
        ("own/hashes.json", "hashes.json", False),
        ("sweeps/*/rows/*.json", "sweep-strict", False),
        ("studies/*/rows/*.json", "mine", False),
    ],
)
def test_corrupt_files_are_recreated_or_removed(
    stored: Path, pattern: str, name: str, is_recreated: bool
) -> None:
    path = min(stored.glob(pattern))
    flip_bit(path)
    code, entries = examine()
    assert code == 1
    (corrupt,) = select(entries, "corrupt", "error")
    assert corrupt["state"] == "corrupt"
    assert name in corrupt["name"]
    assert corrupt["remedy"]
    code, entries = examine("--repair")
    assert code == 0, entries
    (repaired,) = select(entries, "repaired")
    assert repaired["name"] == corrupt["name"]
    assert path.exists() == is_recreated
    code, entries = examine()
    assert code == 0, entries


@pytest.mark.parametrize(
    "name", ["seed_1/model.safetensors", "seed_0/metrics.json", "metrics.json"]
)
def test_corrupt_run_is_repaired_to_identical_files(stored: Path, name: str) -> None:
    run = stored / "runs" / "one"
    intact = {
        path.relative_to(run): hash_file(path)
        for path in run.rglob("*")
        if path.is_file() and path.name != "environment.json"
    }
    flip_bit(run / name)
    code, entries = examine()
    assert (code, entries["one"]["state"]) == (1, "corrupt")
    assert "dart doctor --repair" in dart("doctor").stderr.splitlines()[-1]
    code, entries = examine("--repair")
    assert (code, entries["one"]["state"]) == (0, "repaired")
    assert "dart resume one" in entries["one"]["message"]
    succeed("resume", "one")
    assert all(hash_file(run / path) == digest for path, digest in intact.items())
    assert examine()[0] == 0


def test_corrupt_settings_cannot_be_repaired(stored: Path) -> None:
    flip_bit(stored / "runs" / "one" / "settings.json")
    code, entries = examine("--repair")
    assert code == 1
    assert entries["one"]["state"] == "corrupt"
    assert "dart runs remove one" in entries["one"]["remedy"]
    assert list_runs()[0].state == "unreadable"


def test_corrupt_logs_leftovers_and_public_folders_are_found(stored: Path) -> None:
    left = stored / "runs" / "one" / f".seed_9.{_host()}-999999999.tmp"
    left.mkdir()
    (left / "part").write_bytes(b"x" * 1000)
    (stored / "raw").chmod(0o777)
    description = stored / "own" / "shop.json"
    description.write_text(description.read_text().replace('"item": "item"', '"item": "user"'))
    code, entries = examine()
    assert code == 1
    assert entries["shop"]["state"] == "error"
    assert str(description) in entries["shop"]["message"]
    assert entries[str(stored)]["part"] == "leftover"
    assert "1 " in entries[str(stored)]["message"]
    assert entries[str(stored / "raw")]["state"] == "error"
    _, entries = examine("--repair")
    assert not left.exists()
    assert not (stored / "raw").stat().st_mode & 0o002


def test_unwritable_home_and_missing_mirror_are_errors(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DART_HOME", "/proc/nowhere")
    code, entries = examine()
    assert (code, entries["/proc/nowhere"]["state"]) == (1, "error")
    monkeypatch.setenv("DART_HOME", str(home))
    monkeypatch.setenv("DART_MIRROR", str(home / "none"))
    code, entries = examine()
    assert (code, entries[str(home / "none")]["state"]) == (1, "error")


def test_unfinished_runs_and_runs_in_use_are_notes(stored: Path) -> None:
    (stored / "runs/one/metrics.json").unlink()
    with lock_run(stored / "runs/two"):
        code, entries = examine()
    assert code == 0
    assert entries["one"]["state"] == entries["two"]["state"] == "note"
    assert "dart resume one" in entries["one"]["remedy"]
    assert entries["two"]["remedy"] == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "expected"), [(0o000, 0o775), (0o077, 0o700)])
def test_files_are_never_writable_by_everyone(
    home: Path, monkeypatch: pytest.MonkeyPatch, mask: int, expected: int
) -> None:
    monkeypatch.setattr(cli, "_set_environment", lambda: None)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["dart", "preprocess", "synthetic", *DATA])
    before = os.umask(mask)
    try:
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        os.umask(before)
    assert end.value.code == 0
    for path in (home, *home.rglob("*")):
        assert not path.stat().st_mode & 0o002, path
        assert not path.stat().st_mode & mask, path
    assert (home / "processed").stat().st_mode & 0o777 == expected
