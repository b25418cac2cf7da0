"""Time of one training iteration under every strategy, relative to plain training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from dartcli import catalog
from dartcli.benchmarks.train import BATCH, FACTORS, SIZES, dart_epoch, made_up
from dartcli.data.batches import Table
from dartcli.denoising import CleanSample, Context, TrainingTable
from dartcli.errors import UsageError
from dartcli.measuring import Benchmark, interleaved
from dartcli.training import device as devices

BASE = "base"


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return milliseconds an iteration of every strategy, and how much longer than ``base``.

    Strategies that differ from ``base`` in their table only (``clean``) are left out. ``influence``
    also looks at all training rows now and then: the seconds of one look are told apart.
    """
    size = str(options.get("size", "movielens-100k"))
    if size not in SIZES:
        raise UsageError(f"there is no size {size!r}; choose from {', '.join(SIZES)}.")
    device = devices.resolve(str(options.get("device", "cpu")))
    users, items, rows = SIZES[size]
    table = made_up(users, items, rows, device)
    kinds = {name: catalog.load("strategies", name) for name in catalog.names("strategies")}
    names = [BASE, *(name for name, kind in kinds.items() if not kind.reads_noisy and name != BASE)]
    timings = interleaved(
        {name: dart_epoch(table, users, items, name) for name in names},
        int(options.get("rounds", 5)),
        device,
    )
    steps = -(-rows // BATCH)
    base = timings[BASE].median
    return {
        "size": size,
        "users": users,
        "items": items,
        "rows": rows,
        "batch_size": BATCH,
        "device": devices.describe(device),
        "influence_look_seconds": _look(table, users, items),
        "rows_measured": [
            {
                "strategy": name,
                "ms_per_iteration": 1e3 * timing.median / steps,
                "fastest": 1e3 * timing.low / steps,
                "slowest": 1e3 * timing.high / steps,
                "times_base": timing.median / base,
            }
            for name, timing in sorted(timings.items(), key=lambda pair: pair[1].median)
        ],
    }


def _look(table: Table, users: int, items: int) -> float:
    """Return the seconds that ``influence`` takes to look at every training row."""
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
    question="What does a strategy cost, beside plain training?",
    measure=measure,
)
