"""Adaptive denoising training: reweight by confidence, or truncate the highest losses.

Source: Wang et al., "Denoising Implicit Feedback for Recommendation", WSDM 2021.
"""

from __future__ import annotations

import torch
from pydantic import Field

from dartcli import settings
from dartcli.denoising import Decision, Observed, RampStrategy, Strategy, mask_ranked


class AdtReweighted(Strategy):
    """R-CE: weight ``p ** alpha`` for positives and ``(1 - p) ** alpha`` for negatives."""

    class Options(settings.Options):
        """Strength of the weighting."""

        alpha: float = Field(0.2, ge=0)
        """Exponent; 0 is plain training."""
        double_sigmoid: bool = False
        """Apply the sigmoid to the probability once more, as the DART thesis's program does."""

    options: Options

    def decide(self, observed: Observed) -> Decision:
        """Return the confidence as weight, 0 to 1, and the recorded label for every row.

        A weight is at least the smallest normal float.
        """
        probability = observed.probability
        if self.options.double_sigmoid:
            probability = probability.sigmoid()
        confidence = torch.where(observed.label > 0, probability, 1 - probability)
        # a weight of exactly zero would drop the row from the divisor of the loss
        weight = (confidence**self.options.alpha).clamp(min=torch.finfo(confidence.dtype).tiny)
        return Decision(weight, observed.label)


class AdtTruncated(RampStrategy):
    """T-CE: discard the ``floor(tau * N)`` rows of a batch with the highest ``loss * label``.

    tau rises as in Eq. 3 of the DART thesis; the published rate starts at once (``t_i = 0``). If a
    batch has fewer positives than that, negatives, whose ``loss * label`` is 0, are discarded too,
    smallest row first.
    """

    class Options(RampStrategy.Options):
        """The ramp, with the defaults of the authors' program."""

        tau_m: float = Field(0.2, ge=0, le=1)
        """Highest share of the batch that is discarded."""
        t_m: settings.Duration = 30_000
        """Iterations, or epochs as 3ep, over which the share rises from 0 to tau_m; above 0."""

    options: Options

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for the discarded rows, else 1, and the recorded label."""
        score = observed.loss * observed.label
        discarded = self.flag_highest(observed, score, mask_ranked(observed.label, "batch"))
        return Decision((~discarded).to(observed.label.dtype), observed.label)


STRATEGY = {"adt-ce-r": AdtReweighted, "adt-ce-t": AdtTruncated}
