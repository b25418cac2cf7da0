"""Trusted: identify with plain training and trusted labels, then train anew on soft labels.

The thesis's first-order differential teaching (identify, re-initialize, train), with a detector
that is fitted on trusted labels instead of a threshold on the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from dartcli import settings
from dartcli.denoising import Context, Decision, Evidence, Observed, Strategy


class Trusted(Strategy):
    """Train plainly, then anew with label 1 - p for positives, p from trusted labels.

    p is the probability of being a false positive; trusted positives take their own label. Without
    trusted labels (``--trusted 500``), or if they do not tell false positives from others, the
    plain training is the result.
    """

    reads_trusted: ClassVar[bool] = True
    stages = 2
    target: Tensor | None

    def __init__(self, options: settings.Options, context: Context) -> None:
        super().__init__(options, context)
        self.register_buffer("target", None)

    def begin_stage(
        self,
        stage: int,  # noqa: ARG002 - there is only the second
        found: Evidence,
        probability: Tensor | None,
        before: Mapping[str, Tensor],  # noqa: ARG002 - plain training has no state
    ) -> bool:
        """Take label 1 - p for every positive; without p, there is no second stage."""
        if probability is None:
            return False
        table = self.context.table
        assert table is not None  # noqa: S101 - whoever trains in stages provides it
        target = torch.zeros(table.rows)
        target[found.row] = 1 - probability
        self.target = target.to(table.label.device)
        return True

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1; in the second stage with the soft labels, else as recorded."""
        label = observed.label if self.target is None else self.target[observed.row]
        return Decision(torch.ones_like(label), label)


STRATEGY = Trusted
