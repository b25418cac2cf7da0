"""One seed of a run, from prepared data to measures and tables. Nothing here writes a file."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from dartcli import catalog, metrics
from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, USER
from dartcli.data.manifest import Prepared
from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import (
    FALSE_POSITIVE,
    Interactions,
    TrainingSet,
    known_pairs,
    to_interactions,
)
from dartcli.denoising import CleanSample, Context, Strategy, TrainingTable
from dartcli.errors import TrainingError, UsageError
from dartcli.settings import PROTOCOLS, Options, Settings, validate
from dartcli.training.device import (
    check_room,
    deterministic,
    explained,
    keeping_freed_memory,
    threads_for,
)
from dartcli.training.epochs import HISTORY_COLUMNS, EpochRecord, Position, epoch_table
from dartcli.training.loop import Keeper, Outcome, fit, snapshot
from dartcli.training.program import State
from dartcli.training.results import SeedMetrics, SeedRecord, finite_or_none
from dartcli.training.scoring import compute_group_metrics, compute_metrics, score

GROUPS = 5
"""Users (and items) are divided by activity into this many groups with equal positives."""


@dataclass(frozen=True)
class Components:
    """Everything that :func:`dartcli.training.loop.fit` takes, on the device."""

    models: Sequence[nn.Module]
    """The networks; the first is measured."""
    strategy: Strategy
    training: TrainingSet
    valid: Interactions
    """What validation looks at."""
    recorded_valid: Interactions
    """The validation split as it was recorded."""
    test: Interactions
    counts: TrainingTable
    """The recorded training interactions, whatever the strategy makes of them."""


@dataclass(frozen=True)
class Trained:
    """One trained seed; the first network holds the reported weights."""

    settings: Settings
    prepared: Prepared
    metrics: SeedMetrics
    epochs: Sequence[EpochRecord]
    parts: Components

    @cached_property
    def record(self) -> SeedRecord:
        """What is kept of it in the folder of a run."""
        return SeedRecord(
            metrics=self.metrics,
            history=epoch_table(self.epochs, HISTORY_COLUMNS),
            iterations=pl.concat([epoch.iterations for epoch in self.epochs]),
            weights=snapshot(self.parts.models[0]),
            scores=self._scores(),
            snapshots={
                iteration: self._scored("valid", self.prepared.split("valid"), logit)
                for epoch in self.epochs
                for iteration, logit in epoch.snapshots.items()
            },
        )

    def _scores(self) -> pl.DataFrame:
        train = self.prepared.split("train").filter(pl.col(LABEL) > 0)
        tables = {
            "train": train,
            "valid": self.prepared.split("valid"),
            "test": self.prepared.split("test"),
        }
        device = self.parts.test.label.device
        return pl.concat(
            self._scored(
                name,
                frame,
                score(self.parts.models[0], to_interactions(frame, self.prepared.fields, device)),
            )
            for name, frame in tables.items()
        )

    def _scored(self, split: str, frame: pl.DataFrame, logit: Tensor) -> pl.DataFrame:
        counts = self.parts.counts
        positives = [
            of_code.cpu().numpy()[frame[field].to_numpy()]
            for field, of_code in ((USER, counts.user_counts), (ITEM, counts.item_counts))
        ]
        rating = pl.col(RATING) if RATING in frame.columns else pl.lit(None)
        return frame.select(
            pl.lit(split).alias("split"),
            pl.col(USER, ITEM, LABEL, NOISY),
            rating.cast(pl.Float32).alias(RATING),
            pl.Series("logit", logit.float().cpu().numpy()),
            pl.Series("user_positives", positives[0].astype(np.uint32)),
            pl.Series("item_positives", positives[1].astype(np.uint32)),
        )


def make_model(
    settings: Settings, prepared: Prepared, seed: int, device: torch.device, network: int = 0
) -> nn.Module:
    """Return the model with the initial weights of ``seed``, drawn on the CPU for every device.

    Each ``network`` (from 0) of a strategy that trains several gets weights of its own.
    """
    kind = catalog.load("models", settings.model.name)
    options = validate(kind.Options, settings.model.options, "model")
    purpose = (0, network) if network else (0,)
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(seed, *purpose))
        model: nn.Module = kind(prepared.field_sizes, options)
    return model.to(device)


def _check_room(settings: Settings, prepared: Prepared, device: torch.device) -> None:
    kind = catalog.load("models", settings.model.name)
    with torch.device("meta"):
        # nothing is allocated, only counted
        outline: nn.Module = kind(
            prepared.field_sizes, validate(kind.Options, settings.model.options, "model")
        )
    check_room(sum(parameter.numel() for parameter in outline.parameters()), device)


def build_components(
    settings: Settings, prepared: Prepared, seed: int, device: torch.device
) -> Components:
    """Load the splits and make models and strategy for one seed.

    Raises
    ------
    TrainingError
        If there is nothing to train on, or the model cannot fit into memory.
    """
    _check_room(settings, prepared, device)
    protocol = PROTOCOLS[settings.protocol]
    kind: type[Strategy] = catalog.load("strategies", settings.strategy.name)
    options: Options = validate(kind.Options, settings.strategy.options, "strategy")
    recorded = prepared.split("train")
    recorded_table = to_interactions(recorded, prepared.fields, device)
    prepared_rows = kind.prepare(recorded)
    train = recorded_table
    if prepared_rows is not recorded:
        train = to_interactions(prepared_rows, prepared.fields, device)
    if train.positives == 0:
        raise TrainingError(
            f"the training split of {settings.dataset.name} has no positive interaction "
            f"left for the strategy {settings.strategy.name}; there is nothing to learn from."
        )
    known = None
    if protocol.resample_negatives and prepared.manifest.sampled_negatives:
        known = known_pairs(recorded_table, prepared.items)
    training = TrainingSet(
        train, prepared.users, prepared.items, known=known, reshuffle=protocol.reshuffle
    )
    valid = prepared.split("valid")
    clean = None
    if kind.needs_clean:
        sample, valid = _clean_sample(valid, getattr(options, "clean_rows", 0), settings, seed)
        table = to_interactions(sample, prepared.fields, device)
        clean = CleanSample(table.fields, table.clean_label)
    context = Context(
        iterations_per_epoch=-(-len(training) // settings.training.batch_size),
        table=_statistics(train, prepared, len(training)),
        clean=clean,
    )
    return Components(
        models=[
            make_model(settings, prepared, seed, device, network)
            for network in range(kind.networks)
        ],
        strategy=_made(kind, options, context, seed).to(device),
        training=training,
        valid=to_interactions(kind.prepare(valid), prepared.fields, device),
        recorded_valid=to_interactions(prepared.split("valid"), prepared.fields, device),
        test=to_interactions(prepared.split("test"), prepared.fields, device),
        counts=_statistics(recorded_table, prepared, len(training)),
    )


def _made(kind: type[Strategy], options: Options, context: Context, seed: int) -> Strategy:
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(seed, 4))
        return kind(options, context)


def _statistics(table: Interactions, prepared: Prepared, rows: int) -> TrainingTable:
    return TrainingTable(
        user=table.fields[:, 0],
        item=table.fields[:, 1],
        label=table.label,
        users=prepared.field_sizes[0],
        items=prepared.field_sizes[1],
        rows=rows,
    )


def _clean_sample(
    valid: pl.DataFrame, rows: int, settings: Settings, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide the validation split: rows whose true labels may be used, and the others."""
    name = settings.strategy.name
    unknown = valid.filter(pl.col(LABEL) > 0)[NOISY].null_count()
    if unknown:
        raise TrainingError(
            f"the strategy {name} learns from a small clean set, but of {unknown:,} positives of "
            "the validation split nobody knows whether they are false; use a dataset with "
            "explicit feedback."
        )
    if rows > len(valid) // 2:
        raise UsageError(
            f"strategy.clean_rows is {rows:,}, but the validation split has {len(valid):,} rows "
            "and must keep half of them to stop on; lower it."
        )
    order = np.random.default_rng(derived_seed(seed, 3)).permutation(len(valid))
    return valid[np.sort(order[:rows])], valid[np.sort(order[rows:])]


