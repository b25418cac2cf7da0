"""Compare epochs with and without deterministic operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from benchmarks._data import sized
from benchmarks.timing import Benchmark, interleaved
from benchmarks.train import dart_epoch
from dartcli.training.device import deterministic


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return milliseconds per iteration with and without deterministic operations, and the ratio.

    Steps are eager and compiled (on a GPU, captured).
    """
    data = sized(options)
    strategy = str(options.get("strategy", "dart"))
    ways: tuple[Literal["off", "on"], ...] = ("off", "on")

    def contender(way: Literal["off", "on"], *, wanted: bool) -> Callable[[], None]:
        epoch = dart_epoch(data, strategy, compile_=way)

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
            "step": "compiled" if way == "on" else "eager",
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
