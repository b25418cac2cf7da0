"""Evaluate the reported weights of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from dartcli.errors import UsageError
from dartcli.experiments.configure import configure, load_prepared, log_warnings
from dartcli.experiments.run import Run, load_model_weights
from dartcli.experiments.run_index import find_run
from dartcli.training.results import compute_spread, finite_or_none

if TYPE_CHECKING:
    from torch import nn

    from dartcli.data.manifest import Prepared
    from dartcli.data.tensors import Interactions
    from dartcli.training.configuration import Configuration

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
    top_k: int | None = None,
) -> dict[str, Any]:
    """Compute the metrics of every seed of a finished run on one split.

    Returns
    -------
    dict
        ``{"run", "dataset", "protocol", "model", "strategy", "split", "seeds": [...],
        "summary": ...}``. Each seed has ``<split>_auc``, ``<split>_auc_without_fp``,
        ``<split>_log_loss``, ``<split>_calibration_error``, and ``<split>_auc_per_user`` against
        clean labels. With ``top_k`` = K, also ``<split>_recall_at_K`` and ``<split>_ndcg_at_K``,
        and ``baselines``: name -> ``seeds`` and ``summary`` of recommenders without gradients.

    Raises
    ------
    UsageError, RunError
        If there is no such run or split, or its files cannot be read.
    """
    _check(split, top_k)
    run = find_run(run) if isinstance(run, str) else run
    configuration = configure(run.settings)
    seeds: list[dict[str, Any]] = []
    baselines: dict[str, list[dict[str, Any]]] = {}
    for index, seed in enumerate(run.seeds):
        data = load_prepared(configuration, seed)
        if not index:
            log_warnings(data)
        found = _evaluate_seed(run, configuration, data, seed, split, device, top_k)
        seeds.append(_entry(seed, split, found.pop("model")))
        for name, values in found.items():
            baselines.setdefault(name, []).append(_entry(seed, split, values))
    document = {
        "run": run.name,
        "dataset": run.metrics.dataset,
        "protocol": run.metrics.protocol,
        "model": run.metrics.model,
        "strategy": run.metrics.strategy,
        "split": split,
        "seeds": seeds,
        "summary": _summarize(seeds),
    }
    if top_k is not None:
        document["baselines"] = {
            name: {"seeds": entries, "summary": _summarize(entries)}
            for name, entries in baselines.items()
        }
    return document


def _evaluate_seed(
    run: Run,
    configuration: Configuration,
    data: Prepared,
    seed: int,
    split: str,
    device: str,
    top_k: int | None,
) -> dict[str, dict[str, float]]:
    """Return the metrics of the model (``model``) and, with ``top_k``, of each baseline."""
    from dartcli.data.tensors import to_interactions
    from dartcli.training import device as devices
    from dartcli.training.components import build_model
    from dartcli.training.retrieval import measure_lists
    from dartcli.training.scoring import compute_metrics, score

    target = devices.resolve(device)
    with devices.explained(target):
        model = build_model(configuration, data, seed, target)
        load_model_weights(model, run, seed)
        table = to_interactions(data.split(cast("Split", split)), data.fields, target)
        found = {"model": compute_metrics(score(model, table), table)}
        if top_k is not None:
            train = to_interactions(data.split("train"), data.fields, target)
            found["model"] |= measure_lists(model, train, table, data, top_k)
            found |= _measure_baselines(data, train, table, top_k)
    return found


def _check(split: str, top_k: int | None) -> None:
    if split not in get_args(Split):
        raise UsageError(f"no split {split!r}. Choose `train`, `valid`, or `test`.")
    if top_k is not None and top_k < 1:
        raise UsageError(f"the length of the lists is {top_k}. Use 1 or more.")
    if top_k is not None and split == "train":
        raise UsageError(
            "the lists leave out the training positives, so they cannot be measured on the split "
            "`train`. Use `--split valid` or `--split test`."
        )


def _entry(seed: int, split: str, found: Mapping[str, float]) -> dict[str, Any]:
    return {"seed": seed} | {f"{split}_{key}": finite_or_none(one) for key, one in found.items()}


def _summarize(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [key for key in seeds[0] if key != "seed"]
    return {key: compute_spread([entry[key] for entry in seeds]).model_dump() for key in names}


def _measure_baselines(
    data: Prepared, train: Interactions, test: Interactions, k: int
) -> dict[str, dict[str, float]]:
    from dartcli.experiments.baselines import BASELINES
    from dartcli.training.retrieval import compute_top_k

    train, test = train.cpu(), test.cpu()
    sizes = data.users, data.items
    user, item = train.fields[train.label > 0, :2].unbind(1)
    return {
        name: compute_top_k(make(user, item, *sizes), train, test, sizes, k)
        for name, make in BASELINES.items()
    }
