"""``kill -9`` at random moments, then go on: every byte must be that of the undisturbed run.

    python tests/faults/kills.py --kills 100

A moment is a time since the start of a command, or one of its file operations. What goes on may be
killed again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pipeline import HERE, Undisturbed, again, digest, ended, finish, started

STRATEGIES = ("base", "dart", "mentornet", "co-teaching")
WEIGHTS = {"download": 2, "preprocess": 3, "train": 10, "analyze": 2, "report": 2}
"""How often a step is the one that is killed."""
MOST = 3
"""Kills in a row."""


class Trials:
    """Kills in the pipelines of some strategies."""

    def __init__(self, folder: Path, strategies: tuple[str, ...] = STRATEGIES) -> None:
        self.folder = folder
        self.undisturbed = {name: Undisturbed(folder, name) for name in strategies}
        self.operations: dict[tuple[str, str], int] = {}
        self.seconds: dict[tuple[str, str], float] = {}
        for strategy, pipeline in self.undisturbed.items():
            for step, words in pipeline.steps.items():
                home = pipeline.home_before(step, folder / "home")
                counted = folder / "counted"
                began = time.monotonic()
                program = (str(HERE / "watched.py"), "0", str(counted))
                done = ended(started(words, home, program))
                assert done.code == 0, (step, done)
                self.seconds[strategy, step] = time.monotonic() - began
                self.operations[strategy, step] = int(counted.read_text())

    def killed(self, strategy: str, step: str, chance: random.Random, home: Path) -> int:
        """Kill ``step``, and perhaps what goes on with it; return how many kills struck."""
        struck = 0
        for _ in range(chance.choice((1, 1, MOST))):
            words = again(step, self.undisturbed[strategy].steps[step], home)
            if words is None:
                break
            if chance.random() < 0.5:
                number = chance.randint(1, self.operations[strategy, step])
                program = (str(HERE / "watched.py"), str(number), "-")
                process = started(words, home, program)
            else:
                process = started(words, home)
                wait = self.seconds[strategy, step] * chance.uniform(0.1, 1.0)
                deadline = time.monotonic() + wait
                while time.monotonic() < deadline and process.poll() is None:
                    time.sleep(0.005)
                process.kill()
            done = ended(process)
            assert done.code in {0, -signal.SIGKILL}, done
            struck += done.code != 0
        return struck

    def trial(self, number: int) -> tuple[str, str, int]:
        """Kill a command at a moment that ``number`` decides, finish, and compare every byte.

        Returns strategy, step and number of kills.
        """
        chance = random.Random(number)
        strategy = list(self.undisturbed)[number % len(self.undisturbed)]
        step = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        pipeline = self.undisturbed[strategy]
        home = pipeline.home_before(step, self.folder / "home")
        struck = self.killed(strategy, step, chance, home)
        finish(home, pipeline.steps, step)
        found = digest(home)
        differing = {
            name
            for name in found.keys() | pipeline.digest.keys()
            if found.get(name) != pipeline.digest.get(name)
        }
        assert not differing, (number, strategy, step, differing)
        return strategy, step, struck


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dart-kills-"))
    kills, steps, failed = Counter[str](), Counter[str](), 0
    try:
        trials = Trials(folder, tuple(options.strategies.split(",")))
        number = options.first
        while kills.total() < options.kills:
            try:
                strategy, step, struck = trials.trial(number)
                kills[strategy] += struck
                steps[step] += struck
            except AssertionError as error:
                failed += 1
                print(f"trial {number} FAILED: {error}", flush=True)
            number += 1
            if number % 10 == 0:
                print(f"{number} trials, {kills.total()} kills, {failed} failed", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{kills.total()} kills in {number - options.first} trials; failed: {failed}")
    print(f"by strategy: {dict(kills)}; by step: {dict(steps)}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
