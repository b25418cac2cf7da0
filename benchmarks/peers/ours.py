"""Our contenders: ``dart train`` under a strategy, and the tight eager loop of ``train``."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

from benchmarks.peers._curve import SPLITS, WEIGHT_DECAY, Curve
from dartcli import __version__


def train(strategy: str, curve: Curve) -> None:
    """Run ``dart train`` as from the shell."""
    from dartcli.cli import main, progress
    from dartcli.training.loop import TrainingLoop

    @contextlib.contextmanager
    def bar(_settings: object) -> Iterator[Callable[..., bool]]:
        yield lambda _seed, record: curve.add(record.valid_auc)

    limit = str(curve.limit)
    words = ["--strategy", strategy, "--epochs", limit, "--patience", limit, "--device", "cpu"]
    said = io.StringIO()
    with (
        patch.object(TrainingLoop, "_take_steps", curve.time(TrainingLoop._take_steps)),
        patch.object(progress, "epoch_bar", bar),
        patch.object(sys, "argv", ["dart", "train", "peers", "--seed", "0", *words, "--json"]),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main()
    curve.test_auc = json.loads(said.getvalue())["seeds"][0]["test_auc"]


def train_eager(curve: Curve) -> None:
    """Train by the tight eager loop, on one thread and with the same validation as ``dart``."""
    import polars as pl
    import torch

    from benchmarks._data import Sized
    from benchmarks.train import Eager
    from dartcli import metrics
    from dartcli.data.tensors import to_interactions

    device = torch.device("cpu")
    parts = {
        name: to_interactions(
            pl.read_parquet(Path(sys.argv[1]) / f"{name}.parquet"), ("user", "item"), device
        )
        for name in SPLITS
    }
    users, items = (int(max(part.fields[:, i].max() for part in parts.values())) for i in (0, 1))
    torch.manual_seed(0)
    loop = Eager(Sized("peers", users + 1, items + 1, parts["train"], device), WEIGHT_DECAY)
    curve.start()
    for _ in range(curve.limit):
        loop.run_epoch()
        curve.validate(lambda name: metrics.auc(loop.score(parts[name].fields), parts[name].label))


if __name__ == "__main__":
    _curve = Curve()
    if sys.argv[3] == "eager":
        train_eager(_curve)
        _curve.report("torch")
    else:
        train(sys.argv[3], _curve)
        _curve.report("dartcli", __version__)
