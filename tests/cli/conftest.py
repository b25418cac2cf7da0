"""Trained runs that the tests of all commands share."""

import shutil
from pathlib import Path

import pytest
from running import DART, TRAIN, succeed


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DART_HOME with two finished runs, ``one`` and ``two``, and an unfinished one, ``left``."""
    home = tmp_path_factory.mktemp("trained") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        patch.delenv("DART_MIRROR", raising=False)
        succeed(*TRAIN, "--name", "one", *DART)
        succeed(*TRAIN, "--name", "two", "--strategy", "base", "--protocol", "reference")
    left = home / "runs" / "left"
    left.mkdir()
    shutil.copy(home / "runs" / "two" / "settings.json", left)
    return home


@pytest.fixture
def trained(trained_home: Path, home: Path) -> Path:
    """A copy of ``trained_home`` that the test may change; DART_HOME names it."""
    shutil.copytree(trained_home, home)
    return home
