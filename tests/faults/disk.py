"""A disk that is full, one that may only be read, files that go away: a sentence, then recovery.

    python tests/faults/disk.py --points 20

Needs a Linux on which it may mount a small file system in memory (root).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pipeline import RUN, Undisturbed, dart, digest, ended, finish, started

STEPS = ("download", "preprocess", "train", "analyze", "report")


def _mount(*words: str) -> bool:
    tool = shutil.which(words[0])
    if tool is None:
        return False
    return subprocess.run([tool, *words[1:]], check=False, capture_output=True).returncode == 0


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """Mount ``size`` bytes of memory at ``place``; False where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = _mount("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield mounted
    finally:
        if mounted:
            _mount("umount", "-l", str(place))


def resized(place: Path, size: int) -> None:
    """Give a mounted file system another size."""
    assert _mount("mount", "-o", f"remount,rw,size={size}", "tmpfs", str(place))


def read_only(place: Path) -> None:
    """Let nobody write there any more."""
    assert _mount("mount", "-o", "remount,ro", str(place))


def size_of(folder: Path) -> int:
    """Return the bytes of all files below ``folder``, in blocks of a file system."""
    pages = (-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())
    return 4096 * sum(pages)


class Disks:
    """Steps of an undisturbed pipeline, on disks that fail."""

    def __init__(self, folder: Path, strategy: str = "dart") -> None:
        self.folder = folder
        self.pipeline = Undisturbed(folder, strategy)
        self.room = size_of(self.pipeline.folder / "home")

    def _home(self, place: Path, step: str) -> Path:
        home = place / "home"
        shutil.copytree(self.pipeline.folder / f"before-{step}", home)
        return home

    def _recovered(self, home: Path, step: str) -> None:
        finish(home, self.pipeline.steps, step)
        assert digest(home) == self.pipeline.digest, step

    def full(self, number: int) -> str:
        """Run one step with too little room, then with enough; return what was said."""
        chance = random.Random(number)
        step = STEPS[number % len(STEPS)]
        place = self.folder / f"disk-{number}"
        with small_disk(place, 1 << 30) as mounted:
            assert mounted, "a file system cannot be mounted here"
            home = self._home(place, step)
            have = size_of(home)
            with tempfile.TemporaryDirectory(dir=self.folder) as other:
                whole = Path(other) / "home"
                shutil.copytree(home, whole)
                assert dart(self.pipeline.steps[step], whole).code == 0
                needed = size_of(whole) - have
            resized(place, have + 4096 + int(max(needed, 20_000) * chance.uniform(0, 0.9)))
            done = dart(self.pipeline.steps[step], home)
            assert done.is_sentence or done.code == 0, (number, step, done)
            resized(place, 1 << 30)
            self._recovered(home, step)
        return f"{step}: {done.err.strip().splitlines()[-1] if done.code else 'it was enough'}"

    def read_only(self, step: str) -> str:
        """Run one step where nothing may be written, then where it may."""
        place = self.folder / f"read-only-{step}"
        with small_disk(place, 1 << 30) as mounted:
            assert mounted, "a file system cannot be mounted here"
            home = self._home(place, step)
            read_only(place)
            done = dart(self.pipeline.steps[step], home)
            assert done.is_sentence, (step, done)
            resized(place, 1 << 30)
            self._recovered(home, step)
        return f"{step}: {done.err.strip().splitlines()[-1]}"

    def removed(self, number: int) -> str:
        """Remove a file or folder while a step is running; it ends well or with a sentence."""
        chance = random.Random(number)
        step = ("preprocess", "train", "analyze", "report")[number % 4]
        home = self.pipeline.home_before(step, self.folder / f"removed-{number}" / "home")
        process = started(self.pipeline.steps[step], home)
        time.sleep(chance.uniform(0.3, 4.0 if step == "train" else 2.0))
        parts = [
            path for path in home.rglob("*") if path.parent != home and ".lock" not in path.name
        ]
        victim = chance.choice(sorted(parts))
        if victim.is_dir():
            shutil.rmtree(victim, ignore_errors=True)
        else:
            victim.unlink(missing_ok=True)
        done = ended(process)
        assert done.is_sentence or done.code == 0, (number, step, victim, done)
        words = done.err.strip().splitlines()[-1] if done.code else "nothing was missed"
        said = f"{step}, without {victim.relative_to(home)}: {words}"
        self._begin_again(home)
        return said

    def _begin_again(self, home: Path) -> None:
        """Do what a user does who reads the sentence: repair, or remove and do it again."""
        said = json.loads(dart(["doctor", "--repair", "--json"], home).out)
        if any(entry["part"] == "run" and entry["state"] == "broken" for entry in said):
            # its settings are gone
            assert dart(["runs", "remove", RUN, "--yes"], home).code == 0
        self._recovered(home, "download")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20)
    options = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="dart-disks-"))
    failed = 0

    def tried(what: str, trial: object, argument: object) -> None:
        nonlocal failed
        try:
            print(f"{what} {argument}: {trial(argument)}", flush=True)  # type: ignore[operator]
        except AssertionError as error:
            failed += 1
            print(f"FAILED {what} {argument}: {error}", flush=True)

    try:
        disks = Disks(folder)
        for number in range(options.points):
            tried("full", disks.full, number)
        for step in STEPS:
            tried("read-only", disks.read_only, step)
        for number in range(options.points):
            tried("removed", disks.removed, number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.points} full disks, {len(STEPS)} read-only, {options.points} removals; "
          f"failed: {failed}")  # fmt: skip
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
