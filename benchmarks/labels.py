"""Train ``trusted`` with labels as they really are, and without parts of it.

::

    python -m benchmarks.labels movielens-100k --model fm --seeds 0-4

Every variant changes one thing: which labels are granted, how many are wrong, what the detector may
use, or what its probability is used for. Results are kept by variant and seed under ``DART_HOME``,
so an interrupted command resumes. The last lines are a Markdown table: AUC minus base, paired.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Annotated, Any, Final
from unittest import mock

import numpy as np
import torch
import typer
from torch import Tensor

from dartcli import settings
from dartcli.cli import console
from dartcli.cli.errors import guarded
from dartcli.data.tensors import FALSE_POSITIVE, TRUE_POSITIVE
from dartcli.errors import UsageError
from dartcli.experiments.configure import load_prepared, resolve
from dartcli.metrics.statistics import compare_paired, holm
from dartcli.reporting.formats import format_markdown
from dartcli.reporting.phrases import interval_cell, p_cell
from dartcli.reporting.table import Marked, Table
from dartcli.signals import _detector
from dartcli.storage import paths
from dartcli.storage.atomic import write_json
from dartcli.training import device as devices
from dartcli.training import stages, trainer
from dartcli.training.components import Components, build_components
from dartcli.training.sharing import SharedStages
from dartcli.training.trainer import SeedTraining

Random = np.random.Generator
POOLS: Final = ("random", "active users", "popular items", "extreme ratings", "2% of the users")
LISTS: Final = "test_ndcg_at_20"
KEPT: Final = (
    "detector_log_loss",
    "detector_prior_log_loss",
    "detector_auc",
    "detector_precision",
    "detector_calibration_error",
    "test_auc",
    LISTS,
)


def choose_pool(components: Components, pool: str, random: Random) -> Tensor:
    """Return the rows of the training positives that labels may come from."""
    table = components.recorded_train
    rows = torch.nonzero(table.is_labeled)[:, 0]
    user, item = table.fields[rows, 0], table.fields[rows, 1]
    counts = components.counts
    if pool == "active users":
        of_row = counts.user_counts[user].float()
        return rows[of_row >= of_row.quantile(0.75)]
    if pool == "popular items":
        of_row = counts.item_counts[item].float()
        return rows[of_row >= of_row.quantile(0.75)]
    if pool == "extreme ratings":
        if "train" not in components.ratings:
            raise UsageError("extreme ratings need a dataset with ratings.")
        rating = torch.from_numpy(
            components.ratings["train"].to_numpy().astype(np.float64, copy=True)
        )
        rating = rating[rows]
        low, high = rating.quantile(0.15), rating.quantile(0.85)
        return rows[(rating <= low) | (rating >= high)]
    if pool == "2% of the users":
        chosen = random.random(counts.users) < 0.02
        return rows[torch.from_numpy(chosen)[user]]
    return rows


def grant(pool: str, number: int, wrong: float) -> Callable[..., Components]:
    """Return ``build_components`` with ``number`` labels of ``pool``, a share of them wrong."""

    def build(*args: Any) -> Components:
        components, random = build_components(*args), np.random.default_rng([args[2], 77])
        rows = choose_pool(components, pool, random)
        rows = rows[torch.from_numpy(random.permutation(len(rows))[:number])].sort().values
        table = components.recorded_train
        kind = table.kind.clone()
        flipped = rows[torch.from_numpy(random.random(len(rows)) < wrong)]
        kind[flipped] = (TRUE_POSITIVE + FALSE_POSITIVE) - kind[flipped]
        return replace(components, recorded_train=replace(table, kind=kind), trusted=rows)

    return build


Change = Callable[[Tensor, Tensor, Random], Tensor]
"""(probability, granted positions, randomness) -> probability."""


def permute(p: Tensor, _granted: Tensor, random: Random) -> Tensor:
    """Return the same probabilities on other rows."""
    return p[torch.from_numpy(random.permutation(len(p)))]


def flatten(p: Tensor, _granted: Tensor, _random: Random) -> Tensor:
    """Return the mean probability for all rows."""
    return torch.full_like(p, float(p.mean()))


def halve(p: Tensor, granted: Tensor, _random: Random) -> Tensor:
    """Return half of the probabilities of rows that are not granted."""
    result = p / 2
    result[granted] = p[granted]
    return result


def harden(p: Tensor, _granted: Tensor, _random: Random) -> Tensor:
    """Return 0 or 1."""
    return (p > 0.5).float()


@contextlib.contextmanager
def changing(probability: Change, seed: int) -> Iterator[None]:
    """Change what the detector says, if it says anything."""
    original, random = _detector.detect, np.random.default_rng([seed, 78])

    def detect(found: Any, rows: Tensor, false: Tensor) -> Any:
        result = original(found, rows, false)
        if result is None:
            return None
        return replace(result, probability=probability(result.probability, rows, random))

    with mock.patch.object(stages, "detect", detect):
        yield


@contextlib.contextmanager
def without(*groups: str) -> Iterator[None]:
    """Leave groups of features out of the detector."""
    original = _detector._Table.describe

    def describe(self: Any, rows: Any, known: Any) -> Any:
        features = original(self, rows, known)
        names = ["loss", "loss", *2 * ["relative", "relative", "count", "rate"]]
        names += ["factors"] * (features.shape[1] - len(names))
        return features[:, [name not in groups for name in names]]

    with mock.patch.object(_detector._Table, "describe", describe):
        yield


def variants(number: int, seed: int) -> dict[str, AbstractContextManager[Any]]:
    """Return the name of each variant, and the context to train it in."""

    def granting(pool: str, wrong: float = 0.0) -> AbstractContextManager[Any]:
        return mock.patch.object(trainer, "build_components", grant(pool, number, wrong))

    plain = contextlib.nullcontext()
    return {
        "random labels": granting("random"),
        "10% wrong": granting("random", 0.1),
        "20% wrong": granting("random", 0.2),
        **{f"only {pool}": granting(pool) for pool in POOLS[1:]},
        # from here on with the labels of --trusted, which are another draw
        "whole detector": plain,
        "without loss and logit": without("loss"),
        "without means of user and item": without("relative"),
        "without counts": without("count"),
        "without rates of labels": without("rate"),
        "without factors": without("factors"),
        "only factors": without("loss", "relative", "count", "rate"),
        "p permuted": changing(permute, seed),
        "p constant": changing(flatten, seed),
        "half of p": changing(halve, seed),
        "hard labels": changing(harden, seed),
        "weights 1 - p": plain,
        "a fifth of the labels for selection": plain,
    }


def train(
    dataset: str, model: str, variant: str, seed: int, number: int, shared: SharedStages
) -> dict[str, Any]:
    """Train one seed under ``strict`` with the defaults, and return its metrics.

    ``shared`` has the plain first stage, if the seed was trained before.
    """
    valid = number // 5 if "selection" in variant else 0
    strategy: dict[str, Any] = {"name": "base" if variant == "base" else "trusted"}
    if "weights" in variant:
        strategy["options"] = {"treatment": "weight"}
    tree = {
        "dataset": {"name": dataset},
        "model": {"name": model},
        "strategy": strategy,
        "seeds": [seed],
        "trusted": number - valid,
        "trusted_valid": valid,
    }
    configuration = resolve(tree)
    prepared = load_prepared(configuration, seed)
    training = SeedTraining(configuration, prepared, seed, devices.resolve("cpu"), shared=shared)
    metrics = training.finish().metrics.model_dump()
    return {key: metrics[key] for key in KEPT}


def main(
    dataset: Annotated[str, typer.Argument(help="Dataset with ground truth.")],
    model: Annotated[str, typer.Option(help="Model.")] = "fm",
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0-4.")] = "0-4",
    number: Annotated[int, typer.Option(help="Trusted labels.")] = 500,
    only: Annotated[list[str] | None, typer.Option(help="Variant. Repeatable.")] = None,
) -> None:
    """Train every variant, and print how much each gains over base."""
    folder = paths.home() / "experiments" / f"labels-{dataset}-{model}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    shared = SharedStages()
    for seed in settings.parse_seeds(seeds):
        contexts: dict[str, AbstractContextManager[Any]]
        contexts = {"base": contextlib.nullcontext(), **variants(number, seed)}
        for name, context in contexts.items():
            if only and name not in (*only, "base"):
                continue
            file = folder / f"{name.replace(' ', '-').replace('%', 'pc')}-{seed}.json"
            if not file.is_file():
                try:
                    with context:
                        result = train(dataset, model, name, seed, number, shared)
                except UsageError as error:
                    if "extreme ratings" not in name:
                        raise
                    console.note(f"{name} was left out: {error}")
                    continue
                write_json(file, result)
            found.setdefault(name, {})[seed] = json.loads(file.read_text())
            console.note(f"{dataset} {model}, seed {seed}, {name}")
    console.print_line(format_markdown(tabulate(found, dataset, model, number)))


def tabulate(
    found: dict[str, dict[int, dict[str, Any]]], dataset: str, model: str, number: int
) -> Table:
    """Return the table of all variants; Holm's correction is over its rows."""
    base = found.pop("base")

    def mean(rows: dict[int, dict[str, Any]], key: str) -> float | None:
        values = [row[key] for row in rows.values()]
        return None if None in values else float(np.mean(values))

    pairs = {
        name: compare_paired([row["test_auc"] - base[seed]["test_auc"] for seed, row in of.items()])
        for name, of in found.items()
    }
    corrected = holm([pair.p if pair.p is not None else 1.0 for pair in pairs.values()])
    rows = []
    for (name, pair), p in zip(pairs.items(), corrected, strict=True):
        lists = [row[LISTS] - base[seed][LISTS] for seed, row in found[name].items()]
        told = sum(row["detector_auc"] is not None for row in found[name].values())
        rows.append(
            (
                name,
                Marked(1e4 * pair.mean, 1, signed=True),
                interval_cell(pair.t_interval),
                p_cell(p),
                f"{told} of {pair.n}",
                Marked(1e4 * float(np.mean(lists)), 1, signed=True),
                *(Marked(mean(found[name], key), 3) for key in KEPT[2:5]),
            )
        )
    return Table(
        title=f"{dataset}, {model}, {number} labels: test AUC, and NDCG@20, minus base in 1e-4",
        columns=(
            *("variant", "mean", "95% CI", "p (Holm)", "labels tell", "NDCG@20"),
            *("detector AUC", "precision at 4%", "calibration error"),
        ),
        rows=tuple(rows),
    )


if __name__ == "__main__":
    typer.run(guarded(main))
