"""A run on a log of one's own, with text ids and further fields."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli.running import succeed

TRAIN = ["--strategy", "base", "--epochs", "2", "--batch-size", "256"]


def make_log() -> pl.DataFrame:
    random = np.random.default_rng(0)
    user, item = random.integers(0, 60, 1500), random.integers(0, 50, 1500)
    return pl.DataFrame(
        {
            "uid": [f"u{code}" for code in user],
            "sku": item + 1000,
            "shop": [f"s{code % 4}" for code in item],
            "price": (item * 1.5).astype(np.float64),
        }
    ).unique(["uid", "sku"], maintain_order=True)


@pytest.fixture(scope="session")
def serving_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DART_HOME with the runs ``fm`` and ``deepfm`` on the log ``shop``, and the log itself."""
    home = tmp_path_factory.mktemp("serving") / "home"
    home.mkdir()
    make_log().write_parquet(home / "log.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        succeed(
            "preprocess", "--input", str(home / "log.parquet"), "--user", "uid", "--item", "sku",
            "--field", "shop", "--numeric-field", "price", "--name", "shop",
        )  # fmt: skip
        for model in ("fm", "deepfm"):
            succeed("train", "shop", "--name", model, "--model", model, *TRAIN)
    return home


@pytest.fixture
def served(serving_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, for tests that only read its runs."""
    monkeypatch.setenv("DART_HOME", str(serving_home))
    monkeypatch.setenv("COLUMNS", "80")
    return serving_home
