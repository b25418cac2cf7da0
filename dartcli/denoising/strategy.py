"""The denoising core: what a strategy sees, what it answers, the schedule, the exact ranking.

Equation numbers are those of the thesis "DART: Resolving Training Biases for Recommender Systems
via Data Discarding and Relabeling" (Tang, 2023). Everything here works on tensors of one device,
has static shapes and never waits for the device, so a training step can be captured whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import polars as pl
import torch
from torch import Tensor, nn

from dartcli import settings


@dataclass(frozen=True)
class Observed:
    """One mini-batch as a strategy sees it: N rows, one device, no gradient.

    ``row``, ``user`` and ``item`` are given by this program's own training loop; in somebody
    else's loop they may be left out (``row`` is then the position in the batch), and a strategy
    that needs them says so.
    """

    loss: Tensor
    """Float[N], binary cross-entropy of each row, >= 0."""
    label: Tensor
    """Float[N], the recorded label, 0 or 1."""
    probability: Tensor
    """Float[N], predicted probability of an interaction, 0 to 1."""
    row: Tensor
    """Int[N], index of the row in the training table; below 2**31, each at most once a batch."""
    iteration: Tensor
    """Int[], number of the step, from 1."""
    epoch: Tensor
    """Int[], number of the pass over the data, from 1."""
    user: Tensor | None = None
    """Int[N], encoded user."""
    item: Tensor | None = None
    """Int[N], encoded item."""


class Decision(NamedTuple):
    """What is done with each row.

    Keep is (1, y), discard is weight 0, relabel is label 0, reweight is a fractional weight.
    """

    weight: Tensor
    """Float[N], >= 0."""
    label: Tensor
    """Float[N], the target to train on, 0 to 1 (soft labels allowed)."""


@dataclass(frozen=True)
class TrainingTable:
    """The training interactions that a strategy may take statistics of, on the training device.

    Under a protocol that draws new negatives each epoch only the recorded rows are in it.
    """

    user: Tensor
    """Int[M], encoded users."""
    item: Tensor
    """Int[M], encoded items."""
    label: Tensor
    """Float[M], recorded labels."""
    users: int
    """Number of distinct user codes."""
    items: int
    """Number of distinct item codes."""
    rows: int
    """Rows that an epoch visits; ``Observed.row`` is below it (M, or more with new negatives)."""

    @cached_property
    def item_counts(self) -> Tensor:
        """Int[items], positives per item."""
        return torch.bincount(self.item[self.label > 0], minlength=self.items)

    @cached_property
    def user_counts(self) -> Tensor:
        """Int[users], positives per user."""
        return torch.bincount(self.user[self.label > 0], minlength=self.users)


@dataclass(frozen=True)
class CleanSample:
    """Rows of which it is known what the user really thought, on the training device."""

    fields: Tensor
    """Long[C, F], user and item first."""
    label: Tensor
    """Float[C], 1 where the user liked the item."""


@dataclass(frozen=True)
class Context:
    """What a strategy may know when it is made; all None in somebody else's loop."""

    iterations_per_epoch: int | None = None
    """Steps in one epoch: turns a duration in epochs into iterations."""
    table: TrainingTable | None = None
    """The training interactions."""
    clean: CleanSample | None = None
    """Taken from the validation split where the strategy declares ``needs_clean``."""


class Strategy(nn.Module):
    """A rule that says for each row of a mini-batch what is done with it.

    A subclass declares its ``Options`` and implements :meth:`decide`. State (a memory per row, a
    learnable layer) is registered as buffers or parameters: it then moves to the device, is
    optimized (parameters) and is saved with everything else.
    """

    class Options(settings.Options):
        """The strategy has no options."""

    reads_noisy: ClassVar[bool] = False
    """Capability: :meth:`prepare` uses the known false positives (reference strategies only)."""
    needs_clean: ClassVar[bool] = False
    """Capability: the context carries a clean sample, of as many rows as the option
    ``clean_rows`` says, which validation then does without."""
    networks: ClassVar[int] = 1
    """Capability: models trained side by side from different initial weights; the first one is
    validated, measured and kept."""

    def __init__(self, options: settings.Options, context: Context) -> None:
        super().__init__()
        self.options = options
        self.context = context

    @classmethod
    def prepare(cls, interactions: pl.DataFrame) -> pl.DataFrame:
        """Return the interactions to train or validate on; the default leaves them as recorded."""
        return interactions

    def link(self, logit: Tensor) -> Tensor:
        """Map the logit of a preference to the logit of the recorded label (default: the same).

        Training goes through it; evaluation uses the model's own logit.
        """
        return logit

    def decide(self, observed: Observed) -> Decision:
        """Return what is done with each row; see :class:`Decision`."""
        raise NotImplementedError

    def exchange(self, observed: Sequence[Observed]) -> list[Decision]:
        """Return a decision for each network, given what every network makes of the same batch.

        By default each network goes by its own view.
        """
        return [self.decide(view) for view in observed]

    def study(self, epoch: int, model: nn.Module, fields: Tensor, label: Tensor) -> None:
        """Look at the model before epoch ``epoch`` (from 1) and all recorded training rows.

        By default there is nothing to look at. This happens between steps, so it may wait for the
        device. ``fields`` is Long[M, F] and ``label`` Float[M]; row m is ``Observed.row`` m. The
        model, its gradients and the state of the random generators must be left as they were.
        """
