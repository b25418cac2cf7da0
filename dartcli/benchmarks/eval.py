"""What a training needs beside its steps: evaluation, the start, memory, and time by size.

Each training runs in a process of its own, as on the command line: the time from its start to its
first step holds the imports, and its peak memory is read from the operating system. Memory is
counted from the peak of a process that imported everything and trained one epoch of a tiny table,
beside what the model's parameters, Adam's states and gradient, and the data take.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dartcli import catalog, metrics
from dartcli.benchmarks._data import BATCH, FACTORS, made_up, sized
from dartcli.data.batches import Table, TrainingSet
from dartcli.denoising import Context, TrainingTable
from dartcli.errors import TrainingError, UsageError
from dartcli.measuring import Benchmark, forget_peak, interleaved, peak_memory
from dartcli.settings import Training
from dartcli.training import device as devices
from dartcli.training.evaluate import logits
from dartcli.training.loop import fit

SHARES = (0.8, 0.1, 0.1)
"""Of the interactions, for training, validation and test."""
DEFAULT_ROWS = (0.1, 1.0, 5.0)
"""Millions of interactions in the table of time by size."""
TABLE = (943, 1_682)
"""Users and items of that table: the same at every size."""


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return time and memory by size; ``also`` evaluation's share of an epoch and the start."""
    data = sized(options)
    rounds = int(options.get("rounds", 5))
    sizes = [int(1e6 * millions) for millions in _millions(options.get("rows"))]
    share, auc_seconds = _evaluation(data.table, data.users, data.items, rounds)
    found = [_by_size(rows, rounds) for rows in sizes]
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


def _millions(text: object) -> list[float]:
    if text is None:
        return list(DEFAULT_ROWS)
    try:
        numbers = [float(part) for part in str(text).split(",")]
    except ValueError as error:
        raise UsageError(f"--rows takes millions such as 0.1,1,5, but got {text!r}.") from error
    if not numbers or not all(0.01 <= number <= 1000 for number in numbers):
        raise UsageError(f"--rows {text}: each size must be between 0.01 and 1000 million.")
    return numbers


def _evaluation(table: Table, users: int, items: int, rounds: int) -> tuple[float, float]:
    """Return evaluation's share of an epoch, and seconds of an AUC a million rows."""
    valid = _part(table, int(len(table) * SHARES[1] / SHARES[0]))
    device = table.label.device
    model = catalog.load("models", "fm")
    made = model((users, items), model.Options(factors=FACTORS)).to(device)
    epoch = _epochs(table, valid, users, items)
    scores = logits(made, valid)

    def evaluate() -> None:
        with devices.threads_for(made):
            scored = logits(made, valid)
            metrics.auc(scored, valid.label)
            metrics.log_loss(scored, valid.label)

    timings = interleaved(
        {"epoch": epoch, "evaluate": evaluate, "auc": lambda: _auc(scores, valid)}, rounds, device
    )
    return (
        timings["evaluate"].median / timings["epoch"].median,
        1e6 * timings["auc"].median / len(valid),
    )


def _auc(scores: torch.Tensor, valid: Table) -> None:
    metrics.auc(scores, valid.label)


def _part(table: Table, rows: int) -> Table:
    return Table(table.fields[:rows], table.label[:rows], table.kind[:rows])


def _epochs(table: Table, valid: Table, users: int, items: int, *, compile_: str = "auto") -> Any:
    """Return what trains one more epoch of a factorization machine with DART."""
    device = table.label.device
    rule_kind, model_kind = catalog.load("strategies", "dart"), catalog.load("models", "fm")
    model = model_kind((users, items), model_kind.Options(factors=FACTORS)).to(device)
    iterations = -(-len(table) // BATCH)
    columns = table.fields[:, 0], table.fields[:, 1]
    context = Context(
        iterations, TrainingTable(*columns, table.label, users, items, len(table)), None
    )
    rule = rule_kind(rule_kind.Options(), context).to(device)
    plan = Training.model_validate(
        {"batch_size": BATCH, "epochs": 10**6, "patience": 10**6, "compile": compile_}
    )
    training = TrainingSet(table, users, items, known=None, reshuffle=True)
    stream = fit([model], rule, training, valid, valid.label, plan, 0)

    def run() -> None:
        with devices.threads_for(model):
            next(stream)

    return run


def _by_size(rows: int, rounds: int) -> dict[str, Any]:
    device = torch.device("cpu")
    table = made_up(*TABLE, rows, device)
    epoch = _epochs(table, _part(table, max(rows // 10, BATCH)), *TABLE, compile_="off")
    # a small table's epoch is short: more of them give as good a median
    times = interleaved({"epoch": epoch}, max(rounds, 3), device)["epoch"]
    return {"rows": rows, "us_per_sample": 1e6 * times.median / rows}


def _peak(rows: int) -> tuple[int, int]:
    """Return the peak memory of a process that trains on ``rows`` rows, and what it must hold."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train_once, args=(rows, sender))
    process.start()
    sender.close()
    try:
        found: tuple[int, int] = receiver.recv()
    except EOFError as error:
        raise TrainingError(f"training on {rows:,} rows failed; see above.") from error
    finally:
        process.join()
    return found


def _train_once(rows: int, results: Connection) -> None:
    device = torch.device("cpu")
    table = made_up(*TABLE, rows, device)
    forget_peak()
    with devices.keeping_freed_memory():
        epoch = _epochs(table, _part(table, max(rows // 10, 10)), *TABLE, compile_="off")
        epoch()
        epoch()
    parameters = sum(TABLE) * (FACTORS + 1) + 1
    data = sum(
        column.numel() * column.element_size() for column in (table.fields, table.label, table.kind)
    )
    # parameters, gradient, two moments
    results.send((peak_memory(), 4 * 4 * parameters + data))


def _start() -> float:
    """Return the seconds from the command line to the first step, the data being prepared."""
    with tempfile.TemporaryDirectory(prefix="dart-bench-") as folder:
        environment = {**os.environ, "DART_HOME": folder}
        command = [sys.executable, "-m", "dartcli"]
        subprocess.run(  # noqa: S603 - this program
            [*command, "preprocess", "synthetic"], env=environment, check=True, capture_output=True
        )
        mark = Path(folder) / "first-step"
        code = (
            "import time, pathlib; from dartcli.training import stepping; "
            "call = stepping.Stepper.__call__\n"
            "def marked(self, batch):\n"
            "    taken = call(self, batch)\n"
            f"    pathlib.Path({str(mark)!r}).touch()\n"
            "    stepping.Stepper.__call__ = call\n"
            "    return taken\n"
            "stepping.Stepper.__call__ = marked\n"
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
