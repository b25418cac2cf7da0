"""Run ``dart`` from download to report as child processes, on generated data in its own home."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN = "example"
DATASET = "jester-1"
HERE = Path(__file__).parent
TIMEOUT = 600.0
"""Seconds after which a command counts as hung."""
VOLATILE_FILES = ("environment.json", "download.json", "hashes.json")
"""Files that contain times of day or modification times."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended."""

    code: int
    """Exit code, or minus the number of the signal that killed it."""
    out: str
    err: str

    @property
    def is_clean_failure(self) -> bool:
        """Whether it failed with a documented exit code and a message, without a traceback."""
        documented = self.code in {1, 2, 130, 143}
        return documented and bool(self.err.strip()) and "Traceback" not in self.err

    @property
    def last_line(self) -> str:
        """The last line of stderr, or an empty string."""
        return (self.err.strip().splitlines() or [""])[-1]


def write_source(folder: Path, users: int = 400) -> Path:
    """Write generated ratings in the format of ``jester-1``; return ``folder``."""
    chance = random.Random(7)
    lines = []
    for _ in range(users):
        row = [
            round(chance.uniform(-10, 10), 2) if chance.random() < 0.2 else 99 for _ in range(100)
        ]
        lines.append(",".join(map(str, [sum(cell != 99 for cell in row), *row])) + "\n")
    folder.mkdir(parents=True)
    (folder / "jester-data-1.csv").write_text("".join(lines))
    return folder


def build_steps(source: Path, strategy: str) -> dict[str, list[str]]:
    """Return the arguments of every step, from download to report."""
    train = ["train", DATASET, "--strategy", strategy, "--epochs", "8", "--patience", "8"]
    return {
        "download": ["download", DATASET, "--from", str(source)],
        "preprocess": ["preprocess", DATASET],
        "train": [*train, "--batch-size", "256", "--name", RUN, "--checkpoint-every", "0.05s"],
        "analyze": ["analyze", "precision-recall", RUN],
        "report": ["report", RUN],
    }


def build_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment variables of a ``dart`` process.

    ``DART_TRACEBACK`` turns a fault of the program into a traceback, so that no error message can
    hide one.
    """
    kept = {key: value for key, value in os.environ.items() if key != "DART_MIRROR"}
    fixed = {"COLUMNS": "80", "OMP_NUM_THREADS": "1", "DART_TRACEBACK": "1"}
    return {**kept, **fixed, "DART_HOME": str(home), **more}


def start_dart(
    words: Sequence[str], home: Path, program: Sequence[str] = ("-m", "dartcli"), **more: str
) -> subprocess.Popen[str]:
    """Start ``dart`` with the arguments ``words``."""
    return subprocess.Popen(
        [sys.executable, *program, *words],
        env=build_environment(home, **more),
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], timeout: float = TIMEOUT) -> CommandResult:
    """Wait until ``process`` ends; raise AssertionError if it hangs."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args} hung: {err}") from None
    return CommandResult(process.returncode, out, err)


def run_dart(words: Sequence[str], home: Path, **more: str) -> CommandResult:
    """Run ``dart`` with the arguments ``words``."""
    return wait_for(start_dart(words, home, **more))


def remaining_command(step: str, words: Sequence[str], home: Path) -> Sequence[str] | None:
    """Return what a user runs after ``step`` was interrupted; None if it had finished."""
    run = home / "runs" / RUN
    if step != "train" or not run.exists():
        return words
    document = run / "metrics.json"
    if document.is_file() and '"interrupted": false' in document.read_text():
        return None
    return ["resume", RUN, "--checkpoint-every", "0.05s"]


def finish_step(home: Path, step: str, words: Sequence[str]) -> None:
    """Run ``step``, resuming an interrupted training."""
    remaining = remaining_command(step, words, home)
    if remaining is not None:
        done = run_dart(remaining, home)
        assert done.code == 0, (step, remaining, done)


def hash_home(home: Path) -> dict[str, str]:
    """Return path -> SHA-256 of data, weights, metrics, histories, and analyses.

    Of a volatile file, the value is empty; it must be valid JSON.
    """
    found = {}
    for part in ("raw", "processed", "runs"):
        for path in sorted((home / part).rglob("*")):
            if path.is_file() and path.suffix != ".lock":
                name, content = path.relative_to(home).as_posix(), path.read_bytes()
                is_volatile = path.name in VOLATILE_FILES and json.loads(content) is not None
                found[name] = "" if is_volatile else hashlib.sha256(content).hexdigest()
    return found


class ReferencePipeline:
    """An uninterrupted pipeline, with a copy of the home before each step.

    Its commands are deterministic, so a home that equals that after a step leads to the same end.
    Times of day and of files are not compared.
    """

    def __init__(self, folder: Path, strategy: str) -> None:
        self.folder = folder / strategy
        self.operations: dict[str, int] = {}
        """Number of the file operations of each step."""
        self.seconds: dict[str, float] = {}
        self.steps = build_steps(folder / "source", strategy)
        if not (folder / "source").exists():
            write_source(folder / "source")
        self._home = self.folder / "home"
        self._home.mkdir(parents=True)
        count_file = self.folder / "count"
        for name, words in self.steps.items():
            shutil.copytree(self._home, self._before(name))
            began = time.monotonic()
            counted = (str(HERE / "watched.py"), "0", str(count_file))
            done = wait_for(start_dart(words, self._home, counted))
            assert done.code == 0, (name, done)
            self.seconds[name] = time.monotonic() - began
            self.operations[name] = int(count_file.read_text())
        assert f"runs/{RUN}/seed_0/model.safetensors" in hash_home(self._home)

    def _before(self, step: str) -> Path:
        return self.folder / f"before-{step}"

    def home_after(self, step: str) -> Path:
        """Return the home as it was after ``step``."""
        names = list(self.steps)
        following = names[names.index(step) + 1 :]
        return self._before(following[0]) if following else self._home

    def check_after(self, step: str, home: Path) -> None:
        """Raise AssertionError if ``home`` differs from the home after ``step``."""
        expected, found = hash_home(self.home_after(step)), hash_home(home)
        names = expected.keys() | found.keys()
        differing = {name for name in names if expected.get(name) != found.get(name)}
        assert not differing, (step, differing)

    def copy_home_before(self, step: str, place: Path) -> Path:
        """Replace ``place`` with a copy of the home before ``step``; return it."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._before(step), place)
        return place
