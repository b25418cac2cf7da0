"""The sentences that users see after typical mistakes, in full.

``sentences.txt`` holds one transcript per mistake: the command, optionally the name of a function
below that prepares the mistake, stderr, and the exit code. To update it after a sentence was
changed, run ``python tests/cli/test_sentences.py`` and review the difference.
"""

import json
import os
import re
import shlex
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from running import dart

from dartcli.experiments.run_index import lock_run

TABLE = Path(__file__).with_name("sentences.txt")


class Case(NamedTuple):
    """One transcript."""

    command: str
    setup: str
    expected: str


def read_cases() -> list[Case]:
    cases = []
    for block in TABLE.read_text("utf-8").strip().split("\n\n"):
        first, _, expected = block.partition("\n")
        command, _, setup = first.removeprefix("$ ").partition("  # ")
        cases.append(Case(command, setup, expected))
    return cases


def run_case(case: Case, home: Path, cwd: Path) -> str:
    """Return what the command prints on stderr, and its exit code, without the paths of a test."""
    log = pl.DataFrame(
        {
            "user_id": [f"u{row % 7}" for row in range(60)],
            "item_id": [f"i{row % 11}" for row in range(60)],
            "clicked": [row % 2 for row in range(60)],
            "dwell": [row / 2 for row in range(60)],
        }
    )
    log.write_parquet(cwd / "log.parquet")
    (cwd / "empty.csv").write_text("")
    (cwd / "notes.txt").write_text("hello")
    (cwd / "notes.xml").write_text("<log/>")
    (cwd / "folder").mkdir()
    (cwd / "utf16.csv").write_text("user_id,item_id\n1,2\n", encoding="utf-16")
    (cwd / "latin.csv").write_bytes(b"user_id,item_id\n" + b"\xe9,1\n" * 20)
    (cwd / "semicolon.csv").write_text("user_id;item_id\n1;2\n")
    (cwd / "numbers.csv").write_text("17,42\n18,43\n")
    (cwd / "ragged.csv").write_text("user_id,item_id\n" + "u,1\n" * 20 + "u,1,2\n")
    (cwd / "gap.csv").write_text("user_id,item_id\n" + "u,1\n,2\n" * 20)
    (cwd / "twins").mkdir()
    log.write_csv(cwd / "twins" / "a.csv")
    log.rename({"dwell": "seconds"}).write_csv(cwd / "twins" / "b.csv")
    (cwd / "broken.json").write_text("{")
    context = globals()[case.setup](home) if case.setup else None
    with context or nullcontext():
        result = dart(*shlex.split(case.command)[1:])
    assert result.stdout == "", case.command
    stderr = result.stderr.replace(str(home), "$DART_HOME").replace(str(cwd), "$PWD")
    # what differs from machine to machine
    stderr = re.sub(r"process \d+ on [^.;, ]+", "process 1 on host", stderr)
    stderr = re.sub(r"PyTorch \d[^ :]+", "PyTorch 2.9.0", stderr)
    return f"{stderr}[{result.exit_code}]"


def corrupt_weights(home: Path) -> None:
    path = home / "runs" / "one" / "seed_0" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def missing_scores(home: Path) -> None:
    (home / "runs" / "one" / "seed_0" / "scores.parquet").unlink()


def corrupt_settings(home: Path) -> None:
    path = home / "runs" / "one" / "settings.json"
    path.write_text(path.read_text().replace("synthetic", "sinthetic"))


def corrupt_last_dataset(home: Path) -> None:
    (home / "processed" / "last.json").write_text("[]")


def home_is_a_file(home: Path) -> None:
    shutil.rmtree(home)
    home.write_text("")


def run_in_use(home: Path) -> AbstractContextManager[None]:
    return lock_run(home / "runs" / "left")


@pytest.mark.parametrize("case", read_cases(), ids=lambda case: f"{case.command} {case.setup}")
def test_mistakes_are_explained(
    case: Case, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    runs = set((trained / "runs").iterdir())
    actual = run_case(case, trained, cwd)
    lines = actual.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert lines[-1] in {"[1]", "[2]"}
    if trained.is_dir():
        assert set((trained / "runs").iterdir()) == runs
    if "DART_WRITE_SENTENCES" in os.environ:
        with Path(os.environ["DART_WRITE_SENTENCES"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([case.command, case.setup, actual]) + "\n")
    else:
        assert actual == case.expected


def rewrite_table() -> None:
    """Replace what is expected by what is printed now."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "sentences.jsonl"
        os.environ["DART_WRITE_SENTENCES"] = str(written)
        code = pytest.main([__file__, "-q", "-n", "0", "-p", "no:cacheprovider"])
        lines = [json.loads(line) for line in written.read_text("utf-8").splitlines()]
    blocks = [
        f"$ {command}{f'  # {setup}' if setup else ''}\n{actual}\n"
        for command, setup, actual in lines
    ]
    if code == 0:
        TABLE.write_text("\n".join(blocks), "utf-8")
    sys.exit(code)


if __name__ == "__main__":
    rewrite_table()
