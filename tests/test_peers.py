"""Run the comparison with other programs without them; no test depends on how long it takes."""

import json
import sys
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from benchmarks import peers
from benchmarks.__main__ import run_benchmark
from dartcli.errors import UsageError

SHAPE = (400, 300, 3_000)


@pytest.fixture
def _no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", {}.get)
    monkeypatch.setitem(peers.SIZES, "generated", SHAPE)


@pytest.mark.long
@pytest.mark.usefixtures("_no_peers")
def test_our_contenders_train_and_a_failing_peer_is_named() -> None:
    # this interpreter lacks myfm
    found = run_benchmark(
        "peers", size="generated", rounds=1, epochs=2, python=[f"myfm={sys.executable}"]
    )
    json.dumps(found, allow_nan=False)
    # a pair that is drawn again replaces the earlier one
    kept = len(peers.make_log("generated", SHAPE).unique(["user", "item"]))
    assert found["rows"]["train"] == kept * 8 // 10
    assert sum(found["rows"].values()) == kept
    assert [row["contender"] for row in found["rows_measured"]] == list(peers.OURS)
    assert set(found["failed"]) == set(peers.MODULES)
    assert found["failed"]["recbole"] == "not installed"
    assert "ModuleNotFoundError" in found["failed"]["myfm"]
    for run in found["reports"].values():
        ends = [0.0, *(epoch["at"] for epoch in run["epochs"]), run["wall"]]
        assert len(ends) == 4
        assert all(end > start for start, end in pairwise(ends))
        assert all(0 < epoch["valid_auc"] < 1 for epoch in run["epochs"])
        assert 0 < run["test_auc"] < 1
        assert run["peak_mb"] > 50
    assert any(row["seconds_to_target"] for row in found["rows_measured"])


def report(*epochs: tuple[float, float, float]) -> dict[str, Any]:
    """Return a report of epochs: seconds of training, time of their end, validation AUC."""
    points = [{"train_seconds": s, "at": at, "valid_auc": auc} for s, at, auc in epochs]
    return {"version": "1", "epochs": points, "test_auc": 0.6, "wall": 9.0, "peak_mb": 7.0}


def test_a_row_has_medians_and_the_time_of_the_first_epoch_that_reaches_the_target() -> None:
    run = report((0.3, 2, 0.6), (0.6, 3, 0.75), (0.9, 5, 0.7), (0.6, 8, 0.8))
    row = peers.summarize("a", run, 6, 0.7)
    assert row["ms_a_step"] == pytest.approx(100)
    assert row["seconds_an_epoch"] == 2
    assert row["seconds_to_first_epoch"] == 2
    assert row["seconds_to_target"] == 3
    assert row["best_valid_auc"] == 0.8
    assert peers.summarize("a", run, 6, 0.81)["seconds_to_target"] is None


def test_half_of_the_contenders_reach_the_target() -> None:
    reports = [report((1, 1, auc), (1, 2, 0.5)) for auc in (0.9, 0.8127, 0.7, 0.6)]
    assert peers.choose_target(reports) == 0.812
    assert peers.choose_target(reports[:3]) == 0.812


def test_the_labels_of_generated_interactions_depend_on_user_and_item() -> None:
    log = peers.make_log("generated", (20, 10, 20_000))
    assert log["user"].is_between(0, 19).all()
    assert log["item"].is_between(0, 9).all()
    shares = (
        log.group_by("user", "item").agg(pl.col("label").mean(), pl.len()).filter(pl.len() > 50)
    )
    # chance alone would give at most .07
    assert shares["label"].std() > 0.2


@pytest.mark.parametrize("text", ["myfm", "myfm=/no/such/python", f"libfm={sys.executable}"])
def test_invalid_interpreters_are_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="--python"):
        peers.find_interpreters([text])


def test_an_unknown_size_is_rejected() -> None:
    with pytest.raises(UsageError, match="movielens-100k, generated"):
        run_benchmark("peers", size="jester")
