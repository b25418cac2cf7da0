"""DART: identify the positives with the highest loss, relabel the worst, discard the rest.

Source: thesis, Algorithm 1 and Eq. 3 to 7. ``dart-disc`` only discards (r = 0), ``dart-rel`` only
relabels (r = 1).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from dartcli import settings
from dartcli.denoising import (
    Context,
    Decision,
    Observed,
    Strategy,
    highest,
    rank_keys,
    schedule,
    share,
    top,
)
from dartcli.errors import UsageError


class Dart(Strategy):
    """Eq. 3 to 7: of the identified rows, the top r by loss become negatives, the others go.

    ``basis="positives"`` (Eq. 5) identifies the ``floor(tau * |D+|)`` positives of the batch with
    the highest loss. ``basis="batch"`` is what the authors' program does: it takes the
    ``floor(tau * N)`` highest losses of the whole batch, splits that list at ``floor(r * n)``, and
    handles only the positives in it. No positives: nothing is flagged.
    """

    class Options(settings.Options):
        """Hyper-parameters of the thesis, under its names."""

        r: float = Field(0.5, ge=0, le=1)
        """Share of the identified interactions that is relabeled; the others are discarded."""
        tau_m: float = Field(0.02, ge=0, le=1)
        """Highest handling rate, reached t_i + t_m iterations after the start."""
        t_i: settings.Duration = 0
        """Iterations (or epochs: 2ep) before anything is flagged."""
        t_m: settings.Duration = 5000
        """Iterations (or epochs: 3ep) in which the rate rises from 0 to tau_m; above 0."""
        basis: Literal["positives", "batch"] = "positives"
        """Rank the positives of a batch (Eq. 5), or the whole batch as the authors' program."""

    options: Options

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.t_i = settings.iterations(options.t_i, context.iterations_per_epoch)
        self.t_m = settings.iterations(options.t_m, context.iterations_per_epoch)
        if self.t_m <= 0:
            raise UsageError(
                f"strategy.t_m is {options.t_m!r}: the rate must rise over more than 0 iterations; "
                "use 1 for an immediate start."
            )

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for the discarded rows and label 0 for the relabeled ones."""
        tau = schedule(observed.iteration, self.t_i, self.t_m, self.options.tau_m)
        positive = observed.label > 0
        ranked = positive if self.options.basis == "positives" else torch.ones_like(positive)
        keys = rank_keys(observed.loss, observed.row, ranked)
        top_keys = top(keys, self.options.tau_m * len(keys))
        identified = share(tau, ranked.sum())
        flagged = positive & highest(top_keys, keys, identified)
        if self.options.r == 0:
            return Decision((~flagged).to(observed.label.dtype), observed.label)
        relabeled = flagged & highest(top_keys, keys, share(self.options.r, identified))
        return Decision(
            weight=(~flagged | relabeled).to(observed.label.dtype),
            label=observed.label.masked_fill(relabeled, 0.0),
        )


class DartDisc(Dart):
    """DART that only discards: r = 0."""

    class Options(Dart.Options):
        """As for ``dart``, with r fixed."""

        r: float = Field(0.0, ge=0, le=0)
        """Fixed at 0: everything identified is discarded."""


class DartRel(Dart):
    """DART that only relabels: r = 1."""

    class Options(Dart.Options):
        """As for ``dart``, with r fixed."""

        r: float = Field(1.0, ge=1, le=1)
        """Fixed at 1: everything identified is relabeled."""


STRATEGY = {"dart": Dart, "dart-disc": DartDisc, "dart-rel": DartRel}
