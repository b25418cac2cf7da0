"""Kill ``dart tune`` and its workers with SIGKILL, and run it again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dartcli.experiments.study import Study, StudyDocument
from dartcli.settings import validate
from dartcli.storage.checksums import read_document

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"),
]
TRIALS = 12
WORDS = [
    *("tune", "synthetic", "--set", "dataset.interactions=3000", "--set", "training.epochs=4"),
    *("--space", "r=0:1", "--space", "tau_m=log:0.01:0.9", "--space", "t_m=1:50"),
    *("--trials", str(TRIALS), "--confirm", "7-9", "--name", "mine", "--json"),
]


def start(home: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DART_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dartcli", *WORDS, *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(home: Path, *more: str) -> dict[str, Any]:
    process = start(home, *more)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def count_rows(home: Path) -> int:
    return len(list(home.glob("studies/mine/rows/*.json")))


def list_trials(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("DART_HOME", str(home))
    folder = home / "studies/mine"
    document = validate(StudyDocument, read_document(folder / "study.json"), "study")
    return Study(folder, document).trials()


def list_children(pid: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            yield int(stat.parent.name)


def kill_after(home: Path, rows: int, wait: float, *more: str) -> bool:
    """Kill a search some time after it has written ``rows``; return whether it still ran."""
    process = start(home, *more)
    deadline = time.monotonic() + 300
    while count_rows(home) < rows and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(wait)
    struck = process.poll() is None
    process.kill()
    process.communicate()
    return struck


@pytest.mark.long
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_search_that_is_killed_three_times_counts_every_trial_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str
) -> None:
    chance = random.Random(jobs)
    home = tmp_path / "killed"
    struck = [kill_after(home, rows, chance.uniform(0, 0.4), "--jobs", jobs) for rows in (2, 5, 9)]
    assert struck == [True] * 3
    found = finish(home, "--jobs", jobs)
    trials = list_trials(home, monkeypatch)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert all(trial.score is not None for trial in trials)
    assert (found["trials"], found["failed"]) == (TRIALS, 0)
    assert found["best"] == 0 or found["confirmed"]["test_auc"]["n"] == 3
    if jobs == "1":
        whole = tmp_path / "whole"
        assert finish(whole, "--jobs", "1") == found
        assert list_trials(whole, monkeypatch) == trials


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
def test_a_trial_whose_worker_is_killed_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(tmp_path / "home", "--jobs", "2")
    killed = 0
    while process.poll() is None and killed < 2:
        for child in list_children(process.pid):
            words = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in words and count_rows(tmp_path / "home") > killed:
                os.kill(child, signal.SIGKILL)
                killed += 1
                time.sleep(0.5)
                break
        time.sleep(0.05)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert killed == 2
    assert (json.loads(out)["trials"], json.loads(out)["failed"]) == (TRIALS, 0)
    trials = list_trials(tmp_path / "home", monkeypatch)
    assert all(trial.score is not None for trial in trials)
