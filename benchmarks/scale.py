"""Measure time and peak memory of preparing a log and training one epoch, by number of rows.

The log is that of ``benchmarks.preprocess``. Each part runs in a separate process, so that its peak
memory can be measured. ``dart train`` decides whether to hold the table in memory or to read it
from disk; ``--rows 100`` is 100 million rows, which needs about 20 GB of disk and of memory. The
optimizer is ``sparse-adam``: every step of dense Adam passes over the whole table, and the table of
this log grows with its rows.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._data import row_counts
from benchmarks.preprocess import describe_log, write_log
from benchmarks.timing import Benchmark, in_own_process, peak_memory
from dartcli.cli import console
from dartcli.data.prepare import preprocess_log
from dartcli.experiments.train import train_run


def _prepare(folder: str) -> tuple[float, int]:
    """Prepare the log in ``folder``; return seconds and peak memory in bytes."""
    os.environ["DART_HOME"] = str(Path(folder) / "home")
    log = describe_log(folder)
    began = time.perf_counter()
    preprocess_log("bench", log)
    return time.perf_counter() - began, peak_memory()


def _train(folder: str) -> tuple[float, int, int, float]:
    """Train one epoch; return seconds, peak memory, the window (0 = none), and test AUC."""
    os.environ["DART_HOME"] = str(Path(folder) / "home")
    began = time.perf_counter()
    run = train_run(
        dataset="bench", strategy="base", training={"epochs": 1, "optimizer": "sparse-adam"}
    )
    seconds = time.perf_counter() - began
    auc = run.metrics.seeds[0].test_auc or 0.0
    return seconds, peak_memory(), run.settings.training.window or 0, auc


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return time and memory for each of ``rows`` (in millions, ``"10,100"``)."""
    return {"rows_measured": [_measured(rows) for rows in row_counts(options, "1")]}


def _measured(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dart-bench-") as folder:
        write_log(Path(folder), rows)
        prepared = in_own_process(_prepare, folder, what=f"preparing {rows:,} rows")
        console.note(f"{rows:,} rows: prepared in {prepared[0]:,.0f} s")
        trained = in_own_process(_train, folder, what=f"training on {rows:,} rows")
    return {
        "rows": rows,
        "prepare_seconds": prepared[0],
        "prepare_peak_gb": prepared[1] / 1e9,
        "train_seconds": trained[0],
        "train_peak_gb": trained[1] / 1e9,
        "window": trained[2],
        "test_auc": trained[3],
    }


BENCHMARK = Benchmark(
    title="Preparing a log and training one epoch",
    question="How do time and memory of a whole training depend on the number of rows?",
    measure=measure,
)
