"""Trusted: identify with plain training and trusted labels, then train anew with what they tell.

The thesis's first-order differential teaching (identify, re-initialize, train), with a detector
that is fitted on trusted labels instead of a threshold on the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dartcli import settings
from dartcli.denoising import Context, Decision, Evidence, Observed, Strategy


class Trusted(Strategy):
    """Train plainly, then anew with label (or weight) 1 - p for positives, p from trusted labels.

    p is the probability of being a false positive; for trusted positives, it is 0 or 1. Without
    trusted labels (``--trusted 500``), or if they do not tell false positives from others, the
    plain training is the result.

    Where the density of recorded interactions is a and that of sampled negatives b, a model that is
    trained on labels tends to the probability a (1 - p) / (a + b): is this interaction wanted? One
    that is trained on weights tends to the logit log(a (1 - p) / b): which items are wanted?
    """

    class Options(settings.Options):
        """What is made of p."""

        treatment: Literal["label", "weight"] = "label"
        """Train positives with label 1 - p, for a better AUC, or weight 1 - p, for better lists."""

    options: Options
    is_fixed: ClassVar[bool] = True
    reads_trusted: ClassVar[bool] = True
    stages = 2
    wanted: Tensor | None

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.register_buffer("wanted", None)

    def begin_stage(
        self,
        stage: int,  # noqa: ARG002 - there is only the second
        found: Evidence,
        probability: Tensor | None,
        before: Mapping[str, Tensor],  # noqa: ARG002 - plain training has no state
    ) -> bool:
        """Take 1 - p of every positive; without p, there is no second stage."""
        if probability is None:
            return False
        table = self.context.require_table("trusted")
        wanted = torch.zeros(table.rows)
        wanted[found.row] = 1 - probability
        self.wanted = wanted.to(table.label.device)
        return True

    def decide(self, observed: Observed) -> Decision:
        """Return the batch as recorded; in the second stage, with labels or weights 1 - p."""
        label, one = observed.label, torch.ones_like(observed.label)
        if self.wanted is None:
            return Decision(one, label)
        wanted = self.wanted[observed.row]
        if self.options.treatment == "label":
            return Decision(one, wanted)
        return Decision(torch.where(label > 0, wanted, one), label)


STRATEGY = Trusted
