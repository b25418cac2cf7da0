"""Run each harness in this folder briefly; as commands they run for as long as you like."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from crowd import Crowd
from disk import DiskTrials, mount_small_disk
from kills import KillTrials
from pipeline import HERE

pytestmark = pytest.mark.faults


def run_harness(name: str, *words: str) -> str:
    """Run a harness that changes environment and working directory; return its output."""
    done = subprocess.run(
        [sys.executable, str(HERE / name), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_and_resumed_pipelines_produce_identical_bytes(tmp_path: Path) -> None:
    trials = KillTrials(tmp_path, ("dart",))
    assert sum(trials.run_trial(number)[2] for number in range(3)) > 0


@pytest.mark.long
def test_corruption_is_detected_or_has_no_effect() -> None:
    said = run_harness("corruptions.py", "--number", "54")
    assert re.search(r"^54 .*: [1-9]\d* detected, [1-9]\d* without effect, 0 failed", said, re.M)


@pytest.mark.long
def test_a_failing_disk_gives_an_error_and_leaves_no_trace(tmp_path: Path) -> None:
    with mount_small_disk(tmp_path / "probe", 1 << 20) as mounted:
        if not mounted:
            pytest.skip("mounting a file system needs root on Linux")
    trials = DiskTrials(tmp_path)
    assert "space" in trials.fill_disk(2)
    assert "read-only" in trials.deny_writes("train").lower()
    assert trials.remove_path(1)


@pytest.mark.long
def test_unusual_input_ends_with_a_documented_exit_code() -> None:
    said = run_harness("fuzz.py", "--examples", "150")
    assert all(f"'exit code {code}'" in said for code in (0, 1, 2))


@pytest.mark.long
def test_processes_that_share_a_home_get_the_results_of_one_alone(tmp_path: Path) -> None:
    Crowd(tmp_path, 4).run_all()
