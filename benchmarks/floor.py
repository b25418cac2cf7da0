"""What the machine itself needs for one step: the floor under any training loop.

A step with dense Adam must, whatever its program, read the rows of a batch (gather), add their
gradients up (scatter), reset the gradient of the table (zero) and pass once over parameters,
gradients and both moments (Adam: four arrays read, three written). Each part is timed alone, by the
library's own fastest operation, on memory that is allocated once. The bandwidth is that of copying
an array of a size that no cache holds.
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
"""Floats that are copied to measure the bandwidth: 256 MiB each way."""


class Parts:
    """The parts of a step on a table of ``rows`` rows of ``FACTORS + 1`` floats."""

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
        """Read and written by an Adam pass."""

    def gather(self, step: int) -> None:
        """Read the rows of a batch."""
        self.table.index_select(0, self.index[step])

    def scatter(self, step: int) -> None:
        """Add the gradients of a batch up."""
        index = self.index[step]
        self.gradient.index_add_(0, index, self.values[: len(index)])

    def zero(self, _step: int) -> None:
        """Reset the gradient."""
        self.gradient.zero_()

    def adam(self, _step: int) -> None:
        """Pass once over parameters, gradients and moments."""
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
        """Take every part once."""
        for part in (self.zero, self.gather, self.scatter, self.adam):
            part(step)


def floor_epoch(fields: Tensor, users: int, items: int, *, part: str = "all") -> Callable[[], None]:
    """Return one epoch of nothing but ``part`` (a method of :class:`Parts`)."""
    parts = Parts(fields, users, items)
    step_part = getattr(parts, part)

    def run() -> None:
        for step in range(len(parts.index)):
            step_part(step)

    return run


def bandwidth(device: torch.device) -> float:
    """Return bytes a second, read and written together, of copying a large array; best of five."""
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
    """Return the time of each part of a step, and the bandwidth of the machine."""
    data = sized(options)
    names = ("gather", "scatter", "zero", "adam", "all")
    with devices.threads_for_size((data.users + data.items) * (FACTORS + 1)):
        timings = interleaved(
            {
                name: floor_epoch(data.table.fields, data.users, data.items, part=name)
                for name in names
            },
            int(options.get("rounds", 5)),
            data.device,
        )
        per_second = bandwidth(data.device)
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
    title="The floor under a training iteration",
    question="What does the machine's memory need for a step, whatever the program?",
    measure=measure,
)