def train_seed(
    settings: Settings,
    prepared: Prepared,
    seed: int,
    device: torch.device,
    *,
    keeper: Keeper | None = None,
    resume: Position | None = None,
) -> Generator[EpochRecord, None, Trained]:
    """Train one seed; yield its epochs, return what came of it.

    ``keeper`` and ``resume`` are those of :func:`dartcli.training.loop.fit`.

    Raises
    ------
    TrainingError
        If there is nothing to learn from, a loss is not a number, memory runs out or the device
        fails.
    """
    with explained(device), deterministic(device, wanted=settings.deterministic):
        return (yield from _train_seed(settings, prepared, seed, device, keeper, resume))


def _train_seed(
    settings: Settings,
    prepared: Prepared,
    seed: int,
    device: torch.device,
    keeper: Keeper | None,
    resume: Position | None,
) -> Generator[EpochRecord, None, Trained]:
    parts = build_components(settings, prepared, seed, device)
    protocol = PROTOCOLS[settings.protocol]
    valid_label = parts.valid.clean_label if protocol.clean_validation else parts.valid.label
    epochs: list[EpochRecord] = list(resume.finished) if resume else []
    stream = fit(
        parts.models,
        parts.strategy,
        parts.training,
        parts.valid,
        valid_label,
        settings.training,
        seed,
        watched=parts.recorded_valid,
        keeper=keeper,
        resume=resume,
    )
    with threads_for(parts.models[0]), keeping_freed_memory():
        while True:
            try:
                epochs.append(next(stream))
            except StopIteration as end:
                outcome: Outcome = end.value
                break
            yield epochs[-1]
        measured = _measured(settings, prepared, seed, parts, epochs, outcome)
    return Trained(settings, prepared, measured, epochs, parts)


