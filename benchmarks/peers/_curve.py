"""What every contender reports: time and AUC, epoch by epoch.

The scripts of the peers import this file from their own folder and environment, so it needs only
the standard library, and pyarrow to read the split.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

SPLITS: Final = ("train", "valid", "test")
BATCH, FACTORS, LEARNING_RATE, WEIGHT_DECAY = 2048, 16, 1e-3, 1e-5
"""The settings of `dart train`; a peer uses those that it has."""


def read() -> tuple[Any, Any, list[int]]:
    """Return split -> Int64[N, 2] users and items, split -> Float32[N] labels, and both sizes."""
    import numpy as np
    import pyarrow.parquet as pq

    folder, ids, labels = Path(sys.argv[1]), {}, {}
    for name in SPLITS:
        table = pq.read_table(folder / f"{name}.parquet", columns=["user", "item", "label"])
        columns = [table[column].to_numpy().astype(np.int64) for column in ("user", "item")]
        ids[name] = np.stack(columns, 1)
        labels[name] = table["label"].to_numpy().astype(np.float32)
    return ids, labels, [int(size) + 1 for size in np.max([ids[name].max(0) for name in SPLITS], 0)]


def one_hot(ids: dict[str, Any], sizes: list[int]) -> dict[str, Any]:
    """Return split -> sparse rows with two ones."""
    import numpy as np
    from scipy.sparse import csr_matrix

    rows = {}
    for name, pairs in ids.items():
        columns, starts = pairs + np.array([0, sizes[0]]), np.arange(0, pairs.size + 1, 2)
        rows[name] = csr_matrix(
            (np.ones(pairs.size), columns.ravel(), starts), (len(pairs), sum(sizes))
        )
    return rows


class Curve:
    """The validation AUC over time, and the test AUC of the best epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.limit = int(sys.argv[2])
        self.test_auc = self.skipped = self.began = self.seconds = 0.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do not count the time of the block: conversion of files, scores of the test split."""
        began = time.time()
        yield
        self.skipped += time.time() - began

    def start(self) -> None:
        """Begin the training of an epoch."""
        self.began = time.time()

    def end(self) -> None:
        """End the training of an epoch."""
        self.seconds = time.time() - self.began

    def time(self, train_epoch: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``train_epoch``, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            self.start()
            found = train_epoch(*arguments, **options)
            self.end()
            return found

        return timed

    def add(self, auc: float) -> bool:
        """Add the validation AUC of an epoch; return whether it is the best so far."""
        best = all(auc > epoch["valid_auc"] for epoch in self.epochs)
        at = time.time() - self.skipped
        self.epochs.append({"train_seconds": self.seconds, "valid_auc": float(auc), "at": at})
        return best

    def validate(self, measure: Callable[[str], float]) -> None:
        """End an epoch, measure the AUC on ``valid`` and, if it is the best, ``test``; go on."""
        self.end()
        if self.add(measure("valid")):
            with self.pause():
                self.test_auc = float(measure("test"))
        self.start()

    def report(self, package: str, release: str | None = None) -> None:
        """Print everything as one line of JSON; the peak memory is that of Linux."""
        held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
        found = {
            "version": f"{package} {release or version(package)}",
            "epochs": self.epochs,
            "test_auc": self.test_auc,
            "skipped": self.skipped,
            "peak_mb": int(held[1]) / 1e3 if held else 0.0,
        }
        sys.stdout.write("\n" + json.dumps(found) + "\n")
