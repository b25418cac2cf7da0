"""Fill the disk, make it read-only, or remove files during a command; check that all recovers.

    python tests/faults/disk.py --points 20

Needs root on Linux, to mount small file systems in memory.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipeline import (
    RUN,
    ReferencePipeline,
    finish_step,
    run_dart,
    start_dart,
    wait_for,
)

STEPS = ("download", "preprocess", "train", "analyze", "report")
Case = TypeVar("Case", int, str)


def _mount(*words: str) -> bool:
    tool = shutil.which(words[0])
    if tool is None:
        return False
    return subprocess.run([tool, *words[1:]], check=False, capture_output=True).returncode == 0


@contextmanager
def mount_small_disk(place: Path, size: int) -> Iterator[bool]:
    """Mount ``size`` bytes of memory at ``place``; yield False if that is not permitted."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = _mount("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield mounted
    finally:
        if mounted:
            _mount("umount", "-l", str(place))


def resize_disk(place: Path, size: int) -> None:
    """Make a mounted file system writable and change its size."""
    assert _mount("mount", "-o", f"remount,rw,size={size}", "tmpfs", str(place))


def make_read_only(place: Path) -> None:
    """Remount a file system read-only."""
    assert _mount("mount", "-o", "remount,ro", str(place))


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files below ``folder``, rounded up to 4 KiB blocks."""
    blocks = (-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())
    return 4096 * sum(blocks)


class DiskTrials:
    """Steps of a pipeline on failing disks."""

    def __init__(self, folder: Path, strategy: str = "dart") -> None:
        self.folder = folder
        self.pipeline = ReferencePipeline(folder, strategy)

    def _check_recovery(self, home: Path, step: str) -> None:
        finish_step(home, step, self.pipeline.steps[step])
        self.pipeline.check_after(step, home)

    def fill_disk(self, number: int) -> str:
        """Run one step with too little space, then with enough; return the error message."""
        chance = random.Random(number)
        step = STEPS[number % len(STEPS)]
        place = self.folder / f"disk-{number}"
        with mount_small_disk(place, 1 << 30) as mounted:
            assert mounted, "cannot mount a file system"
            home = self.pipeline.copy_home_before(step, place / "home")
            used = measure_folder(home)
            needed = measure_folder(self.pipeline.home_after(step)) - used
            resize_disk(place, used + 4096 + int(max(needed, 20_000) * chance.uniform(0, 0.9)))
            done = run_dart(self.pipeline.steps[step], home)
            assert done.is_clean_failure or done.code == 0, (number, step, done)
            resize_disk(place, 1 << 30)
            self._check_recovery(home, step)
        return f"{step}: {done.last_line if done.code else 'the space was sufficient'}"

    def deny_writes(self, step: str) -> str:
        """Run one step on a read-only disk, then on a writable one; return the error message."""
        place = self.folder / f"read-only-{step}"
        with mount_small_disk(place, 1 << 30) as mounted:
            assert mounted, "cannot mount a file system"
            home = self.pipeline.copy_home_before(step, place / "home")
            make_read_only(place)
            done = run_dart(self.pipeline.steps[step], home)
            assert done.is_clean_failure, (step, done)
            resize_disk(place, 1 << 30)
            self._check_recovery(home, step)
        return f"{step}: {done.last_line}"

    def remove_path(self, number: int) -> str:
        """Remove a file or folder while a step runs; return the victim and the error message."""
        chance = random.Random(number)
        step = ("preprocess", "train", "analyze", "report")[number % 4]
        home = self.pipeline.copy_home_before(step, self.folder / f"removed-{number}" / "home")
        process = start_dart(self.pipeline.steps[step], home)
        time.sleep(chance.uniform(0.3, 4.0 if step == "train" else 2.0))
        parts = [
            path for path in home.rglob("*") if path.parent != home and ".lock" not in path.name
        ]
        victim = chance.choice(sorted(parts))
        if victim.is_dir():
            shutil.rmtree(victim, ignore_errors=True)
        else:
            victim.unlink(missing_ok=True)
        done = wait_for(process)
        assert done.is_clean_failure or done.code == 0, (number, step, victim, done)
        message = done.last_line if done.code else "not needed"
        self._repair(home)
        return f"{step}, without {victim.relative_to(home)}: {message}"

    def _repair(self, home: Path) -> None:
        """Repair or remove what is corrupt, as the error messages advise, and start again."""
        run_dart(["doctor", "--repair", "--json"], home)
        run = home / "runs" / RUN
        if run.is_dir() and not (run / "settings.json").is_file():
            assert run_dart(["runs", "remove", RUN, "--yes"], home).code == 0
        for step, words in self.pipeline.steps.items():
            finish_step(home, step, words)
        self.pipeline.check_after("report", home)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20)
    options = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="dart-disks-"))
    failed = 0

    def attempt(what: str, trial: Callable[[Case], str], argument: Case) -> None:
        nonlocal failed
        try:
            print(f"{what} {argument}: {trial(argument)}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"FAILED {what} {argument}: {error}", flush=True)

    try:
        trials = DiskTrials(folder)
        for number in range(options.points):
            attempt("full", trials.fill_disk, number)
        for step in STEPS:
            attempt("read-only", trials.deny_writes, step)
        for number in range(options.points):
            attempt("removed", trials.remove_path, number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.points} full disks, {len(STEPS)} read-only disks, {options.points} removals, "
          f"{failed} failed")  # fmt: skip
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
