"""Fixtures for all tests."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


# whatever a test leaves out of a home of its own must not reach the user's
os.environ.setdefault("DART_HOME", tempfile.mkdtemp(prefix="dart-tests-"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DART_HOME (not yet created), and no mirror."""
    path = tmp_path / "home"
    monkeypatch.setenv("DART_HOME", str(path))
    monkeypatch.delenv("DART_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return path


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts to download follow each other at once."""
    monkeypatch.setattr("dartcli.data.transfer.FIRST_WAIT", 0.0)
    monkeypatch.setattr("dartcli.data.transfer.LONGEST_WAIT", 0.0)


@pytest.fixture
def no_sync() -> type:
    """A context in which nothing may wait for the device."""
    from no_sync import NoSync

    return NoSync


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "DART_MIRROR" in os.environ:
        return
    skip = pytest.mark.skip(reason="DART_MIRROR is not set: the real data are not here")
    for item in items:
        if "realdata" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def mirrored_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DART_HOME, with the mirror of the environment."""
    path = tmp_path / "home"
    monkeypatch.setenv("DART_HOME", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    return path
