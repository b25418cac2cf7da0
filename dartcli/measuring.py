"""Timing contenders in turn, and what a benchmark returns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dartcli.training.device import wait


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender over the rounds."""

    median: float
    """Median over the rounds."""
    low: float
    """Fastest round."""
    high: float
    """Slowest round."""


@dataclass(frozen=True)
class Benchmark:
    """One question about speed."""

    title: str
    """Heading."""
    question: str
    """The question, in one sentence."""
    measure: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Options (rounds, device, ...) -> a JSON-ready document with ``rows``: dictionaries that all
    have the same keys."""


def interleaved(
    contenders: Mapping[str, Callable[[], None]], rounds: int, device: torch.device
) -> dict[str, Timing]:
    """Run every contender once unmeasured, then all in turn for ``rounds`` rounds."""
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            wait(device)
            began = time.perf_counter()
            run()
            wait(device)
            seconds[name].append(time.perf_counter() - began)
    return {
        name: Timing(statistics.median(times), min(times), max(times))
        for name, times in seconds.items()
    }
