"""Evaluate the reported weights of a finished run."""

from __future__ import annotations

from typing import Any, Literal

from dartcli.errors import UsageError
from dartcli.experiments.configure import load_prepared
from dartcli.experiments.run import Run, load_model_weights
from dartcli.experiments.run_index import find_run
from dartcli.training.results import compute_spread, finite_or_none

Split = Literal["train", "valid", "test"]


def evaluate_run(run: Run | str, split: Split = "test", *, device: str = "auto") -> dict[str, Any]:
    """Measure the reported weights of every seed of a finished run on one split.

    Returns
    -------
    dict
        ``{"run", "dataset", "protocol", "model", "strategy", "split", "seeds": [...],
        "summary": ...}`` with, for each seed, ``<split>_auc``, ``<split>_auc_without_fp`` and
        ``<split>_log_loss`` against clean labels.

    Raises
    ------
    UsageError, RunError
        If there is no such run or split, or its files cannot be read.
    """
    from dartcli.data.tensors import to_interactions
    from dartcli.training import device as devices
    from dartcli.training.scoring import compute_metrics, score
    from dartcli.training.trainer import make_model

    if split not in ("train", "valid", "test"):
        raise UsageError(f"there is no split {split!r}; choose train, valid or test.")
    run = find_run(run) if isinstance(run, str) else run
    target = devices.resolve(device)
    seeds = []
    for seed in run.seeds:
        data = load_prepared(run.settings, seed)
        with devices.explained(target):
            model = make_model(run.settings, data, seed, target)
            load_model_weights(model, run, seed)
            table = to_interactions(data.split(split), data.fields, target)
            found = compute_metrics(score(model, table), table)
        seeds.append(
            {"seed": seed}
            | {f"{split}_{measure}": finite_or_none(value) for measure, value in found.items()}
        )
    names = [key for key in seeds[0] if key != "seed"]
    summary = {key: compute_spread([entry[key] for entry in seeds]).model_dump() for key in names}
    return {
        "run": run.name,
        "dataset": run.metrics.dataset,
        "protocol": run.metrics.protocol,
        "model": run.metrics.model,
        "strategy": run.metrics.strategy,
        "split": split,
        "seeds": seeds,
        "summary": summary,
    }
