"""Short versions of the harnesses in this folder; each is a command for the long one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from crowd import Crowd
from disk import Disks, small_disk
from kills import Trials
from pipeline import HERE

SEVERAL = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")


@SEVERAL
def test_killed_and_gone_on_to_the_same_bytes(tmp_path: Path) -> None:
    trials = Trials(tmp_path, ("dart",))
    assert sum(trials.trial(number)[2] for number in range(3)) > 0


def command(name: str, *words: str) -> str:
    """Run a harness that changes environment and working directory in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / name), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_damage_is_noticed_or_without_effect() -> None:
    said = command("corruptions.py", "--number", "54")
    assert re.search(r"54 damages .*: [1-9]\d* noticed, [1-9]\d* without effect, 0 failed", said)


def test_a_full_disk_is_a_sentence_and_then_forgotten(tmp_path: Path) -> None:
    with small_disk(tmp_path / "probe", 1 << 20) as mounted:
        if not mounted:
            pytest.skip("a file system cannot be mounted here: that takes root on Linux")
    disks = Disks(tmp_path)
    assert "space" in disks.full(2)
    assert "read-only" in disks.read_only("train")
    assert disks.removed(1)


def test_whatever_is_typed_or_given_ends_well() -> None:
    said = command("fuzz.py", "--examples", "150")
    assert all(f"'exit code {code}'" in said for code in (0, 1, 2))


def test_a_crowd_has_the_results_of_one(tmp_path: Path) -> None:
    Crowd(tmp_path, 4).all()
