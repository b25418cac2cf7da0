"""The training loop, top to bottom: a generator of epoch records.

Nothing in a step waits for the device. The loop stops for it once an epoch: to sum up the trace,
to measure the validation AUC, and to decide whether to go on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.batches import Table, TrainingSet
from dartcli.data.seeds import derived_seed
from dartcli.denoising import Strategy
from dartcli.errors import TrainingError
from dartcli.settings import Training
from dartcli.training import evaluate, trace
from dartcli.training.stepping import Engine, Program, Stepper

State = dict[str, Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to."""

    epoch: int
    """From 1."""
    iteration: int
    """Steps taken so far."""
    train_loss: float
    """Mean of the optimised loss over the epoch's steps."""
    valid_auc: float
    """AUC on the validation split, under the protocol's labels."""
    valid_log_loss: float
    """Mean binary cross-entropy on the validation split, under the protocol's labels."""
    handled: int
    """Positives that were discarded or relabelled."""
    improved: bool
    """The validation AUC is the best so far."""
    seconds: float
    """Wall-clock time of the epoch, validation included."""
    iterations: pl.DataFrame
    """The trace: one row an iteration."""
    snapshots: dict[int, Tensor]
    """Iteration -> Float[W], logits of the watched rows right after it, where asked for."""
    engine: Engine
    """How the steps were taken at the end of the epoch."""
    remark: str | None
    """Why they were eager where something faster was asked for."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    best_epoch: int
    """The epoch with the highest validation AUC."""
    epochs: int
    """Epochs trained."""
    stopped: Literal["patience", "epochs"]
    """Validation stopped improving, or the epochs ran out."""
    best: State
    """The model's weights after the best epoch."""


def fit(
    models: Sequence[nn.Module],
    strategy: Strategy,
    training: TrainingSet,
    valid: Table,
    valid_label: Tensor,
    plan: Training,
    seed: int,
    *,
    watched: Table | None = None,
) -> Generator[EpochRecord, None, Outcome]:
    """Train ``models`` in place; they hold the last epoch's weights when the generator ends.

    Parameters
    ----------
    models
        As many as the strategy's ``networks``, on the device of the data. The first is validated.
    strategy
        On the same device. Its parameters are optimised along.
    training, valid
        What to train and to stop on; ``valid_label`` is Float[N], the protocol's labels.
    plan
        Batch size, optimiser and stopping, all resolved.
    seed
        With the number of an epoch it determines batches, sampled negatives and dropout.
    watched
        The rows that the plan's snapshots score; none = those of validation.

    Raises
    ------
    TrainingError
        If the loss or the validation AUC is not a number.
    """
    if plan.epochs is None or plan.patience is None:
        raise ValueError("the plan is not resolved: epochs and patience are missing")
    device = valid.label.device
    model, watched = models[0], watched or valid
    stepper = Stepper(Program(models, strategy), plan, device)
    item_counts = torch.bincount(
        training.recorded.fields[:, 1][training.recorded.label > 0], minlength=training.items
    )
    best, best_auc, best_epoch, steps = snapshot(model), float("-inf"), 0, 0

    for number in range(1, plan.epochs + 1):
        began = time.perf_counter()
        strategy.study(number, model, training.recorded.fields, training.recorded.label)
        snapshots: dict[int, Tensor] = {}
        epoch = training.epoch(seed, number)
        record = trace.Trace(len(epoch.table), plan.batch_size)
        stepper.epoch.fill_(number)
        for network in models:
            network.train()
        strategy.train()
        with torch.random.fork_rng(_rng_devices(device)):
            # dropout draws from the default generator: give it this epoch's own stream
            torch.manual_seed(derived_seed(seed, 2, number))
            for step, batch in enumerate(epoch.batches(plan.batch_size), steps + 1):
                record.record(*stepper(batch))
                if step in plan.snapshots:
                    snapshots[step] = evaluate.logits(model, watched)

        summary = record.summary(epoch, item_counts)
        _check_finite(summary["objective"], steps)
        valid_logit = evaluate.logits(model, valid)
        valid_auc = metrics.auc(valid_logit, valid_label)
        if valid_auc != valid_auc:  # noqa: PLR0124 - true for NaN only
            raise TrainingError(
                f"the validation AUC is not a number after epoch {number}: the validation split "
                f"has {len(valid):,} rows with {int(valid_label.sum()):,} positives; both classes "
                "are needed, so use more data."
            )
        improved = valid_auc > best_auc
        if improved:
            best, best_auc, best_epoch = snapshot(model), valid_auc, number
        yield EpochRecord(
            epoch=number,
            iteration=steps + record.iterations,
            train_loss=float(summary["objective"].mean()),
            valid_auc=valid_auc,
            valid_log_loss=metrics.log_loss(valid_logit, valid_label),
            handled=int(summary["handled"].sum()),
            improved=improved,
            seconds=time.perf_counter() - began,
            iterations=trace.frame(summary, number, steps + 1),
            snapshots=snapshots,
            engine=stepper.engine,
            remark=stepper.remark,
        )
        steps += record.iterations
        if number - best_epoch >= plan.patience:
            return Outcome(best_epoch, number, "patience", best)
    return Outcome(best_epoch, plan.epochs, "epochs", best)


def snapshot(model: nn.Module) -> State:
    """Return a copy of the model's weights, on its device."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _rng_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _check_finite(objective: Tensor, steps_before: int) -> None:
    finite = objective.isfinite()
    if bool(finite.all()):
        return
    first = steps_before + int((~finite).to(torch.int64).argmax()) + 1
    raise TrainingError(
        f"the loss is not a number at iteration {first}; the usual cause is a learning rate that "
        "is too high: lower it with --learning-rate."
    )
