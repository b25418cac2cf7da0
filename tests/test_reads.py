"""Count how often a training on prepared data opens and hashes each file."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import safetensors.torch
from typer.testing import CliRunner

from dartcli.cli import app

SMALL = ["--set", "dataset.interactions=1500"]
SPLITS = {"train.parquet", "valid.parquet", "test.parquet"}


class Reads:
    """Files below a folder: how often Python opened them, and how often compiled code did.

    Polars and safetensors open files without Python, so calls of their functions are counted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_python: Counter[str] = Counter()
        self.by_libraries: Counter[str] = Counter()
        self.counting = False

    def count_open(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count a file that Python opens for reading; an audit hook."""
        if not self.counting or event != "open" or isinstance(arguments[0], int):
            return
        path, _, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR) == 0 and not Path(os.fsdecode(path)).is_dir():
            self._count(self.by_python, path)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with its first argument counted if that is a path."""

        def count_and_call(source: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(source, str | Path):
                self._count(self.by_libraries, source)
            return function(source, *arguments, **named)

        return count_and_call

    def _count(self, counter: Counter[str], path: Any) -> None:
        path = Path(os.fsdecode(path))
        if path.is_relative_to(self.folder):
            counter[path.relative_to(self.folder).as_posix()] += 1


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> Reads:
    """Return the reads of one training with a snapshot, on prepared data."""
    home = tmp_path_factory.mktemp("reads") / "home"
    found = Reads(home)
    # a hook cannot be removed; this one ignores everything while nothing is counted
    sys.addaudithook(found.count_open)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        patch.delenv("DART_MIRROR", raising=False)
        prepared = CliRunner().invoke(app, ["preprocess", "synthetic", *SMALL])
        assert prepared.exit_code == 0, prepared.stderr
        for module, name in (
            (pl, "read_parquet"), (pl, "scan_parquet"), (safetensors.torch, "load_file"),
        ):  # fmt: skip
            patch.setattr(module, name, found.wrap(getattr(module, name)))
        found.counting = True
        train = ["train", "synthetic", *SMALL, "--epochs", "4", "--snapshot", "3"]
        trained = CliRunner().invoke(app, train)
        found.counting = False
    assert trained.exit_code == 0, trained.stderr
    return found


def test_each_split_is_opened_once(reads: Reads) -> None:
    opened = reads.by_python + reads.by_libraries
    found = {Path(name).name: n for name, n in opened.items() if Path(name).name in SPLITS}
    assert found == dict.fromkeys(SPLITS, 1)


def test_each_file_of_a_run_is_opened_at_most_once_after_it_was_written(reads: Reads) -> None:
    tables = {
        name: count
        for name, count in (reads.by_python + reads.by_libraries).items()
        if name.startswith("runs/") and Path(name).suffix in {".parquet", ".safetensors"}
    }
    # hashed where it was written, under a temporary name
    assert any("history" in name for name in tables)
    assert set(tables.values()) == {1}


def test_the_interactions_before_the_split_are_not_read(reads: Reads) -> None:
    assert not any("interactions" in name for name in reads.by_python + reads.by_libraries)
