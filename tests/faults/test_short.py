"""Short versions of the harnesses in this folder; each is a command for the long one."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corruptions import KINDS, Damages
from crowd import Crowd
from disk import Disks, small_disk
from fuzz import run
from kills import Trials

SEVERAL = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")


@SEVERAL
def test_killed_and_gone_on_to_the_same_bytes(tmp_path: Path) -> None:
    trials = Trials(tmp_path, ("dart",))
    assert sum(trials.trial(number)[2] for number in range(3)) > 0


def test_damage_is_noticed_or_without_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DART_HOME", "DART_MIRROR", "COLUMNS"):
        monkeypatch.setenv(name, "")  # so that it is put back at the end
    damages = Damages(tmp_path)
    outcomes = [damages.trial(number)[2] for number in range(2 * len(KINDS))]
    assert set(outcomes) == {"noticed", "without effect"}


def test_a_full_disk_is_a_sentence_and_then_forgotten(tmp_path: Path) -> None:
    with small_disk(tmp_path / "probe", 1 << 20) as mounted:
        if not mounted:
            pytest.skip("a file system cannot be mounted here: that takes root on Linux")
    disks = Disks(tmp_path)
    assert "space" in disks.full(2)
    assert "read-only" in disks.read_only("train")
    assert disks.removed(1)


def test_whatever_is_typed_or_given_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DART_HOME", "DART_MIRROR", "COLUMNS", "HOME", "TMPDIR", "XDG_CACHE_HOME",
                 "XDG_CONFIG_HOME", "MPLCONFIGDIR"):  # fmt: skip
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.chdir(tmp_path)
    fuzz = run(150)
    assert {"exit code 0", "exit code 1", "exit code 2"} <= set(fuzz.outcomes)


def test_a_crowd_has_the_results_of_one(tmp_path: Path) -> None:
    Crowd(tmp_path, 4).all()
