"""What a training needs beside its steps: evaluation, the start, memory, and time by size.

Each training runs in a process of its own, as on the command line: the time from its start to its
first step holds the imports, and its peak memory is read from the operating system. Memory is
counted from the peak of a process that imported everything and trained one epoch of a tiny table,
beside what the model's parameters, Adam's states and gradient, and the data take.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._data import BATCH, FACTORS, Sized, made_up, row_counts, sized
from benchmarks.timing import Benchmark, forget_peak, in_own_process, interleaved, peak_memory
from benchmarks.train import dart_epoch
from dartcli import catalog, metrics
from dartcli.data.tensors import Interactions
from dartcli.training import device as devices
from dartcli.training.scoring import score

VALIDATED = 1 / 8
"""Rows of validation a row of training: splits of 80, 10 and 10 percent."""
TURN = 5_000_000
"""Rows of one turn of a small size."""
TABLE = (943, 1_682)
"""Users and items of that table: the same at every size."""


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return time and memory by size; ``also`` evaluation's share of an epoch and the start."""
    data = sized(options)
    rounds = int(options.get("rounds", 5))
    sizes = row_counts(options, "0.1,1,5")
    share, auc_seconds = _evaluation(data, rounds)
    found = _by_size(sizes, rounds)
    first = found[0]["us_per_sample"]
    base = _peak(1_000)[0]
    for row in found:
        peak, counted = _peak(row["rows"])
        row["times_smallest"] = row["us_per_sample"] / first
        row["peak_mb"] = (peak - base) / 1e6
        row["peak_times_needed"] = (peak - base) / counted
    return {
        **data.described(),
        "also": {
            "evaluation, as a share of an epoch": share,
            "AUC, seconds for a million rows": auc_seconds,
            "from the command line to the first step, seconds": _start(),
        },
        "rows_measured": found,
    }


def _evaluation(data: Sized, rounds: int) -> tuple[float, float]:
    """Return evaluation's share of an epoch, and seconds of an AUC a million rows."""
    valid = data.table.first(int(len(data.table) * VALIDATED))
    kind = catalog.load("models", "fm")
    model = kind((data.users, data.items), kind.Options(factors=FACTORS)).to(data.device)
    scores = score(model, valid)

    def evaluate() -> None:
        with devices.threads_for(model):
            scored = score(model, valid)
            metrics.auc(scored, valid.label)
            metrics.log_loss(scored, valid.label)

    timings = interleaved(
        {
            "epoch": dart_epoch(data, "dart", compile_="auto", validated=len(valid)),
            "evaluate": evaluate,
            "auc": lambda: _auc(scores, valid),
        },
        rounds,
        data.device,
    )
    return (
        timings["evaluate"].median / timings["epoch"].median,
        1e6 * timings["auc"].median / len(valid),
    )


def _auc(scores: torch.Tensor, valid: Interactions) -> None:
    metrics.auc(scores, valid.label)


def _table(rows: int) -> Sized:
    device = torch.device("cpu")
    return Sized(f"{rows} rows", *TABLE, made_up(*TABLE, rows, device), device)


def _by_size(sizes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return the time a sample at every size; the sizes take turns, as contenders do."""
    # a small table's epoch is short: several of them are one turn, at most as long as the largest
    epochs = {rows: max(min(TURN, max(sizes)) // rows, 1) for rows in sizes}
    timings = interleaved(
        {str(rows): _epochs(rows, number) for rows, number in epochs.items()},
        rounds,
        torch.device("cpu"),
    )
    return [
        {"rows": rows, "us_per_sample": 1e6 * timings[str(rows)].median / (rows * number)}
        for rows, number in epochs.items()
    ]


def _epochs(rows: int, number: int) -> Callable[[], None]:
    epoch = dart_epoch(_table(rows), "dart", validated=max(rows // 10, BATCH))

    def run() -> None:
        for _ in range(number):
            epoch()

    return run


def _peak(rows: int) -> tuple[int, int]:
    """Return the peak memory of a process that trains on ``rows`` rows, and what it must hold."""
    found: tuple[int, int] = in_own_process(_train_once, rows, what=f"training on {rows:,} rows")
    return found


def _train_once(rows: int) -> tuple[int, int]:
    data = _table(rows)
    forget_peak()
    with devices.keeping_freed_memory():
        epoch = dart_epoch(data, "dart", validated=max(rows // 10, 10))
        epoch()
        epoch()
    columns = (data.table.fields, data.table.label, data.table.kind)
    held = sum(column.numel() * column.element_size() for column in columns)
    # parameters, gradient, two moments
    parameters = sum(TABLE) * (FACTORS + 1) + 1
    return peak_memory(), 4 * 4 * parameters + held


def _start() -> float:
    """Return the seconds from the command line to the first step, the data being prepared."""
    with tempfile.TemporaryDirectory(prefix="dart-bench-") as folder:
        environment = {**os.environ, "DART_HOME": folder}
        subprocess.run(
            [sys.executable, "-m", "dartcli", "preprocess", "synthetic"],
            env=environment,
            check=True,
            capture_output=True,
        )
        mark = Path(folder) / "first-step"
        code = (
            "import pathlib; from dartcli.training import step; "
            "call = step.Stepper.__call__\n"
            "def marked(self, batch):\n"
            "    taken = call(self, batch)\n"
            f"    pathlib.Path({str(mark)!r}).touch()\n"
            "    step.Stepper.__call__ = call\n"
            "    return taken\n"
            "step.Stepper.__call__ = marked\n"
            "from dartcli.cli import main; main()"
        )
        taken = []
        for _ in range(3):
            mark.unlink(missing_ok=True)
            began = time.time()
            subprocess.run(  # noqa: S603 - this program
                [sys.executable, "-c", code, "train", "synthetic", "--epochs", "1"],
                env=environment,
                check=True,
                capture_output=True,
            )
            taken.append(mark.stat().st_mtime - began)
    return float(np.median(taken))


BENCHMARK = Benchmark(
    title="Beside the steps: time and memory by size",
    question="What do evaluation, the start and the data cost?",
    measure=measure,
)
