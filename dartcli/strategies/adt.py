"""Adaptive denoising training: reweight by confidence, or truncate the highest losses.

Source: Wang et al., "Denoising Implicit Feedback for Recommendation", WSDM 2021.
"""

from __future__ import annotations

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


class AdtReweighted(Strategy):
    """R-CE: weight ``p ** alpha`` for positives and ``(1 - p) ** alpha`` for negatives."""

    class Options(settings.Options):
        """Strength of the weighting."""

        alpha: float = Field(0.2, ge=0)
        """Exponent; 0 = plain training."""
        double_sigmoid: bool = False
        """Squash the probability once more first, as the DART thesis's program does."""

    options: Options

    def decide(self, observed: Observed) -> Decision:
        """Return the confidence weight and the recorded label for every row."""
        probability = observed.probability
        if self.options.double_sigmoid:
            probability = probability.sigmoid()
        confidence = torch.where(observed.label > 0, probability, 1 - probability)
        # never exactly zero: a weight of zero would take the row out of the divisor N
        weight = (confidence**self.options.alpha).clamp(min=torch.finfo(confidence.dtype).tiny)
        return Decision(weight, observed.label)


class AdtTruncated(Strategy):
    """T-CE: drop the ``floor(tau * N)`` rows of the batch with the highest ``loss * label``.

    tau follows Eq. 3 of the DART thesis with t_i = 0. Where a batch has fewer positives than that,
    negatives (all zero in ``loss * label``) are dropped too, smallest row first.
    """

    class Options(settings.Options):
        """The schedule, with the defaults of the authors' program."""

        tau_m: float = Field(0.2, ge=0, le=1)
        """Highest share of the batch that is dropped."""
        t_m: settings.Duration = 30_000
        """Iterations (or epochs: 3ep) in which the share rises from 0 to tau_m; above 0."""

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
        """Return weight 0 for the dropped rows."""
        tau = schedule(observed.iteration, 0.0, self.t_m, self.options.tau_m)
        every = torch.ones_like(observed.label, dtype=torch.bool)
        keys = rank_keys(observed.loss * observed.label, observed.row, every)
        dropped = highest(top(keys, self.options.tau_m * len(keys)), keys, share(tau, every.sum()))
        return Decision((~dropped).to(observed.label.dtype), observed.label)


STRATEGY = {"adt-ce-r": AdtReweighted, "adt-ce-t": AdtTruncated}
