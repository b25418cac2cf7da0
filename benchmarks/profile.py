"""Profile a training iteration by PyTorch operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks._data import sized
from benchmarks.timing import Benchmark
from benchmarks.train import dart_epoch, steps_on
from dartcli.training.device import keeping_freed_memory, wait

SHOWN = 10
"""Operations listed for each way of stepping; the rest is one row."""


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return microseconds and calls per iteration of the costliest operations of the third epoch.

    Times exclude operations that an operation calls; on a GPU they are GPU times. Recording takes
    time as well, so their sum exceeds the duration of an iteration: compare the shares.
    """
    data = sized(options)
    strategy = str(options.get("strategy") or "dart")
    cuda = data.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    found: list[dict[str, Any]] = []
    for name, captured in steps_on(data.device).items():
        with keeping_freed_memory():
            run = dart_epoch(data, strategy, captured=captured)
            run()
            run()
            wait(data.device)
            with profile(activities=activities) as recorded:
                run()
                wait(data.device)
        found += _list_operations(recorded, name, data.iterations, cuda=cuda)
    return {**data.described(), "strategy": strategy, "rows_measured": found}


def _list_operations(
    recorded: profile, way: str, iterations: int, *, cuda: bool
) -> list[dict[str, Any]]:
    spent: list[tuple[str, float, float]] = [
        (
            event.key,
            float(event.self_device_time_total if cuda else event.self_cpu_time_total) / iterations,
            event.count / iterations,
        )
        for event in recorded.key_averages()
    ]
    spent.sort(key=lambda row: -row[1])
    total = sum(microseconds for _, microseconds, _ in spent)
    rest = spent[SHOWN:]
    shown = [*spent[:SHOWN], ("all others", sum(row[1] for row in rest), sum(r[2] for r in rest))]
    return [
        {
            "step": way,
            "operation": operation,
            "us_per_iteration": microseconds,
            "calls": calls,
            "share": microseconds / total if total else 0.0,
        }
        for operation, microseconds, calls in shown
    ]


BENCHMARK = Benchmark(
    title="Operations of a training iteration",
    question="Which operations take the most time?",
    measure=measure,
)
