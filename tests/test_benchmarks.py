"""The benchmarks run and keep their promises about what they return; no test looks at a time."""

import json
import shutil
from typing import Any

import pytest
import torch

from benchmarks import timing
from benchmarks.__main__ import run_benchmark
from benchmarks._data import SIZES
from benchmarks.timing import interleaved, peak_memory
from dartcli.errors import UsageError
from dartcli.training.acceleration import COMPILERS


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "movielens-100k", (50, 40, 6_000))


def measured(what: str, **options: Any) -> dict[str, Any]:
    found = run_benchmark(what, rounds=1, **options)
    assert found["benchmark"] == what
    json.dumps(found, allow_nan=False)
    keys = [tuple(row) for row in found["rows_measured"]]
    assert len(set(keys)) == 1
    assert all(
        value >= 0
        for row in found["rows_measured"]
        for value in row.values()
        if value != str(value)
    )
    return found


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    ticks = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks) ** 2)
    found = interleaved(
        {name: lambda name=name: log.append(name) for name in "ab"}, 3, torch.device("cpu")
    )
    assert "".join(log) == "ab" + "ab" * 3
    # the clock reads 0, 1, 4, 9, ...: spans of 1, 5, 9, 13, 17, 21
    assert (found["a"].low, found["a"].median, found["a"].high) == (1, 9, 17)
    assert (found["b"].low, found["b"].median, found["b"].high) == (5, 13, 21)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    held = torch.ones(2 * before // 4)
    assert peak_memory() - before > held.numel()
    assert 1 << 24 < before < 1 << 40


def test_floor_adds_its_parts_up() -> None:
    found = measured("floor")
    assert {row["part"] for row in found["rows_measured"]} >= {"gather", "scatter", "zero", "adam"}


@pytest.mark.skipif(
    not any(shutil.which(name) for name in COMPILERS), reason="there is no C++ compiler here"
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_train_compares_with_the_usual_loops() -> None:
    found = measured("train")
    rows = {row["contender"]: row for row in found["rows_measured"]}
    assert rows["dart (dart), compiled"]["times_ours"] == 1
    assert rows["floor"]["times_floor"] == 1
    assert {"eager", "dataloader", "dart (base), compiled"} <= set(rows)


@pytest.mark.skipif(
    not any(shutil.which(name) for name in COMPILERS), reason="there is no C++ compiler here"
)
def test_profile_shares_add_up_for_each_way_of_stepping() -> None:
    rows = measured("profile")["rows_measured"]
    for way in ("eager", "compiled"):
        of_way = [row for row in rows if row["step"] == way]
        assert sum(row["share"] for row in of_way) == pytest.approx(1)
        assert of_way[-1]["operation"] == "all others"
    assert "the compiled function" in {row["operation"] for row in rows}


@pytest.mark.skipif(
    not any(shutil.which(name) for name in COMPILERS), reason="there is no C++ compiler here"
)
def test_deterministic_is_compared_with_itself_without() -> None:
    rows = measured("deterministic")["rows_measured"]
    assert [row["step"] for row in rows] == ["eager", "compiled"]
    for row in rows:
        ratio = row["deterministic_ms"] / row["free_ms"]
        assert row["times_free"] == pytest.approx(ratio)


def test_eval_measures_by_size() -> None:
    found = measured("eval", rows="0.01,0.02")
    assert [row["rows"] for row in found["rows_measured"]] == [10_000, 20_000]
    assert found["rows_measured"][0]["times_smallest"] == 1
    assert set(found["also"]) == {
        "evaluation, as a share of an epoch",
        "AUC, seconds for a million rows",
        "from the command line to the first step, seconds",
    }


@pytest.mark.parametrize("rows", ["many", "0", "1,,2", "-1", "nan", "1e9"])
def test_sizes_that_are_none_are_refused(rows: str) -> None:
    with pytest.raises(UsageError, match="--rows"):
        run_benchmark("eval", rounds=1, rows=rows)
