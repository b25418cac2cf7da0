"""Run many processes on one home; compare each result with that of a process alone.

    python tests/faults/crowd.py --processes 16

Each prepares the same data, trains, and analyzes its run; some remove theirs. All compete for one
run name, which exactly one may get.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from pipeline import DATASET, hash_home, run_dart, write_source

SEEDS = 2
STRATEGIES = ("base", "dart")
CONTESTED = "contested"
"""The run name that all processes compete for."""
TIMEOUT = 900.0


def _train(number: int) -> list[str]:
    strategy = STRATEGIES[number % len(STRATEGIES)]
    seed = str(number // len(STRATEGIES) % SEEDS)
    train = ["train", DATASET, "--strategy", strategy, "--seed", seed, "--epochs", "3", "--json"]
    return [*train, "--batch-size", "256", "--checkpoint-every", "0.5s"]


def _analyze(run: str) -> list[str]:
    return ["analyze", "precision-recall", run, "--json"]


def _replace_run_name(document: Any, run: str) -> Any:
    """Return ``document`` with the name of its run replaced by a fixed one."""
    return json.loads(json.dumps(document).replace(f'"{run}', '"RUN'))


class Crowd:
    """Processes that share a home."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.processes = processes
        self.home, self.mirror = folder / "home", str(write_source(folder / "source", 200))
        self.expected: dict[int, tuple[Any, Any]] = {}
        self.failures: list[str] = []
        self.removed: list[str] = []
        self.kept: dict[str, int] = {}
        self.winners: list[int] = []
        alone = folder / "alone"
        for number in range(min(processes, len(STRATEGIES) * SEEDS)):
            self.expected[number] = self._train_and_analyze(alone, number)[1:]
        self.hashes_alone = hash_home(alone)

    def _train_and_analyze(self, home: Path, number: int) -> tuple[str, Any, Any]:
        done = run_dart(_train(number), home, DART_MIRROR=self.mirror)
        assert done.code == 0, done
        metrics = json.loads(done.out)
        run = metrics["run"]
        done = run_dart(_analyze(run), home)
        assert done.code == 0, done
        return run, _replace_run_name(metrics, run), _replace_run_name(json.loads(done.out), run)

    def run_one(self, number: int) -> None:
        """Run the commands of one process; note whatever differs from a process alone."""
        try:
            run, metrics, numbers = self._train_and_analyze(self.home, number)
            expected = self.expected[number % len(self.expected)]
            assert (metrics, numbers) == expected, (number, run)
            if number % 3 == 0:
                done = run_dart(["runs", "remove", run, "--yes"], self.home)
                assert done.code == 0, done
                self.removed.append(run)
            else:
                self.kept[run] = number
            done = run_dart([*_train(0), "--name", CONTESTED], self.home, DART_MIRROR=self.mirror)
            assert done.code == 0 or done.is_clean_failure, done
            if done.code == 0:
                self.winners.append(number)
                found = _replace_run_name(json.loads(done.out), CONTESTED)
                assert found == self.expected[0][0], number
        except AssertionError as error:
            self.failures.append(str(error))

    def run_all(self) -> None:
        """Run all processes at once and check the home that they leave."""
        threads = [threading.Thread(target=self.run_one, args=(n,)) for n in range(self.processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert not self.failures, self.failures
        assert len(self.winners) == 1, f"{len(self.winners)} processes got the one name"
        listed = {
            entry["name"]: entry
            for entry in json.loads(run_dart(["runs", "--json"], self.home).out)["runs"]
        }
        assert {*self.kept, CONTESTED} == set(listed), (self.kept, listed)
        assert {entry["state"] for entry in listed.values()} == {"finished"}
        assert len({*self.kept, *self.removed}) <= self.processes
        doctor = run_dart(["doctor", "--json"], self.home)
        assert doctor.code == 0, doctor
        found = hash_home(self.home)
        for name, value in self.hashes_alone.items():
            if name.startswith("processed"):
                assert found[name] == value, name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=16)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dart-crowd-"))
    try:
        crowd = Crowd(folder, options.processes)
        crowd.run_all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.processes} processes: {len(crowd.kept)} runs kept, {len(crowd.removed)} removed, "
          "1 got the contested name; every result equals that of a process alone")  # fmt: skip


if __name__ == "__main__":
    main()
