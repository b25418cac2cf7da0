"""Time and memory of preparing a log with text ids, by its size.

A log of made-up interactions is written to Parquet (users = rows / 25, items = rows / 250, long
tails), then encoded and split in a process of its own whose peak memory is read from the operating
system. Time and memory should grow in proportion to the rows.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dartcli.data import own, store
from dartcli.errors import UsageError
from dartcli.measuring import Benchmark, peak_memory
from dartcli.settings import PROTOCOLS

PART = 2_500_000
"""Rows of one Parquet file."""


def write_log(folder: Path, rows: int) -> None:
    """Write ``rows`` interactions to Parquet files of at most ``PART`` rows in ``folder``."""
    random = np.random.default_rng(0)
    users, items = max(rows // 25, 10), max(rows // 250, 10)
    for start in range(0, rows, PART):
        count = min(PART, rows - start)
        # a cubed uniform has a long tail: few users and items have most rows
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


def _prepare(folder: str, results: Connection) -> None:
    """Prepare the log in ``folder``; send seconds, peak memory in bytes, and rows kept."""
    os.environ["DART_HOME"] = str(Path(folder) / "home")
    options = own.OwnOptions(
        inputs=(f"{folder}/*.parquet",),
        user="user_id",
        item="item_id",
        noisy_if="dwell_seconds < 10",
        time="ts",
    )
    began = time.perf_counter()
    data = store.prepare(own.dataset("bench"), options, PROTOCOLS["strict"], 0)
    seconds = time.perf_counter() - began
    results.send((seconds, peak_memory(), data.manifest.counts.interactions))


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return seconds and peak memory for each of ``rows`` (in millions, ``"5,20,50"``)."""
    text = str(options.get("rows") or "1,2")
    try:
        sizes = [round(float(part) * 1e6) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--rows takes millions such as 5,20,50, but got {text!r}.") from error
    found = [_measured(rows) for rows in sizes]
    return {"rows_measured": found}


def _measured(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dart-bench-") as folder:
        write_log(Path(folder), rows)
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_prepare, args=(folder, sender))
        process.start()
        sender.close()
        try:
            seconds, peak, kept = receiver.recv()
        except EOFError as error:
            raise UsageError(f"preparing {rows:,} rows failed; see above.") from error
        finally:
            process.join()
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
    question="How do time and memory of preprocessing grow with the rows?",
    measure=measure,
)
