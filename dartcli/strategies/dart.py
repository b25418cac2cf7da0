"""DART: flag the positives with the highest loss, relabel the worst, discard the rest.

Source: thesis, Algorithm 1 and Eq. 3 to 7. ``dart-disc`` only discards (r = 0), ``dart-rel`` only
relabels (r = 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

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


class Dart(RampStrategy):
    """Relabel the share r of the identified rows with the highest loss; discard the others.

    ``basis="positives"`` (Eq. 5) identifies the ``floor(tau * |D+|)`` positives of the batch with
    the highest loss. ``basis="batch"`` is what the authors' program does: it identifies the
    ``floor(tau * N)`` highest losses of the whole batch, splits that list of n rows at
    ``floor(r * n)``, and flags only the positives in it. Nothing is flagged in a batch without
    positives. Ties are broken by row.
    """

    class Options(RampStrategy.Options):
        """Hyper-parameters, with the thesis's names and defaults."""

        # 5000 iterations may be one epoch or a hundred, and training may end before anything is
        # flagged
        strict_defaults: ClassVar[Mapping[str, Any]] = {"t_m": "10ep"}

        t_m: settings.Duration = 5000
        """Iterations, or epochs as 3ep, over which the rate rises from 0 to tau_m; above 0. Default
        under ``strict``: 10ep."""
        r: float = Field(0.5, ge=0, le=1)
        """Share of the identified interactions that is relabeled; the others are discarded."""
        basis: Basis = "positives"
        """Rank the positives of a batch (Eq. 5), or the whole batch as the authors' program."""

    options: Options
    r: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.register_constant("r", options.r)

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for discarded rows and label 0 for relabeled ones."""
        ranked = mask_ranked(observed.label, self.options.basis)
        keys = compute_rank_keys(observed.loss, observed.row, ranked, nonnegative=True)
        # one search of the top serves both counts
        top_keys = find_top_keys(keys, self.options.tau_m * len(keys))
        identified = count_share(self.compute_rate(observed.iteration), ranked.sum())
        flagged = mask_highest(top_keys, keys, identified)
        if self.options.basis == "batch":
            flagged &= observed.label > 0
        if self.options.r == 0:
            return Decision((~flagged).to(observed.label.dtype), observed.label)
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
