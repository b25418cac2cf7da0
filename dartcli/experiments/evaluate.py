"""Evaluate the reported weights of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from dartcli.errors import UsageError
from dartcli.experiments.configure import configure, load_prepared, log_warnings
from dartcli.experiments.run import Run, load_model_weights
from dartcli.experiments.run_index import find_run
from dartcli.training.results import compute_spread, finite_or_none

if TYPE_CHECKING:
    from torch import nn

Split = Literal["train", "valid", "test"]


def load_model(run: Run, seed: int, device: str) -> nn.Module:
    """Return the module of one seed of a finished run; see :meth:`Run.model`."""
    from dartcli.training import device as devices
    from dartcli.training.components import build_model

    if seed not in run.seeds:
        trained = ", ".join(map(str, run.seeds))
        raise UsageError(f"run {run.name} has no seed {seed}. Its seeds: {trained}.")
    configuration = configure(run.settings)
    target = devices.resolve(device)
    with devices.explained(target):
        model = build_model(configuration, load_prepared(configuration, seed), seed, target)
        load_model_weights(model, run, seed)
    return model.eval()


def evaluate_run(
    run: Run | str,
    split: str = "test",
    *,
    device: str = "auto",
) -> dict[str, Any]:
    """Compute the metrics of every seed of a finished run on one split.

    Returns
    -------
    dict
        ``{"run", "dataset", "protocol", "model", "strategy", "split", "seeds": [...],
        "summary": ...}``. Each seed has ``<split>_auc``, ``<split>_auc_without_fp``,
        ``<split>_log_loss``, ``<split>_calibration_error``, and ``<split>_auc_per_user`` against
        clean labels.

    Raises
    ------
    UsageError, RunError
        If there is no such run or split, or its files cannot be read.
    """
    from dartcli.data.tensors import to_interactions
    from dartcli.training import device as devices
    from dartcli.training.components import build_model
    from dartcli.training.scoring import compute_metrics, score

    if split not in get_args(Split):
        raise UsageError(f"no split {split!r}. Choose `train`, `valid`, or `test`.")
    run = find_run(run) if isinstance(run, str) else run
    target = devices.resolve(device)
    configuration = configure(run.settings)
    seeds = []
    for index, seed in enumerate(run.seeds):
        data = load_prepared(configuration, seed)
        if not index:
            log_warnings(data)
        with devices.explained(target):
            model = build_model(configuration, data, seed, target)
            load_model_weights(model, run, seed)
            table = to_interactions(data.split(cast("Split", split)), data.fields, target)
            found = compute_metrics(score(model, table), table)
        seeds.append(
            {"seed": seed}
            | {f"{split}_{metric}": finite_or_none(value) for metric, value in found.items()}
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
