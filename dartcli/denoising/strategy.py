"""The contract of a strategy: what it sees, what it decides, and what it may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, NamedTuple

import polars as pl
import torch
from torch import Tensor, nn

from dartcli import settings
from dartcli.denoising.evidence import Evidence
from dartcli.errors import UsageError


@dataclass(frozen=True)
class Observed:
    """One mini-batch as a strategy sees it: N rows on one device, without gradient.

    ``dart train`` provides every field. In your own training loop ``user`` and ``item`` may be
    missing; a strategy that needs them raises :class:`~dartcli.errors.UsageError`.
    """

    loss: Tensor
    """Float[N], binary cross-entropy of each row against its recorded label, in nats, >= 0."""
    label: Tensor
    """Float[N], recorded label, 0 or 1."""
    probability: Tensor
    """Float[N], predicted probability that the recorded label is 1."""
    row: Tensor
    """Int[N], index in the training table: distinct within a batch, 0 to 2**31 - 1."""
    iteration: Tensor
    """Int[], number of the step, from 1."""
    epoch: Tensor
    """Int[], number of the pass over the data, from 1."""
    user: Tensor | None = None
    """Int[N], encoded user."""
    item: Tensor | None = None
    """Int[N], encoded item."""

    def require_ids(self, strategy: str) -> tuple[Tensor, Tensor]:
        """Return users and items; UsageError that ``strategy`` cannot be used without."""
        if self.user is None or self.item is None:
            raise UsageError(
                f"cannot use the strategy {strategy}: the user or item of each row is missing. "
                "Pass `user=` and `item=`."
            )
        return self.user, self.item


class Decision(NamedTuple):
    """How each row is trained on.

    (1, y) keeps a row, weight 0 discards it, label 0 relabels it, and a fractional weight or label
    reweights or softly relabels it.
    """

    weight: Tensor
    """Float[N], >= 0."""
    label: Tensor
    """Float[N], training target, 0 to 1."""


@dataclass(frozen=True)
class TrainingTable:
    """Training interactions for a strategy's statistics, on the training device.

    A protocol that draws new negatives every epoch leaves them out: only recorded rows are here.
    """

    user: Tensor
    """Int[M], encoded users."""
    item: Tensor
    """Int[M], encoded items."""
    label: Tensor
    """Float[M], recorded labels."""
    users: int
    """Number of users; their codes are 0 to users - 1."""
    items: int
    """Number of items; their codes are 0 to items - 1."""
    rows: int
    """Rows in an epoch: M, or more with new negatives. ``Observed.row`` is smaller."""

    @cached_property
    def item_counts(self) -> Tensor:
        """Int[items], training positives of each item."""
        return count_positives(self.item, self.label, self.items)

    @cached_property
    def user_counts(self) -> Tensor:
        """Int[users], training positives of each user."""
        return count_positives(self.user, self.label, self.users)


COUNTED: Final = 1 << 20
"""Rows counted at once, because a table may be larger than the memory."""


def count_positives(code: Tensor, label: Tensor, codes: int) -> Tensor:
    """Return Long[codes], how many rows with label 1 have each of Int[M] ``code``."""
    parts = zip(code.split(COUNTED), label.split(COUNTED), strict=True)
    found = [torch.bincount(part[own > 0], minlength=codes) for part, own in parts]
    result = found[0] if found else torch.zeros(codes, dtype=torch.int64, device=code.device)
    for more in found[1:]:
        result += more
    return result


@dataclass(frozen=True)
class CleanSample:
    """Rows with known true labels, on the training device."""

    fields: Tensor
    """Long[C, F], user and item first."""
    label: Tensor
    """Float[C], 1 if the user liked the item, else 0."""


@dataclass(frozen=True)
class Context:
    """What is known when a strategy is constructed; every field may be None in your own loop."""

    iterations_per_epoch: int | None = None
    """Steps in an epoch, to convert durations in epochs to iterations."""
    table: TrainingTable | None = None
    """Training interactions."""
    clean: CleanSample | None = None
    """Clean sample, taken from the validation split if the strategy declares ``needs_clean``."""

    def require_table(self, strategy: str) -> TrainingTable:
        """Return the training interactions; UsageError that ``strategy`` cannot be used without."""
        if self.table is None:
            raise UsageError(
                f"cannot use the strategy {strategy}: the training interactions are missing. Pass "
                "`table=dartcli.TrainingTable(...)`."
            )
        return self.table


class Strategy(nn.Module):
    """Rule that decides how each row of a mini-batch is trained on.

    A subclass declares its ``Options`` and implements :meth:`decide`. Register state (a memory per
    row, a learnable layer) as buffers or parameters, so that it moves to the device, is saved with
    the run, and, if it is a parameter, is optimized.
    """

    class Options(settings.Options):
        """No options."""

    reads_noisy: ClassVar[bool] = False
    """Whether :meth:`prepare` uses the known false positives (reference strategies only)."""
    needs_clean: ClassVar[bool] = False
    """Whether ``context.clean`` is needed: as many rows as the option ``clean_rows`` names are
    moved there from the validation split."""
    needs_epoch: ClassVar[bool] = False
    """Whether :meth:`decide` reads ``epoch``, so that your own loop must say how long one is."""
    needs_study: bool = False
    """Whether :meth:`study` must be called before each epoch; your own loop does not call it."""
    networks: ClassVar[int] = 1
    """Models to train side by side from different initial weights; the first one is validated,
    evaluated and saved."""
    is_fixed: ClassVar[bool] = False
    """Whether :meth:`decide` depends on row and label alone, in the same way for a whole stage, and
    the strategy declares and overrides nothing else that changes a training: equal decisions are
    then equal trainings, of which a sweep needs one. Subclasses do not inherit it."""
    reads_trusted: ClassVar[bool] = False
    """Whether :meth:`begin_stage` uses the probability from the trusted labels."""
    stages: int = 1
    """Trainings in a row, each by a new strategy from its own initial weights; the last one is
    reported. :meth:`begin_stage` receives what the one before found."""

    def __init__(self, options: settings.Options, context: Context) -> None:
        super().__init__()
        self.options = options
        self.context = context

    def register_constant(self, name: str, value: float) -> None:
        """Store a number as Float64[], a buffer ``name`` that moves to the device.

        Arithmetic with Python numbers rounds differently on a GPU, and takes longer.
        """
        self.register_buffer(name, torch.tensor(value, dtype=torch.float64), persistent=False)

    @classmethod
    def prepare(cls, interactions: pl.DataFrame) -> pl.DataFrame:
        """Return the interactions to train or validate on (default: as recorded)."""
        return interactions

    def begin_stage(
        self,
        stage: int,
        found: Evidence,
        probability: Tensor | None,
        before: Mapping[str, Tensor],
    ) -> bool:
        """Prepare for training number ``stage``; return whether it should take place.

        If not, the training before is the last one. It is called before the first epoch of every
        stage but the first, on a new strategy.

        Parameters
        ----------
        stage : int
            From 2.
        found : Evidence
            What the finished model of the stage before tells about the training positives.
        probability : Float[P], optional
            Probability that each is a false positive, from the trusted labels; for a trusted one 0
            or 1. None if none are granted, they tell nothing about the others, or the strategy does
            not read them.
        before : mapping of str to Tensor
            State of the strategy at the end of the stage before.
        """
        raise NotImplementedError

    def choose_start(self, stage: int) -> int:  # noqa: ARG002 - for a strategy that overrides it
        """Return which initial weights and batches a stage uses (default: those of the seed).

        0 stands for those of the seed, and any other number for others.
        """
        return 0

    def flagged_by(self, stage: int) -> Tensor | None:  # noqa: ARG002 - as above
        """Return Bool[rows], what training number ``stage`` flagged for later ones.

        None (default) if it flags no rows.
        """
        return None

    def link(self, logit: Tensor) -> Tensor:
        """Map the logit of a preference to that of the recorded label (default: identity).

        ``logit`` and the result are Float[N]. Only training uses it; evaluation uses the model's
        own logit. The map should not decrease, so that both rank rows alike.
        """
        return logit

    def decide(self, observed: Observed) -> Decision:
        """Return how each row of a batch is trained on.

        Must handle an empty batch and one without positives, must not depend on the order of the
        rows, and must not wait for the device.
        """
        raise NotImplementedError

    def exchange(self, observed: Sequence[Observed]) -> list[Decision]:
        """Return a decision per network from every network's view of the same batch.

        By default each network decides from its own view.
        """
        return [self.decide(view) for view in observed]

    def study(self, epoch: int, model: nn.Module, fields: Tensor, label: Tensor) -> None:
        """Inspect the model and all training rows before an epoch (default: do nothing).

        It runs between steps, so it may wait for the device. The model, its gradients and the state
        of the random generators must be left unchanged.

        Parameters
        ----------
        epoch : int
            The epoch that is about to start, from 1.
        model : nn.Module
            The first network.
        fields : Long[M, F]
            Field values; row m is ``Observed.row`` m.
        label : Float[M]
            Recorded labels.
        """
