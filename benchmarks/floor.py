"""Time the memory traffic of one step: a lower bound for any training loop.

A step with dense Adam must read the rows of a batch (gather), add up their gradients (scatter),
reset the gradient of the table (zero), and pass once over parameters, gradients, and both moments
(Adam: four arrays read, three written). Each part is timed alone, with PyTorch's fastest operation,
on memory that is allocated once. The bandwidth is that of copying an array too large for any cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks._data import BATCH, FACTORS, sized
from benchmarks.timing import Benchmark, interleaved
from dartcli.training import device as devices

COPIED = 1 << 26
"""Floats copied to measure the bandwidth: 256 MiB read, 256 MiB written."""


class Parts:
    """Parts of a step on a table of ``users + items`` rows of ``FACTORS + 1`` floats."""

    def __init__(self, fields: Tensor, users: int, items: int) -> None:
        device, width = fields.device, FACTORS + 1
        rows = users + items
        self.table = torch.randn(rows, width, device=device)
        self.gradient = torch.zeros_like(self.table)
        self.moments = [torch.zeros_like(self.table) for _ in range(2)]
        self.count = torch.zeros((), device=device)
        offsets = torch.tensor([0, users], device=device)
        self.index = (fields + offsets).flatten().split(2 * BATCH)
        self.values = torch.randn(2 * BATCH, width, device=device)
        self.bytes = 7 * self.table.numel() * 4
        """Bytes that an Adam step reads and writes."""

    def gather(self, step: int) -> None:
        """Read the rows of a batch."""
        self.table.index_select(0, self.index[step])

    def scatter(self, step: int) -> None:
        """Add up the gradients of a batch."""
        index = self.index[step]
        self.gradient.index_add_(0, index, self.values[: len(index)])

    def zero(self, _step: int) -> None:
        """Reset the gradient."""
        self.gradient.zero_()

    def adam(self, _step: int) -> None:
        """Update parameters and moments from the gradient."""
        mean, square = self.moments
        self.count += 1
        torch._fused_adam_(
            [self.table],
            [self.gradient],
            [mean],
            [square],
            [],
            [self.count],
            lr=1e-3,
            beta1=0.9,
            beta2=0.999,
            weight_decay=1e-6,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def all(self, step: int) -> None:
        """Run every part once."""
        for part in (self.zero, self.gather, self.scatter, self.adam):
            part(step)


def floor_epoch(fields: Tensor, users: int, items: int, *, part: str = "all") -> Callable[[], None]:
    """Return an epoch of ``part`` alone, which names a method of :class:`Parts`."""
    parts = Parts(fields, users, items)
    step_part = getattr(parts, part)

    def run() -> None:
        for step in range(len(parts.index)):
            step_part(step)

    return run


def measure_bandwidth(device: torch.device) -> float:
    """Return the bytes per second, read plus written, of copying a large array; best of five."""
    source = torch.zeros(COPIED, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        devices.wait(device)
        began = time.perf_counter()
        target.copy_(source)
        devices.wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * source.numel() * source.element_size() / best


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the time of each part of a step, and the memory bandwidth."""
    data = sized(options)
    names = ("gather", "scatter", "zero", "adam", "all")
    timings = interleaved(
        {name: floor_epoch(data.table.fields, data.users, data.items, part=name) for name in names},
        int(options.get("rounds", 5)),
        data.device,
    )
    per_second = measure_bandwidth(data.device)
    described = devices.describe(data.device)
    traffic = Parts(data.table.fields[:1], data.users, data.items).bytes
    return {
        **data.described(),
        "device": described,
        "copy_gb_per_second": per_second / 1e9,
        "adam_mb_per_step": traffic / 1e6,
        "adam_ms_at_copy_bandwidth": 1e3 * traffic / per_second,
        "rows_measured": [
            {
                "part": name,
                "ms_per_iteration": 1e3 * timing.median / data.iterations,
                "fastest": 1e3 * timing.low / data.iterations,
                "slowest": 1e3 * timing.high / data.iterations,
                "share": timing.median / timings["all"].median,
            }
            for name, timing in timings.items()
        ],
    }


BENCHMARK = Benchmark(
    title="Lower bound of a training iteration",
    question="How long does the memory traffic of a step take, in any implementation?",
    measure=measure,
)
