"""Measure time and peak memory of preparing a log with text ids, by number of rows.

A log of random interactions is written as Parquet (users = rows / 25, items = rows / 250, long
tails), then encoded and split in a separate process, so that its peak memory can be measured. Time
and memory should be proportional to the rows.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._data import row_counts
from benchmarks.timing import Benchmark, in_own_process, peak_memory
from dartcli.data.logs.registry import log_dataset
from dartcli.data.logs.schema import LogOptions
from dartcli.data.prepare import prepare_split
from dartcli.settings import PROTOCOLS

PART = 2_500_000
"""Rows per Parquet file."""


def write_log(folder: Path, rows: int) -> None:
    """Write ``rows`` interactions to Parquet files of at most ``PART`` rows in ``folder``."""
    random = np.random.default_rng(0)
    users, items = max(rows // 25, 10), max(rows // 250, 10)
    for start in range(0, rows, PART):
        count = min(PART, rows - start)
        # powers of a uniform have a long tail: few users and items have most of the rows
        user = (users * random.random(count) ** 2).astype(np.int64)
        item = (items * random.random(count) ** 3).astype(np.int64)
        table = pl.DataFrame(
            {
                "user_id": user,
                "item_id": item,
                "dwell_seconds": random.exponential(30, count).astype(np.float32),
                "ts": random.integers(0, 10**9, count),
            }
        )
        table.with_columns(
            pl.format("user-{}", pl.col("user_id").cast(pl.String).str.zfill(9)).alias("user_id"),
            pl.format("item-{}", pl.col("item_id").cast(pl.String).str.zfill(8)).alias("item_id"),
        ).write_parquet(folder / f"part-{start // PART:03d}.parquet")


def describe_log(folder: str) -> LogOptions:
    """Return the meaning of the columns of the log in ``folder``."""
    return LogOptions(
        inputs=(f"{folder}/*.parquet",),
        user="user_id",
        item="item_id",
        noisy_if="dwell_seconds < 10",
        time="ts",
    )


def _prepare(folder: str) -> tuple[float, int, int]:
    """Prepare the log in ``folder``; return seconds, peak memory in bytes, and rows kept."""
    os.environ["DART_HOME"] = str(Path(folder) / "home")
    options = describe_log(folder)
    began = time.perf_counter()
    data = prepare_split(log_dataset("bench"), options, PROTOCOLS["strict"], 0)
    seconds = time.perf_counter() - began
    return seconds, peak_memory(), data.manifest.counts.interactions


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return seconds and peak memory for each of ``rows`` (in millions, ``"5,20,50"``)."""
    return {"rows_measured": [_measured(rows) for rows in row_counts(options, "1,2")]}


def _measured(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dart-bench-") as folder:
        write_log(Path(folder), rows)
        seconds, peak, kept = in_own_process(_prepare, folder, what=f"preparing {rows:,} rows")
    return {
        "rows": rows,
        "kept": kept,
        "seconds": seconds,
        "peak_gb": peak / 1e9,
        "us_per_row": 1e6 * seconds / rows,
        "bytes_per_row": peak / rows,
    }


BENCHMARK = Benchmark(
    title="Preparing a log with text ids",
    question="How do the time and memory of preprocessing depend on the number of rows?",
    measure=measure,
)
