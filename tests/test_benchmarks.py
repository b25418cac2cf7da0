"""Run each benchmark on small data; no test depends on how long something takes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import eval as eval_benchmark
from benchmarks import results, timing
from benchmarks.__main__ import run_benchmark
from benchmarks._data import SIZES
from benchmarks.timing import forget_peak, in_own_process, interleaved, peak_memory
from dartcli.errors import DartError, UsageError


@pytest.fixture(autouse=True)
def _small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "movielens-100k", (50, 40, 6_000))


def run_once(name: str, **options: Any) -> dict[str, Any]:
    found = run_benchmark(name, rounds=1, **options)
    assert found["benchmark"] == name
    json.dumps(found, allow_nan=False)
    keys = [tuple(row) for row in found["rows_measured"]]
    assert len(set(keys)) == 1
    numbers = [
        value
        for row in found["rows_measured"]
        for value in row.values()
        if not isinstance(value, str)
    ]
    assert min(numbers) >= 0
    return found


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    ticks = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks) ** 2)
    found = interleaved(
        {name: lambda name=name: log.append(name) for name in "ab"}, 3, torch.device("cpu")
    )
    assert "".join(log) == "ab" + "ab" * 3
    # the clock reads 0, 1, 4, 9, ..., so the rounds take 1, 5, 9, 13, 17, 21
    assert (found["a"].low, found["a"].median, found["a"].high) == (1, 9, 17)
    assert (found["b"].low, found["b"].median, found["b"].high) == (5, 13, 21)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_memory_grows_with_an_allocation() -> None:
    forget_peak()
    before = peak_memory()
    held = torch.ones(50_000_000)
    assert peak_memory() - before > 3 * held.numel()
    assert 1 << 24 < before < 1 << 40


def test_floor_times_each_part_of_a_step() -> None:
    found = run_once("floor")
    assert {row["part"] for row in found["rows_measured"]} >= {"gather", "scatter", "zero", "adam"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_train_compares_with_common_loops() -> None:
    found = run_once("train")
    rows = {row["contender"]: row for row in found["rows_measured"]}
    assert rows["dart (dart), eager"]["times_ours"] == 1
    assert rows["floor"]["times_floor"] == 1
    assert {"eager", "dataloader", "dart (base), eager"} <= set(rows)


def test_profile_shares_sum_to_one() -> None:
    rows = run_once("profile")["rows_measured"]
    assert {row["step"] for row in rows} == {"eager"}
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[-1]["operation"] == "all others"
    assert any(row["operation"].startswith("aten::") for row in rows)


def test_deterministic_times_the_same_steps_with_and_without() -> None:
    rows = run_once("deterministic")["rows_measured"]
    assert [row["step"] for row in rows] == ["eager"]
    for row in rows:
        ratio = row["deterministic_ms"] / row["free_ms"]
        assert row["times_free"] == pytest.approx(ratio)


def test_eval_measures_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_benchmark, "_measure_peak", lambda rows: (10 * rows, 5 * rows))
    found = run_once("eval", rows="0.01,0.02")
    assert [row["rows"] for row in found["rows_measured"]] == [10_000, 20_000]
    assert found["rows_measured"][0]["times_smallest"] == 1
    # the peak of a process with 1,000 rows is subtracted
    assert [row["peak_times_needed"] for row in found["rows_measured"]] == [1.8, 1.9]
    assert set(found["also"]) == {
        "evaluation, share of an epoch",
        "AUC, seconds per million rows",
        "startup to the first step, seconds",
    }


def test_peak_memory_covers_the_bytes_that_a_training_must_hold() -> None:
    peak, held = eval_benchmark._train_once(1_000)
    # fields of two int64, a float32 label, an int8 kind; parameters four times
    assert held == 1_000 * 21 + 16 * ((943 + 1_682) * 17 + 1)
    assert peak > held


def test_a_failed_process_is_named() -> None:
    with pytest.raises(DartError, match="training on 7 rows"):
        in_own_process(os._exit, 3, what="training on 7 rows")


@pytest.mark.parametrize("rows", ["many", "0", "1,,2", "-1", "nan", "1e9"])
def test_invalid_sizes_are_rejected(rows: str) -> None:
    with pytest.raises(UsageError, match="--rows"):
        run_benchmark("eval", rounds=1, rows=rows)


PAGE = """# A page

```sh
dart sweep --preset table2 \\
  --seeds 0-9
dart train synthetic --name one
dart analyze compare one
```

<!-- dart analyze compare one --format markdown -->
an old table
<!-- end -->

<!-- python -m benchmarks.labels synthetic -->
an old table
<!-- end -->

Text.
"""


def test_a_page_of_results_is_made_again_from_its_own_commands() -> None:
    assert results.read_commands(PAGE) == [
        ["dart", "sweep", "--preset", "table2", "--seeds", "0-9"],
        ["dart", "train", "synthetic", "--name", "one"],
    ]
    asked: list[list[str]] = []

    def run(words: list[str]) -> str:
        asked.append(words)
        return "| a new table |\n"

    made = results.rewrite_tables(PAGE, run)
    assert asked == [
        ["dart", "analyze", "compare", "one", "--format", "markdown"],
        ["python", "-m", "benchmarks.labels", "synthetic"],
    ]
    assert "an old table" not in made
    assert "-->\n\n| a new table |\n\n<!-- end -->\n\nText.\n" in made
    # the same output changes nothing more
    assert results.rewrite_tables(made, run) == made
