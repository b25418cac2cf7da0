"""Time one training iteration under every strategy, relative to plain training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks._data import BATCH, FACTORS, sized
from benchmarks.timing import Benchmark, interleaved
from benchmarks.train import dart_epoch, steps_on
from dartcli import catalog
from dartcli.data.tensors import Interactions
from dartcli.denoising import CleanSample, Context, TrainingTable

BASE = "base"


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return each strategy's milliseconds per iteration, and their ratio to ``base``.

    On a GPU steps are eager and captured, each compared with ``base`` stepped in the same way.
    Strategies that differ from ``base`` only in their table (``clean``) are left out.
    ``influence`` also scans all training rows every few epochs; the seconds of one scan are
    reported separately.
    """
    data = sized(options)
    kinds = {name: catalog.load("strategies", name) for name in catalog.names("strategies")}
    names = [BASE, *(name for name, kind in kinds.items() if not kind.reads_noisy and name != BASE)]
    ways = steps_on(data.device)
    timings = interleaved(
        {
            f"{name} {way}": dart_epoch(data, name, captured=captured)
            for name in names
            for way, captured in ways.items()
        },
        int(options.get("rounds", 5)),
        data.device,
    )

    def describe(name: str) -> dict[str, Any]:
        row: dict[str, Any] = {"strategy": name}
        for way in ways:
            seconds = timings[f"{name} {way}"].median
            row[f"{way}_ms"] = 1e3 * seconds / data.iterations
            row[f"{way}_times_base"] = seconds / timings[f"{BASE} {way}"].median
        return row

    return {
        **data.described(),
        "influence_look_seconds": _time_influence(data.table, data.users, data.items),
        "rows_measured": sorted(map(describe, names), key=lambda row: row["eager_ms"]),
    }


def _time_influence(table: Interactions, users: int, items: int) -> float:
    """Return the seconds that ``influence`` takes to scan every training row."""
    kind, model_kind = catalog.load("strategies", "influence"), catalog.load("models", "fm")
    device = table.label.device
    statistics = TrainingTable(
        table.fields[:, 0], table.fields[:, 1], table.label, users, items, len(table)
    )
    clean = CleanSample(table.fields[:BATCH], table.clean_label[:BATCH])
    chosen = kind.Options()
    rule = kind(chosen, Context(1, statistics, clean)).to(device)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = model_kind((users, items), model_kind.Options(factors=FACTORS)).to(device)
    began = time.perf_counter()
    rule.study(chosen.burn_in + 1, model, table.fields, table.label)
    return time.perf_counter() - began


BENCHMARK = Benchmark(
    title="One training iteration under every strategy",
    question="How much longer does an iteration take with each strategy than without?",
    measure=measure,
)