def _measured(
    settings: Settings,
    prepared: Prepared,
    seed: int,
    parts: Components,
    epochs: Sequence[EpochRecord],
    outcome: Outcome,
) -> SeedMetrics:
    """Measure the last and the best epoch on the test split; leave the reported weights loaded."""
    model, test = parts.models[0], parts.test
    last_weights = snapshot(model)
    logits = {"last": score(model, test)}
    logits["best"] = score(_loaded(model, outcome.best), test)
    report = PROTOCOLS[settings.protocol].report
    if report == "last":
        _loaded(model, last_weights)
    epoch = epochs[outcome.best_epoch - 1] if report == "best" else epochs[-1]
    valid = score(model, parts.recorded_valid)
    found = {
        **compute_metrics(logits[report], test),
        **compute_group_metrics(logits[report], test, parts.counts, GROUPS),
    }
    return SeedMetrics(
        seed=seed,
        split_seed=prepared.manifest.split_seed or 0,
        **{f"test_{name}": finite_or_none(value) for name, value in found.items()},
        test_auc_best_epoch=finite_or_none(metrics.auc(logits["best"], test.clean_label)),
        test_auc_last_epoch=finite_or_none(metrics.auc(logits["last"], test.clean_label)),
        valid_auc=finite_or_none(epoch.valid_auc),
        valid_auc_recorded=finite_or_none(metrics.auc(valid, parts.recorded_valid.label)),
        valid_log_loss=finite_or_none(epoch.valid_log_loss),
        best_epoch=outcome.best_epoch,
        reported_epoch=epoch.epoch,
        epochs=outcome.epochs,
        iterations=epochs[-1].iteration,
        stopped=outcome.stopped,
        **_identified(epochs[-1].iterations, parts),
    )


def _loaded(model: nn.Module, weights: State) -> nn.Module:
    model.load_state_dict(weights)
    return model


def _identified(iterations: pl.DataFrame, parts: Components) -> dict[str, float | None]:
    """Return precision and recall of what one epoch flagged; None where that means nothing."""
    flagged, hit, false = (
        int(iterations[name].sum())
        for name in ("flagged", "flagged_false_positives", "false_positives")
    )
    known = bool((parts.training.recorded.kind == FALSE_POSITIVE).any())
    return {
        "identification_precision": hit / flagged if known and flagged else None,
        "identification_recall": hit / false if known and false else None,
    }
