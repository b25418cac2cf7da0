"""Time other programs that train factorization machines, on the same split.

Every contender runs in a process of its own, on one thread, and reads the same three Parquet
files, negatives included. Each peer is a script, ``run_MODULE.py``, that uses only that peer and
``_curve.py``; it may have an environment of its own (``--python recbole=recbole/bin/python``).
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
from collections.abc import Iterable, Mapping, Sequence
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
GENERATED = (200_000, 100_000, 2_000_000)
SIZES: dict[str, Shape | None] = {"movielens-100k": None, "generated": GENERATED}
"""Size -> users, items, and rows of all splits to generate; None = the dataset of that name."""
EPOCHS = {"movielens-100k": 40, "generated": 3}
THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "RAYON")]
HOUR = 3600
HERE = Path(__file__).parent


def find_interpreters(given: Iterable[str]) -> dict[str, str]:
    """Return peer -> interpreter: ``NAME=PATH``, or this one if it can import the peer.

    Raises
    ------
    UsageError
        If there is no such peer or no such interpreter.
    """
    found = {name: sys.executable for name in MODULES if importlib.util.find_spec(MODULES[name])}
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
    """Return users, items, and labels, about half of which are 0."""
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


def run_contender(command: Sequence[str], **variables: str) -> dict[str, Any] | str:
    """Return what a process reports, with times from its start, or why it failed."""
    one_thread = dict.fromkeys([*THREADS, "POLARS_MAX_THREADS"], "1")
    with tempfile.TemporaryDirectory(prefix="dart-peer-") as folder:
        began = time.time()
        try:
            done = subprocess.run(  # noqa: S603 - interpreters that the caller named
                command,
                env={**os.environ, **one_thread, "CUDA_VISIBLE_DEVICES": "", **variables},
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


def choose_target(reports: Iterable[Mapping[str, Any]]) -> float:
    """Return the validation AUC that at least half of the contenders reach, rounded down."""
    best = statistics.median_high(_best_auc(report) for report in reports)
    return float(np.floor(1e3 * best) / 1e3)


def _best_auc(report: Mapping[str, Any]) -> float:
    return float(max(epoch["valid_auc"] for epoch in report["epochs"]))


def summarize(name: str, report: Mapping[str, Any], steps: int, target: float) -> dict[str, Any]:
    """Return the row of a contender whose epochs have ``steps`` batches; medians over epochs."""
    epochs = report["epochs"]
    ends = [epoch["at"] for epoch in epochs]
    training = statistics.median(epoch["train_seconds"] for epoch in epochs)
    return {
        "contender": name,
        "version": report["version"],
        "ms_a_step": 1e3 * training / steps,
        "seconds_an_epoch": statistics.median(b - a for a, b in itertools.pairwise(ends)),
        "seconds_to_first_epoch": ends[0],
        "seconds_to_target": next((e["at"] for e in epochs if e["valid_auc"] >= target), None),
        "best_valid_auc": _best_auc(report),
        "test_auc": report["test_auc"],
        "wall_seconds": report["wall"],
        "peak_mb": report["peak_mb"],
    }


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Run the contenders one after another; ``failed`` has those that did not run, and why.

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
    failed = {name: "not installed" for name in MODULES if name not in interpreters}
    reports = {}
    with tempfile.TemporaryDirectory(prefix="dart-peers-") as home:
        split = in_own_process(_prepare, size, SIZES[size], home, what="preparing the split")
        rows = {name: len(pl.read_parquet(f"{split}/{name}.parquet")) for name in SPLITS}
        for name in (*OURS, *interpreters):
            if name in OURS:
                command = [sys.executable, "-m", "benchmarks.peers.ours"]
                variables = {"DART_HOME": home, "PYTHONPATH": str(HERE.parent.parent)}
            else:
                command = [interpreters[name], str(HERE / f"run_{MODULES[name]}.py")]
                variables = {"PYTHONPATH": ""}
            found = run_contender([*command, split, str(epochs), OURS.get(name, "")], **variables)
            if isinstance(found, str):
                failed[name] = found
            else:
                reports[name] = found
    target, steps = choose_target(reports.values()), -(-rows["train"] // BATCH)
    return {
        "size": size,
        "rows": rows,
        "epochs": epochs,
        "failed": failed,
        "reports": reports,
        "also": {"target, validation AUC": target},
        "rows_measured": [summarize(name, reports[name], steps, target) for name in reports],
    }


BENCHMARK = Benchmark(
    title="Other programs on the same split",
    question="How fast do other programs train a factorization machine, and to what AUC?",
    measure=measure,
)
