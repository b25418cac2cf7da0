"""Compare epochs with and without deterministic operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks._data import sized
from benchmarks.timing import Benchmark, interleaved
from benchmarks.train import dart_epoch, steps_on
from dartcli.training.device import deterministic


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return milliseconds per iteration with and without deterministic operations, and the ratio.

    On a GPU steps are eager and captured.
    """
    data = sized(options)
    strategy = str(options.get("strategy", "dart"))
    ways = steps_on(data.device)

    def contender(way: str, *, wanted: bool) -> Callable[[], None]:
        epoch = dart_epoch(data, strategy, captured=ways[way])

        def run() -> None:
            with deterministic(data.device, wanted=wanted):
                epoch()

        return run

    timings = interleaved(
        {
            f"{way} {wanted}": contender(way, wanted=wanted)
            for way in ways
            for wanted in (False, True)
        },
        int(options.get("rounds", 5)),
        data.device,
    )

    def row(way: str) -> dict[str, Any]:
        free, repeated = (timings[f"{way} {wanted}"].median for wanted in (False, True))
        return {
            "step": way,
            "free_ms": 1e3 * free / data.iterations,
            "deterministic_ms": 1e3 * repeated / data.iterations,
            "times_free": repeated / free,
        }

    return {**data.described(), "rows_measured": [row(way) for way in ways]}


BENCHMARK = Benchmark(
    title="Deterministic operations",
    question="What does bitwise reproducible training cost?",
    measure=measure,
)
