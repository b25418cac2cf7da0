"""Read the records of runs that several analyses use."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dartcli.data.columns import LABEL
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting.figures import Floats


def identify(run: Run) -> dict[str, Any]:
    """Return the names under which ``numbers.json`` lists a run."""
    return {
        "run": run.name,
        "strategy": run.metrics.strategy,
        "model": run.metrics.model,
        "dataset": run.metrics.dataset,
    }


def find_shared_seeds(run: Run, other: Run) -> list[int]:
    """Return the seeds that two runs trained on one split; RunError if data or protocol differ."""
    data = [(one.settings.dataset, one.settings.protocol) for one in (run, other)]
    if data[0] != data[1]:
        names = " and ".join(f"{one.name} (on {one.metrics.dataset})" for one in (run, other))
        raise RunError(
            f"{names} were trained with different datasets, dataset options, or protocols. Compare "
            "runs that share them."
        )
    splits, others = ({s.seed: s.split_seed for s in one.metrics.seeds} for one in (run, other))
    return [seed for seed, split in splits.items() if others.get(seed) == split]


def load_positives(run: Run, seed: int, split: str) -> pl.DataFrame:
    """Return the rows of :meth:`Run.scores` that are positives of ``split``."""
    return run.scores(seed).filter((pl.col("split") == split) & (pl.col(LABEL) > 0))


def positive_loss(positives: pl.DataFrame) -> Floats:
    """Return the binary cross-entropy of positives, -log(sigmoid(logit)), in nats."""
    logit = positives["logit"].cast(pl.Float64).to_numpy()
    return np.asarray(np.logaddexp(0.0, -logit), dtype=np.float64)


def require_false_positives(run: Run) -> None:
    """Raise RunError if the training data of ``run`` has no known false positives."""
    if not any(run.iterations(seed)["false_positives"].sum() for seed in run.seeds):
        raise RunError(
            f"{run.name}: the training data ({run.metrics.dataset}, strategy "
            f"{run.metrics.strategy}) has no known false positives, so identification cannot be "
            "measured. Analyze a run on data with ground truth, such as "
            "`dart train movielens-100k`."
        )


def epoch_length(epochs: Any) -> int:
    """Return the number of iterations per epoch, from the epoch of each iteration."""
    return int(np.bincount(epochs).max())
