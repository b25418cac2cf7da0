"""Co-teaching: two networks, each trained on what the other finds easy.

Source: Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
Labels" (NeurIPS 2018), Algorithm 1. Two networks from different initial weights make different
errors; what one of them would memorize, the other may still find hard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

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


class CoTeaching(Strategy):
    """Each network leaves out the share ``tau(T)`` of a batch that has the other's highest loss.

    The share rises from 0 to ``tau_m`` over ``t_m`` (Eq. 3 of the thesis with T_i = 0; published
    per epoch, here per iteration). The published rule ranks the whole batch; ``basis="positives"``
    ranks, and leaves out, positives only.
    """

    networks: ClassVar[int] = 2

    class Options(settings.Options):
        """How much is left out, and when."""

        tau_m: float = Field(0.2, ge=0, lt=1)
        """Highest share that is left out; published as the share of noise in the labels."""
        t_m: settings.Duration = "10ep"
        """Iterations (or epochs: 10ep) in which the share rises from 0 to tau_m; above 0."""
        basis: Literal["batch", "positives"] = "batch"
        """Rank the whole batch (as published), or its positives."""

    options: Options

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.t_m = settings.iterations(options.t_m, context.iterations_per_epoch)
        if self.t_m <= 0:
            raise UsageError(
                f"strategy.t_m is {options.t_m!r}: the share must rise over more than 0 "
                "iterations; use 1 for an immediate start."
            )

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for the rows that this view finds hardest."""
        tau = schedule(observed.iteration, 0.0, self.t_m, self.options.tau_m)
        positive = observed.label > 0
        ranked = positive if self.options.basis == "positives" else torch.ones_like(positive)
        keys = rank_keys(observed.loss, observed.row, ranked)
        hard = highest(top(keys, self.options.tau_m * len(keys)), keys, share(tau, ranked.sum()))
        return Decision((~hard).to(observed.label.dtype), observed.label)

    def exchange(self, observed: Sequence[Observed]) -> list[Decision]:
        """Return for each network the decision that the other one makes."""
        return [self.decide(view) for view in reversed(observed)]


STRATEGY = CoTeaching
