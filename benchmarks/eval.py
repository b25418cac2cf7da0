"""Measure evaluation, startup, and how time and memory grow with the data.

Each training runs in its own process, as on the command line: the time to its first step includes
imports, and the operating system reports its peak memory. The peak of a process that trained on a
tiny table is subtracted. The rest is compared with the bytes of the parameters, their gradient,
Adam's two moments, and the data.
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
"""Validation rows per training row, as in splits of 80, 10, and 10 percent."""
TURN = 5_000_000
"""Rows that a small table is trained on per turn, over several epochs."""
TABLE = (943, 1_682)
"""Users and items of the tables, the same at every size."""


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return time and memory by size; ``also`` holds the costs of evaluation and startup."""
    data = sized(options)
    rounds = int(options.get("rounds", 5))
    sizes = row_counts(options, "0.1,1,5")
    share, auc_seconds = _time_evaluation(data, rounds)
    found = _time_sizes(sizes, rounds)
    first = found[0]["us_per_sample"]
    base = _measure_peak(1_000)[0]
    for row in found:
        peak, counted = _measure_peak(row["rows"])
        row["times_smallest"] = row["us_per_sample"] / first
        row["peak_mb"] = (peak - base) / 1e6
        row["peak_times_needed"] = (peak - base) / counted
    return {
        **data.described(),
        "also": {
            "evaluation, share of an epoch": share,
            "AUC, seconds per million rows": auc_seconds,
            "startup to the first step, seconds": _time_startup(rounds),
        },
        "rows_measured": found,
    }


def _time_evaluation(data: Sized, rounds: int) -> tuple[float, float]:
    """Return evaluation's share of an epoch, and seconds of an AUC per million rows."""
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
            "epoch": dart_epoch(data, "dart", captured=True, validated=len(valid)),
            "evaluate": evaluate,
            "auc": lambda: _compute_auc(scores, valid),
        },
        rounds,
        data.device,
    )
    return (
        timings["evaluate"].median / timings["epoch"].median,
        1e6 * timings["auc"].median / len(valid),
    )


def _compute_auc(scores: torch.Tensor, valid: Interactions) -> None:
    metrics.auc(scores, valid.label)


def _build_table(rows: int) -> Sized:
    device = torch.device("cpu")
    return Sized(f"{rows} rows", *TABLE, made_up(*TABLE, rows, device), device)


def _time_sizes(sizes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return the time per sample at every size; the sizes take turns."""
    # epochs of a small table are short, so a turn has several, at most as many rows as the largest
    epochs = {rows: max(min(TURN, max(sizes)) // rows, 1) for rows in sizes}
    timings = interleaved(
        {str(rows): _repeat_epoch(rows, number) for rows, number in epochs.items()},
        rounds,
        torch.device("cpu"),
    )
    return [
        {"rows": rows, "us_per_sample": 1e6 * timings[str(rows)].median / (rows * number)}
        for rows, number in epochs.items()
    ]


def _repeat_epoch(rows: int, number: int) -> Callable[[], None]:
    epoch = dart_epoch(_build_table(rows), "dart", validated=max(rows // 10, BATCH))

    def run() -> None:
        for _ in range(number):
            epoch()

    return run


def _measure_peak(rows: int) -> tuple[int, int]:
    """Return the peak memory of training on ``rows`` rows, and the bytes that it must hold."""
    found: tuple[int, int] = in_own_process(_train_once, rows, what=f"training on {rows:,} rows")
    return found


def _train_once(rows: int) -> tuple[int, int]:
    data = _build_table(rows)
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


def _time_startup(rounds: int) -> float:
    """Return the median seconds from starting ``dart train`` to its first step."""
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
            "def mark(self, batch):\n"
            "    taken = call(self, batch)\n"
            f"    pathlib.Path({str(mark)!r}).touch()\n"
            "    step.Stepper.__call__ = call\n"
            "    return taken\n"
            "step.Stepper.__call__ = mark\n"
            "from dartcli.cli import main; main()"
        )
        taken = []
        for _ in range(rounds):
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
    title="Evaluation, startup, and time and memory by size",
    question="What do evaluation and startup cost, and how do time and memory grow?",
    measure=measure,
)
