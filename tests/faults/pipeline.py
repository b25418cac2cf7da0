"""The tool from download to report as processes, on made-up data, in a home of its own."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RUN = "it"
HERE = Path(__file__).parent
LIMIT = 600.0
"""Seconds that no command may take."""
VARIES = ("environment.json", "download.json", "hashes.json")
"""Files that hold times, of day or of files."""


@dataclass(frozen=True)
class Done:
    """A process that ended, or was ended."""

    code: int
    """Exit code; minus the signal that ended it."""
    out: str
    err: str

    @property
    def is_sentence(self) -> bool:
        """It failed as this program promises: exit code 1, 2, 130 or 143, words, no traceback."""
        words = "Traceback" not in self.err and "this is a fault of dartcli" not in self.err
        return self.code in {1, 2, 130, 143} and words and "dart: " in self.err


DATASET = "jester-1"


def source(folder: Path, users: int = 400) -> Path:
    """Write made-up ratings as the dataset ``jester-1`` has them; return their folder."""
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


def commands(source: Path, strategy: str) -> dict[str, list[str]]:
    """Return what a user would type, from the data to the report."""
    train = ["train", DATASET, "--strategy", strategy, "--epochs", "8", "--patience", "8"]
    return {
        "download": ["download", DATASET, "--from", str(source)],
        "preprocess": ["preprocess", DATASET],
        "train": [*train, "--batch-size", "256", "--name", RUN, "--checkpoint-every", "0.05s"],
        "analyze": ["analyze", "precision-recall", RUN],
        "report": ["report", RUN],
    }


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process of the tool."""
    kept = {key: value for key, value in os.environ.items() if key != "DART_MIRROR"}
    return {**kept, "DART_HOME": str(home), "COLUMNS": "80", "OMP_NUM_THREADS": "1", **more}


def started(
    words: Sequence[str], home: Path, program: Sequence[str] = ("-m", "dartcli"), **more: str
) -> subprocess.Popen[str]:
    """Start ``dart`` with ``words``."""
    return subprocess.Popen(
        [sys.executable, *program, *words],
        env=environment(home, **more),
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], limit: float = LIMIT) -> Done:
    """Wait for the end of a process; a hang is an AssertionError."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args} hung: {err}") from None
    return Done(process.returncode, out, err)


def dart(words: Sequence[str], home: Path, **more: str) -> Done:
    """Run ``dart`` with ``words`` to its end."""
    return ended(started(words, home, **more))


def again(step: str, words: Sequence[str], home: Path) -> Sequence[str] | None:
    """Return what a user types after ``step`` was cut off; None where it is done."""
    run = home / "runs" / RUN
    if step != "train" or not run.exists():
        return words
    document = run / "metrics.json"
    if document.is_file() and '"interrupted": false' in document.read_text():
        return None
    return ["train", "--resume", RUN, "--checkpoint-every", "0.05s"]


def finish(home: Path, steps: Mapping[str, Sequence[str]], first: str) -> None:
    """Take the steps from ``first`` on to the end, as a user does who comes back."""
    names = list(steps)
    for name in names[names.index(first) :]:
        words = again(name, steps[name], home)
        if words is not None:
            done = dart(words, home)
            assert done.code == 0, (name, words, done)


def digest(home: Path) -> dict[str, str]:
    """Return path -> SHA-256 of all that counts: data, weights, measures, histories, analyses."""
    found = {}
    for part in ("raw", "processed", "runs"):
        for path in sorted((home / part).rglob("*")):
            if path.is_file() and path.name not in VARIES and path.suffix != ".lock":
                name = path.relative_to(home).as_posix()
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Undisturbed:
    """A pipeline that nothing happened to, and how things stood before each of its steps."""

    def __init__(self, folder: Path, strategy: str) -> None:
        self.folder = folder / strategy
        self.steps = commands(folder / "source", strategy)
        if not (folder / "source").exists():
            source(folder / "source")
        home = self.folder / "home"
        home.mkdir(parents=True)
        for name, words in self.steps.items():
            shutil.copytree(home, self._before(name))
            done = dart(words, home)
            assert done.code == 0, (name, done)
        self.digest = digest(home)
        assert f"runs/{RUN}/seed_0/model.safetensors" in self.digest

    def _before(self, step: str) -> Path:
        return self.folder / f"before-{step}"

    def home_before(self, step: str, place: Path) -> Path:
        """Make ``place`` a home as it was before ``step``."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._before(step), place)
        return place
