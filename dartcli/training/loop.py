"""The training loop, top to bottom: a generator of epoch records.

Nothing in a step waits for the device. The loop stops for it once an epoch: to sum up the trace,
to measure the validation AUC, and to decide whether to go on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NoReturn, Protocol

import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import Epoch, Interactions, TrainingSet
from dartcli.denoising import Strategy
from dartcli.errors import TrainingError
from dartcli.settings import Training
from dartcli.training.epochs import EpochRecord, Position, _steps_in
from dartcli.training.program import Program, State, add_prefix, strip_prefix
from dartcli.training.recorder import Recorder, summary_table
from dartcli.training.scoring import score
from dartcli.training.step import Stepper


class Keeper(Protocol):
    """Writes positions down."""

    def due(self, epoch: int | None = None) -> bool:
        """Return whether to do so now; ``epoch`` is the number of an epoch that just ended."""

    def keep(self, position: Position) -> None:
        """Write; raise to end the training."""

    def kept(self) -> str:
        """Return words that say which position was written last, or that none was."""


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


def fit(  # noqa: PLR0913 - the parts of a training
    models: Sequence[nn.Module],
    strategy: Strategy,
    training: TrainingSet,
    valid: Interactions,
    valid_label: Tensor,
    plan: Training,
    seed: int,
    *,
    watched: Interactions | None = None,
    keeper: Keeper | None = None,
    resume: Position | None = None,
) -> Generator[EpochRecord, None, Outcome]:
    """Train ``models`` in place; they hold the last epoch's weights when the generator ends.

    Parameters
    ----------
    models
        As many as the strategy's ``networks``, on the device of the data. The first is validated.
    strategy
        On the same device. Its parameters are optimized along.
    training, valid
        What to train and to stop on; ``valid_label`` is Float[N], the protocol's labels.
    plan
        Batch size, optimizer and stopping, all resolved.
    seed
        With the number of an epoch it determines batches, sampled negatives and dropout.
    watched
        The rows that the plan's snapshots score; none = those of validation.
    keeper
        Asked after every step and every epoch whether to write the position down.
    resume
        Go on from there, as if the training had never stopped. Its epochs are not yielded again.

    Raises
    ------
    TrainingError
        If the loss or the validation AUC is not a number.
    """
    if plan.epochs is None or plan.patience is None:
        raise ValueError("the plan is not resolved: epochs and patience are missing")
    stepper = Stepper(Program(models, strategy), plan, valid.label.device)
    course = _Course(stepper, training, watched or valid, seed, keeper)
    if resume is not None:
        course.restore(resume)
    item_counts = torch.bincount(
        training.recorded.fields[:, 1][training.recorded.label > 0], minlength=training.items
    )
    for number in range(1 if resume is None else resume.epoch, plan.epochs + 1):
        began = time.perf_counter()
        begun = resume if resume is not None and resume.step and number == resume.epoch else None
        epoch, record, snapshots = course.steps_of(number, begun)
        summary = record.summary(epoch, item_counts)
        course.check_finite(summary["objective"])
        valid_logit = score(models[0], valid)
        valid_auc = metrics.auc(valid_logit, valid_label)
        if valid_auc != valid_auc:  # noqa: PLR0124 - true for NaN only
            raise TrainingError(
                f"the validation AUC is not a number after epoch {number}: the validation split "
                f"has {len(valid):,} rows with {int(valid_label.sum()):,} positives; both classes "
                "are needed, so use more data."
            )
        ended = EpochRecord(
            epoch=number,
            iteration=course.iteration + record.iterations,
            train_loss=float(summary["objective"].mean()),
            valid_auc=valid_auc,
            valid_log_loss=metrics.log_loss(valid_logit, valid_label),
            flagged=int(summary["flagged"].sum()),
            improved=valid_auc > course.best_auc,
            seconds=time.perf_counter() - began,
            iterations=summary_table(summary, number, course.iteration + 1),
            snapshots=snapshots,
            engine=stepper.engine,
            remark=stepper.remark,
        )
        course.end(ended)
        # an order and a table of negatives, which the next epoch would else be made beside
        del epoch, record, summary
        yield ended
        if number - course.best_epoch >= plan.patience:
            return Outcome(course.best_epoch, number, "patience", course.best)
        if keeper is not None and number < plan.epochs and keeper.due(number):
            course.check_weights(course.iteration)
            keeper.keep(course.position(number + 1, 0))
    return Outcome(course.best_epoch, plan.epochs, "epochs", course.best)


class _Course:
    """What changes while a training goes on."""

    def __init__(
        self,
        stepper: Stepper,
        training: TrainingSet,
        watched: Interactions,
        seed: int,
        keeper: Keeper | None,
    ) -> None:
        self.stepper, self.training, self.watched = stepper, training, watched
        self.seed, self.keeper = seed, keeper
        self.model = stepper.program.models[0]
        self.finished: list[EpochRecord] = []
        self.best = snapshot(self.model)
        """Weights after the best epoch so far."""

    @property
    def iteration(self) -> int:
        """Steps of the finished epochs."""
        return _steps_in(self.finished)

    @property
    def best_record(self) -> EpochRecord | None:
        """The finished epoch with the highest validation AUC."""
        return next((record for record in reversed(self.finished) if record.improved), None)

    @property
    def best_epoch(self) -> int:
        """Its number, 0 before any."""
        return self.best_record.epoch if self.best_record else 0

    @property
    def best_auc(self) -> float:
        """Its validation AUC, minus infinity before any."""
        return self.best_record.valid_auc if self.best_record else float("-inf")

    def end(self, record: EpochRecord) -> None:
        """Take note of a finished epoch."""
        self.finished.append(record)
        if record.improved:
            self.best = snapshot(self.model)

    def restore(self, position: Position) -> None:
        """Go to ``position``; what belongs to a begun epoch is left to :meth:`steps_of`."""
        self.finished = list(position.finished)
        self.best = strip_prefix(position.tensors, "best.")
        self.stepper.restore(position.tensors, position.iteration)

    def position(self, epoch: int, step: int, within: State | None = None) -> Position:
        """Return where the training stands; ``within`` is what belongs to a begun epoch."""
        tensors = {**self.stepper.state(), **add_prefix("best.", self.best), **(within or {})}
        return Position(epoch, step, tensors, tuple(self.finished))

    def check_finite(self, objective: Tensor) -> None:
        """Raise TrainingError where the loss of a step of the running epoch is not a number."""
        finite = objective.isfinite()
        if bool(finite.all()):
            return
        step = int((~finite).to(torch.int64).argmax())
        before = f" (it was {float(objective[step - 1]):.4g} just before)" if step else ""
        self._fail(f"the loss is not a number at iteration {self.iteration + step + 1:,}{before}")

    def check_weights(self, iteration: int) -> None:
        """Raise TrainingError where a weight is not a number after ``iteration``."""
        for number, model in enumerate(self.stepper.program.models):
            for name, value in model.named_parameters():
                if not bool(value.isfinite().all()):
                    self._fail(
                        f"the weights {name} of network {number} are not numbers any more after "
                        f"iteration {iteration:,}"
                    )

    def _fail(self, what: str) -> NoReturn:
        kept = f"; {self.keeper.kept()}" if self.keeper is not None else ""
        raise TrainingError(
            f"{what}; the likely cause is steps that are too large: lower --learning-rate (now "
            f"{self.stepper.plan.learning_rate:g}){kept}."
        )

    def steps_of(
        self, number: int, begun: Position | None
    ) -> tuple[Epoch, Recorder, dict[int, Tensor]]:
        """Take the steps of one epoch, or those that are left of it."""
        plan, program, device = self.stepper.plan, self.stepper.program, self.stepper.device
        recorded = self.training.recorded
        if begun is None:
            program.strategy.study(number, self.model, recorded.fields, recorded.label)
        epoch = self.training.epoch(self.seed, number)
        record = Recorder(len(epoch.table), plan.batch_size, device)
        snapshots: dict[int, Tensor] = {}
        self.stepper.epoch.fill_(number)
        for network in (*program.models, program.strategy):
            network.train()
        with torch.random.fork_rng(_rng_devices(device)):
            # dropout draws from the default generator: give it this epoch's own stream
            torch.manual_seed(derived_seed(self.seed, 2, number))
            done = 0
            if begun is not None:
                done = begun.step
                _set_random(device, begun.tensors["random"])
                record.restore(strip_prefix(begun.tensors, "trace."))
                kept = strip_prefix(begun.tensors, "snapshot.")
                snapshots = {int(name): logits for name, logits in kept.items()}
            rest = islice(epoch.batches(plan.batch_size), done, None)
            for step, batch in enumerate(rest, done + 1):
                record.record(*self.stepper(batch))
                if self.iteration + step in plan.snapshots:
                    snapshots[self.iteration + step] = score(self.model, self.watched)
                if self.keeper is not None and self.keeper.due():
                    # a checkpoint from which nothing can go on is worth less than the one before
                    self.check_finite(record.objective[: record.done])
                    self.check_weights(self.iteration + step)
                    within = {
                        "random": _random(device),
                        **add_prefix("trace.", record.state()),
                        **add_prefix("snapshot.", snapshots),
                    }
                    self.keeper.keep(self.position(number, step, within))
        return epoch, record, snapshots


def snapshot(model: nn.Module) -> State:
    """Return a copy of the model's weights, on its device."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _random(device: torch.device) -> Tensor:
    """Return the state of the generator that dropout draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _rng_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
