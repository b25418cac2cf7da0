"""Many processes at once on one home: every result is that of a process alone.

    python tests/faults/crowd.py --processes 16

Each prepares the same data, trains, analyses its run, and some remove theirs; they also fight for
one name, which one of them gets.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from pipeline import DATASET, dart, digest, source

SEEDS = 2
ARMS = ("base", "dart")
WAIT = 900.0


def _train(number: int) -> list[str]:
    arm, seed = ARMS[number % len(ARMS)], str(number // len(ARMS) % SEEDS)
    train = ["train", DATASET, "--strategy", arm, "--seed", seed, "--epochs", "3", "--json"]
    return [*train, "--batch-size", "256", "--checkpoint-every", "0.5s"]


def _analyze(run: str) -> list[str]:
    return ["analyze", "precision-recall", run, "--json"]


def _bare(document: Any, run: str) -> Any:
    """Return a document without the name of its run."""
    return json.loads(json.dumps(document).replace(f'"{run}', '"it'))


class Crowd:
    """Processes that share a home."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.processes = processes
        self.home, self.mirror = folder / "home", str(source(folder / "source", 200))
        self.truth: dict[int, tuple[Any, Any]] = {}
        self.faults: list[str] = []
        self.removed: list[str] = []
        self.kept: dict[str, int] = {}
        self.won: list[int] = []
        alone = folder / "alone"
        for number in range(min(processes, len(ARMS) * SEEDS)):
            self.truth[number] = self._results(alone, number)[1:]
        self.alone = digest(alone)

    def _results(self, home: Path, number: int) -> tuple[str, Any, Any]:
        done = dart(_train(number), home, DART_MIRROR=self.mirror)
        assert done.code == 0, done
        metrics = json.loads(done.out)
        run = metrics["run"]
        done = dart(_analyze(run), home)
        assert done.code == 0, done
        return run, _bare(metrics, run), _bare(json.loads(done.out), run)

    def one(self, number: int) -> None:
        """Be one of the processes."""
        try:
            run, metrics, numbers = self._results(self.home, number)
            truth = self.truth[number % len(self.truth)]
            assert (metrics, numbers) == truth, (number, run)
            if number % 3 == 0:
                done = dart(["runs", "remove", run, "--yes"], self.home)
                assert done.code == 0, done
                self.removed.append(run)
            else:
                self.kept[run] = number
            done = dart([*_train(0), "--name", "same"], self.home, DART_MIRROR=self.mirror)
            assert done.code == 0 or done.is_sentence, done
            if done.code == 0:
                self.won.append(number)
                assert _bare(json.loads(done.out), "same") == self.truth[0][0], number
        except AssertionError as error:
            self.faults.append(str(error))

    def all(self) -> None:
        """Let all of them run, and look at what is left."""
        threads = [threading.Thread(target=self.one, args=(n,)) for n in range(self.processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert not self.faults, self.faults
        assert len(self.won) == 1, f"{len(self.won)} got the one name"
        listed = {
            entry["name"]: entry for entry in json.loads(dart(["runs", "--json"], self.home).out)
        }
        assert {*self.kept, "same"} == set(listed), (self.kept, listed)
        assert {entry["state"] for entry in listed.values()} == {"finished"}
        assert len({*self.kept, *self.removed}) <= self.processes
        doctor = dart(["doctor", "--json"], self.home)
        assert doctor.code == 0, doctor
        prepared = {k: v for k, v in self.alone.items() if k.startswith("processed")}
        here = digest(self.home)
        assert all(here[name] == value for name, value in prepared.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=16)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dart-crowd-"))
    try:
        crowd = Crowd(folder, options.processes)
        crowd.all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.processes} processes: {len(crowd.kept)} runs kept, {len(crowd.removed)} removed, "
          "one got the name that all wanted; every result is that of a process alone")  # fmt: skip


if __name__ == "__main__":
    main()
