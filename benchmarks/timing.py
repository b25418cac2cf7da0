"""Time contenders in turn, and measure memory."""

from __future__ import annotations

import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from dartcli.errors import DartError
from dartcli.training.device import keeping_freed_memory, wait


def forget_peak() -> None:
    """Restart :func:`peak_memory` from the memory held now, if the system supports it."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")


def peak_memory() -> int:
    """Return the peak memory of this process since :func:`forget_peak`, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss also counts the process before it executed this program
        held = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if held is not None:
            return int(held[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_own_process(target: Callable[..., Any], *arguments: object, what: str) -> Any:
    """Return ``target(*arguments)``, computed in a new process with its own memory.

    Raises
    ------
    DartError
        If the process fails; the message starts with ``what``. The process prints the cause.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, target, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise DartError(f"{what} failed: its process ended early. See its output above.") from error
    finally:
        process.join()


def _send(results: Connection, target: Callable[..., Any], arguments: Sequence[object]) -> None:
    results.send(target(*arguments))


@dataclass(frozen=True)
class Timing:
    """Seconds that one contender took per round."""

    median: float
    """Median of the rounds."""
    low: float
    """Fastest round."""
    high: float
    """Slowest round."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: one question about speed and how to answer it."""

    title: str
    """Heading of its table."""
    question: str
    """The question, in one sentence."""
    measure: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Maps options (rounds, device, ...) to a JSON document with ``rows_measured``, a list of
    dictionaries with equal keys."""


def interleaved(
    contenders: Mapping[str, Callable[[], None]], rounds: int, device: torch.device
) -> dict[str, Timing]:
    """Run each contender once untimed, then all in turn for ``rounds`` rounds.

    As in training, the C library keeps freed memory.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with keeping_freed_memory():
        for run in contenders.values():
            run()
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
