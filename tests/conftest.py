"""Fixtures for all tests."""

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DART_HOME (not yet created), and no mirror."""
    path = tmp_path / "home"
    monkeypatch.setenv("DART_HOME", str(path))
    monkeypatch.delenv("DART_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return path
