"""Time other programs that train factorization machines, on the same split.

Every contender runs in a process of its own, on one thread, and is handed the same three Parquet
files, negatives included. It reports the validation AUC and the time after every epoch. Each peer
is a script, ``run_MODULE.py``, that uses only that peer and ``_curve.py``; peers may be installed
in environments of their own (``--python recbole=envs/recbole/bin/python``). A peer that is not
installed is skipped.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.peers._curve import BATCH, SPLITS
from benchmarks.timing import Benchmark, in_own_process
from dartcli import preprocess
from dartcli.data.logs.schema import LogOptions
from dartcli.data.prepare import preprocess_log
from dartcli.errors import UsageError

MODULES = {
    "recbole": "recbole",
    "fuxictr": "fuxictr",
    "deepctr-torch": "deepctr_torch",
    "torch-rechub": "torch_rechub",
    "modern-fm": "modern_fm",
    "vowpal-wabbit": "vowpalwabbit",
    "myfm": "myfm",
}
"""Peer -> the module that it installs."""
OURS = {"dartcli, dart": "dart", "dartcli, base": "base", "eager loop": "eager"}
Shape = tuple[int, int, int]
SIZES: dict[str, Shape | None] = {
    "movielens-100k": None,
    "generated": (200_000, 100_000, 2_000_000),
}
"""Size -> users, items, and rows of all splits to generate; None = the dataset of that name."""
EPOCHS = {"movielens-100k": 40, "generated": 4}
THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
HOUR = 3600
HERE = Path(__file__).parent


def find_interpreters(given: Sequence[str]) -> dict[str, str]:
    """Return peer -> interpreter, from ``NAME=PATH`` or because this interpreter can import it.

    Raises
    ------
    UsageError
        If there is no such peer or no such interpreter.
    """
    found = {
        name: sys.executable for name, module in MODULES.items() if importlib.util.find_spec(module)
    }
    for text in given:
        name, _, path = text.partition("=")
        if name not in MODULES or not shutil.which(path):
            raise UsageError(
                f"invalid --python {text!r}. Use NAME=PATH, an interpreter for one of "
                f"{', '.join(MODULES)}."
            )
        found[name] = str(Path(path).absolute())
    return found


def make_log(size: str, shape: Shape | None) -> pl.DataFrame:
    """Return the interactions of a size: users, items, and labels, half of them 0."""
    if shape is None:
        whole = preprocess(size, protocol="reference")
        return pl.concat([whole.split(name) for name in SPLITS]).select("user", "item", "label")
    users, items, rows = shape
    random = np.random.default_rng(0)
    user = (users * random.random(rows) ** 1.5).astype(np.int64)
    item = (items * random.random(rows) ** 2).astype(np.int64)
    # tastes of four dimensions, and items that are liked more than others
    tastes, traits = random.normal(size=(users, 4)), random.normal(size=(items, 4))
    logit = (tastes[user] * traits[item]).sum(1) + 1.5 * random.normal(size=items)[item]
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return pl.DataFrame({"user": user, "item": item, "label": label})


def _prepare(size: str, shape: Shape | None, folder: str) -> str:
    """Prepare the log as the dataset ``peers`` in ``folder``; return the folder of its split."""
    log = make_log(size, shape)
    os.environ["DART_HOME"] = folder
    path = Path(folder) / "log.parquet"
    log.write_parquet(path)
    options = LogOptions(inputs=(str(path),), user="user", item="item", label="label")
    return str(preprocess_log("peers", options).folder)


def run_contender(
    command: Sequence[str], split: str, epochs: int, home: str, *more: str
) -> dict[str, Any] | str:
    """Return what one process reports, with times from its start, or why it failed."""
    environment = {
        **os.environ,
        **{f"{name}_NUM_THREADS": "1" for name in THREADS},
        "POLARS_MAX_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "DART_HOME": home,
        "PYTHONPATH": str(HERE.parent.parent) if more else "",
    }
    with tempfile.TemporaryDirectory(prefix="dart-peer-") as folder:
        began = time.time()
        try:
            done = subprocess.run(  # noqa: S603 - interpreters that the caller named
                [*command, split, str(epochs), *more],
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=HOUR,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "took more than an hour"
        wall = time.time() - began
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    for epoch in found["epochs"]:
        epoch["at"] -= began
    return {**found, "wall": wall - found["skipped"]}


def choose_target(reports: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    """Return the validation AUC that half of the contenders reach in every run, rounded down."""
    reached = [min(best_auc(run) for run in runs) for runs in reports.values()]
    return float(np.floor(1e3 * statistics.median_high(reached)) / 1e3)


def best_auc(run: Mapping[str, Any]) -> float:
    """Return the highest validation AUC of a run."""
    return float(max(epoch["valid_auc"] for epoch in run["epochs"]))


def summarize(name: str, runs: Sequence[Mapping[str, Any]], target: float) -> dict[str, Any]:
    """Return the row of one contender: medians over its runs."""

    def middle(values: Sequence[float]) -> float:
        return float(statistics.median(values))

    steps = -(-runs[0]["rows"] // BATCH)
    ends = [[epoch["at"] for epoch in run["epochs"]] for run in runs]
    reached = [
        next((epoch["at"] for epoch in run["epochs"] if epoch["valid_auc"] >= target), None)
        for run in runs
    ]
    times = [at for at in reached if at is not None]
    return {
        "contender": name,
        "version": runs[0]["version"],
        "ms_a_step": middle(
            [1e3 * epoch["train_seconds"] / steps for run in runs for epoch in run["epochs"]]
        ),
        "seconds_an_epoch": middle([b - a for end in ends for a, b in itertools.pairwise(end)]),
        "seconds_to_first_epoch": middle([end[0] for end in ends]),
        "seconds_to_target": middle(times) if len(times) == len(runs) else None,
        "best_valid_auc": middle([best_auc(run) for run in runs]),
        "test_auc": middle([run["test_auc"] for run in runs]),
        "wall_seconds": middle([run["wall"] for run in runs]),
        "peak_mb": middle([run["peak_mb"] for run in runs]),
    }


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Run every contender ``rounds`` times, in turn; ``failed`` has the others, and why.

    Raises
    ------
    UsageError
        If the size, a peer, or an interpreter does not exist.
    """
    size = str(options.get("size", "movielens-100k"))
    if size not in SIZES:
        raise UsageError(f"no size {size!r}. Choose from {', '.join(SIZES)}.")
    interpreters = find_interpreters(options.get("python") or ())
    epochs = int(options.get("epochs") or EPOCHS[size])
    commands: dict[str, tuple[list[str], tuple[str, ...]]] = {
        name: ([sys.executable, "-m", "benchmarks.peers.ours"], (kind,))
        for name, kind in OURS.items()
    }
    for name, path in interpreters.items():
        commands[name] = ([path, str(HERE / f"run_{MODULES[name]}.py")], ())
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    failed = {name: "not installed" for name in MODULES if name not in interpreters}
    with tempfile.TemporaryDirectory(prefix="dart-peers-") as home:
        split = in_own_process(_prepare, size, SIZES[size], home, what="preparing the split")
        rows = {name: len(pl.read_parquet(f"{split}/{name}.parquet")) for name in SPLITS}
        for _ in range(int(options.get("rounds", 1))):
            for name, (command, more) in commands.items():
                if name in failed:
                    continue
                found = run_contender(command, split, epochs, home, *more)
                if isinstance(found, str):
                    failed[name] = found
                else:
                    reports[name].append({**found, "rows": rows["train"]})
    complete = {name: runs for name, runs in reports.items() if name not in failed}
    target = choose_target(complete)
    return {
        "size": size,
        "rows": rows,
        "epochs": epochs,
        "target_valid_auc": target,
        "failed": failed,
        "curves": complete,
        "rows_measured": [summarize(name, runs, target) for name, runs in complete.items()],
    }


BENCHMARK = Benchmark(
    title="Other programs on the same split",
    question="How fast do other programs train a factorization machine, and to what AUC?",
    measure=measure,
)
