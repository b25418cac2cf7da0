"""DART: flag the positives with the highest loss, relabel the worst, discard the rest.

Source: thesis, Algorithm 1 and Eq. 3 to 7. ``dart-disc`` only discards (r = 0), ``dart-rel`` only
relabels (r = 1). Parameters from the distribution of the loss (``auto``) and another ranking are
future work of its section 6; see :mod:`dartcli.denoising.mixture` for the source of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dartcli import settings
from dartcli.denoising import (
    Basis,
    Context,
    Decision,
    Observed,
    RampStrategy,
    compute_rank_keys,
    count_share,
    find_top_keys,
    mask_highest,
    mask_ranked,
)
from dartcli.denoising.memory import LossMemory
from dartcli.denoising.mixture import split_losses
from dartcli.errors import UsageError


class Dart(RampStrategy):
    """Relabel the share r of the identified rows with the highest loss; discard the others.

    ``basis="positives"`` (Eq. 5) identifies the ``floor(tau * |D+|)`` positives of the batch with
    the highest loss. ``basis="batch"`` is what the authors' program does: it identifies the
    ``floor(tau * N)`` highest losses of the whole batch, splits that list of n rows at
    ``floor(r * n)``, and flags only the positives in it. Nothing is flagged in a batch without
    positives. Ties are broken by row.

    With ``auto``, a mixture of two normals is fitted before each epoch to the latest losses of the
    positives. ``tau_m="auto"`` is the share that more likely belongs to the higher one. Of the
    identified rows, ``r="auto"`` relabels those that belong to it with a probability of at least
    0.95, and discards the others. In the first epoch, the former flags nothing, and the latter
    relabels nothing.

    Raises
    ------
    UsageError
        If ``auto`` or ``relative-loss`` is given without the training table.
    """

    class Options(RampStrategy.Options):
        """Hyper-parameters, with the thesis's names and defaults."""

        # 5000 iterations may be one epoch or a hundred, and training may end before anything is
        # flagged
        strict_defaults: ClassVar[Mapping[str, Any]] = {"t_m": "10ep"}

        t_m: settings.Duration = 5000
        """Iterations, or epochs as 3ep, over which the rate rises from 0 to tau_m; above 0. Default
        under ``strict``: 10ep."""
        r: settings.Share = 0.5
        """Share of the identified interactions that is relabeled; the others are discarded."""
        basis: Basis = "positives"
        """Rank the positives of a batch (Eq. 5), or the whole batch as the authors' program."""
        rank_by: Literal["loss", "relative-loss"] = "loss"
        """Rank by the loss, or by the loss minus the mean loss of the user's positives."""

    options: Options
    r: Tensor
    sure: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.needs_study = "auto" in (options.r, options.tau_m)
        self.register_constant("r", 0.0 if isinstance(options.r, str) else options.r)
        self.memory: LossMemory | None = None
        if self.needs_study or options.rank_by == "relative-loss":
            reader = f"the strategy dart with {options.rank_by!r} or 'auto'"
            self.memory = LossMemory(context.require_table(reader))
        if self.needs_study:
            for name, value in {"tau_m": self.tau_m, "sure": torch.tensor(torch.inf)}.items():
                self.register_buffer(name, value)

    def study(self, epoch: int, model: nn.Module, fields: Tensor, label: Tensor) -> None:  # noqa: ARG002 - only what was seen counts
        """Set the rate and the loss of a sure false positive from the latest losses."""
        if self.memory is None or not self.needs_study:
            return
        found = split_losses(self.memory.losses())
        self.sure.fill_(found.sure)
        if self.options.tau_m == "auto":
            self.tau_m.fill_(found.share)

    def _score(self, observed: Observed) -> Tensor:
        """Return Float[N], by which rows are ranked.

        Raises
        ------
        UsageError
            If users are needed, and the batch has none.
        """
        if self.memory is None:
            return observed.loss
        self.memory.update(observed)
        if self.options.rank_by == "loss":
            return observed.loss
        if observed.user is None:
            raise UsageError(
                "cannot rank by 'relative-loss': the user of each row is missing. Pass `user=`."
            )
        return observed.loss - self.memory.mean_of_users(observed.user)

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for discarded rows and label 0 for relabeled ones."""
        ranked = mask_ranked(observed.label, self.options.basis)
        is_loss = self.options.rank_by == "loss"
        keys = compute_rank_keys(self._score(observed), observed.row, ranked, nonnegative=is_loss)
        # one search of the top serves both counts
        top_keys = find_top_keys(keys, self.most * len(keys))
        identified = count_share(self.compute_rate(observed.iteration), ranked.sum())
        flagged = mask_highest(top_keys, keys, identified)
        if self.options.basis == "batch":
            flagged &= observed.label > 0
        if self.options.r == 0:
            return Decision((~flagged).to(observed.label.dtype), observed.label)
        if self.options.r == "auto":
            relabeled = flagged & (observed.loss >= self.sure)
        else:
            relabeled = mask_highest(top_keys, keys, count_share(self.r, identified))
        if self.options.basis == "batch":
            relabeled &= flagged
        moved = relabeled.to(observed.label.dtype)
        # a relabeled row has label 1, and is one of those flagged
        return Decision(moved - flagged.to(moved.dtype) + 1, observed.label - moved)


class DartDisc(Dart):
    """DART that only discards: r = 0."""

    class Options(Dart.Options):
        """As for ``dart``, with r fixed."""

        r: float = Field(0.0, ge=0, le=0)
        """Fixed at 0: every identified interaction is discarded."""


class DartRel(Dart):
    """DART that only relabels: r = 1."""

    class Options(Dart.Options):
        """As for ``dart``, with r fixed."""

        r: float = Field(1.0, ge=1, le=1)
        """Fixed at 1: every identified interaction is relabeled."""


STRATEGY = {"dart": Dart, "dart-disc": DartDisc, "dart-rel": DartRel}
