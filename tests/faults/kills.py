"""Kill commands at random moments, resume, and compare every byte with an uninterrupted run.

    python tests/faults/kills.py --kills 100

A moment is either a time since the start of a command or one of its file operations. The command
that resumes may be killed as well.
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

from pipeline import (
    HERE,
    ReferencePipeline,
    finish_step,
    remaining_command,
    start_dart,
    wait_for,
)

STRATEGIES = ("base", "dart", "mentornet", "co-teaching")
WEIGHTS = {"download": 2, "preprocess": 3, "train": 10, "analyze": 2, "report": 2}
"""Relative frequency of killing each step."""
MAX_KILLS = 3
"""Consecutive kills."""


class KillTrials:
    """Kills in the pipelines of several strategies."""

    def __init__(self, folder: Path, strategies: tuple[str, ...] = STRATEGIES) -> None:
        self.folder = folder
        self.references = {name: ReferencePipeline(folder, name) for name in strategies}

    def kill_step(self, strategy: str, step: str, chance: random.Random, home: Path) -> int:
        """Kill ``step``, and perhaps the command that resumes it; return the number of kills."""
        kills = 0
        pipeline = self.references[strategy]
        for _ in range(chance.choice((1, 1, MAX_KILLS))):
            words = remaining_command(step, pipeline.steps[step], home)
            if words is None:
                break
            if chance.random() < 0.5:
                number = chance.randint(1, pipeline.operations[step])
                program = (str(HERE / "watched.py"), str(number), "-")
                process = start_dart(words, home, program)
            else:
                process = start_dart(words, home)
                wait = pipeline.seconds[step] * chance.uniform(0.1, 1.0)
                deadline = time.monotonic() + wait
                while time.monotonic() < deadline and process.poll() is None:
                    time.sleep(0.005)
                process.kill()
            done = wait_for(process)
            assert done.code in {0, -signal.SIGKILL}, done
            kills += done.code != 0
        return kills

    def run_trial(self, number: int) -> tuple[str, str, int]:
        """Kill a command at a moment derived from ``number``, finish it, and compare every byte.

        Returns the strategy, the step, and the number of kills.
        """
        chance = random.Random(number)
        strategy = list(self.references)[number % len(self.references)]
        step = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        pipeline = self.references[strategy]
        home = pipeline.copy_home_before(step, self.folder / "home")
        kills = self.kill_step(strategy, step, chance, home)
        finish_step(home, step, pipeline.steps[step])
        pipeline.check_after(step, home)
        return strategy, step, kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dart-kills-"))
    kills, steps, failed = Counter[str](), Counter[str](), 0
    try:
        trials = KillTrials(folder, tuple(options.strategies.split(",")))
        number = options.first
        while kills.total() < options.kills:
            try:
                strategy, step, struck = trials.run_trial(number)
                kills[strategy] += struck
                steps[step] += struck
            except AssertionError as error:
                failed += 1
                print(f"FAILED trial {number}: {error}", flush=True)
            number += 1
            if number % 10 == 0:
                print(f"{number} trials, {kills.total()} kills, {failed} failed", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{kills.total()} kills in {number - options.first} trials, {failed} failed")
    print(f"by strategy: {dict(kills)}; by step: {dict(steps)}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
