"""The training loop, read top to bottom.

No step waits for the device. Once per epoch the loop waits: to sum up the record, to compute the
validation AUC, and to decide whether to continue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NoReturn

import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import Batch, Interactions, TrainingSet
from dartcli.denoising import Strategy, count_positives
from dartcli.denoising.processes import Processes
from dartcli.errors import TrainingError
from dartcli.settings import Training
from dartcli.training import recorder, scoring
from dartcli.training.checkpoint import CheckpointWriter
from dartcli.training.distributed import SharedProgram
from dartcli.training.epochs import (
    EARLIER,
    MEMORY,
    EpochRecord,
    Position,
    Stage,
    iterations_in,
)
from dartcli.training.grants import estimate_clean_auc
from dartcli.training.program import Program, State, add_prefix, strip_prefix
from dartcli.training.step import Stepper


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
    best_valid: Tensor
    """Float[V], logits of the validation rows after the best epoch."""
    last_valid: Tensor
    """Float[V], logits of the validation rows after the last epoch."""


class TrainingLoop:
    """Train models in place: iterate over the epochs, then read :attr:`outcome`.

    The models hold the weights of the last epoch at the end.

    Parameters
    ----------
    models
        As many as the strategy's ``networks``, on the device of the data. The first is validated.
    strategy
        On the same device. Its parameters are optimized along with the models'.
    training, valid
        What to train on, and what to stop on.
    valid_label
        Float[V], the labels of ``valid`` under the protocol.
    plan
        Batch size, optimizer, and stopping; ``weight_decay``, ``epochs``, and ``patience`` given.
    seed
        Determines batches, sampled negatives, and dropout together with the number of the epoch.
    watched
        The rows that snapshots score; None = those of ``valid``.
    trusted
        Long[T], rows of ``valid`` whose ground truth selects the epoch; None = ``valid_label``.
    stage
        Which of the strategy's trainings this is; None = the first.
    writer
        Asked after every step and every epoch whether to write a checkpoint.
    position
        Resume from here. Its epochs are not yielded again.
    processes
        The processes that share each step; all of them do everything else alike.

    Raises
    ------
    TrainingError
        If the loss or the validation AUC is not a number, or another process is gone (while
        iterating).
    """

    def __init__(  # noqa: PLR0913 - the parts of a training
        self,
        models: Sequence[nn.Module],
        strategy: Strategy,
        training: TrainingSet,
        valid: Interactions,
        valid_label: Tensor,
        plan: Training,
        seed: int,
        *,
        watched: Interactions | None = None,
        trusted: Tensor | None = None,
        stage: Stage | None = None,
        writer: CheckpointWriter | None = None,
        position: Position | None = None,
        processes: Processes | None = None,
    ) -> None:
        if plan.epochs is None or plan.patience is None or plan.weight_decay is None:
            raise ValueError("the plan must state weight decay, epochs, and patience")
        self.training, self.valid, self.valid_label = training, valid, valid_label
        self.watched, self.trusted = watched or valid, trusted
        self.plan, self.epochs, self.patience, self.seed = plan, plan.epochs, plan.patience, seed
        self.stage, self.writer = stage or Stage(), writer
        self.model = models[0]
        self.device = valid.label.device
        self.processes = processes
        program = Program(models, strategy)
        if processes is not None:
            program = SharedProgram(models, strategy, processes, plan)
        self.stepper = Stepper(program, plan, self.device)
        recorded = training.recorded
        self.item_counts = count_positives(
            recorded.fields[:, 1], recorded.label, training.items
        ).to(self.device)
        # one for all epochs: allocating it anew leaves holes in the heap
        self.recorder = recorder.Recorder(training.window_rows, plan.batch_size, self.device)
        self.finished: list[EpochRecord] = []
        self.best = copy_weights(self.model)
        self.best_valid = self.last_valid = torch.empty(0, device=self.device)
        self._position = position
        self._outcome: Outcome | None = None
        if position is not None:
            self._restore(position)

    @property
    def outcome(self) -> Outcome:
        """How the training ended.

        Raises
        ------
        RuntimeError
            If it has not ended.
        """
        if self._outcome is None:
            raise RuntimeError("the training has not ended; iterate over it first")
        return self._outcome

    def __iter__(self) -> Iterator[EpochRecord]:
        """Train epoch by epoch; yield the record of each."""
        resumed = self._position
        for number in range(resumed.epoch if resumed else 1, self.epochs + 1):
            started = time.perf_counter()
            inside = resumed if resumed and resumed.step and number == resumed.epoch else None
            record = self._finish_epoch(number, started, *self._take_steps(number, inside))
            yield record
            if number - self.best_epoch >= self.patience:
                self._end(number, "patience")
                return
            if self.writer is not None and number < self.epochs and self.writer.is_due(number):
                self._check_weights(self.iteration)
                self.writer.write(self._current_position(number + 1, 0))
        self._end(self.epochs, "epochs")

    def _take_steps(self, number: int, inside: Position | None) -> tuple[State, dict[int, Tensor]]:
        """Take the steps of one epoch, or those left of it if a position ``inside`` it is given."""
        program, recorded = self.stepper.program, self.training.recorded
        if inside is None:
            program.strategy.study(number, self.model, recorded.fields, recorded.label)
        snapshots: dict[int, Tensor] = {}
        self.stepper.epoch.fill_(number)
        for network in (*program.models, program.strategy):
            network.train()
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            # dropout draws from the default generator: give it a stream of this epoch's own
            torch.manual_seed(derived_seed(self.seed, 2, number))
            done, summary = 0, {}
            if inside is not None:
                done = inside.step
                _set_random_state(self.device, inside.tensors["random"])
                kept = strip_prefix(inside.tensors, "snapshot.")
                snapshots = {int(name): logits for name, logits in kept.items()}
                summary = strip_prefix(inside.tensors, "summary.")
            steps = -(-self.training.window_rows // self.plan.batch_size)
            # the window in which the last step was taken
            first = max(done - 1, 0) // steps
            windows = self.training.windows(self.seed, number, first)
            for place, window in enumerate(windows, first):
                self.recorder.restart(len(window.table))
                if inside is not None and place == first:
                    self.recorder.restore(strip_prefix(inside.tensors, "trace."))
                batches = islice(window.batches(self.plan.batch_size), self.recorder.done, None)
                for step, batch in enumerate(batches, place * steps + self.recorder.done + 1):
                    self._take_step(number, step, batch, snapshots, summary)
                part = self.recorder.summary(window, self.item_counts)
                summary = {
                    name: torch.cat([summary[name], values]) if summary else values
                    for name, values in part.items()
                }
        return summary, snapshots

    def _take_step(
        self, number: int, step: int, batch: Batch, snapshots: dict[int, Tensor], summary: State
    ) -> None:
        """Take a step, number ``step`` of the epoch ``number``, and what is due after it."""
        record = self.recorder
        record.record(*self.stepper(batch))
        if self.iteration + step in self.plan.snapshots:
            snapshots[self.iteration + step] = scoring.score(self.model, self.watched)
        if self.writer is not None and self.writer.is_due():
            # a checkpoint that cannot be resumed is worth less than the one before it
            self._check_finite(record.objective[: record.done], step - record.done)
            self._check_weights(self.iteration + step)
            within = {
                "random": _random_state(self.device),
                **add_prefix("trace.", record.state()),
                **add_prefix("summary.", summary),
                **add_prefix("snapshot.", snapshots),
            }
            self.writer.write(self._current_position(number, step, within))

    def _finish_epoch(
        self,
        number: int,
        started: float,
        summary: State,
        snapshots: dict[int, Tensor],
    ) -> EpochRecord:
        """Sum up an epoch, validate the model, and keep its weights if they are the best."""
        self._check_finite(summary["objective"])
        self.last_valid = scoring.score(self.model, self.valid)
        if self.trusted is None:
            valid_auc = metrics.auc(self.last_valid, self.valid_label)
        else:
            valid_auc = estimate_clean_auc(self.last_valid, self.valid, self.trusted)
        if valid_auc != valid_auc:  # noqa: PLR0124 - true for NaN only
            cause = self._explain_missing_auc()
            raise TrainingError(f"validation AUC is not a number after epoch {number}: {cause}")
        if self.processes is not None:
            # they would decide differently when to stop, and wait for each other
            self.processes.check_same("the validation AUC", valid_auc)
        ended = EpochRecord(
            epoch=number,
            iteration=self.iteration + len(summary["objective"]),
            train_loss=float(summary["objective"].mean()),
            valid_auc=valid_auc,
            valid_log_loss=metrics.log_loss(self.last_valid, self.valid_label),
            flagged=int(summary["flagged"].sum()),
            improved=valid_auc > self.best_auc,
            seconds=time.perf_counter() - started,
            iterations=recorder.summary_table(summary, number, self.iteration + 1),
            snapshots=snapshots,
            engine=self.stepper.engine,
            remark=self.stepper.remark,
            stage=self.stage.number,
            stages=self.stepper.program.strategy.stages,
        )
        self.finished.append(ended)
        if ended.improved:
            self.best, self.best_valid = copy_weights(self.model), self.last_valid
        return ended

    def _explain_missing_auc(self) -> str:
        if self.trusted is not None and not self.valid.clean_label[self.trusted].any():
            return (
                f"none of the {len(self.trusted):,} trusted labels of the validation split is a "
                "true positive. Raise `--trusted-valid`."
            )
        return (
            f"the validation split has {len(self.valid):,} rows, "
            f"{int(self.valid_label.sum()):,} of them positive, and needs both classes. Use more "
            "data."
        )

    def _end(self, epochs: int, stopped: Literal["patience", "epochs"]) -> None:
        self._outcome = Outcome(
            self.best_epoch, epochs, stopped, self.best, self.best_valid, self.last_valid
        )

    @property
    def iteration(self) -> int:
        """Iterations of the finished epochs."""
        return iterations_in(self.finished)

    @property
    def best_epoch(self) -> int:
        """The finished epoch with the highest validation AUC; 0 if there is none."""
        improved = (record.epoch for record in reversed(self.finished) if record.improved)
        return next(improved, 0)

    @property
    def best_auc(self) -> float:
        """The highest validation AUC so far, minus infinity before any."""
        best = self.best_epoch
        return self.finished[best - 1].valid_auc if best else float("-inf")

    def _restore(self, position: Position) -> None:
        """Go to ``position``; what belongs to an epoch in progress is left to the epoch."""
        self.finished = [one for one in position.finished if one.stage == self.stage.number]
        self.best = strip_prefix(position.tensors, "best.")
        self.best_valid = position.tensors["best_valid"]
        self.stepper.restore(position.tensors, self.iteration + position.step)

    def _current_position(self, epoch: int, step: int, within: State | None = None) -> Position:
        tensors = {
            **self.stepper.state(),
            **add_prefix("best.", self.best),
            "best_valid": self.best_valid,
            **add_prefix(EARLIER, self.stage.weights),
            **add_prefix(MEMORY, self.stage.memory),
            **(within or {}),
        }
        finished = (*self.stage.earlier, *self.finished)
        return Position(epoch, step, tensors, finished, self.stage.number)

    def _check_finite(self, objective: Tensor, before: int = 0) -> None:
        """Raise TrainingError if the loss of a step after the first ``before`` is not finite."""
        finite = objective.isfinite()
        if bool(finite.all()):
            return
        step = int((~finite).to(torch.int64).argmax())
        earlier = f" ({float(objective[step - 1]):.4g} one step earlier)" if step else ""
        iteration = self.iteration + before + step + 1
        self._fail(f"loss is not a number at iteration {iteration:,}{earlier}")

    def _check_weights(self, iteration: int) -> None:
        """Raise TrainingError if a weight is not finite after ``iteration``."""
        for number, model in enumerate(self.stepper.program.models):
            for name, value in model.named_parameters():
                if not bool(value.isfinite().all()):
                    self._fail(
                        f"weights `{name}` of network {number} are not finite after iteration "
                        f"{iteration:,}"
                    )

    def _fail(self, what: str) -> NoReturn:
        kept = f" {self.writer.describe_latest()}" if self.writer is not None else ""
        raise TrainingError(
            f"{what}: the steps are probably too large. Lower `--learning-rate` (now "
            f"{self.plan.learning_rate:g}).{kept}"
        )


def copy_weights(model: nn.Module) -> State:
    """Return a copy of the model's weights, on its device."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _random_state(device: torch.device) -> Tensor:
    """Return the state of the generator that dropout draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
