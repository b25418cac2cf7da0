"""One seed of a run, from prepared data to measures and files."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from torch import nn

from dartcli import catalog, runs
from dartcli.data.batches import Table, TrainingSet, known_pairs, table_from
from dartcli.data.seeds import derived_seed
from dartcli.data.store import Prepared
from dartcli.denoising import Context, Strategy, TrainingTable
from dartcli.errors import TrainingError
from dartcli.settings import PROTOCOLS, Options, Settings, parsed
from dartcli.training import evaluate
from dartcli.training.device import threads_for
from dartcli.training.loop import EpochRecord, Outcome, fit, snapshot


@dataclass(frozen=True)
class Ingredients:
    """Everything that :func:`dartcli.training.loop.fit` takes, on the device."""

    model: nn.Module
    strategy: Strategy
    training: TrainingSet
    valid: Table
    test: Table


def make_model(
    settings: Settings, prepared: Prepared, seed: int, device: torch.device
) -> nn.Module:
    """Return the model with the initial weights of ``seed``, drawn on the CPU for every device."""
    kind = catalog.load("models", settings.model.name)
    options = parsed(kind.Options, settings.model.options, "model")
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(seed, 0))
        model: nn.Module = kind(prepared.field_sizes, options)
    return model.to(device)


def gather(settings: Settings, prepared: Prepared, seed: int, device: torch.device) -> Ingredients:
    """Load the splits and make model and strategy for one seed.

    Raises
    ------
    TrainingError
        If there is nothing to train on.
    """
    protocol = PROTOCOLS[settings.protocol]
    kind: type[Strategy] = catalog.load("strategies", settings.strategy.name)
    recorded = prepared.split("train")
    train = table_from(kind.prepare(recorded), prepared.fields, device)
    if train.positives == 0:
        raise TrainingError(
            f"the training split of {settings.dataset.name} has no positive interaction "
            f"left for the strategy {settings.strategy.name}; there is nothing to learn from."
        )
    known = None
    if protocol.resample_negatives and prepared.manifest.sampled_negatives:
        known = known_pairs(table_from(recorded, prepared.fields, device), prepared.items)
    training = TrainingSet(
        train, prepared.users, prepared.items, known=known, reshuffle=protocol.reshuffle
    )
    context = Context(
        iterations_per_epoch=-(-len(training) // settings.training.batch_size),
        table=TrainingTable(
            user=train.fields[:, 0],
            item=train.fields[:, 1],
            label=train.label,
            users=prepared.users,
            items=prepared.items,
            rows=len(training),
        ),
    )
    options: Options = parsed(kind.Options, settings.strategy.options, "strategy")
    return Ingredients(
        model=make_model(settings, prepared, seed, device),
        strategy=kind(options, context).to(device),
        training=training,
        valid=table_from(kind.prepare(prepared.split("valid")), prepared.fields, device),
        test=table_from(prepared.split("test"), prepared.fields, device),
    )


def train_seed(
    settings: Settings, prepared: Prepared, seed: int, device: torch.device, folder: Path
) -> Generator[EpochRecord, None, runs.SeedMetrics]:
    """Train one seed, yield its epochs, write its folder, return its measures."""
    parts = gather(settings, prepared, seed, device)
    protocol = PROTOCOLS[settings.protocol]
    valid_label = parts.valid.clean_label if protocol.clean_validation else parts.valid.label
    epochs: list[EpochRecord] = []
    stream = fit(
        parts.model,
        parts.strategy,
        parts.training,
        parts.valid,
        valid_label,
        settings.training,
        seed,
    )
    with threads_for(parts.model):
        while True:
            try:
                epochs.append(next(stream))
            except StopIteration as end:
                outcome: Outcome = end.value
                break
            yield epochs[-1]
        metrics = _measured(settings, prepared, seed, parts, epochs, outcome)
    runs.write_seed(
        folder,
        metrics,
        history=_history(epochs),
        iterations=pl.concat([epoch.iterations for epoch in epochs]),
        weights=snapshot(parts.model),
    )
    return metrics


def _measured(
    settings: Settings,
    prepared: Prepared,
    seed: int,
    parts: Ingredients,
    epochs: list[EpochRecord],
    outcome: Outcome,
) -> runs.SeedMetrics:
    """Measure the last and the best epoch on the test split; leave the reported weights loaded."""
    last = evaluate.measures(evaluate.logits(parts.model, parts.test), parts.test)
    last_weights = snapshot(parts.model)
    parts.model.load_state_dict(outcome.best)
    best = evaluate.measures(evaluate.logits(parts.model, parts.test), parts.test)
    report_best = PROTOCOLS[settings.protocol].report == "best"
    reported = best if report_best else last
    if not report_best:
        parts.model.load_state_dict(last_weights)
    epoch = epochs[outcome.best_epoch - 1] if report_best else epochs[-1]
    return runs.SeedMetrics(
        seed=seed,
        split_seed=prepared.manifest.split_seed or 0,
        test_auc=runs.finite(reported["auc"]),
        test_auc_without_fp=runs.finite(reported["auc_without_fp"]),
        test_log_loss=runs.finite(reported["log_loss"]),
        test_auc_best_epoch=runs.finite(best["auc"]),
        test_auc_last_epoch=runs.finite(last["auc"]),
        valid_auc=runs.finite(epoch.valid_auc),
        valid_log_loss=runs.finite(epoch.valid_log_loss),
        best_epoch=outcome.best_epoch,
        reported_epoch=epoch.epoch,
        epochs=outcome.epochs,
        iterations=epochs[-1].iteration,
        stopped=outcome.stopped,
    )


def _history(epochs: list[EpochRecord]) -> pl.DataFrame:
    names = (
        "epoch",
        "iteration",
        "train_loss",
        "valid_auc",
        "valid_log_loss",
        "handled",
        "improved",
    )
    return pl.DataFrame({name: [getattr(epoch, name) for epoch in epochs] for name in names})
