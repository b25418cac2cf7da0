"""Fixtures and settings for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# A slow machine must not fail a property test, and every run draws the same examples.
# tests/faults/fuzz.py searches for new ones.
settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

# Child processes run the checkout, as the tests do (see `pythonpath` in pyproject.toml).
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
if "PYTEST_XDIST_WORKER" in os.environ:
    # OpenMP threads spin while they wait, so workers that share cores would stall each other.
    # Polars keeps its threads: with one, code that relies on row order would always pass.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _default_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests that set no home of their own away from the user's and from each other's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(tmp_path_factory.mktemp("default-home")))
        yield


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry downloads without a delay."""
    monkeypatch.setattr("dartcli.data.transfer.FIRST_WAIT", 0.0)
    monkeypatch.setattr("dartcli.data.transfer.LONGEST_WAIT", 0.0)


@pytest.fixture
def mirrored_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of an empty DART_HOME, not yet created; DART_MIRROR stays set."""
    path = tmp_path / "home"
    monkeypatch.setenv("DART_HOME", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    return path


@pytest.fixture
def home(mirrored_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of an empty DART_HOME, not yet created; DART_MIRROR is not set."""
    monkeypatch.delenv("DART_MIRROR", raising=False)
    return mirrored_home


@pytest.fixture
def no_sync() -> type:
    """Return a context manager in which waiting for the device raises."""
    from no_sync import NoSync

    return NoSync


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with long tests, so that no worker ends with one; skip real data without a mirror."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if "DART_MIRROR" in os.environ:
        return
    skip = pytest.mark.skip(reason="DART_MIRROR is not set")
    for item in items:
        if "realdata" in item.keywords:
            item.add_marker(skip)
