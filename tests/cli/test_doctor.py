"""``dart doctor``: what is broken is found, and what can be made again is."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dartcli.cli import app
from dartcli.experiments.run_index import list_runs, lock_run
from dartcli.storage.atomic import _host
from dartcli.storage.checksums import hash_file

TRAIN = ["train", "synthetic", "--set", "dataset.interactions=1500", "--epochs", "2"]


def dart(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(folder / "home"))
        patch.delenv("DART_MIRROR", raising=False)
        log = folder / "log.csv"
        rows = [f"u{n % 40},i{n % 31}\n" for n in range(600)]
        log.write_text("user,item\n" + "".join(rows))
        own = ["preprocess", "--input", str(log), "--user", "user", "--item", "item"]
        sweep = ["sweep", "--datasets", "synthetic", "--strategies", "base", "--seeds", "0"]
        source = folder / "jester-data-1.csv"
        cells = [[5, *(n % 7 if (n + m) % 3 else 99 for m in range(100))] for n in range(60)]
        source.write_text("\n".join(",".join(map(str, row)) for row in cells))
        for words in (
            [*own, "--name", "shop"],
            ["download", "jester-1", "--from", str(folder)],
            ["preprocess", "jester-1"],
            [*TRAIN, "--name", "one", "--seeds", "0,1"],
            [*sweep, "--set", "training.epochs=1", "--set", "dataset.interactions=1500"],
        ):
            result = dart(*words)
            assert result.exit_code == 0, (words, result.stderr)
    yield folder


@pytest.fixture
def copied(kept: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(kept / "home", home)
    monkeypatch.setenv("DART_MIRROR", str(kept))
    return home


def found(*words: str) -> tuple[int, dict[str, Any]]:
    result = dart("doctor", "--json", *words)
    assert result.exit_code in {0, 1}, result.stderr
    return result.exit_code, {entry["name"]: entry for entry in json.loads(result.stdout)}


def flip(path: Path) -> None:
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_home_that_is_well(copied: Path) -> None:
    code, entries = found()
    assert code == 0
    assert {entry["state"] for entry in entries.values()} <= {"well", "note"}
    assert entries["one"]["words"] == "every file hashed"
    assert entries["shop"]["state"] == entries["jester-1"]["state"] == "well"
    assert entries["sweep-strict"]["words"] == "1 of 1 trained"
    result = dart("doctor")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("pattern", "name", "after"),
    [
        ("raw/jester-1/jester/jester-data-1.xls", "jester-1", "It was fetched again."),
        ("processed/jester-1/*/splits/*/train.parquet", "strict-0", "It was made again."),
        ("processed/jester-1/*/interactions.parquet", "jester-1/", "It was removed, and is made"),
        ("processed/jester-1/*/splits/*/manifest.json", "strict-0", "It was removed, and is made"),
        ("processed/last.json", "last.json", "It was removed."),
        ("own/hashes.json", "hashes.json", "It was removed."),
        ("sweeps/*/rows/*.json", "sweep-strict", "the same dart sweep trains them anew"),
    ],
)
def test_what_can_be_made_again_is(copied: Path, pattern: str, name: str, after: str) -> None:
    path = min(copied.glob(pattern))
    flip(path)
    code, entries = found()
    assert code == 1
    (broken,) = [entry for entry in entries.values() if entry["state"] == "broken"]
    assert name in broken["name"]
    assert broken["remedy"]
    code, entries = found("--repair")
    assert code == 0, entries
    (mended,) = [entry for entry in entries.values() if entry["state"] == "repaired"]
    assert after in mended["words"]
    code, entries = found()
    assert code == 0
    assert not [entry for entry in entries.values() if entry["state"] == "broken"]


@pytest.mark.parametrize(
    "name", ["seed_1/model.safetensors", "seed_0/metrics.json", "metrics.json"]
)
def test_a_broken_run_is_made_whole_to_the_same_bytes(copied: Path, name: str) -> None:
    run = copied / "runs" / "one"
    whole = {
        path.relative_to(run): hash_file(path)
        for path in run.rglob("*")
        if path.is_file() and path.name != "environment.json"
    }
    flip(run / name)
    code, entries = found()
    assert (code, entries["one"]["state"]) == (1, "broken")
    assert dart("doctor").stderr.endswith("next: dart doctor --repair\n")
    code, entries = found("--repair")
    assert code == 0
    assert "go on with dart train --resume one" in entries["one"]["words"]
    assert dart("train", "--resume", "one").exit_code == 0
    assert all(hash_file(run / path) == digest for path, digest in whole.items())
    assert found()[0] == 0


def test_broken_settings_cannot_be_made_again(copied: Path) -> None:
    flip(copied / "runs" / "one" / "settings.json")
    code, entries = found("--repair")
    assert code == 1
    assert entries["one"]["state"] == "broken"
    assert entries["one"]["remedy"].startswith("dart runs remove one")
    assert list_runs()[0].state == "unreadable"


def test_own_log_that_moved_leftovers_and_open_doors(copied: Path) -> None:
    left = copied / "runs" / "one" / f".seed_9.{_host()}-999999999.tmp"
    left.mkdir()
    (left / "part").write_bytes(b"x" * 1000)
    (copied / "raw").chmod(0o777)
    description = copied / "own" / "shop.json"
    description.write_text(description.read_text().replace('"item": "item"', '"item": "user"'))
    code, entries = found()
    assert code == 1
    assert "its seal does not fit" in entries["shop"]["words"]
    assert entries[str(copied)]["words"].startswith("1 unfinished files")
    assert entries[str(copied / "raw")]["words"] == "everybody may write here."
    _, entries = found("--repair")
    assert not left.exists()
    assert not (copied / "raw").stat().st_mode & 0o002


def test_a_home_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DART_HOME", "/proc/nowhere")
    code, entries = found()
    assert code == 1
    assert entries["/proc/nowhere"]["state"] == "broken"
    monkeypatch.setenv("DART_HOME", str(home))
    monkeypatch.setenv("DART_MIRROR", str(home / "none"))
    code, entries = found()
    assert "DART_MIRROR names no directory." in entries[str(home / "none")]["words"]


def test_an_unfinished_run_and_one_in_use_are_noted(copied: Path) -> None:
    (copied / "runs/one/metrics.json").unlink()
    code, entries = found()
    assert code == 0
    assert entries["one"]["remedy"] == "dart train --resume one"
    with lock_run(copied / "runs/one"):
        assert found()[1]["one"]["words"] == "a process is at it; not looked at"


@pytest.mark.skipif(os.name == "nt", reason="there is no umask on Windows")
@pytest.mark.parametrize(("mask", "expected"), [(0o000, 0o775), (0o077, 0o700)])
def test_nothing_is_for_everybody_to_write(home: Path, mask: int, expected: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dartcli", *TRAIN], capture_output=True, check=False, umask=mask
    )
    assert done.returncode == 0, done.stderr
    for path in (home, *home.rglob("*")):
        assert not path.stat().st_mode & 0o002, path
        assert not path.stat().st_mode & mask, path
    assert (home / "runs").stat().st_mode & 0o777 == expected
