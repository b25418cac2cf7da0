"""Co-teaching: train two networks, each on the rows that the other finds easy.

Source: Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
Labels" (NeurIPS 2018), Algorithm 1. Networks with different initial weights make different errors,
so a row that one of them would memorize may still have a high loss under the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from dartcli import settings
from dartcli.denoising import Basis, Decision, Observed, RampStrategy, mask_ranked


class CoTeaching(RampStrategy):
    """Discard from each network's batch the share ``tau(T)`` with the other's highest loss.

    The share rises as in Eq. 3 of the DART thesis, per iteration (published per epoch, with
    ``t_i = 0``). The published rule ranks the whole batch; ``basis="positives"`` ranks, and
    discards, positives only.
    """

    networks: ClassVar[int] = 2

    class Options(RampStrategy.Options):
        """How much is discarded, and when."""

        tau_m: float = Field(0.2, ge=0, lt=1)
        """Highest share that is discarded; the paper uses the share of noisy labels."""
        t_m: settings.Duration = "10ep"
        """Iterations, or epochs as 10ep, over which the share rises from 0 to tau_m; above 0."""
        basis: Basis = "batch"
        """Rank the whole batch (as published), or its positives."""

    options: Options

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for the rows with the highest loss in this view, else 1."""
        ranked = mask_ranked(observed.label, self.options.basis)
        discarded = self.flag_highest(observed, observed.loss, ranked)
        return Decision((~discarded).to(observed.label.dtype), observed.label)

    def exchange(self, observed: Sequence[Observed]) -> list[Decision]:
        """Return for each network the decision from the other one's view."""
        return [self.decide(view) for view in reversed(observed)]


STRATEGY = CoTeaching
